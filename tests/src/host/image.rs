//! The images of the world, made of this machine's files: a busybox for users' containers, and the
//! kind `hello` for a storage context.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
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
    plugin(docker, &root, "lazarette-hello", programs, &programs.hello)
}

/// Makes the image of `gluster`, with this machine's client.
pub(super) fn gluster(docker: &Dockerd, scratch: &Path, programs: &Programs) -> Result<()> {
    let root = scratch.join("gluster");
    shell(&root)?;
    let translators = super::gluster::translators()?;
    let beside = translators.parent().context("no directory of libraries")?;
    let glfsheal = beside.join("glfsheal");
    for program in [
        "/usr/sbin/glusterfs",
        "/usr/sbin/gluster",
        glfsheal.to_str().context("a path that is no text")?,
        "/usr/bin/stat",
        "/usr/bin/cat",
        "/usr/bin/tail",
        "/usr/bin/getfattr",
    ] {
        with_libraries(Path::new(program), &root.join(&program[1..]))?;
    }
    for directory in ["var/log/glusterfs", "var/lib/glusterd"] {
        fs::create_dir_all(root.join(directory))?;
    }
    for library in files(&translators)? {
        with_libraries(&library, &root.join(library.strip_prefix("/")?))?;
    }
    plugin(
        docker,
        &root,
        "lazarette-gluster",
        programs,
        &programs.gluster,
    )
}

/// Makes the image `base` that an author puts plugins into: a shell, and this machine's C library.
pub(super) fn base(docker: &Dockerd, scratch: &Path, programs: &Programs) -> Result<()> {
    let root = scratch.join("base");
    shell(&root)?;
    for program in [&programs.plugin_host, &programs.hello] {
        for library in libraries(program)? {
            copy(&library, &root.join(library.strip_prefix("/")?))?;
        }
    }
    import(docker, &root, "base", &[])
}

/// Makes the image `python`, for an author of a program in Python: a shell, this machine's
/// interpreter, and those of its modules that `script` imports.
pub(super) fn python(docker: &Dockerd, scratch: &Path, script: &Path) -> Result<()> {
    const LOADED: &str = "import runpy, sys; runpy.run_path(sys.argv[1]); \
         print(sys.executable); \
         [print(m.__file__) for m in list(sys.modules.values()) if getattr(m, '__file__', None)]";
    let output = Command::new("python3")
        .args(["-c", LOADED])
        .arg(script)
        .output()?;
    ensure!(output.status.success(), "python3: {output:?}");
    let text = String::from_utf8(output.stdout)?;
    let mut files = text.lines().map(fs::canonicalize);
    let interpreter = files.next().context("no interpreter")??;
    let root = scratch.join("python");
    shell(&root)?;
    with_libraries(&interpreter, &root.join(interpreter.strip_prefix("/")?))?;
    for file in files {
        let file = file?;
        let to = root.join(file.strip_prefix("/")?);
        if file.extension().is_some_and(|end| end == "so") {
            with_libraries(&file, &to)?;
        } else {
            copy(&file, &to)?;
        }
    }
    fs::create_dir_all(root.join("usr/bin"))?;
    symlink("/bin/busybox", root.join("usr/bin/env"))?;
    if !root.join("usr/bin/python3").exists() {
        symlink(&interpreter, root.join("usr/bin/python3"))?;
    }
    import(docker, &root, "python", &[])
}

/// Makes the image of `sshfs`, with this machine's client.
pub(super) fn sshfs(docker: &Dockerd, scratch: &Path, programs: &Programs) -> Result<()> {
    let root = scratch.join("sshfs");
    shell(&root)?;
    for program in ["/usr/bin/sshfs", "/usr/bin/ssh", "/usr/bin/stat"] {
        with_libraries(Path::new(program), &root.join(&program[1..]))?;
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n")?;
    plugin(docker, &root, "lazarette-sshfs", programs, &programs.sshfs)
}

/// What makes a file system on a disk.
const MKFS: &str = "/usr/sbin/mkfs.ext4";

/// Why there can be no file systems on disks here, if so.
pub fn no_disks() -> Option<String> {
    // The kernel gives out the first that is free; where /dev is no devtmpfs it may have no node.
    let taken = |n: &u32| Path::new(&format!("/sys/block/loop{n}/loop/backing_file")).exists();
    let free = (0..1 << 20).find(|n| !taken(n)).unwrap_or_default();
    [MKFS, "/dev/loop-control", &format!("/dev/loop{free}")]
        .into_iter()
        .find(|path| !Path::new(path).exists())
        .map(|path| format!("needs {path}"))
}

/// Makes the image `tag` of `misbehaving`, which does not: its volumes are ext4 on loop devices.
pub(super) fn disks(
    docker: &Dockerd,
    scratch: &Path,
    programs: &Programs,
    tag: &str,
) -> Result<()> {
    let root = scratch.join("disks");
    shell(&root)?;
    with_libraries(Path::new(MKFS), &root.join(&MKFS[1..]))?;
    let library = &programs.misbehaving;
    plugin_that(docker, &root, tag, programs, library, "on-a-disk")
}

/// Makes the image `tag` of `misbehaving`, which says of itself what `behaviour` has it say.
pub(super) fn misbehaving(
    docker: &Dockerd,
    scratch: &Path,
    programs: &Programs,
    tag: &str,
    behaviour: &str,
) -> Result<()> {
    let root = scratch.join("misbehaving");
    if !root.exists() {
        shell(&root)?;
    }
    plugin_that(
        docker,
        &root,
        tag,
        programs,
        &programs.misbehaving,
        behaviour,
    )
}

/// All shared libraries below `directory`.
fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            all.extend(files(&path)?);
        } else if path.extension().is_some_and(|end| end == "so") {
            all.push(path);
        }
    }
    Ok(all)
}

fn with_libraries(from: &Path, to: &Path) -> Result<()> {
    let root = to
        .ancestors()
        .find(|above| above.join("bin/busybox").exists())
        .context("no root above it")?
        .to_owned();
    for library in libraries(from)? {
        copy(&library, &root.join(library.strip_prefix("/")?))?;
    }
    copy(from, to)
}

/// Makes `root` with the plugin host and `library` into an image.
fn plugin(
    docker: &Dockerd,
    root: &Path,
    tag: &str,
    programs: &Programs,
    library: &Path,
) -> Result<()> {
    plugin_that(docker, root, tag, programs, library, "")
}

/// The same for one that misbehaves when it is described.
fn plugin_that(
    docker: &Dockerd,
    root: &Path,
    tag: &str,
    programs: &Programs,
    library: &Path,
    behaviour: &str,
) -> Result<()> {
    let plugin = root.join("usr/lib/lazarette/plugin.so");
    with_libraries(&programs.plugin_host, &root.join("usr/bin/laz-plugin-host"))?;
    with_libraries(library, &plugin)?;
    fs::set_permissions(&plugin, fs::Permissions::from_mode(0o644))?;
    let described = Command::new(&programs.plugin_host)
        .arg("describe")
        .arg(&plugin)
        .env("LAZARETTE_MISBEHAVE", behaviour)
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
    // The same JSON without the one character that `import` cannot pass on.
    let whole = manifest.to_string().replace('\'', "\\u0027");
    let labels = [(KIND_LABEL, kind), (MANIFEST_LABEL, &whole)];
    import(docker, root, tag, &labels)
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
