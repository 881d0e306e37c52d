//! An image of Debian for recipes to begin with, made of the packages that this machine has: of its
//! release, with its package mirror, and nothing but what `apt-get install` needs.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::dockerd::Dockerd;
use super::process::{limited, succeeded};
use crate::mirror::Mirror;

/// Fetches a file as apt would, past the same proxies.
const FETCH: &str = "/usr/lib/apt/apt-helper";
/// Whose signatures count for packages.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// Seconds for which a mirror may say nothing.
const PATIENCE: u32 = 15;
/// How a command ends that took longer than it may.
const KILLED: i32 = 124;
/// Whom TLS trusts.
const AUTHORITIES: &str = "etc/ssl/certs/ca-certificates.crt";
/// What nobody reads in an image.
const UNREAD: [&str; 4] = [
    "/usr/share/doc/",
    "/usr/share/man/",
    "/usr/share/locale/",
    "/usr/share/info/",
];

/// A Debian machine whose mirror can be reached.
pub struct Debian {
    mirror: Mirror,
    release: String,
}

impl Debian {
    /// This machine.
    ///
    /// # Errors
    /// Why no image can be made of it, or nothing be installed into one.
    pub fn of_this_machine(scratch: &Path) -> Result<Self, String> {
        for path in [FETCH, KEYRING, "/usr/bin/dpkg-query", "/usr/bin/apt-cache"] {
            if !Path::new(path).exists() {
                return Err(format!("needs {path}, of a Debian machine"));
            }
        }
        let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
        let mut lines = release.lines();
        let release = lines.find_map(|line| line.strip_prefix("VERSION_CODENAME="));
        let release = release.ok_or("needs a release of Debian that has a name")?;
        let mirror = Mirror::find().map_err(|error| format!("{error:#}"))?;
        let reached = reach(&mirror, release, &scratch.join("release"), PATIENCE);
        reached.map_err(|error| format!("needs to reach packages: {error:#}"))?;
        Ok(Self {
            mirror,
            release: release.to_owned(),
        })
    }

    /// Makes the image `tag`.
    ///
    /// # Errors
    /// When this machine's packages cannot be read, or the engine does not take them.
    pub fn import(&self, docker: &Dockerd, scratch: &Path, tag: &str) -> Result<()> {
        let packages = packages()?;
        let root = scratch.join("debian");
        let state = self.write_state(&root, &packages)?;
        let list = scratch.join("debian.files");
        fs::write(&list, files(&packages)?.join("\n"))?;
        let archive = scratch.join("debian.tar");
        tar("--create", &archive, Path::new("/"), |tar| {
            tar.args(["--no-recursion", "--files-from"]).arg(&list);
        })?;
        tar("--append", &archive, &root, |tar| {
            tar.args(["--owner=0", "--group=0"]).args(&state);
        })?;
        let archive = archive.to_str().context("a path that is no text")?;
        docker.ok(&["import", archive, tag]).map(drop)
    }

    /// Writes below `root` what is not in packages: dpkg's state, accounts, where packages come from.
    /// The files that it has written.
    fn write_state(&self, root: &Path, packages: &[String]) -> Result<Vec<String>> {
        let mut written = Vec::new();
        let mut write = |name: &str, content: &str| {
            let path = root.join(name);
            fs::create_dir_all(path.parent().context("no directory above it")?)?;
            written.push(name.to_owned());
            fs::write(&path, content).with_context(|| path.display().to_string())
        };
        let mut status = query(&["--status"], packages)?;
        status.push_str("\n\n");
        write("var/lib/dpkg/status", &status)?;
        for file in ["passwd", "group"] {
            let master = format!("/usr/share/base-passwd/{file}.master");
            write(&format!("etc/{file}"), &fs::read_to_string(master)?)?;
        }
        let archive = &self.mirror.archive;
        let source = format!(
            "deb [signed-by={KEYRING}] {archive} {} main\n",
            self.release
        );
        write("etc/apt/sources.list", &source)?;
        let mut network = network_settings()?;
        for (name, value) in patience(PATIENCE) {
            network += &format!("{name} \"{value}\";\n");
        }
        write("etc/apt/apt.conf.d/90mirror", &network)?;
        if let Ok(authorities) = fs::read_to_string(Path::new("/").join(AUTHORITIES)) {
            write(AUTHORITIES, &authorities)?;
        }
        Ok(written)
    }
}

/// Fetches from the mirror what every release has, into the file `to`; it may be silent for so many
/// seconds.
fn reach(mirror: &Mirror, release: &str, to: &Path, seconds: u32) -> Result<()> {
    let uri = format!("{}/dists/{release}/InRelease", mirror.archive);
    // apt waits twice as long; and what is no silence takes time, too: names that nobody resolves.
    let limit = 4 * seconds;
    let mut fetch = limited(limit, FETCH);
    fetch.args(["--option", "Acquire::Retries=0"]);
    for (name, value) in patience(seconds) {
        fetch.arg("--option").arg(format!("{name}={value}"));
    }
    let output = fetch.args(["download-file", &uri]).arg(to).output()?;
    let ended = output.status.code() != Some(KILLED);
    ensure!(ended, "{uri} does not come within {limit} s");
    succeeded("the mirror of this machine's apt", &output).map(drop)
}

