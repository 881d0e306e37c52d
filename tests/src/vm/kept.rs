//! Machines whose disks outlive a boot.

use std::path::PathBuf;

use anyhow::{Context, Result};

use super::machine::{Machine, Options, Scratch, drive};
use super::qemu::{Writes, create_image};
use crate::lab::Lab;

/// The disks of a machine that is switched off: layers over the lab's images, gone when dropped.
pub struct Kept {
    lab: Lab,
    options: Options,
    own: Vec<(String, PathBuf)>,
    extra: Vec<(String, PathBuf)>,
    directory: Scratch,
}

impl Kept {
    /// New disks.
    ///
    /// # Errors
    /// When they cannot be made.
    pub fn new(lab: &Lab, options: &Options) -> Result<Self> {
        let directory = Scratch::new()?;
        let make = |serial: &str, backing: Option<&PathBuf>, bytes| {
            let image = directory.0.join(serial);
            create_image(&image, backing.map(PathBuf::as_path), bytes)?;
            Ok::<_, anyhow::Error>((serial.to_owned(), image))
        };
        let own = vec![
            make("root", Some(&lab.root), 0)?,
            make("engine", Some(&lab.engine), 0)?,
        ];
        let sizes = options.disks.iter().enumerate();
        let extra = sizes
            .map(|(index, &size)| make(&format!("disk{}", index + 1), None, size))
            .collect::<Result<_>>()?;
        Ok(Self {
            lab: lab.clone(),
            options: options.clone(),
            own,
            extra,
            directory,
        })
    }

    /// Boots a machine of these disks, one at a time, and waits until its agent answers.
    ///
    /// # Errors
    /// When QEMU does not start or the agent does not answer, with the end of the console.
    pub fn boot(&self) -> Result<Machine> {
        self.boot_from(self.extra.iter().collect())
    }

    /// The same with these extra disks only, in this order: `[3, 1]` are `disk3` and `disk1`, which
    /// get the numbers that `disk1` and `disk2` would have.
    ///
    /// # Errors
    /// As with [`boot`](Self::boot), and when there is no such disk.
    pub fn boot_with(&self, disks: &[usize]) -> Result<Machine> {
        let disk = |number: &usize| {
            let found = number.checked_sub(1).and_then(|at| self.extra.get(at));
            found.with_context(|| format!("there is no disk{number}"))
        };
        self.boot_from(disks.iter().map(disk).collect::<Result<_>>()?)
    }

    fn boot_from(&self, extra: Vec<&(String, PathBuf)>) -> Result<Machine> {
        let drives = self.own.iter().chain(extra);
        let drives = drives
            .map(|(serial, image)| drive(serial, image.clone(), "qcow2", Writes::Kept))
            .collect();
        Machine::boot_from(&self.lab, &self.options, drives, &self.directory.0)
            .context("booting from kept disks")
    }
}
