//! Sending a volume's content away and taking content in: to and from files of the host, and
//! datasets of other pools.

use std::fs::{self, File, OpenOptions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;

use lazarette_plugin::command::Command;
use lazarette_plugin::schemars::{self, JsonSchema};
use lazarette_plugin::serde_json::{Value, json};
use lazarette_plugin::{Call, Error, ErrorKind, Result, Volume, quoted};
use serde::Deserialize;

use crate::config::VolumeOptions;
use crate::dataset::Datasets;
use crate::pool;
use crate::programs::time_for;
use crate::properties::{self, ID};
use crate::report;
use crate::values::{DatasetName, PoolName, Size};

/// Where files with streams are, on the host and in the container.
pub(crate) const DIRECTORY: &str = "/var/lib/lazarette/streams";

/// Parameters of `send`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = crate::values::without_null)]
pub(crate) struct Send {
    /// A file to make in /var/lib/lazarette/streams.
    #[serde(default)]
    file: Option<String>,
    /// A dataset to make, with its pool: `backup/media`.
    #[serde(default)]
    dataset: Option<String>,
    /// A snapshot of the volume by its name in ZFS; without it, the volume as it is now.
    #[serde(default)]
    snapshot: Option<String>,
    /// Only what has changed since this earlier snapshot, which the receiver must have.
    #[serde(default)]
    from: Option<String>,
    /// As it is on the disks: compressed, and encrypted without its key.
    #[serde(default)]
    raw: bool,
}

/// Parameters of `receive`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Receive {
    /// A file in /var/lib/lazarette/streams that `send` has made.
    file: String,
}

/// Sends a volume.
///
/// # Errors
/// `InvalidArgument` unless exactly one place is named, and what zfs(8) says.
pub(crate) fn send(
    datasets: &Datasets,
    call: &Call,
    volume: &Volume<VolumeOptions>,
    wanted: &Send,
) -> Result<Value> {
    pool::ensure_serving(&datasets.programs, &datasets.pool)?;
    let to = match (&wanted.file, &wanted.dataset) {
        (Some(file), None) => To::File(place(file)?),
        (None, Some(dataset)) => To::Dataset(other_dataset(datasets, dataset)?),
        _ => {
            return Err(Error::invalid("send does not say where to")
                .remedy("give file=NAME or dataset=POOL/NAME, one of them"));
        }
    };
    let name = datasets.name(volume);
    let momentary = wanted.snapshot.is_none();
    let snapshot = match &wanted.snapshot {
        Some(snapshot) => format!("{name}@{}", snapshot_part(snapshot)?),
        None => {
            let snapshot = format!("{name}@lz-send-{}", stamp());
            datasets
                .programs
                .zfs(time_for(call))
                .args(["snapshot", "--", &snapshot])
                .run()
                .map_err(|e| report::explain(&e, &format!("cannot take {snapshot}")))?;
            snapshot
        }
    };
    let mut command = datasets.programs.zfs(time_for(call)).arg("send");
    if wanted.raw {
        command = command.arg("-w");
    }
    if let Some(from) = &wanted.from {
        command = command.arg("-i").arg(format!("@{}", snapshot_part(from)?));
    }
    let command = command.arg("--").arg(&snapshot);
    call.progress(&format!("sending {name}"), None);
    let sent = match &to {
        To::File(path) => into_file(command, path, &name),
        To::Dataset(dataset) => into_dataset(datasets, call, command, dataset, &name),
    };
    // What was sent can be the base of the next stream only if it was named.
    if momentary {
        let forgotten = datasets
            .programs
            .zfs(time_for(call).max(std::time::Duration::from_secs(10)))
            .args(["destroy", "--", &snapshot])
            .run();
        if let Err(failed) = forgotten
            && sent.is_ok()
        {
            return Err(report::explain(
                &failed,
                &format!("cannot remove {snapshot}"),
            ));
        }
    }
    sent
}

/// Where a stream goes.
enum To {
    File(PathBuf),
    Dataset(String),
}

fn into_file(command: Command, path: &Path, name: &str) -> Result<Value> {
    let partial = path.with_extension("partial");
    let failed = |e: std::io::Error| {
        let kind = match e.kind() {
            std::io::ErrorKind::AlreadyExists => ErrorKind::AlreadyExists,
            std::io::ErrorKind::StorageFull => ErrorKind::NoSpace,
            _ => ErrorKind::Internal,
        };
        Error::new(kind, format!("cannot write {}", path.display())).cause(e)
    };
    if path.exists() {
        return Err(Error::new(
            ErrorKind::AlreadyExists,
            format!("{} is there already", path.display()),
        )
        .remedy("name another file, or remove that one on the host"));
    }
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&partial)
        .map_err(failed)?;
    let copy = file.try_clone().map_err(failed)?;
    if let Err(error) = command.stdout_file(copy).run() {
        // Half a stream is of no use.
        let _ = fs::remove_file(&partial);
        return Err(report::explain(&error, &format!("cannot send {name}")));
    }
    file.sync_all().map_err(failed)?;
    fs::rename(&partial, path).map_err(failed)?;
    let bytes = fs::metadata(path).map_err(failed)?.len();
    Ok(json!({ "file": path, "size": Size(bytes).to_string() }))
}

