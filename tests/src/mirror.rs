//! Debian's mirror: the one that this machine's own apt uses.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

/// The Debian release that the OS is made of.
pub const SUITE: &str = "trixie";

/// Where packages come from.
pub struct Mirror {
    /// URI of the archive.
    pub archive: String,
    /// URI of the security archive.
    pub security: String,
}

impl Mirror {
    /// That of `LAZARETTE_DEBIAN_MIRROR` or of this machine's apt configuration.
    ///
    /// # Errors
    /// When there is none; the message says what to do.
    pub fn find() -> Result<Self> {
        if let Ok(archive) = std::env::var("LAZARETTE_DEBIAN_MIRROR") {
            let security = security_beside(&archive);
            return Ok(Self { archive, security });
        }
        let mut uris = Vec::new();
        for path in source_files() {
            let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            uris.extend(uris_of(&text));
        }
        let ends = |uri: &&String, end: &str| uri.trim_end_matches('/').ends_with(end);
        let Some(archive) = uris.iter().find(|uri| ends(uri, "/debian")).cloned() else {
            bail!(
                "no Debian mirror stands in this machine's apt configuration\n\
                 set LAZARETTE_DEBIAN_MIRROR to the URL of one that has {SUITE}"
            );
        };
        let security = uris
            .iter()
            .find(|uri| ends(uri, "/debian-security"))
            .cloned()
            .unwrap_or_else(|| security_beside(&archive));
        Ok(Self { archive, security })
    }
}

fn security_beside(archive: &str) -> String {
    format!("{}-security", archive.trim_end_matches('/'))
}

fn source_files() -> Vec<PathBuf> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    let more = fs::read_dir("/etc/apt/sources.list.d")
        .into_iter()
        .flatten();
    let mut more: Vec<PathBuf> = more.flatten().map(|entry| entry.path()).collect();
    more.sort();
    files.extend(more);
    files.retain(|path| {
        let end = path.extension().and_then(|end| end.to_str());
        path.is_file() && matches!(end, Some("list" | "sources"))
    });
    files
}

/// All URIs in a `.list` or `.sources` file.
fn uris_of(text: &str) -> Vec<String> {
    let mut uris = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(list) = line.strip_prefix("URIs:") {
            uris.extend(list.split_whitespace().map(str::to_owned));
        } else if let Some(rest) = line.strip_prefix("deb ") {
            let rest = rest.trim_start();
            let rest = match rest.strip_prefix('[') {
                Some(options) => options.split_once(']').map_or("", |(_, after)| after),
                None => rest,
            };
            uris.extend(rest.split_whitespace().next().map(str::to_owned));
        }
    }
    uris
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_source_files_are_understood() {
        let list = "# deb http://no.example/debian x main\n\
                    deb [arch=amd64 signed-by=/k] http://a.example/debian suite main\n\
                    deb http://b.example/debian-security suite main\n";
        assert_eq!(
            uris_of(list),
            [
                "http://a.example/debian",
                "http://b.example/debian-security"
            ]
        );
        let sources =
            "Types: deb\n# http://old.example\nURIs: http://c.example/debian/\nSuites: s\n";
        assert_eq!(uris_of(sources), ["http://c.example/debian/"]);
    }
}
