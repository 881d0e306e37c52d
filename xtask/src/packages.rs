//! The Debian packages that each command needs, and how they get onto this machine.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use lazarette_tests::mirror::Mirror;

use crate::cache;
use crate::command::{capture, inherited};
use crate::progress::{say, step};

/// A package and a file by which its presence is known.
struct Package {
    name: &'static str,
    file: &'static str,
}

const fn package(name: &'static str, file: &'static str) -> Package {
    Package { name, file }
}

/// What building images and running machines needs.
const MACHINE: &[Package] = &[
    package("qemu-system-x86", "/usr/bin/qemu-system-x86_64"),
    package("qemu-utils", "/usr/bin/qemu-img"),
    package("mmdebstrap", "/usr/bin/mmdebstrap"),
    package(
        "debian-archive-keyring",
        "/usr/share/keyrings/debian-archive-keyring.gpg",
    ),
    package("kmod", "/sbin/depmod"),
    package("cpio", "/usr/bin/cpio"),
    package("zstd", "/usr/bin/zstd"),
    package("xz-utils", "/usr/bin/xz"),
    package("e2fsprogs", "/sbin/mkfs.ext4"),
    package("util-linux", "/usr/bin/setpriv"),
];

/// What the suites on this machine need.
const HOST: &[Package] = &[
    package("docker.io", "/usr/sbin/dockerd"),
    package("busybox-static", "/bin/busybox"),
    package("iptables", "/usr/sbin/iptables"),
    package("iproute2", "/sbin/ip"),
    package("e2fsprogs", "/sbin/mkfs.ext4"),
    package("xfsprogs", "/sbin/mkfs.xfs"),
    package("bindfs", "/usr/bin/bindfs"),
    package("glusterfs-server", "/usr/sbin/glusterd"),
    package("attr", "/usr/bin/getfattr"),
    package("sshfs", "/usr/bin/sshfs"),
    package("openssh-server", "/usr/sbin/sshd"),
];

/// What compiling the loop device crate and the plugins' examples takes beside Rust, and the checks.
const COMPILE: &[Package] = &[
    package("gcc", "/usr/bin/cc"),
    package("make", "/usr/bin/make"),
    package("libclang-dev", "libclang"),
    package("python3", "/usr/bin/python3"),
    package("git", "/usr/bin/git"),
];

/// How long apt and dpkg wait for somebody else who installs something, such as the machine's own
/// upgrades.
const LOCK: &str = "DPkg::Lock::Timeout=600";

/// The oldest QEMU that can save a machine to a file (`migrate file:`).
const OLDEST_QEMU: (u32, u32) = (8, 2);

/// What a command needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// To build images and run machines.
    Machine,
    /// To run the suites on this machine.
    Host,
    /// To compile the suites.
    Compile,
}

impl Need {
    fn packages(self) -> &'static [Package] {
        match self {
            Self::Machine => MACHINE,
            Self::Host => HOST,
            Self::Compile => COMPILE,
        }
    }
}

/// Installs what is missing, as root on Debian; elsewhere says exactly what to install.
pub(crate) fn ensure(needs: &[Need]) -> Result<()> {
    let missing = missing(needs)?;
    if missing.is_empty() {
        return Ok(());
    }
    let release = release();
    if !is_root() || !release.contains("ID=debian") {
        bail!(
            "these packages are missing (Debian's names): {}\n\
             QEMU must be {}.{} or newer\n\
             install them, for instance with `apt-get install {}`, and run this again",
            missing.join(" "),
            OLDEST_QEMU.0,
            OLDEST_QEMU.1,
            missing.join(" ")
        );
    }
    let bookworm = release.contains("VERSION_CODENAME=bookworm");
    step(&format!("install {}", missing.join(" ")), || {
        // Two first runs at once: `apt-get update` waits for nobody, so the second run waits for the
        // first, which may have installed all of it.
        let lock = File::create(cache::root()?.join("packages.lock"))?;
        lock.lock().context("the lock of the packages")?;
        match self::missing(needs)? {
            missing if missing.is_empty() => Ok(()),
            missing => install(&missing, bookworm),
        }
    })?;
    if needs.contains(&Need::Machine) && qemu_version()? < OLDEST_QEMU {
        bail!(
            "QEMU is older than {}.{}: install a newer one",
            OLDEST_QEMU.0,
            OLDEST_QEMU.1
        );
    }
    Ok(())
}

