//! The images that the OS and the lab are made of.
//!
//! What is heavy (Debian, the engines, the tools of each storage kind) is built once per set of
//! package versions. Lazarette's own programs travel apart from it: on a small disk of their own,
//! and as a thin layer over each plugin image's tools. So a change of our code costs seconds.

mod bake;
mod container;
mod disk;
mod engine;
mod initrd;
mod kernel;
mod lab_files;
mod programs;
mod recipe;
mod rootfs;
mod zfs_module;

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result, anyhow};
use lazarette_tests::lab::Lab;

pub(crate) use bake::inside as bake_inside;

use crate::accelerator;
use crate::apt::Apt;
use crate::cache::{self, Key};
use crate::packages::{self, Need};

/// The workspace's directory. Cargo tells where the package lies that it runs now; what it told
/// at compile time may be another checkout that shares the target directory.
pub(crate) fn workspace() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    package
        .parent()
        .map_or_else(|| PathBuf::from("."), Path::to_owned)
}

/// Cargo's target directory.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}

/// What does not depend on our own code.
struct Heavy {
    kernel: kernel::Kernel,
    rootfs: PathBuf,
    root: PathBuf,
    engine: engine::Base,
    lab_files: PathBuf,
}

/// Builds what is missing and writes `lab.json`; gives its path too.
pub(crate) fn ensure(refresh: bool) -> Result<(Lab, PathBuf)> {
    packages::ensure(&[Need::Machine])?;
    if !packages::is_root() {
        return Err(anyhow!(
            "building images needs root: it makes device nodes, mounts and runs an engine in a chroot"
        ));
    }
    let os = workspace().join("os");
    // Cargo and apt keep the two cores busy together better than one after the other.
    let (programs, heavy) = thread::scope(|scope| {
        let programs = scope.spawn(programs::build);
        let heavy = heavy(&os, refresh);
        (programs.join(), heavy)
    });
    let heavy = heavy?;
    let programs = programs.map_err(|_| anyhow!("building the programs panicked"))??;
    let engine = engine::with_plugins(&heavy.engine, &heavy.rootfs, &programs)?;
    let built_in = engine::built_in(&engine)?;
    let disk = programs::disk(&programs, &os, &heavy.lab_files, &built_in)?;
    let initrd = initrd::build(&os, &heavy.rootfs, &heavy.kernel)?;
    let accelerator = accelerator::choose(&heavy.kernel.image, &initrd)?;
    let mut key = Key::default().add(format!("{accelerator:?}"));
    for path in [&heavy.kernel.image, &initrd, &heavy.root, &engine, &disk] {
        key = key.add(path.file_name().unwrap_or_default().as_encoded_bytes());
    }
    let lab = Lab {
        kernel: heavy.kernel.image,
        initrd,
        root: heavy.root,
        engine,
        programs: disk,
        accelerator,
        key: key.finish(),
        saved: cache::root()?.join("machines"),
    };
    let path = target().join("lab").join("lab.json");
    fs::create_dir_all(target().join("lab"))?;
    // In one go: another run may be reading it.
    let partial = path.with_extension(std::process::id().to_string());
    fs::write(&partial, serde_json::to_vec_pretty(&lab)?).context("writing lab.json")?;
    fs::rename(&partial, &path).context("writing lab.json")?;
    Ok((lab, path))
}

fn heavy(os: &Path, refresh: bool) -> Result<Heavy> {
    let apt = Apt::open(refresh)?;
    let recipe = recipe::root(os)?;
    let images = recipe::images(&workspace())?;
    let (containers, modules, rest) = thread::scope(|scope| {
        // Minutes, once for each kernel: beside all the rest.
        let modules = scope.spawn(|| {
            let kernel = kernel::build(&apt, &recipe)?;
            zfs_module::build(&apt, &images, &kernel)
        });
        let containers = scope.spawn(|| {
            images
                .iter()
                .map(|image| container::build(&apt, image))
                .collect::<Result<Vec<_>>>()
        });
        let rest = (|| {
            let kernel = kernel::build(&apt, &recipe)?;
            let rootfs = rootfs::build(&apt, &recipe)?;
            let lab_files = lab_files::build(&apt, os)?;
            Ok::<_, anyhow::Error>((kernel, rootfs, lab_files))
        })();
        (containers.join(), modules.join(), rest)
    });
    let (kernel, rootfs, lab_files) = rest?;
    let modules = modules.map_err(|_| anyhow!("building the kernel modules panicked"))??;
    let containers = containers.map_err(|_| anyhow!("building the containers panicked"))??;
    let user = engine::user(&rootfs)?;
    let root = disk::root(os, &rootfs, &kernel, &modules, &user)?;
    let engine = engine::base(&rootfs, &images, &containers)?;
    Ok(Heavy {
        kernel,
        rootfs,
        root,
        engine,
        lab_files,
    })
}
