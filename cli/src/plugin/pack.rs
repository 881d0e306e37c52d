//! `laz plugin pack`: an image of a built plugin, by the Docker of its author's machine.
//!
//! The plugin host runs in the image while it is packed: it loads the plugin there and says what the
//! image's labels will say. So an image whose libraries do not fit is refused here, not later.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lazarette_core::manifest::{KIND_LABEL, MANIFEST_LABEL, Manifest};
use lazarette_core::{Error, ErrorKind};
use lazarette_linux::command::Command;

use super::{PackArguments, statement};
use crate::failure::Failure;
use crate::terminal::Terminal;

/// Building the recipe may fetch packages.
const WORK: Duration = Duration::from_secs(1800);
/// Variables that the docker command reads.
const VARIABLES: [&str; 7] = [
    "DOCKER_BUILDKIT",
    "DOCKER_CERT_PATH",
    "DOCKER_CONFIG",
    "DOCKER_CONTEXT",
    "DOCKER_HOST",
    "DOCKER_TLS_VERIFY",
    "HOME",
];
/// The first bytes of a library.
const ELF: &[u8] = b"\x7fELF";
/// The program that core starts in a storage container, by its name.
const HOST: &str = "laz-plugin-host";

/// Packs one.
pub(crate) fn run(arguments: &PackArguments, terminal: &mut Terminal) -> Result<(), Failure> {
    let plugin = &arguments.plugin;
    let read = |path: &Path| {
        fs::read(path).map_err(|source| Failure::File {
            verb: "read",
            path: path.into(),
            source,
        })
    };
    let content = read(plugin)?;
    let library = content.starts_with(ELF) && plugin.extension().is_some_and(|end| end == "so");
    let directory = Directory::new()?;
    let base = match &arguments.base {
        Some(base) => base.clone(),
        None => build(&arguments.recipe, None)?,
    };
    let mut recipe = format!("FROM {base}\nCOPY --chown=0:0 {HOST} /usr/bin/{HOST}\n");
    if library {
        directory.write(HOST, &read(&host(arguments.host.as_deref())?)?, 0o755)?;
        directory.write("plugin.so", &content, 0o644)?;
        recipe.push_str("COPY --chown=0:0 plugin.so /usr/lib/lazarette/plugin.so\n");
    } else {
        // It serves the wire itself, in the host's place.
        directory.write(HOST, &content, 0o755)?;
    }
    recipe.push_str(&format!("ENTRYPOINT [\"{HOST}\"]\nCMD [\"supervise\"]\n"));
    directory.write("Dockerfile", recipe.as_bytes(), 0o644)?;
    let bare = build(&directory.0, None)?;
    let manifest = describe(&bare, library)?;
    let kind = manifest.kind.as_str();
    let text = serde_json::to_string(&manifest).expect("a manifest has string keys only");
    let labels = format!(
        "FROM {bare}\nLABEL {KIND_LABEL}={} {MANIFEST_LABEL}={}\n",
        quoted(kind),
        quoted(&text)
    );
    directory.write("Dockerfile", labels.as_bytes(), 0o644)?;
    let tag = arguments.tag.clone();
    let tag = tag.unwrap_or_else(|| format!("lazarette-plugin-{kind}:{}", manifest.version));
    build(&directory.0, Some(&tag))?;
    save(arguments, &tag, &manifest, &directory)?;
    terminal.line(&tag)
}

/// Writes the image, and what is to be signed, into the files that are asked for.
fn save(
    arguments: &PackArguments,
    tag: &str,
    manifest: &Manifest,
    directory: &Directory,
) -> Result<(), Failure> {
    let statement = arguments.statement.clone();
    let archive = match (&arguments.output, &statement) {
        (Some(file), _) => absolute(file)?,
        (None, Some(_)) => directory.0.join("image.tar"),
        (None, None) => return Ok(()),
    };
    docker(&["save", "--output", &archive.to_string_lossy(), tag])?;
    let file = statement.unwrap_or_else(|| statement::beside(&archive));
    statement::write(&archive, manifest, &file)
}