/// How apt is told to give up when nothing has come for so many seconds.
fn patience(seconds: u32) -> [(&'static str, u32); 2] {
    [
        ("Acquire::http::Timeout", seconds),
        ("Acquire::https::Timeout", seconds),
    ]
}

/// The required packages, apt, and all that they need, as far as this machine has it.
fn packages() -> Result<Vec<String>> {
    let format = "--showformat=${Priority} ${Package}\n";
    let all = query(&["--show", format], &[])?;
    let required = all
        .lines()
        .filter_map(|line| line.strip_prefix("required "));
    let output = Command::new("/usr/bin/apt-cache")
        .args(["depends", "--recurse", "--installed", "--important"])
        .args(required)
        .args(["apt", "debian-archive-keyring"])
        .env("LC_ALL", "C")
        .output()?;
    let text = succeeded("apt-cache depends", &output)?;
    // What depends on what is indented, and what only has a name is in angle brackets.
    let named = text
        .lines()
        .filter(|line| !line.starts_with([' ', '<', '|']));
    let named: BTreeSet<&str> = named.collect();
    let format = "--showformat=${db:Status-Status} ${Package}\n";
    let there = query(&["--show", format], &[])?;
    let there = there
        .lines()
        .filter_map(|line| line.strip_prefix("installed "));
    let there: BTreeSet<&str> = there.collect();
    let packages: Vec<String> = named
        .intersection(&there)
        .map(|&name| name.into())
        .collect();
    ensure!(!packages.is_empty(), "apt-cache names no package: {text}");
    Ok(packages)
}

/// All files of packages and what dpkg knows of them, relative to `/`, each by its own path: that in
/// a package may go through a symbolic link such as `/lib`.
fn files(packages: &[String]) -> Result<Vec<String>> {
    let mut files = BTreeSet::new();
    let mut add = |path: &Path| -> Result<()> {
        let (Some(above), Some(name)) = (path.parent(), path.file_name()) else {
            return Ok(());
        };
        // Documentation may be left out on this machine, too.
        let Ok(above) = fs::canonicalize(above) else {
            return Ok(());
        };
        let path = above.join(name);
        if path.symlink_metadata().is_ok() {
            let path = path.to_str().context("a path that is no text")?;
            files.insert(path.trim_start_matches('/').to_owned());
        }
        Ok(())
    };
    let listed = query(&["--listfiles"], packages)?;
    let read = |line: &&str| line.starts_with('/') && !UNREAD.iter().any(|u| line.starts_with(u));
    for line in listed.lines().filter(read) {
        add(Path::new(line))?;
    }
    // Made when Debian is installed, not by a package.
    for link in ["/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"] {
        add(Path::new(link))?;
    }
    for entry in fs::read_dir("/var/lib/dpkg/info")? {
        let path: PathBuf = entry?.path();
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let name = stem.split(':').next().unwrap_or_default();
        if packages.iter().any(|package| package == name) {
            add(&path)?;
        }
    }
    Ok(files.into_iter().collect())
}

/// What this machine's apt is told of the network and of the mirror's clock.
fn network_settings() -> Result<String> {
    let output = Command::new("/usr/bin/apt-config").arg("dump").output()?;
    let text = succeeded("apt-config dump", &output)?;
    let wanted = |line: &&str| {
        let proxy = line.starts_with("Acquire::http") && line.contains("::Proxy ");
        proxy || line.starts_with("Acquire::Check-")
    };
    let lines: Vec<&str> = text.lines().filter(wanted).collect();
    Ok(lines.join("\n") + "\n")
}

fn query(options: &[&str], packages: &[String]) -> Result<String> {
    let output = Command::new("/usr/bin/dpkg-query")
        .args(options)
        .args(packages)
        .env("LC_ALL", "C")
        .output()?;
    succeeded("dpkg-query", &output)
}

/// Puts what `choose` names below `directory` into `archive`.
fn tar(
    act: &str,
    archive: &Path,
    directory: &Path,
    choose: impl FnOnce(&mut Command),
) -> Result<()> {
    let mut command = limited(120, "tar");
    command.arg(act).arg("--file").arg(archive);
    command.arg("--directory").arg(directory);
    choose(&mut command);
    succeeded("tar", &command.output()?).map(drop)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// What is said of a mirror at `address`; nothing, where this machine has no apt.
    fn said_of(address: &str) -> Option<String> {
        if !Path::new(FETCH).exists() {
            println!("skipped: needs {FETCH}, of a Debian machine");
            return None;
        }
        let scratch = tempfile::tempdir().unwrap();
        let archive = format!("http://{address}/debian");
        let security = archive.clone();
        let mirror = Mirror { archive, security };
        let reached = reach(&mirror, "trixie", &scratch.path().join("release"), 1);
        let said = format!("{:#}", reached.unwrap_err());
        assert!(said.contains(address), "{said}");
        Some(said)
    }

    #[test]
    fn a_mirror_that_nobody_serves_is_named_with_the_reason() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap().to_string();
        drop(free);
        if let Some(said) = said_of(&address) {
            assert!(said.contains("Connection refused"), "{said}");
        }
    }

    #[test]
    fn a_mirror_that_is_silent_is_not_waited_for_long() {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = silent.local_addr().unwrap().to_string();
        // By apt itself, or because it took no end.
        if let Some(said) = said_of(&address) {
            assert!(
                said.contains("Connection failed") || said.contains("does not come"),
                "{said}"
            );
        }
    }
}
