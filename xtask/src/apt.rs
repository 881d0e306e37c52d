//! Debian packages of the guest: the newest versions on the mirror that this machine's own apt uses,
//! looked up without touching this machine's apt state.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use lazarette_tests::mirror::{Mirror, SUITE};

use crate::cache::{self, Key};
use crate::command::{capture, logged};
use crate::progress::{say, step};

/// How long a look at the mirror counts.
const FRESH: Duration = Duration::from_secs(24 * 3600);

/// The guest's package sources and a private apt state that knows them.
pub(crate) struct Apt {
    directory: PathBuf,
}

impl Apt {
    /// Opens the private state; looks at the mirror if that was more than a day ago or `refresh`.
    pub(crate) fn open(refresh: bool) -> Result<Self> {
        let Mirror { archive, security } = Mirror::find()?;
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
    fn a_resolved_package_has_a_name_and_a_version() {
        let line = "Inst runc (1.1.15+ds1-2 Debian:13/stable [amd64]) []";
        assert_eq!(installed(line).as_deref(), Some("runc 1.1.15+ds1-2"));
        assert_eq!(installed("Conf runc (1 Debian)"), None);
    }
}
