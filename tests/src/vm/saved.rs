//! Machines that were booted once and are restored for each use.

use std::fs::{self, File, TryLockError};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};

use super::machine::{Machine, Options, drive};
use super::qemu::{Parts, Writes, create_image};
use crate::lab::Lab;

/// A booted machine on disk: its memory, and its disks as layers over the lab's images.
pub struct Saved {
    lab: Lab,
    options: Options,
    directory: PathBuf,
    /// Its directory, locked, shared: nobody else drops it.
    held: File,
}

impl Saved {
    /// Finds the saved machine for these images and options, or boots, prepares and saves it. It
    /// stays at least as long as the value.
    ///
    /// # Errors
    /// When it cannot be booted or saved.
    pub fn ensure(lab: &Lab, options: &Options) -> Result<Self> {
        let mut hasher = DefaultHasher::new();
        options.hash(&mut hasher);
        lab.accelerator.processors().hash(&mut hasher);
        let name = format!("{}-{:016x}", lab.key, hasher.finish());
        let directory = lab.saved.join(&name);
        fs::create_dir_all(&lab.saved)?;
        let lock = File::create(lab.saved.join("lock"))?;
        lock.lock().context("the lock of the saved machines")?;
        fs::create_dir_all(&directory)?;
        let held = File::open(&directory)?;
        held.lock_shared()
            .with_context(|| format!("the lock of {name}"))?;
        let saved = Self {
            lab: lab.of_links_in(&directory),
            options: options.clone(),
            directory,
            held,
        };
        if saved.exists() {
            saved.held.set_modified(SystemTime::now())?;
        } else {
            saved.make(lab)?;
            drop_older(&lab.saved)?;
        }
        Ok(saved)
    }

    /// Whether a machine for these images and options is there already.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.directory.join("memory").exists()
    }

    fn make(&self, lab: &Lab) -> Result<()> {
        // What an interrupted run left.
        for entry in fs::read_dir(&self.directory)? {
            fs::remove_file(entry?.path())?;
        }
        // The memory goes with exactly these disks: links keep them when the cache drops its own.
        for (image, link) in lab.images().into_iter().zip(self.lab.images()) {
            fs::hard_link(image, link)
                .with_context(|| format!("linking {} to {}", image.display(), link.display()))?;
        }
        let mut drives = Vec::new();
        for (serial, backing) in [("root", &self.lab.root), ("engine", &self.lab.engine)] {
            let image = self.directory.join(serial);
            create_image(&image, Some(backing), 0)?;
            drives.push(drive(serial, image, "qcow2", Writes::Kept));
        }
        for (index, &size) in self.options.disks.iter().enumerate() {
            let serial = format!("disk{}", index + 1);
            let image = self.directory.join(&serial);
            create_image(&image, None, size)?;
            drives.push(drive(&serial, image, "qcow2", Writes::Kept));
        }
        let mut machine = Machine::boot_from(&self.lab, &self.options, drives, &self.directory)?;
        machine.prepare()?;
        machine.sh("lab-settle").context(
            "the lab's own NFS context does not serve; `cargo xtask vm --boot` goes on without it",
        )?;
        machine
            .run("sync; echo 3 > /proc/sys/vm/drop_caches")?
            .ok()?;
        fs::write(self.directory.join("console"), machine.console())?;
        let partial = self.directory.join("memory.partial");
        machine.save(&partial)?;
        fs::rename(partial, self.directory.join("memory"))?;
        Ok(())
    }

    /// Starts the saved machine; its writes are forgotten when it ends.
    ///
    /// # Errors
    /// When QEMU or the agent does not go on.
    pub fn restore(&self) -> Result<Machine> {
        let mut drives = Vec::new();
        let extra = (1..=self.options.disks.len()).map(|number| format!("disk{number}"));
        for serial in ["root", "engine"]
            .map(str::to_owned)
            .into_iter()
            .chain(extra)
        {
            let image = self.directory.join(&serial);
            drives.push(drive(&serial, image, "qcow2", Writes::Discarded));
        }
        drives.push(drive(
            "programs",
            self.lab.programs.clone(),
            "raw",
            Writes::Refused,
        ));
        if self.options.cloud_config.is_some() {
            let image = self.directory.join("cloud-config");
            drives.push(drive("cloud-config", image, "raw", Writes::Refused));
        }
        let parts = Parts {
            lab: &self.lab,
            memory_mib: self.options.memory_mib,
            processors: self.options.processors,
            command_line: &self.options.command_line,
            drives,
            incoming: Some(self.directory.join("memory")),
        };
        let mut machine = Machine::start(&parts)?;
        machine.go_on()?;
        machine.wait_for_agent(Duration::from_secs(20))?;
        machine.set_clock()?;
        Ok(machine)
    }

    /// The serial console of the boot.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn console(&self) -> Result<String> {
        Ok(fs::read_to_string(self.directory.join("console"))?)
    }
}

/// How many saved machines are kept.
const KEPT: usize = 3;

/// Removes all but the machines that were used last and those that somebody uses.
fn drop_older(saved: &Path) -> Result<()> {
    let mut machines = Vec::new();
    for entry in fs::read_dir(saved)?.flatten() {
        let found = entry.metadata()?;
        if found.is_dir() {
            machines.push((found.modified()?, entry.path()));
        }
    }
    machines.sort();
    let old = machines.len().saturating_sub(KEPT);
    for (_, path) in &machines[..old] {
        match File::open(path)?.try_lock() {
            Ok(()) => fs::remove_dir_all(path)?,
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| path.display().to_string());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_saved_machine_in_use_stays() {
        let saved = tempfile::tempdir().unwrap();
        let names = ["a", "b", "c", "d", "e"];
        for (age, name) in names.iter().enumerate() {
            let path = saved.path().join(name);
            fs::create_dir(&path).unwrap();
            let before = Duration::from_secs(100 - age as u64);
            let directory = File::open(&path).unwrap();
            directory.set_modified(SystemTime::now() - before).unwrap();
        }
        let left = || {
            names
                .into_iter()
                .filter(|name| saved.path().join(name).exists())
                .collect::<String>()
        };
        let user = File::open(saved.path().join("a")).unwrap();
        user.lock_shared().unwrap();
        drop_older(saved.path()).unwrap();
        assert_eq!(left(), "acde");
        drop(user);
        drop_older(saved.path()).unwrap();
        assert_eq!(left(), "cde");
    }
}
