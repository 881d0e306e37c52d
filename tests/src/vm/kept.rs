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
    disks: Vec<(String, PathBuf)>,
    directory: Scratch,
}

impl Kept {
    /// New disks.
    ///
    /// # Errors
    /// When they cannot be made.
    pub fn new(lab: &Lab, options: &Options) -> Result<Self> {
        let directory = Scratch::new()?;
        let mut disks = Vec::new();
        let mut add = |serial: &str, backing: Option<&PathBuf>, bytes| {
            let image = directory.0.join(serial);
            create_image(&image, backing.map(PathBuf::as_path), bytes)?;
            disks.push((serial.to_owned(), image));
            Ok::<_, anyhow::Error>(())
        };
        add("root", Some(&lab.root), 0)?;
        add("engine", Some(&lab.engine), 0)?;
        for (index, &size) in options.disks.iter().enumerate() {
            add(&format!("disk{}", index + 1), None, size)?;
        }
        Ok(Self {
            lab: lab.clone(),
            options: options.clone(),
            disks,
            directory,
        })
    }

    /// Boots a machine of these disks, one at a time, and waits until its agent answers.
    ///
    /// # Errors
    /// When QEMU does not start or the agent does not answer, with the end of the console.
    pub fn boot(&self) -> Result<Machine> {
        let drives = self.disks.iter();
        let drives = drives
            .map(|(serial, image)| drive(serial, image.clone(), "qcow2", Writes::Kept))
            .collect();
        Machine::boot_from(&self.lab, &self.options, drives, &self.directory.0)
            .context("booting from kept disks")
    }
}
