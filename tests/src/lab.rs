//! Which built images a machine is made of: `lab.json`, written by `cargo xtask images`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// Environment variable with the path of `lab.json`.
pub const VARIABLE: &str = "LAZARETTE_LAB";

/// How the processor is emulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// Hardware virtualisation.
    Kvm,
    /// QEMU's translator: works everywhere, some 14 times slower.
    Tcg,
}

impl Accelerator {
    /// How many processors a machine has. The translator needs a real one for each of them, and what runs
    /// in our machines is rarely more than one program at a time: two machines of one processor get more
    /// done than one of two.
    #[must_use]
    pub const fn processors(self) -> usize {
        match self {
            Self::Kvm => 2,
            Self::Tcg => 1,
        }
    }
}

/// The images and where machines keep their files.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Lab {
    /// The kernel image.
    pub kernel: PathBuf,
    /// The initial RAM disk.
    pub initrd: PathBuf,
    /// The root file system with both engines and the user engine's images (ext4, raw).
    pub root: PathBuf,
    /// The system engine's data root with the tool and plugin images (ext4, raw).
    pub engine: PathBuf,
    /// Lazarette's own programs and the lab's (ext4, raw, read-only).
    pub programs: PathBuf,
    /// How machines run here.
    pub accelerator: Accelerator,
    /// A hash of all of the above: same key, same machine.
    pub key: String,
    /// Directory in which booted machines are saved.
    pub saved: PathBuf,
}

impl Lab {
    /// Reads the `lab.json` that [`VARIABLE`] names.
    ///
    /// # Errors
    /// When the variable is not set or the file is not there or not understood.
    pub fn from_env() -> Result<Self> {
        let path = std::env::var_os(VARIABLE)
            .with_context(|| format!("{VARIABLE} is not set: run `cargo xtask test vm`"))?;
        Self::read(Path::new(&path))
    }

    /// The files of the images, in a fixed order.
    #[must_use]
    pub fn images(&self) -> [&Path; 5] {
        [
            &self.kernel,
            &self.initrd,
            &self.root,
            &self.engine,
            &self.programs,
        ]
    }

    /// The same lab with its images as files in a directory.
    #[must_use]
    pub fn of_links_in(&self, directory: &Path) -> Self {
        Self {
            kernel: directory.join("image-kernel"),
            initrd: directory.join("image-initrd"),
            root: directory.join("image-root"),
            engine: directory.join("image-engine"),
            programs: directory.join("image-programs"),
            ..self.clone()
        }
    }

    /// Reads a `lab.json`.
    ///
    /// # Errors
    /// When the file is not there or not understood.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path)
            .with_context(|| format!("{}: run `cargo xtask images`", path.display()))?;
        serde_json::from_str(&text).with_context(|| path.display().to_string())
    }
}
