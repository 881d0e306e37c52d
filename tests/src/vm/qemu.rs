//! The QEMU process: its command line and its files.

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::lab::{Accelerator, Lab};
use crate::protocol::PORT;

/// The emulator, from Debian's qemu-system-x86.
const QEMU: &str = "/usr/bin/qemu-system-x86_64";

/// What the kernel is always told: quick, quiet and the same in every boot.
const COMMAND_LINE: &str = "console=ttyS0 quiet panic=-1 mitigations=off nokaslr audit=0 \
    apparmor=0 nowatchdog cryptomgr.notests rcupdate.rcu_expedited=1 random.trust_cpu=on";

/// A disk of the machine.
pub(super) struct Drive {
    /// Its serial number, by which the machine knows it.
    pub(super) serial: String,
    /// The image.
    pub(super) image: PathBuf,
    /// `raw` or `qcow2`.
    pub(super) format: &'static str,
    /// What becomes of writes.
    pub(super) writes: Writes,
}

/// What becomes of writes to a disk.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Writes {
    /// They go to the image.
    Kept,
    /// They go to a temporary file.
    Discarded,
    /// The disk is read-only.
    Refused,
}

/// All that a machine is started with.
pub(super) struct Parts<'a> {
    pub(super) lab: &'a Lab,
    pub(super) memory_mib: u32,
    pub(super) processors: Option<usize>,
    pub(super) command_line: &'a str,
    pub(super) drives: Vec<Drive>,
    /// A saved machine's memory to start from.
    pub(super) incoming: Option<PathBuf>,
}

/// A running QEMU and the directory with its sockets; both end when it is dropped.
pub(super) struct Qemu {
    child: Child,
    directory: PathBuf,
}

/// Connects to a socket of QEMU's: its file is there a moment before QEMU listens on it.
pub(super) fn connect(socket: &Path) -> std::io::Result<UnixStream> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match UnixStream::connect(socket) {
            Err(error)
                if error.kind() == std::io::ErrorKind::ConnectionRefused
                    && Instant::now() < deadline =>
            {
                thread::sleep(Duration::from_millis(20));
            }
            result => return result,
        }
    }
}

