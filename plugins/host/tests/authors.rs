//! What `laz plugin new` writes, and what docs/plugin-authors.md says to type.

#![allow(clippy::unwrap_used)]

mod harness;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::{Core, Running, can_run, volume};
use lazarette_core::message::Method;
use serde_json::{Value, json};

/// Longer plugins than this are no tutorial.
const LONGEST: usize = 40;

fn workspace() -> PathBuf {
    let plugins = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    plugins.canonicalize().unwrap()
}

/// Where programs are built: `target/PROFILE`.
fn built() -> PathBuf {
    let host = Path::new(env!("CARGO_BIN_EXE_laz-plugin-host"));
    host.parent().unwrap().to_owned()
}

/// A command of an author's: laz and the plugin host are in the PATH, what is built is built
/// beside what this test is built from, of the same packages.
fn author(program: &str, directory: &Path) -> Command {
    let mut command = Command::new(program);
    let path = format!("{}:{}", built().display(), std::env::var("PATH").unwrap());
    command
        .current_dir(directory)
        .env("PATH", path)
        .env("CARGO_TARGET_DIR", built().parent().unwrap())
        .env("CARGO_NET_OFFLINE", "true");
    command
}

fn succeeds(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

fn build_laz() {
    succeeds(author(env!("CARGO"), &workspace()).args(["build", "--quiet", "--package", "laz"]));
}

/// `laz plugin new KIND`; the project has the workspace's versions of all packages.
fn new(kind: &str, lang: &str, directory: &Path) -> PathBuf {
    build_laz();
    let sdk = workspace().join("plugins/sdk");
    let mut laz = author("laz", directory);
    laz.args(["plugin", "new", kind, "--lang", lang, "--sdk"])
        .arg(sdk);
    let said = succeeds(&mut laz);
    assert!(said.contains("laz plugin pack"), "{said}");
    let project = directory.join(kind);
    fs::copy(workspace().join("Cargo.lock"), project.join("Cargo.lock")).unwrap();
    let again = laz.output().unwrap();
    let again = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(again.contains("is there already"), "{again}");
    project
}

/// Opens a context, and makes, mounts and removes a volume, each twice.
fn serves(host: &Running, kind: &str, config: Value, options: Value) {
    let (mut core, greeting) = Core::connect(&host.socket);
    assert_eq!(greeting.manifest.kind.as_str(), kind);
    core.open(config).unwrap();
    let volume = volume(options);
    for _ in 0..2 {
        let create = Method::Create {
            volume: volume.clone(),
        };
        core.call(create).unwrap();
        let mount = Method::Mount {
            volume: volume.clone(),
            read_only: false,
        };
        let (mounted, fd) = core.call_fd(mount);
        mounted.unwrap();
        fd.expect("a mount comes as a descriptor");
    }
    assert_eq!(core.call(Method::Health).unwrap()["state"], "healthy");
    for _ in 0..2 {
        core.call(Method::Unmount { id: volume.id }).unwrap();
    }
    for _ in 0..2 {
        core.call(Method::Remove {
            volume: volume.clone(),
        })
        .unwrap();
    }
    assert!(!Running::mount_table(host.pid()).contains(&volume.id.to_string()));
}

#[test]
fn a_new_project_in_c_builds_and_serves() {
    if !can_run() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let project = new("boxes", "c", directory.path());
    succeeds(author("make", &project).arg("plugin.so"));
    let host = Running::built(&project.join("plugin.so"));
    serves(&host, "boxes", json!({}), json!({"size": "4M"}));
}

#[test]
fn a_new_project_in_python_serves() {
    if !can_run() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let project = new("crates", "python", directory.path());
    let config = json!({"directory": directory.path().canonicalize().unwrap()});
    let host = Running::script(&project.join("plugin.py"));
    serves(&host, "crates", config, json!({}));
}

#[test]
fn a_new_project_in_rust_builds_and_serves() {
    if !can_run() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let project = new("barrels", "rust", directory.path());
    succeeds(author(env!("CARGO"), &project).args(["build", "--quiet"]));
    let host = Running::built(&built().join("libbarrels.so"));
    serves(&host, "barrels", json!({}), json!({"size": "4m"}));
}

/// What lies between a fence with this word and the next fence, for each.
fn blocks(text: &str, word: &str) -> Vec<String> {
    let fence = format!("\n```{word}\n");
    let after = text.split(&fence).skip(1);
    after
        .map(|rest| rest.split("\n```").next().unwrap().to_owned())
        .collect()
}

const TUTORIAL: &str = "docs/plugin-authors.md";

/// The lines of `text`'s blocks in `word` that are typed.
fn typed(text: &str, word: &str, prompt: &str) -> Vec<String> {
    let lines = blocks(text, word).join("\n");
    let typed = lines.lines().filter_map(|line| line.strip_prefix(prompt));
    typed.map(str::to_owned).collect()
}

/// What the page says to type, as it is typed here: a debug build is made of what is built already,
/// and the storage lies in `directory`.
fn here(script: &str, directory: &Path) -> String {
    let target = built().parent().unwrap().display().to_string();
    script
        .replace(" --release", " --quiet")
        .replace("target/release", &format!("{target}/debug"))
        .replace("/srv/shelves", &directory.join("srv").display().to_string())
}

#[test]
fn the_tutorial_holds() {
    if !can_run() {
        return;
    }
    let text = fs::read_to_string(workspace().join(TUTORIAL)).unwrap();
    let mut typed = typed(&text, "console", "$ ");
    assert_eq!(typed[0], "laz plugin new shelves");
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().canonicalize().unwrap();
    build_laz();
    // To the letter: the project has all that it needs but what is on crates.io.
    succeeds(author("sh", &root).args(["-e", "-c", &typed.remove(0)]));
    let project = root.join("shelves");
    fs::copy(workspace().join("Cargo.lock"), project.join("Cargo.lock")).unwrap();
    let code = &blocks(&text, "rust")[0];
    let lines = code.lines().filter(|line| !line.trim().is_empty()).count();
    assert!(lines <= LONGEST, "{lines} lines");
    fs::write(project.join("src/lib.rs"), code).unwrap();
    let serves = Path::new("/usr/bin/bindfs").exists() && Path::new("/dev/fuse").exists();
    if !serves {
        println!("skipped in part: checking needs bindfs and /dev/fuse");
        typed.retain(|line| !line.starts_with("laz plugin check"));
    }
    let script = here(&typed.join("\n"), &root);
    let said = succeeds(author("sh", &root).args(["-e", "-c", &script]));
    let manifest = said.lines().find(|line| line.starts_with('{')).unwrap();
    let manifest: Value = serde_json::from_str(manifest).unwrap();
    assert_eq!(manifest["kind"], "shelves");
    assert_eq!(said.contains("mounts.root"), serves, "{said}");
    commands_of_an_engine_are_understood(&text, &project, &root);
}

/// They need an engine or core, and are right up to there. Those of minisign are not ours.
fn commands_of_an_engine_are_understood(text: &str, project: &Path, root: &Path) {
    let mut lines = typed(text, "sh", "");
    lines.retain(|line| !line.starts_with("minisign "));
    fs::write(project.join("shelves.tar.statement.minisig"), "").unwrap();
    assert!(
        lines.iter().any(|line| line.contains("plugin pack")),
        "{lines:?}"
    );
    for line in lines {
        let nobody = root.join("nobody.sock").display().to_string();
        let mut command = author("sh", project);
        command.args(["-c", &here(&line, root)]);
        command.env("DOCKER_HOST", format!("unix://{nobody}"));
        command.env("LAZARETTE_SOCKET", &nobody);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let status = output.status.code();
        // 1: the engine refuses; 3: there is no core. A wrong command line would be 2.
        assert!(matches!(status, Some(1 | 3)), "{line}: {status:?} {said}");
        let wanted = [
            "docker",
            "cannot reach core",
            "shelves.tar",
            "nobody can be asked here",
        ];
        assert!(
            wanted.iter().any(|what| said.contains(what)),
            "{line}: {said}"
        );
    }
}