fn into_dataset(
    datasets: &Datasets,
    call: &Call,
    command: Command,
    dataset: &str,
    name: &str,
) -> Result<Value> {
    let what = format!("cannot send {name} to {dataset}");
    let (read, write) = std::io::pipe().map_err(|e| Error::internal(what.clone()).cause(e))?;
    let sending = command.stdout_file(File::from(OwnedFd::from(write)));
    let receiving = datasets
        .programs
        .zfs(time_for(call))
        .args(["receive", "-u", "-x", ID, "-o", "canmount=noauto", "--"])
        .arg(dataset)
        .stdin_file(File::from(OwnedFd::from(read)));
    let (sent, received) = thread::scope(|scope| {
        let sent = scope.spawn(|| sending.run());
        let received = receiving.run();
        (sent.join(), received)
    });
    // If the receiver gives up, the sender only says that its pipe is broken.
    received.map_err(|e| report::explain(&e, &what))?;
    sent.map_err(|_| Error::internal(what.clone()))?
        .map_err(|e| report::explain(&e, &what))?;
    Ok(json!({ "dataset": dataset }))
}

/// Takes in a stream in place of what the volume holds.
///
/// # Errors
/// `NotFound` if there is no such file, and what zfs(8) says.
pub(crate) fn receive(
    datasets: &Datasets,
    call: &Call,
    volume: &Volume<VolumeOptions>,
    wanted: &Receive,
) -> Result<Value> {
    pool::ensure_serving(&datasets.programs, &datasets.pool)?;
    let path = place(&wanted.file)?;
    let file = File::open(&path).map_err(|e| {
        Error::not_found(format!("cannot read {}", path.display()))
            .cause(e)
            .remedy(format!("put the file into {DIRECTORY} on the host"))
    })?;
    datasets.mounts.unmount(volume.id)?;
    let name = datasets.name(volume);
    let what = format!("cannot receive into {name}");
    let mut command = datasets
        .programs
        .zfs(time_for(call))
        .args(["receive", "-u", "-F"]);
    if !volume.options.is_import() {
        command = command.arg("-o").arg(format!("{ID}={}", volume.id));
    }
    command
        .arg("--")
        .arg(&name)
        .stdin_file(file)
        .run()
        .map_err(|e| report::explain(&e, &what))?;
    let current = properties::of(&datasets.programs, time_for(call), &name)?.unwrap_or_default();
    let used = current.get("referenced").and_then(|v| v.parse().ok());
    Ok(json!({ "received": used.map_or_else(String::new, |bytes| Size(bytes).to_string()) }))
}

/// A file in the directory of streams.
fn place(name: &str) -> Result<PathBuf> {
    let fine = name
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_alphanumeric())
        && name.len() <= 200
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
        && !name.ends_with(".partial");
    if fine {
        return Ok(Path::new(DIRECTORY).join(name));
    }
    Err(
        Error::invalid(format!("file {}", quoted(name))).remedy(format!(
            "give a plain file name, of letters, digits and _.-: it lies in {DIRECTORY}"
        )),
    )
}

/// A dataset of another pool, or of this one outside of ours.
fn other_dataset(datasets: &Datasets, text: &str) -> Result<String> {
    let (pool, rest) = text.split_once('/').unwrap_or((text, ""));
    let name = DatasetName::parse(rest)?.in_pool(&PoolName::parse(pool)?);
    if name.starts_with(&format!("{}/{}/", datasets.pool, pool::PARENT)) || rest == "." {
        return Err(Error::invalid(format!("{name} is Lazarette's own"))
            .remedy("clone the volume instead: laz volume clone"));
    }
    Ok(name)
}

fn snapshot_part(text: &str) -> Result<&str> {
    let fine = !text.is_empty()
        && text.len() <= 200
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_.:-".contains(&b));
    if fine {
        return Ok(text);
    }
    Err(Error::invalid(format!("snapshot {}", quoted(text)))
        .remedy("give the part after the @: laz pool datasets CONTEXT"))
}

/// Unique enough among the snapshots of a moment.
fn stamp() -> u128 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |since| since.as_nanos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_lie_in_their_directory_and_nowhere_else() {
        assert_eq!(place("a.zfs").unwrap(), Path::new(DIRECTORY).join("a.zfs"));
        for bad in [
            "",
            ".",
            "..",
            "../x",
            "/etc/passwd",
            "a/b",
            "a b",
            "-o",
            "x.partial",
        ] {
            assert!(place(bad).is_err(), "{bad:?}");
        }
        for bad in ["", "a b", "a@b", "a/b"] {
            assert!(snapshot_part(bad).is_err(), "{bad:?}");
        }
    }
}
