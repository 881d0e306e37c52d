//! The images of the world, made of this machine's files: a busybox for users' containers, and the
//! kind `hello` for a storage context.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::dockerd::Dockerd;
use super::programs::{Programs, libraries, static_busybox};

const APPLETS: [&str; 17] = [
    "sh", "cat", "cp", "dd", "echo", "grep", "id", "ls", "mkdir", "mount", "rm", "sleep", "stat",
    "sync", "touch", "true", "umount",
];

/// The label with the kind.
const KIND_LABEL: &str = "dev.lazarette.plugin";
/// The label with what the plugin says of itself.
const MANIFEST_LABEL: &str = "dev.lazarette.manifest";

/// Makes the image `busybox`.
pub(super) fn busybox(docker: &Dockerd, scratch: &Path) -> Result<()> {
    let root = scratch.join("busybox");
    shell(&root)?;
    import(docker, &root, "busybox", &[])
}

/// Makes the image of `hello`.
pub(super) fn hello(docker: &Dockerd, scratch: &Path, programs: &Programs) -> Result<()> {
    let root = scratch.join("hello");
    shell(&root)?;
    let host = root.join("usr/bin/laz-plugin-host");
    let plugin = root.join("usr/lib/lazarette/plugin.so");
    for (from, to) in [(&programs.plugin_host, &host), (&programs.hello, &plugin)] {
        for library in libraries(from)? {
            copy(&library, &root.join(library.strip_prefix("/")?))?;
        }
        copy(from, to)?;
    }
    fs::set_permissions(&plugin, fs::Permissions::from_mode(0o644))?;
    let described = Command::new(&programs.plugin_host)
        .arg("describe")
        .arg(&plugin)
        .output()?;
    ensure!(
        described.status.success(),
        "laz-plugin-host describe: {described:?}"
    );
    let manifest = String::from_utf8(described.stdout)?;
    let manifest: serde_json::Value = serde_json::from_str(&manifest)?;
    let kind = manifest["kind"]
        .as_str()
        .context("a manifest without a kind")?;
    let labels = [(KIND_LABEL, kind), (MANIFEST_LABEL, &manifest.to_string())];
    import(docker, &root, "lazarette-hello", &labels)
}

/// A root with a shell and what it calls.
fn shell(root: &Path) -> Result<()> {
    for directory in ["bin", "etc", "mnt", "proc", "run", "sys", "tmp", "dev"] {
        fs::create_dir_all(root.join(directory))?;
    }
    let busybox = static_busybox().context("no static busybox")?;
    copy(&busybox, &root.join("bin/busybox"))?;
    for applet in APPLETS {
        symlink("busybox", root.join("bin").join(applet))?;
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to.parent().context("no parent")?)?;
    fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    Ok(())
}

fn import(docker: &Dockerd, root: &Path, tag: &str, labels: &[(&str, &str)]) -> Result<()> {
    let mut archive = Command::new("tar")
        .arg("-C")
        .arg(root)
        .args(["--owner=0", "--group=0", "-c", "."])
        .stdout(Stdio::piped())
        .spawn()?;
    let content = archive.stdout.take().context("tar has no output")?;
    let mut import = docker.command(&["import"]);
    for (name, value) in labels {
        // In single quotes Docker takes everything but a single quote as it is.
        ensure!(
            !value.contains('\''),
            "a quote in the label {name}: {value}"
        );
        import.args(["--change", &format!("LABEL {name}='{value}'")]);
    }
    let output = import.args(["-", tag]).stdin(content).output()?;
    ensure!(archive.wait()?.success(), "tar failed");
    ensure!(output.status.success(), "docker import {tag}: {output:?}");
    Ok(())
}