/// What the plugin says of itself, in its image and with no rights at all.
fn describe(image: &str, library: bool) -> Result<Manifest, Failure> {
    let mut run = vec![
        "run",
        "--rm",
        "--network=none",
        "--read-only",
        "--cap-drop=ALL",
        image,
    ];
    run.push("describe");
    if library {
        run.push("/usr/lib/lazarette/plugin.so");
    }
    let text = docker(&run).map_err(|failure| match failure {
        Failure::Core(error) => Failure::Core(error.remedy(
            "the plugin must load in its image: build it on the release of the image, or choose another one",
        )),
        other => other,
    })?;
    serde_json::from_str(&text).map_err(|e| {
        let error = Error::new(ErrorKind::Plugin, "what the plugin says of itself").cause(e);
        Failure::Core(error.remedy("build it with the SDK of this version of laz"))
    })
}

/// Builds the recipe in `directory`; the image's identity.
fn build(directory: &Path, tag: Option<&str>) -> Result<String, Failure> {
    let directory = absolute(directory)?;
    let directory = directory.to_string_lossy();
    let mut arguments = vec!["build", "--quiet"];
    arguments.extend(tag.map(|tag| ["--tag", tag]).into_iter().flatten());
    arguments.push(&directory);
    docker(&arguments).map(|id| id.trim().to_owned())
}

/// A text in double quotes as a Dockerfile takes it.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        if matches!(c, '"' | '\\' | '$') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted + "\""
}

/// The plugin host that was named, or the one beside laz, or an installed one.
fn host(named: Option<&Path>) -> Result<PathBuf, Failure> {
    if let Some(named) = named {
        return Ok(named.into());
    }
    let beside = std::env::current_exe()
        .ok()
        .map(|laz| laz.with_file_name(HOST));
    let installed = [PathBuf::from("/usr/lib/lazarette").join(HOST)];
    let all = beside.into_iter().chain(installed);
    let found = all.into_iter().find(|path| path.is_file());
    found.ok_or_else(|| {
        let error = Error::not_found(format!("the program {HOST}"));
        Failure::Core(error.remedy("say where it is: --host FILE"))
    })
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|source| Failure::File {
        verb: "find",
        path: path.into(),
        source,
    })
}

/// `docker ARGUMENTS…`; what it prints.
fn docker(arguments: &[&str]) -> Result<String, Failure> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut all = std::env::split_paths(&path).map(|directory| directory.join("docker"));
    let program = all.find(|program| program.is_absolute() && program.is_file());
    let program = program.ok_or_else(|| {
        let error = Error::not_found("the program docker");
        Failure::Core(error.remedy("install Docker's command on the machine that packs"))
    })?;
    let mut command = Command::new(program).args(arguments).deadline(WORK);
    for name in VARIABLES {
        if let Some(value) = std::env::var_os(name) {
            command = command.env(name, value);
        }
    }
    let what = format!("docker {}", arguments.first().unwrap_or(&""));
    let output = command.keep(1 << 20).run().map_err(|e| {
        let why = e.stderr.trim();
        let why = if why.is_empty() {
            e.failure.to_string()
        } else {
            why.to_owned()
        };
        Failure::Core(Error::internal(format!("{what} failed")).cause(why))
    })?;
    Ok(output.stdout_text())
}

/// A directory that goes with this value.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Result<Self, Failure> {
        let path = std::env::temp_dir().join(format!("laz-pack-{}", std::process::id()));
        let made = fs::create_dir(&path);
        made.map_err(|source| Failure::File {
            verb: "make",
            path: path.clone(),
            source,
        })?;
        Ok(Self(path))
    }

    fn write(&self, name: &str, content: &[u8], mode: u32) -> Result<(), Failure> {
        let path = self.0.join(name);
        let written = fs::write(&path, content)
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(mode)));
        written.map_err(|source| Failure::File {
            verb: "write",
            path,
            source,
        })
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // What stays lies among the temporary files.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_holds_any_text() {
        assert_eq!(quoted(r#"{"a": "\d$x'"}"#), r#""{\"a\": \"\\d\$x'\"}""#);
    }
}
