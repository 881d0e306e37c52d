//! What the author of a plugin signs: written by `laz plugin pack`, signed by minisign.

use std::fs;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use lazarette_core::signature::{self, LARGEST_SIGNATURE, SIGNATURE_SUFFIX, STATEMENT_SUFFIX};
use lazarette_core::{Error, Manifest};
use serde::Deserialize;

use crate::failure::Failure;

/// In an archive, the file that names the images' configurations.
const INDEX: &str = "manifest.json";
/// The largest one that is read, in bytes.
const LARGEST_INDEX: u64 = 1 << 20;
/// What tar aligns to.
const BLOCK: u64 = 512;

/// An image as the index of an archive has it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Indexed {
    config: String,
}

/// Writes the statement of the plugin whose image is the only one in `archive`.
pub(super) fn write(archive: &Path, manifest: &Manifest, file: &Path) -> Result<(), Failure> {
    let image = image_in(archive)?;
    let text = signature::statement(&manifest.kind, &manifest.version, &image);
    fs::write(file, text).map_err(|source| Failure::File {
        verb: "write",
        path: file.into(),
        source,
    })
}

/// The statement's file beside `archive`.
pub(super) fn beside(archive: &Path) -> PathBuf {
    appended(archive, STATEMENT_SUFFIX)
}

/// The signature that came with a plugin: the file that was named, else the one that lies beside the
/// archive `source`, if it is one.
pub(super) fn signature_of(source: &str, named: Option<&Path>) -> Result<Option<String>, Failure> {
    let beside = appended(&beside(Path::new(source)), SIGNATURE_SUFFIX);
    let path = match named {
        Some(path) => path,
        None if Path::new(source).is_file() && beside.is_file() => &beside,
        None => return Ok(None),
    };
    let read = || {
        let mut text = String::new();
        let limit = LARGEST_SIGNATURE as u64 + 1;
        fs::File::open(path)?
            .take(limit)
            .read_to_string(&mut text)?;
        match text.len() > LARGEST_SIGNATURE {
            true => Err(io::Error::other("it is too large for a signature")),
            false => Ok(text),
        }
    };
    read().map(Some).map_err(|source| Failure::File {
        verb: "read",
        path: path.into(),
        source,
    })
}

fn appended(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The identity of the image in an archive of `docker save`: the hash of its configuration. (What an
/// engine calls the identity depends on how it keeps images.)
fn image_in(archive: &Path) -> Result<String, Failure> {
    let index = fs::File::open(archive).and_then(|mut file| index_of(&mut file));
    let index = index.map_err(|source| Failure::File {
        verb: "read",
        path: archive.into(),
        source,
    })?;
    let odd = |why: String| {
        let error = Error::invalid(format!("the archive {}", archive.display())).cause(why);
        Failure::Core(error.remedy("give one image that docker save has written"))
    };
    let images: Vec<Indexed> = serde_json::from_slice(&index).map_err(|e| odd(e.to_string()))?;
    let [image] = images.as_slice() else {
        return Err(odd(format!("it has {} images, not one", images.len())));
    };
    // `blobs/sha256/HASH`, or `HASH.json` from older engines.
    let name = image.config.rsplit('/').next().unwrap_or_default();
    let hash = name.strip_suffix(".json").unwrap_or(name);
    let digit = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    match hash.len() == 64 && hash.chars().all(digit) {
        true => Ok(format!("sha256:{hash}")),
        false => Err(odd(format!(
            "{:?} is no image's configuration",
            image.config
        ))),
    }
}

/// The content of the index in a tar archive.
fn index_of(archive: &mut (impl Read + Seek)) -> io::Result<Vec<u8>> {
    let odd = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
    let mut header = [0; 512];
    loop {
        archive.read_exact(&mut header)?;
        let text = |field: &[u8]| {
            let end = field.iter().position(|byte| *byte == 0);
            String::from_utf8_lossy(&field[..end.unwrap_or(field.len())]).into_owned()
        };
        let name = text(&header[..100]);
        if name.is_empty() {
            return Err(odd("it has no file manifest.json"));
        }
        let size = u64::from_str_radix(text(&header[124..136]).trim(), 8)
            .map_err(|_| odd("it is no tar archive"))?;
        if name.trim_start_matches("./") == INDEX && size <= LARGEST_INDEX {
            let mut content = Vec::new();
            archive.take(size).read_to_end(&mut content)?;
            return Ok(content);
        }
        let skip = i64::try_from(size.next_multiple_of(BLOCK)).map_err(|_| odd("it is cut off"))?;
        archive.seek(SeekFrom::Current(skip))?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, content: &str) -> Vec<u8> {
        let mut bytes = vec![0; 512];
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        bytes[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
        bytes.extend(content.as_bytes());
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    }

    fn archive(index: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut bytes = entry("blobs/sha256/x", &"x".repeat(700));
        bytes.extend(entry(INDEX, index));
        bytes.extend([0; 1024]);
        fs::write(file.path(), bytes).unwrap();
        file
    }

    #[test]
    fn the_identity_is_read_out_of_archives_of_new_and_old_engines() {
        let hash = "0123456789abcdef".repeat(4);
        for config in [format!("blobs/sha256/{hash}"), format!("{hash}.json")] {
            let file = archive(&format!(r#"[{{"Config":"{config}","RepoTags":["a:1"]}}]"#));
            assert_eq!(image_in(file.path()).unwrap(), format!("sha256:{hash}"));
        }
    }

    #[test]
    fn an_archive_that_is_none_is_refused_and_one_of_two_images_too() {
        let two = r#"[{"Config":"a.json"},{"Config":"b.json"}]"#;
        for index in [
            "",
            "[]",
            two,
            r#"[{"Config":"../x"}]"#,
            r#"[{"Config":"blobs/sha256/ABC"}]"#,
        ] {
            assert!(image_in(archive(index).path()).is_err(), "{index}");
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        for bytes in [vec![], vec![b'x'; 2048], vec![0; 1024], entry("a", "b")] {
            fs::write(file.path(), bytes).unwrap();
            assert!(image_in(file.path()).is_err());
        }
    }
}