impl Qemu {
    /// Starts QEMU and waits for its sockets.
    ///
    /// It is told to die with the thread that starts it, so that a killed test leaves nothing.
    pub(super) fn start(parts: &Parts<'_>) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        static SWEPT: Once = Once::new();
        SWEPT.call_once(|| {
            sweep(&std::env::temp_dir(), "lazarette-vm-");
            sweep(Path::new("/var/tmp"), "lazarette-");
        });
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        // The paths of sockets are short: not below target/.
        let directory =
            std::env::temp_dir().join(format!("lazarette-vm-{}-{number}", std::process::id()));
        fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
        let log = File::create(directory.join("qemu.log"))?;
        let child = Command::new("/usr/bin/setpriv")
            .args(["--pdeathsig", "KILL", "--", QEMU])
            .args(arguments(parts, &directory))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("setpriv (util-linux) could not be started")?;
        let mut qemu = Self { child, directory };
        let deadline = Instant::now() + Duration::from_secs(30);
        while !(qemu.socket("agent").exists() && qemu.socket("monitor").exists()) {
            qemu.check()?;
            if Instant::now() > deadline {
                bail!("QEMU made no sockets in 30 s");
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(qemu)
    }

    /// The socket `agent` or `monitor`.
    pub(super) fn socket(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// What the machine wrote to its serial console.
    pub(super) fn console(&self) -> String {
        let bytes = fs::read(self.directory.join("console")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).replace('\r', "")
    }

    /// An error if QEMU has ended, with the last that QEMU and the console said.
    pub(super) fn check(&mut self) -> Result<()> {
        let Some(status) = self.child.try_wait()? else {
            return Ok(());
        };
        let log = fs::read_to_string(self.directory.join("qemu.log")).unwrap_or_default();
        bail!(
            "QEMU ended ({status})\n{}\n{}",
            log.trim_end(),
            tail(&self.console(), 30)
        );
    }

    /// Waits until QEMU ends by itself.
    pub(super) fn wait(&mut self, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                bail!(
                    "the machine did not power off in {limit:?}\n{}",
                    tail(&self.console(), 30)
                );
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        // Errors here mean that it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Removes the directories `PREFIX<process>-<number>` of processes that are gone: one that is killed
/// cannot clean up.
fn sweep(parent: &Path, prefix: &str) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let rest = name
            .strip_prefix(prefix)
            .and_then(|rest| rest.split_once('-'));
        let Some(process) = rest.and_then(|(process, _)| process.parse::<u32>().ok()) else {
            continue;
        };
        if !Path::new("/proc").join(process.to_string()).exists() {
            // Somebody else may sweep too.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// The last `count` lines of a text.
pub(super) fn tail(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

fn arguments(parts: &Parts<'_>, directory: &Path) -> Vec<String> {
    let (accelerator, processor) = match parts.lab.accelerator {
        Accelerator::Kvm => ("kvm", "host"),
        // The newest model would cost time: every instruction set is probed by someone.
        Accelerator::Tcg => ("tcg,thread=multi", "Nehalem"),
    };
    let mut arguments: Vec<String> = [
        "-M",
        "q35",
        "-accel",
        accelerator,
        "-cpu",
        processor,
        "-nodefaults",
        "-display",
        "none",
        "-no-reboot",
        "-device",
        "virtio-rng-pci",
        "-device",
        "virtio-serial-pci",
    ]
    .map(str::to_owned)
    .to_vec();
    let mut add = |option: &str, value: String| arguments.extend([option.to_owned(), value]);
    let path = |name: &str| directory.join(name).display().to_string();
    let usual = parts.lab.accelerator.processors();
    add("-smp", parts.processors.unwrap_or(usual).to_string());
    add("-m", parts.memory_mib.to_string());
    add("-kernel", parts.lab.kernel.display().to_string());
    add("-initrd", parts.lab.initrd.display().to_string());
    add("-append", format!("{COMMAND_LINE} {}", parts.command_line));
    add(
        "-chardev",
        format!("socket,id=agent,path={},server=on,wait=off", path("agent")),
    );
    add(
        "-device",
        format!("virtserialport,chardev=agent,name={PORT}"),
    );
    add(
        "-qmp",
        format!("unix:{},server=on,wait=off", path("monitor")),
    );
    add("-serial", format!("file:{}", path("console")));
    for drive in &parts.drives {
        let Drive {
            serial,
            image,
            format,
            writes,
        } = drive;
        let writes = match writes {
            Writes::Kept => "",
            Writes::Discarded => ",snapshot=on",
            Writes::Refused => ",readonly=on",
        };
        add(
            "-drive",
            format!(
                "file={},format={format},if=none,id={serial},cache=unsafe,discard=unmap{writes}",
                image.display()
            ),
        );
        add(
            "-device",
            format!("virtio-blk-pci,drive={serial},serial={serial}"),
        );
    }
    if let Some(memory) = &parts.incoming {
        add("-incoming", format!("file:{}", memory.display()));
    }
    arguments
}

/// Makes an image with `qemu-img`: empty, or a layer over `backing` (raw).
pub(super) fn create_image(path: &Path, backing: Option<&Path>, bytes: u64) -> Result<()> {
    let mut command = Command::new("/usr/bin/qemu-img");
    command.args(["create", "-q", "-f", "qcow2"]);
    if let Some(backing) = backing {
        command.args(["-F", "raw", "-b"]).arg(backing).arg(path);
    } else {
        command.arg(path).arg(bytes.to_string());
    }
    let output = command.output().context("qemu-img (qemu-utils)")?;
    if !output.status.success() {
        bail!(
            "qemu-img: {}",
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_dead_processes_left_is_swept() {
        let parent = tempfile::tempdir().unwrap();
        let mine = format!("lazarette-vm-{}-0", std::process::id());
        // No process has a number this high.
        for name in [
            mine.as_str(),
            "lazarette-vm-4294967295-0",
            "lazarette-vm-x-0",
            "other",
        ] {
            fs::create_dir(parent.path().join(name)).unwrap();
        }
        sweep(parent.path(), "lazarette-vm-");
        let mut left: Vec<_> = fs::read_dir(parent.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        let mut expected = [mine, "lazarette-vm-x-0".to_owned(), "other".to_owned()];
        expected.sort();
        assert_eq!(left, expected);
    }
}
