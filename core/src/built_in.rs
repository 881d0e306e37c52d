//! The images that are part of the OS: a list that is made when the OS is, on its read-only disk.
//!
//! One image a line: its identity, and then the names that the OS calls it by, which may be missing.
//! What the OS starts by itself it starts by identity: whoever loads an archive chooses its names.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Where the list is.
pub const PATH: &str = "/usr/lib/lazarette/built-in-images";
/// The largest list, in bytes.
const LARGEST: u64 = 1 << 20;

/// The list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BuiltIn {
    /// The images' names, by their identities.
    images: BTreeMap<String, Vec<String>>,
}

impl BuiltIn {
    /// Reads the list from a file that nobody but its owner can change, root or whoever we are.
    ///
    /// # Errors
    /// When there is none, or others than its owner can write it.
    pub fn read(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let about = file.metadata()?;
        let ours = about.uid() == 0 || about.uid() == rustix::process::geteuid().as_raw();
        if !about.is_file() || !ours || about.mode() & 0o022 != 0 {
            let why = "not used: others than root can write it";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
        let mut text = String::new();
        file.take(LARGEST).read_to_string(&mut text)?;
        Ok(Self::parse(&text))
    }

    /// The list in `text`; lines that do not begin with an identity are passed over.
    pub(crate) fn parse(text: &str) -> Self {
        let mut images = BTreeMap::<String, Vec<String>>::new();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let Some(image) = words.next().filter(|word| word.starts_with("sha256:")) else {
                continue;
            };
            let names = images.entry(image.to_owned()).or_default();
            names.extend(words.map(str::to_owned));
        }
        Self { images }
    }

    /// Whether the image with this identity is part of the OS.
    pub fn contains(&self, image: &str) -> bool {
        self.images.contains_key(image)
    }

    /// Each name in the list, with the identity of the image that it means.
    pub fn names(&self) -> impl Iterator<Item = (&str, &str)> {
        let images = self.images.iter();
        images.flat_map(|(image, names)| names.iter().map(move |name| (&**name, &**image)))
    }

    /// The identity of the OS's image that is called `repository:latest`.
    pub fn latest(&self, repository: &str) -> Option<&str> {
        let is = |name: &str| name.strip_suffix(":latest").unwrap_or(name) == repository;
        let mut names = self.names();
        names.find(|(name, _)| is(name)).map(|(_, image)| image)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_an_identity_and_maybe_names() {
        let list = BuiltIn::parse(
            "sha256:1\n\n# sha256:9 no/such:latest\n  sha256:2 a/b:latest a/b:1\nno/such\nsha256:3 c\n",
        );
        for image in ["sha256:1", "sha256:2", "sha256:3"] {
            assert!(list.contains(image), "{image}");
        }
        for not in ["", "sha256:9", "sha256:2 a/b:latest a/b:1", "a/b:latest"] {
            assert!(!list.contains(not), "{not}");
        }
        let names: Vec<_> = list.names().collect();
        let two = [("a/b:latest", "sha256:2"), ("a/b:1", "sha256:2")];
        assert_eq!(names, [two[0], two[1], ("c", "sha256:3")]);
        assert_eq!(list.latest("a/b"), Some("sha256:2"));
        assert_eq!(list.latest("c"), Some("sha256:3"));
        assert_eq!(list.latest("no/such"), None);
        assert_eq!(list.latest("a"), None);
    }
}
