//! Kernel modules that a kind of storage needs, before its container starts: those that the kernel
//! has are loaded, those that it has not are built once for it, if the kind names a builder.
//!
//! What a builder is given and what it leaves is told in docs/kernel-modules.md.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lazarette_linux::command::Command;

use super::settings::limits;
use super::steps::Hands;
use super::system_engine::OneShot;
use crate::error::{Error, ErrorKind, Result};
use crate::manifest::Privileges;

/// Where the programs may be.
const PROGRAM_DIRECTORIES: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];
/// For one call of modprobe or insmod.
const LOAD: Duration = Duration::from_secs(60);
/// In a builder's output: the modules' file names, one a line, in the order of loading.
const ORDER: &str = "order";
/// Below core's state: what was built.
const BUILT: &str = "modules";
/// Beside what was built, once it is complete.
const COMPLETE: &str = ".complete";

/// The kernel as it is seen by its file systems.
struct Kernel {
    root: PathBuf,
    release: String,
}

impl Kernel {
    fn running() -> Result<Self> {
        let path = "/proc/sys/kernel/osrelease";
        let release = fs::read_to_string(path)
            .map_err(|e| Error::internal(format!("cannot read {path}")).cause(e))?;
        Ok(Self {
            root: "/".into(),
            release: release.trim().to_owned(),
        })
    }

    /// Whether the module is loaded or built in.
    fn has(&self, module: &str) -> bool {
        let name = module.replace('-', "_");
        self.root.join("sys/module").join(&name).exists()
            || self.is_built_in(&name)
            || self.is_file_system(module)
    }

    fn is_built_in(&self, name: &str) -> bool {
        let modules = self.root.join("lib/modules").join(&self.release);
        let list = fs::read_to_string(modules.join("modules.builtin")).unwrap_or_default();
        list.lines().any(|line| {
            let file = line.rsplit('/').next().unwrap_or_default();
            let stem = file.split('.').next().unwrap_or_default();
            stem.replace('-', "_") == name
        })
    }

    fn is_file_system(&self, name: &str) -> bool {
        let list = fs::read_to_string(self.root.join("proc/filesystems")).unwrap_or_default();
        list.lines()
            .any(|line| line.split_whitespace().last() == Some(name))
    }

    fn missing<'a>(&self, modules: &'a [String]) -> Vec<&'a str> {
        let names = modules.iter().map(String::as_str);
        names.filter(|name| !self.has(name)).collect()
    }
}

impl Hands {
    /// Sees to it that the kernel has the modules that `privileges` names; `tell` hears what takes
    /// long.
    ///
    /// # Errors
    /// `NotFound` naming the module, with what modprobe or the builder has said last.
    pub(super) async fn provide_modules(
        &self,
        privileges: &Privileges,
        tell: &(dyn Fn(String) + Send + Sync),
    ) -> Result<()> {
        if privileges.kernel_modules.is_empty() {
            return Ok(());
        }
        let kernel = Kernel::running()?;
        let mut first_error = None;
        for module in kernel.missing(&privileges.kernel_modules) {
            if let Err(error) = load(module.to_owned()).await {
                first_error.get_or_insert(error);
            }
        }
        let missing = kernel.missing(&privileges.kernel_modules);
        let Some(module) = missing.first() else {
            return Ok(());
        };
        let error = first_error.unwrap_or_else(|| {
            Error::not_found(format!(
                "the kernel has no module {module} although it was loaded"
            ))
        });
        let Some(image) = &privileges.module_builder else {
            return Err(error.remedy(format!(
                "install the module {module} for kernel {}",
                kernel.release
            )));
        };
        self.build_and_load(&kernel, image, &missing.join(", "), tell)
            .await?;
        match kernel.missing(&privileges.kernel_modules).first() {
            None => Ok(()),
            Some(module) => Err(Error::not_found(format!(
                "image {image} has built modules for kernel {}, but not {module}",
                kernel.release
            ))
            .remedy("use an image of the plugin's version")),
        }
    }

    async fn build_and_load(
        &self,
        kernel: &Kernel,
        image: &str,
        modules: &str,
        tell: &(dyn Fn(String) + Send + Sync),
    ) -> Result<()> {
        // Two contexts of one kind may ask at once.
        let _one_at_a_time = self.building.lock().await;
        let id = self.builder(image).await?;
        let output = self.built_directory(&kernel.release, &id);
        if !output.join(COMPLETE).exists() {
            tell(format!(
                "building kernel module {modules} for {} with image {image}",
                kernel.release
            ));
            self.build(kernel, (image, &id), modules, &output).await?;
        }
        tell(format!("loading kernel module {modules}"));
        for file in order(&output)? {
            insert(output.join(file)).await?;
        }
        Ok(())
    }

    /// The identity of the image `image`, which may build modules.
    async fn builder(&self, image: &str) -> Result<String> {
        let id = self.system.image_id(image).await.map_err(|e| {
            let remedy =
                format!("load the image {image} into system Docker, or install the module");
            Error::not_found(format!(
                "the image {image}, which builds kernel modules, is not there"
            ))
            .cause(e)
            .remedy(remedy)
        })?;
        self.admission.may_build(image, &id)?;
        Ok(id)
    }

