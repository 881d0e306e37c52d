//! Debian packages of the guest: the mirror this machine's own apt uses, and the newest versions
//! there, looked up without touching this machine's apt state.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};

use crate::cache::{self, Key};
use crate::command::{capture, logged};
use crate::progress::{say, step};

/// The Debian release that the OS is made of.
pub(crate) const SUITE: &str = "trixie";

/// How long a look at the mirror counts.
const FRESH: Duration = Duration::from_secs(24 * 3600);

/// Where packages come from.
pub(crate) struct Mirror {
    /// URI of the archive.
    pub(crate) archive: String,
    /// URI of the security archive.
    pub(crate) security: String,
}

/// Takes the mirror from `LAZARETTE_DEBIAN_MIRROR` or from this machine's apt configuration.
pub(crate) fn mirror() -> Result<Mirror> {
    if let Ok(archive) = std::env::var("LAZARETTE_DEBIAN_MIRROR") {
        let security = security_beside(&archive);
        return Ok(Mirror { archive, security });
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
    Ok(Mirror { archive, security })
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

/// The guest's package sources and a private apt state that knows them.
pub(crate) struct Apt {
    directory: PathBuf,
}

impl Apt {
    /// Opens the private state; looks at the mirror if that was more than a day ago or `refresh`.
    pub(crate) fn open(refresh: bool) -> Result<Self> {
        let Mirror { archive, security } = mirror()?;
        let keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";
        let signed = if Path::new(keyring).exists() {
            format!("[signed-by={keyring}] ")
        } else {
            String::new()
        };
        let sources = format!(
            "deb {signed}{archive} {SUITE} main contrib\n\
             deb {signed}{archive} {SUITE}-updates main contrib\n\
             deb {signed}{security} {SUITE}-security main contrib\n"
        );
        // A state for each set of sources: another checkout may have other ones.
        let key = Key::default().add(&sources).finish();
        let directory = cache::root()?.join(format!("apt-{key}"));
        for part in ["lists/partial", "archives/partial"] {
            fs::create_dir_all(directory.join(part))?;
        }
        let apt = Self { directory };
        // apt-get refuses to look twice at once; and nobody is to read half of what is written.
        let lock = File::create(apt.directory.join("lock"))?;
        lock.lock().context("the lock of the packages' lists")?;
        fs::write(apt.sources(), sources)?;
        fs::write(apt.directory.join("status"), "")?;
        let stamp = apt.directory.join("stamp");
        let age = fs::metadata(&stamp)
            .and_then(|found| found.modified())
            .map(|time| SystemTime::now().duration_since(time).unwrap_or_default());
        match age {
            Ok(age) if age < FRESH && !refresh => {}
            found => {
                let looked = step("look for newer Debian packages", || {
                    logged(
                        apt.get().args(["-qq", "update"]),
                        &apt.directory.join("log"),
                    )
                });
                match looked {
                    Ok(()) => fs::write(stamp, "")?,
                    // What was known yesterday still builds the same machine.
                    Err(error) if found.is_ok() => say(&format!("going on without: {error}")),
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(apt)
    }

    /// The `sources.list` for mmdebstrap.
    pub(crate) fn sources(&self) -> PathBuf {
        self.directory.join("sources.list")
    }

    /// `package version` of all that would be installed on an empty system for `packages`
    /// (and for a minimal base, if `base`), sorted.
    pub(crate) fn versions(&self, packages: &[String], base: bool) -> Result<Vec<String>> {
        let mut wanted = packages.to_vec();
        if base {
            wanted.push("?essential".to_owned());
        }
        let known = self.directory.join(format!(
            "versions-{}",
            Key::default().add(wanted.join(" ")).finish()
        ));
        let modified = |path: &Path| fs::metadata(path).and_then(|found| found.modified());
        if modified(&known).is_ok_and(|time| {
            modified(&self.directory.join("stamp")).is_ok_and(|stamp| time >= stamp)
        }) {
            return Ok(fs::read_to_string(known)?
                .lines()
                .map(str::to_owned)
                .collect());
        }
        let mut command = self.get();
        command.args(["-qq", "-s", "install"]).args(&wanted);
        let text = capture(&mut command).context("the guest's packages could not be resolved")?;
        let mut versions: Vec<String> = text.lines().filter_map(installed).collect();
        versions.sort();
        if versions.is_empty() {
            bail!("apt resolves {packages:?} to nothing");
        }
        let partial = known.with_extension(std::process::id().to_string());
        fs::write(&partial, versions.join("\n"))?;
        fs::rename(partial, known)?;
        Ok(versions)
    }

    fn get(&self) -> Command {
        let mut command = Command::new("apt-get");
        let path = |name: &str| self.directory.join(name).display().to_string();
        let options = [
            ("Dir::State", path("")),
            ("Dir::State::lists", path("lists")),
            ("Dir::State::status", path("status")),
            ("Dir::Cache", path("")),
            ("Dir::Cache::archives", path("archives")),
            ("Dir::Etc::sourcelist", path("sources.list")),
            ("Dir::Etc::sourceparts", "/dev/null".to_owned()),
            ("Dir::Etc::preferencesparts", "/dev/null".to_owned()),
            ("APT::Install-Recommends", "0".to_owned()),
            ("APT::Architecture", "amd64".to_owned()),
            ("Acquire::Languages", "none".to_owned()),
        ];
        for (name, value) in options {
            command.arg("-o").arg(format!("{name}={value}"));
        }
        command.env("LC_ALL", "C");
        command
    }
}

/// `Inst name (version …` → `name version`.
fn installed(line: &str) -> Option<String> {
    let rest = line.strip_prefix("Inst ")?;
    let (name, rest) = rest.split_once(' ')?;
    let version = rest.split_once('(')?.1.split_whitespace().next()?;
    Some(format!("{name} {version}"))
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

    #[test]
    fn a_resolved_package_has_a_name_and_a_version() {
        let line = "Inst runc (1.1.15+ds1-2 Debian:13/stable [amd64]) []";
        assert_eq!(installed(line).as_deref(), Some("runc 1.1.15+ds1-2"));
        assert_eq!(installed("Conf runc (1 Debian)"), None);
    }
}
