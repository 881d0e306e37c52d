//! The engines' data roots with their images.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::bake::{Bake, Step};
use super::disk;
use super::programs::Programs;
use super::recipe::Image;
use crate::cache::{self, Key};
use crate::command::capture;
use crate::progress::step;

/// Raised when what is done with the images changes.
const VERSION: &str = "1";

/// What every plugin's image has beside its tools: core starts the plugin host by its name.
const LAYER: &str = "\
COPY laz-plugin-host /usr/bin/
COPY plugin.so /usr/lib/lazarette/
ENTRYPOINT [\"laz-plugin-host\", \"supervise\"]
";

/// Below a data root: which images there are by name.
const INDEX: &str = "/image/overlay2/repositories.json";

/// Its content.
#[derive(Deserialize)]
struct Index {
    /// By repository, by name: the image's identity.
    #[serde(rename = "Repositories")]
    repositories: BTreeMap<String, BTreeMap<String, String>>,
}

/// The system engine's data root without our own programs.
pub(super) struct Base {
    data: PathBuf,
    /// Name of the image, of its tools alone, and of the plugin's crate.
    plugins: Vec<(String, String, String)>,
}

/// The user engine's data root: one small image with a shell.
pub(super) fn user(rootfs: &Path) -> Result<PathBuf> {
    let key = Key::default().add(VERSION).add(name(rootfs)).finish();
    cache::entry("user-engine", &key, |path| {
        step("give the user engine its image", || {
            let input = path.with_extension("input");
            cache::remove(&input)?;
            let tree = input.join("tree");
            for directory in ["bin", "dev", "etc", "proc", "root", "sys", "tmp"] {
                fs::create_dir_all(tree.join(directory))?;
            }
            fs::copy(rootfs.join("usr/bin/busybox"), tree.join("bin/busybox"))?;
            capture(Command::new("chroot").arg(&tree).args([
                "/bin/busybox",
                "--install",
                "-s",
                "/bin",
            ]))?;
            fs::write(tree.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n")?;
            fs::write(tree.join("etc/group"), "root:x:0:\n")?;
            capture(
                Command::new("tar")
                    .arg("-C")
                    .arg(&tree)
                    .arg("-cf")
                    .arg(input.join("busybox.tar"))
                    .arg("."),
            )?;
            let steps = vec![Step::Import {
                archive: "busybox.tar".to_owned(),
                name: "busybox:latest".to_owned(),
                changes: vec!["CMD [\"/bin/sh\"]".to_owned()],
            }];
            bake(rootfs, path, &input, steps)?;
            cache::remove(&input)
        })
    })
}

/// The system engine's data root with the tools of every image.
pub(super) fn base(rootfs: &Path, images: &[Image], archives: &[PathBuf]) -> Result<Base> {
    let mut key = Key::default().add(VERSION).add(name(rootfs));
    let mut steps = Vec::new();
    let mut plugins = Vec::new();
    for (image, archive) in images.iter().zip(archives) {
        key = key.add(name(archive));
        let imported = match &image.plugin {
            Some(plugin) => {
                let tools = format!("{}-tools", image.name);
                plugins.push((image.name.clone(), tools.clone(), plugin.clone()));
                tools
            }
            None => image.name.clone(),
        };
        let mut changes = Vec::new();
        if !image.entrypoint.is_empty() {
            changes.push(format!(
                "ENTRYPOINT {}",
                serde_json::to_string(&image.entrypoint)?
            ));
        }
        steps.push(Step::Import {
            archive: name(archive),
            name: imported,
            changes,
        });
    }
    let data = cache::entry("engine", &key.finish(), |path| {
        step("give the system engine its images", || {
            let input = cache::root()?;
            bake(rootfs, path, &input, steps)
        })
    })?;
    Ok(Base { data, plugins })
}

/// The system engine's disk: the base, and over the tools of each plugin its host and itself.
pub(super) fn with_plugins(base: &Base, rootfs: &Path, programs: &Programs) -> Result<PathBuf> {
    let mut key = Key::default().add(VERSION).add(name(&base.data));
    key = key.add_file(&programs.host)?;
    for plugin in &programs.plugins {
        key = key
            .add(&plugin.name)
            .add(&plugin.manifest)
            .add_file(&plugin.library)?;
    }
    cache::entry("engine-disk", &key.finish(), |path| {
        step("put the plugins into their images", || {
            let data = path.with_extension("data");
            cache::remove(&data)?;
            capture(
                Command::new("cp")
                    .args(["-a", "--reflink=auto"])
                    .arg(&base.data)
                    .arg(&data),
            )?;
            let input = path.with_extension("input");
            cache::remove(&input)?;
            let mut steps = Vec::new();
            for plugin in &programs.plugins {
                let Some((image, tools, _)) =
                    base.plugins.iter().find(|(.., name)| *name == plugin.name)
                else {
                    continue;
                };
                let context = input.join(&plugin.name);
                fs::create_dir_all(&context)?;
                fs::copy(&programs.host, context.join("laz-plugin-host"))?;
                fs::copy(&plugin.library, context.join("plugin.so"))?;
                let dockerfile = format!("FROM {tools}\n{LAYER}");
                fs::write(context.join("Dockerfile"), dockerfile)?;
                let label =
                    |name: &str, value: &str| (format!("dev.lazarette.{name}"), value.to_owned());
                steps.push(Step::Build {
                    directory: plugin.name.clone(),
                    name: image.clone(),
                    labels: vec![
                        label("plugin", &plugin.kind),
                        label("manifest", &plugin.manifest),
                    ],
                });
            }
            bake(rootfs, &data, &input, steps)?;
            disk::make(&data, path, 4 << 30)?;
            cache::remove(&data)?;
            cache::remove(&input)
        })
    })
}

/// All images on an engine's disk, one a line, by identity and with their names: what the OS calls its
/// own.
pub(super) fn built_in(disk: &Path) -> Result<String> {
    let mut command = Command::new("/sbin/debugfs");
    command.args(["-R", &format!("cat {INDEX}")]).arg(disk);
    let text = capture(&mut command)?;
    identities(&text).with_context(|| format!("{INDEX} of {}: {text:?}", disk.display()))
}

/// What the engine's index of names leads to.
fn identities(index: &str) -> Result<String> {
    let index: Index = serde_json::from_str(index)?;
    let mut images = BTreeMap::<String, Vec<String>>::new();
    for (name, image) in index.repositories.into_values().flatten() {
        images.entry(image).or_default().push(name);
    }
    ensure!(!images.is_empty(), "no image");
    let line = |(image, names): (_, Vec<_>)| format!("{image} {}\n", names.join(" "));
    Ok(images.into_iter().map(line).collect())
}

fn bake(rootfs: &Path, data: &Path, input: &Path, steps: Vec<Step>) -> Result<()> {
    Bake {
        rootfs: rootfs.to_owned(),
        data: data.to_owned(),
        input: input.to_owned(),
        steps,
    }
    .run()
}

fn name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_image_is_listed_once_whatever_it_is_called() {
        let index = r#"{"Repositories": {
            "lazarette/nfs": {"lazarette/nfs:latest": "sha256:2", "lazarette/nfs:1": "sha256:2"},
            "lazarette/lvm": {"lazarette/lvm:latest": "sha256:1"}}}"#;
        assert_eq!(
            identities(index).unwrap(),
            "sha256:1 lazarette/lvm:latest\nsha256:2 lazarette/nfs:1 lazarette/nfs:latest\n"
        );
        assert!(identities(r#"{"Repositories": {}}"#).is_err());
        assert!(identities("").is_err());
    }
}