    /// Where what image `id` builds for `kernel` is kept; another one for each version of the image.
    fn built_directory(&self, kernel: &str, id: &str) -> PathBuf {
        let short: String = id.trim_start_matches("sha256:").chars().take(16).collect();
        let state = self.settings.state.join(BUILT);
        state.join(plain(kernel)).join(plain(&short))
    }

    async fn build(
        &self,
        kernel: &Kernel,
        (image, id): (&str, &str),
        modules: &str,
        output: &Path,
    ) -> Result<()> {
        let fail =
            |e: io::Error| Error::internal(format!("cannot make {}", output.display())).cause(e);
        // What a build that was cut off has left.
        match fs::remove_dir_all(output) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(fail(e)),
            _ => {}
        }
        fs::create_dir_all(output).map_err(fail)?;
        let builder = OneShot::module_builder(id, &kernel.release, output);
        let ended = self.system.run_once(builder, limits::BUILD).await?;
        if ended.status != 0 {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!(
                    "image {image} cannot build the kernel module {modules} for {}",
                    kernel.release
                ),
            )
            .cause(ended.last_lines)
            .remedy("see docs/kernel-modules.md; it is tried again"));
        }
        order(output)?;
        fs::write(output.join(COMPLETE), "").map_err(fail)
    }
}

/// A name for a file: a kernel's release stays as uname(1) says it (6.12.48+deb13-amd64).
fn plain(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-+".contains(c);
    name.chars()
        .map(|c| if plain(c) { c } else { '_' })
        .collect()
}

/// The files in a builder's output, in the order of loading.
fn order(output: &Path) -> Result<Vec<String>> {
    let path = output.join(ORDER);
    let text = fs::read_to_string(&path)
        .map_err(|e| Error::internal(format!("cannot read {}", path.display())).cause(e))?;
    let files: Vec<String> = text.split_whitespace().map(String::from).collect();
    match files.iter().find(|f| f.contains('/') || f.starts_with('.')) {
        Some(odd) => Err(Error::new(
            ErrorKind::Plugin,
            format!(
                "{}: {} is no file name",
                path.display(),
                crate::name::quoted(odd)
            ),
        )),
        None => Ok(files),
    }
}

async fn load(module: String) -> Result<()> {
    let what = format!("the kernel has no module {module}");
    run("modprobe", vec!["--".into(), module], what).await
}

/// A module that is there already is fine.
async fn insert(path: PathBuf) -> Result<()> {
    let stem = path
        .file_stem()
        .map(|s| s.to_string_lossy().replace('-', "_"));
    if stem.is_some_and(|name| Path::new("/sys/module").join(name).exists()) {
        return Ok(());
    }
    let what = format!("the kernel does not take {}", path.display());
    run("insmod", vec![path.to_string_lossy().into_owned()], what).await
}

async fn run(program: &str, arguments: Vec<String>, what: String) -> Result<()> {
    let found = PROGRAM_DIRECTORIES
        .iter()
        .map(|directory| Path::new(directory).join(program))
        .find(|path| path.exists());
    let path = found.ok_or_else(|| {
        Error::not_found(what.clone())
            .cause(format!("there is no {program} to load it with"))
            .remedy("install kmod")
    })?;
    let command = Command::new(path).args(arguments).deadline(LOAD);
    let done = tokio::task::spawn_blocking(move || command.run()).await;
    match done {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(Error::not_found(what).caused_by(&error)),
        Err(error) => Err(Error::internal(what).cause(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel() -> (tempfile::TempDir, Kernel) {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        fs::create_dir_all(root.join("sys/module/dm_mod")).unwrap();
        fs::create_dir_all(root.join("lib/modules/6.1")).unwrap();
        fs::create_dir_all(root.join("proc")).unwrap();
        let builtin = "kernel/fs/ext4/ext4.ko\nkernel/crypto/crc32c-generic.ko.xz\n";
        fs::write(root.join("lib/modules/6.1/modules.builtin"), builtin).unwrap();
        fs::write(root.join("proc/filesystems"), "nodev\tsysfs\n\txfs\n").unwrap();
        let kernel = Kernel {
            root: root.into(),
            release: "6.1".into(),
        };
        (directory, kernel)
    }

    #[test]
    fn a_module_is_there_if_it_is_loaded_built_in_or_its_file_system_is() {
        let (_directory, kernel) = kernel();
        for there in ["dm-mod", "dm_mod", "ext4", "crc32c_generic", "xfs", "sysfs"] {
            assert!(kernel.has(there), "{there}");
        }
        let wanted = ["zfs", "ext4", "ext", "nodev"].map(String::from);
        assert_eq!(kernel.missing(&wanted), ["zfs", "ext", "nodev"]);
    }

    #[test]
    fn what_was_built_lies_below_the_kernels_release() {
        let debian = "6.12.48+deb13-cloud-amd64";
        assert_eq!(plain(debian), debian);
        assert_eq!(plain("6.1/../x y"), "6.1_.._x_y");
    }

    #[test]
    fn a_builders_order_holds_file_names_only() {
        let directory = tempfile::tempdir().unwrap();
        assert!(order(directory.path()).is_err());
        let write = |text: &str| fs::write(directory.path().join(ORDER), text).unwrap();
        write("spl.ko\nzfs.ko\n");
        assert_eq!(order(directory.path()).unwrap(), ["spl.ko", "zfs.ko"]);
        for odd in ["../x.ko", "/x.ko", ".x"] {
            write(odd);
            assert!(order(directory.path()).is_err(), "{odd}");
        }
    }
}
