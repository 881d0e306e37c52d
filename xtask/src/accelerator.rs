//! Whether machines can run on this machine's processor: tried, because a `/dev/kvm` that opens
//! may still not run a stock kernel.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use lazarette_tests::lab::Accelerator;

use crate::cache::{self, Key};
use crate::progress::say;

/// What `os/initrd/init` says first.
const SIGN: &str = "lazarette initrd";

/// How long a kernel may take to say it, which it does in a second.
const LIMIT: Duration = Duration::from_secs(15);

/// Chooses once per boot of this machine; `LAZARETTE_ACCELERATOR` (kvm, tcg) overrides.
pub(crate) fn choose(kernel: &Path, initrd: &Path) -> Result<Accelerator> {
    match std::env::var("LAZARETTE_ACCELERATOR").as_deref() {
        Ok("kvm") => return Ok(Accelerator::Kvm),
        Ok("tcg") => return Ok(Accelerator::Tcg),
        Ok(other) => bail!("LAZARETTE_ACCELERATOR={other}: it is kvm or tcg"),
        Err(_) => {}
    }
    if File::options()
        .read(true)
        .write(true)
        .open("/dev/kvm")
        .is_err()
    {
        return Ok(Accelerator::Tcg);
    }
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let key = Key::default()
        .add(boot)
        .add(kernel.as_os_str().as_encoded_bytes())
        .finish();
    let answer = cache::entry("kvm", &key, |path| {
        let works = boots(kernel, initrd, &path.with_extension("console"))?;
        Ok(fs::write(path, if works { "yes" } else { "no" })?)
    })?;
    if fs::read_to_string(answer)? == "yes" {
        return Ok(Accelerator::Kvm);
    }
    say("/dev/kvm does not run the kernel here: machines run on QEMU's translator");
    Ok(Accelerator::Tcg)
}

fn boots(kernel: &Path, initrd: &Path, console: &Path) -> Result<bool> {
    let mut qemu = Command::new("/usr/bin/qemu-system-x86_64")
        .args([
            "-M",
            "q35",
            "-accel",
            "kvm",
            "-cpu",
            "host",
            "-m",
            "256",
            "-no-reboot",
        ])
        .args(["-nodefaults", "-display", "none"])
        .args(["-append", "console=ttyS0 quiet panic=-1"])
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(initrd)
        .arg("-serial")
        .arg(format!("file:{}", console.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let deadline = Instant::now() + LIMIT;
    let mut seen = false;
    while !seen && Instant::now() < deadline && qemu.try_wait()?.is_none() {
        thread::sleep(Duration::from_millis(50));
        seen = fs::read(console).is_ok_and(|said| String::from_utf8_lossy(&said).contains(SIGN));
    }
    // It may have ended by itself.
    let _ = qemu.kill();
    qemu.wait()?;
    let _ = fs::remove_file(console);
    Ok(seen)
}