/// The names of the packages that are needed and not there, or too old.
fn missing(needs: &[Need]) -> Result<Vec<&'static str>> {
    let mut missing: Vec<&'static str> = needs
        .iter()
        .flat_map(|need| need.packages())
        .filter(|package| !present(package.file))
        .map(|package| package.name)
        .collect();
    missing.sort_unstable();
    missing.dedup();
    let old_qemu = needs.contains(&Need::Machine)
        && !missing.contains(&"qemu-system-x86")
        && qemu_version()? < OLDEST_QEMU;
    if old_qemu {
        missing.push("qemu-system-x86");
    }
    Ok(missing)
}

fn present(file: &str) -> bool {
    match file {
        // Its directory carries LLVM's version.
        "libclang" => fs::read_dir("/usr/lib").is_ok_and(|entries| {
            entries.flatten().any(|entry| {
                entry.file_name().to_string_lossy().starts_with("llvm-")
                    && entry.path().join("lib/libclang.so").exists()
            })
        }),
        file => Path::new(file).exists(),
    }
}

fn release() -> String {
    fs::read_to_string("/etc/os-release").unwrap_or_default()
}

pub(crate) fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

fn qemu_version() -> Result<(u32, u32)> {
    let text = capture(Command::new("/usr/bin/qemu-system-x86_64").arg("--version"))?;
    parse_qemu_version(&text).with_context(|| format!("QEMU's version in {text:?}"))
}

fn parse_qemu_version(text: &str) -> Option<(u32, u32)> {
    let rest = text.split_once("version ")?.1;
    let mut numbers = rest.split(|letter: char| !letter.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Installs packages; QEMU and Gluster come from backports on bookworm, whose own are too old.
fn install(missing: &[&str], bookworm: bool) -> Result<()> {
    let from_backports =
        |name: &str| bookworm && (name.starts_with("qemu-") || name.starts_with("glusterfs-"));
    let (newer, plain): (Vec<&str>, Vec<&str>) = missing
        .iter()
        .copied()
        .partition(|name| from_backports(name));
    if !newer.is_empty()
        && !capture(Command::new("apt-cache").arg("policy"))?.contains("bookworm-backports")
    {
        let source = format!("deb {} bookworm-backports main\n", Mirror::find()?.archive);
        fs::write("/etc/apt/sources.list.d/lazarette-backports.list", source)
            .context("adding bookworm-backports to apt's sources")?;
    }
    if let Err(error) = inherited(apt_get().args(["-qq", "update"])) {
        // A source that we need nothing from may be out of reach; if it matters, the next step fails.
        say(&format!("going on although {error}"));
    }
    let mut quiet = apt_get();
    quiet.args(["-qq", "-y", "--no-install-recommends", "install"]);
    if !plain.is_empty() {
        inherited(quiet.args(&plain))?;
    }
    if !newer.is_empty() {
        let mut command = apt_get();
        command.args([
            "-qq",
            "-y",
            "--no-install-recommends",
            "-t",
            "bookworm-backports",
            "install",
        ]);
        inherited(command.args(&newer))?;
    }
    Ok(())
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command
        .args(["-o", LOCK])
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("LC_ALL", "C")
        // What apt and dpkg say is no output of ours.
        .stdout(std::io::stderr());
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn qemu_says_its_version_in_many_ways() {
        let debian = "QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2~bpo12+1)\nCopyright";
        assert_eq!(parse_qemu_version(debian), Some((10, 0)));
        assert_eq!(
            parse_qemu_version("QEMU emulator version 8.2"),
            Some((8, 2))
        );
        assert_eq!(parse_qemu_version("no such thing"), None);
    }
}
