//! `cargo xtask vm`: a machine with test servers, for a script or a shell.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use lazarette_tests::vm::{Machine, Options, Saved};

use crate::images;
use crate::progress::{say, step};

/// Boot the OS with test servers available, and run a script or a shell in it as root.
///
/// In the machine, `laz`, `docker` (user Docker), `system-docker` and `nas` (the NFS test server;
/// `nas help`) are in the PATH, and so are `g1` and `g2`, which serve the Gluster volume gv0. nas.test
/// exports /srv/media and /srv/home by NFS 3 and 4.2. What is
/// written to its disks is forgotten when it ends.
#[derive(Args)]
pub(crate) struct Vm {
    /// A cloud-config for the machine, merged over the lab's own; it is booted with it.
    #[arg(long, value_name = "FILE")]
    cloud_config: Option<PathBuf>,
    /// An extra disk, such as 2G: /dev/disk/by-id/virtio-disk1, …2, … (four of 2G if none is given).
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    disk: Vec<u64>,
    /// The machine's memory in MB.
    #[arg(long, value_name = "MB")]
    memory: Option<u32>,
    /// A file with a script, or a command; its output is streamed and its exit status is this
    /// command's.
    #[arg(long, value_name = "SCRIPT")]
    run: Option<String>,
    /// Boot, even if a saved machine could be restored.
    #[arg(long)]
    boot: bool,
    /// Show the machine's serial console when it ends.
    #[arg(long)]
    console: bool,
}

impl Vm {
    /// Runs the command.
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let script = self.run.as_deref().map(script).transpose()?;
        let mut options = Options::default();
        if !self.disk.is_empty() {
            options.disks.clone_from(&self.disk);
        }
        if let Some(memory) = self.memory {
            options.memory_mib = memory;
        }
        if let Some(path) = &self.cloud_config {
            let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
            options.cloud_config = Some(text);
        }
        let (lab, _) = images::ensure(false)?;
        // A configuration is tried by booting with it, and may keep parts from coming up: such a
        // machine is not saved. One with other disks or memory is as good as any other.
        let machine = if self.boot || options.cloud_config.is_some() {
            let mut machine = step("boot a machine", || Machine::boot(&lab, &options))?;
            if let Err(error) = step("wait until it is ready", || machine.prepare()) {
                // A configuration that keeps parts from coming up is a thing to look at.
                say(&format!("going on although {error:#}"));
            }
            machine
        } else {
            let saved = step("find or save a booted machine", || {
                Saved::ensure(&lab, &options)
            })?;
            step("restore it", || saved.restore())?
        };
        let status = match &script {
            Some(script) => machine.stream(script)?,
            None => {
                say("a shell in the machine; `exit` ends both");
                machine.shell()?
            }
        };
        if self.console {
            eprintln!("{}", machine.console());
        }
        machine.kill();
        Ok(ExitCode::from(u8::try_from(status).unwrap_or(1)))
    }
}

/// The text of a script: a file's, or the argument itself if it looks like a command.
fn script(argument: &str) -> Result<String> {
    if Path::new(argument).is_file() {
        return fs::read_to_string(argument).with_context(|| argument.to_owned());
    }
    if argument.contains('/') && !argument.contains(char::is_whitespace) {
        bail!("{argument}: no such file");
    }
    Ok(argument.to_owned())
}

/// `512M`, `2G` → bytes.
fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|letter: char| !letter.is_ascii_digit());
    let unit = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" => 1,
        "K" | "KB" | "KIB" => 1 << 10,
        "M" | "MB" | "MIB" => 1 << 20,
        "G" | "GB" | "GIB" => 1 << 30,
        "T" | "TB" | "TIB" => 1 << 40,
        other => return Err(format!("{other:?} is no unit: K, M, G or T")),
    };
    let number: u64 = digits
        .parse()
        .map_err(|error| format!("{text:?}: {error}"))?;
    match number.checked_mul(unit) {
        Some(bytes @ 1..) => Ok(bytes),
        _ => Err(format!("{text:?} is no size of a disk")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        assert_eq!(bytes("512M"), Ok(512 << 20));
        assert_eq!(bytes("2GiB"), Ok(2 << 30));
        assert_eq!(bytes("4096"), Ok(4096));
        for bad in ["", "G", "0", "12X", "-1G", "99999999999T"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_path_that_is_not_there_is_no_command() {
        assert!(script("/no/such/file").is_err());
        assert_eq!(script("docker ps").unwrap(), "docker ps");
    }
}
