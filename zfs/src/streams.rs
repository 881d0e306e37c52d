//! Sending a volume's content away and taking content in: to and from files of the host, and
//! datasets of other pools.

use std::fs::{self, File, OpenOptions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use lazarette_plugin::command::{Command, Output};
use lazarette_plugin::schemars::{self, JsonSchema};
use lazarette_plugin::serde_json::{Value, json};
use lazarette_plugin::{Call, Error, ErrorKind, Result, SnapshotId, Volume, quoted};
use serde::Deserialize;

use crate::config::VolumeOptions;
use crate::dataset::Datasets;
use crate::pool;
use crate::programs::time_for;
use crate::properties::{self, ID};
use crate::report;
use crate::snapshots;
use crate::values::{DatasetName, PoolName, Size};

/// Where files with streams are, on the host and in the container.
pub(crate) const DIRECTORY: &str = "/var/lib/lazarette/streams";
/// What snapshots are called that are there only while they are sent.
const MOMENTARY: &str = "lz-send-";

/// Parameters of `send`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = lazarette_plugin::values::without_null)]
pub(crate) struct Send {
    /// A file to make in /var/lib/lazarette/streams.
    #[serde(default)]
    file: Option<String>,
    /// A dataset to make, with its pool: `backup/media`.
    #[serde(default)]
    dataset: Option<String>,
    /// A snapshot of the volume; without it, the volume as it is now.
    #[serde(default)]
    snapshot: Option<SnapshotId>,
    /// Only what has changed since this earlier snapshot, which the receiver must have.
    #[serde(default)]
    from: Option<SnapshotId>,
    /// As it is on the disks: compressed, and encrypted without its key.
    #[serde(default)]
    raw: bool,
}

/// Parameters of `receive`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = lazarette_plugin::values::without_null)]
pub(crate) struct Receive {
    /// A file in /var/lib/lazarette/streams that `send` has made.
    #[serde(default)]
    file: Option<String>,
    /// A dataset with its pool, as it is now or at a snapshot: `backup/media`, `backup/media@may`.
    #[serde(default)]
    from: Option<String>,
    /// Only what has changed since this earlier snapshot of that dataset, which the volume must
    /// have.
    #[serde(default)]
    since: Option<String>,
    /// As it is on that dataset's disks: compressed, and encrypted without its key.
    #[serde(default)]
    raw: bool,
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
    let snapshot = match wanted.snapshot {
        Some(snapshot) => snapshots::name(&name, snapshot),
        None => take_momentary(datasets, call, &name)?,
    };
    let since = wanted.from.map(snapshots::part);
    let command = sending(datasets, call, &snapshot, since.as_deref(), wanted.raw);
    call.progress(&format!("sending {name}"), None);
    let sent = match &to {
        To::File(path) => into_file(command, path, &name),
        To::Dataset(dataset) => into_dataset(datasets, call, command, dataset, &name),
    };
    forget_momentary(datasets, call, &snapshot, sent)
}

/// The command that writes a stream of `snapshot`.
fn sending(
    datasets: &Datasets,
    call: &Call,
    snapshot: &str,
    since: Option<&str>,
    raw: bool,
) -> Command {
    let mut command = datasets.programs.zfs(time_for(call)).arg("send");
    if raw {
        command = command.arg("-w");
    }
    if let Some(since) = since {
        command = command.arg("-i").arg(format!("@{since}"));
    }
    command.arg("--").arg(snapshot)
}

/// Takes a snapshot of a dataset that is to be there only while it is sent.
fn take_momentary(datasets: &Datasets, call: &Call, dataset: &str) -> Result<String> {
    let snapshot = format!("{dataset}@{MOMENTARY}{}", stamp());
    datasets
        .programs
        .zfs(time_for(call))
        .args(["snapshot", "--", &snapshot])
        .run()
        .map_err(|e| report::explain(&e, &format!("cannot take {snapshot}")))?;
    Ok(snapshot)
}

/// Removes a snapshot if it was taken to be sent: only what was named can be the base of the next
/// stream. An error of `done` goes before one of this.
fn forget_momentary<T>(
    datasets: &Datasets,
    call: &Call,
    snapshot: &str,
    done: Result<T>,
) -> Result<T> {
    let momentary = snapshot
        .split_once('@')
        .is_some_and(|(_, part)| part.starts_with(MOMENTARY));
    if !momentary {
        return done;
    }
    let forgotten = datasets
        .programs
        .zfs(time_for(call).max(Duration::from_secs(10)))
        .args(["destroy", "--", snapshot])
        .run();
    match forgotten {
        Err(failed) if done.is_ok() && !report::is_absent(&failed.stderr) => Err(report::explain(
            &failed,
            &format!("cannot remove {snapshot}"),
        )),
        _ => done,
    }
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
    let receiving = datasets
        .programs
        .zfs(time_for(call))
        .args(["receive", "-v", "-u", "-x", ID, "-o", "canmount=noauto"])
        .args(["--", dataset]);
    let received = piped(command, receiving, &what)?;
    let snapshot = received_snapshot(&received.stdout_text()).unwrap_or_default();
    forget_momentary(datasets, call, &snapshot, Ok(json!({ "dataset": dataset })))
}

/// Runs one program with another's output; what the second one wrote.
fn piped(sending: Command, receiving: Command, what: &str) -> Result<Output> {
    let (read, write) = std::io::pipe().map_err(|e| Error::internal(what).cause(e))?;
    let sending = sending.stdout_file(File::from(OwnedFd::from(write)));
    let receiving = receiving.stdin_file(File::from(OwnedFd::from(read)));
    let (sent, received) = thread::scope(|scope| {
        let sent = scope.spawn(|| sending.run());
        let received = receiving.run();
        (sent.join(), received)
    });
    let sent = sent.map_err(|_| Error::internal(what))?;
    match (sent, received) {
        // Why there was no stream, or half of one, is what the sender says.
        (Err(failed), Err(other)) if CUT_OFF.iter().any(|w| other.stderr.contains(w)) => {
            Err(report::explain(&failed, what))
        }
        // If the receiver gives up, the sender only says that its pipe is broken.
        (_, Err(failed)) | (Err(failed), _) => Err(report::explain(&failed, what)),
        (Ok(_), Ok(received)) => Ok(received),
    }
}

/// What `zfs receive` says of a stream that does not begin, or ends too early.
const CUT_OFF: [&str; 3] = [
    "failed to read from stream",
    "incomplete stream",
    "invalid stream",
];

/// The snapshot that `zfs receive -v` says it makes.
fn received_snapshot(said: &str) -> Option<String> {
    let line = said.lines().find(|line| line.starts_with("receiving "))?;
    let (_, name) = line.rsplit_once(" into ")?;
    Some(name.trim().to_owned())
}

/// Takes in a stream in place of what the volume holds.
///
/// # Errors
/// `InvalidArgument` unless exactly one place is named, `NotFound` if it is not there, and what
/// zfs(8) says.
pub(crate) fn receive(
    datasets: &Datasets,
    call: &Call,
    volume: &Volume<VolumeOptions>,
    wanted: &Receive,
) -> Result<Value> {
    pool::ensure_serving(&datasets.programs, &datasets.pool)?;
    let name = datasets.name(volume);
    let what = format!("cannot receive into {name}");
    let mut command = datasets
        .programs
        .zfs(time_for(call))
        .args(["receive", "-v", "-u", "-F"]);
    if !volume.options.is_import() {
        command = command.arg("-o").arg(format!("{ID}={}", volume.id));
    }
    let command = command.arg("--").arg(&name);
    let received = match (&wanted.file, &wanted.from) {
        (Some(file), None) if wanted.since.is_none() && !wanted.raw => {
            let file = opened(file)?;
            datasets.mounts.unmount(volume.id)?;
            let received = command.stdin_file(file).run();
            received.map_err(|e| report::explain(&e, &what))?
        }
        (None, Some(from)) => {
            let source = Source::parse(from)?;
            source.check(datasets, &name)?;
            datasets.mounts.unmount(volume.id)?;
            from_dataset(datasets, call, &source, wanted, command, &what)?
        }
        (Some(_), None) => {
            return Err(
                Error::invalid("since and raw are for receiving from a dataset")
                    .remedy("leave them out: a file is what send has made it"),
            );
        }
        _ => {
            return Err(Error::invalid("receive does not say where from")
                .remedy("give file=NAME or from=POOL/DATASET, one of them"));
        }
    };
    let snapshot = received_snapshot(&received.stdout_text()).unwrap_or_default();
    forget_momentary(datasets, call, &snapshot, Ok(()))?;
    let current = properties::of(&datasets.programs, time_for(call), &name)?.unwrap_or_default();
    let used = current.get("referenced").and_then(|v| v.parse().ok());
    Ok(json!({ "received": used.map_or_else(String::new, |bytes| Size(bytes).to_string()) }))
}

fn from_dataset(
    datasets: &Datasets,
    call: &Call,
    source: &Source,
    wanted: &Receive,
    receiving: Command,
    what: &str,
) -> Result<Output> {
    let since = wanted.since.as_deref().map(snapshot_part).transpose()?;
    let snapshot = match &source.snapshot {
        Some(snapshot) => format!("{}@{snapshot}", source.dataset),
        None => take_momentary(datasets, call, &source.dataset)?,
    };
    call.progress(&format!("receiving {}", source.dataset), None);
    let sending = sending(datasets, call, &snapshot, since, wanted.raw);
    let received = piped(sending, receiving, what);
    forget_momentary(datasets, call, &snapshot, received)
}

/// A dataset to take a stream from.
#[derive(Debug, PartialEq, Eq)]
struct Source {
    pool: PoolName,
    /// Its name with the pool's.
    dataset: String,
    /// The part after the `@`.
    snapshot: Option<String>,
}

impl Source {
    fn parse(text: &str) -> Result<Self> {
        let (dataset, snapshot) = match text.split_once('@') {
            Some((dataset, snapshot)) => (dataset, Some(snapshot_part(snapshot)?.to_owned())),
            None => (text, None),
        };
        let (pool, rest) = dataset.split_once('/').unwrap_or((dataset, "."));
        let pool = PoolName::parse(pool)?;
        Ok(Self {
            dataset: DatasetName::parse(rest)?.in_pool(&pool),
            snapshot,
            pool,
        })
    }

    /// Refuses what cannot go into the dataset `into`.
    fn check(&self, datasets: &Datasets, into: &str) -> Result<()> {
        pool::ensure_serving(&datasets.programs, &self.pool)?;
        if self.dataset == into {
            return Err(Error::invalid(format!("{into} is the volume itself"))
                .remedy("bring it back to a snapshot instead: laz volume rollback"));
        }
        Ok(())
    }
}

fn opened(file: &str) -> Result<File> {
    let path = place(file)?;
    File::open(&path).map_err(|e| {
        Error::not_found(format!("cannot read {}", path.display()))
            .cause(e)
            .remedy(format!("put the file into {DIRECTORY} on the host"))
    })
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
    let pool = PoolName::parse(pool)?;
    let name = DatasetName::parse(rest)?.in_pool(&pool);
    if name.starts_with(&format!("{}/{}/", datasets.pool, pool::PARENT)) || rest == "." {
        return Err(Error::invalid(format!("{name} is Lazarette's own"))
            .remedy("clone the volume instead: laz volume clone"));
    }
    pool::ensure_serving(&datasets.programs, &pool)?;
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
pub(crate) mod tests {
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

    #[test]
    fn a_source_is_a_dataset_or_a_snapshot_of_one() {
        let source = Source::parse("backup/media/photos@may").unwrap();
        assert_eq!(source.pool.as_str(), "backup");
        assert_eq!(source.dataset, "backup/media/photos");
        assert_eq!(source.snapshot.as_deref(), Some("may"));
        let whole = Source::parse("backup").unwrap();
        assert_eq!((whole.dataset.as_str(), whole.snapshot), ("backup", None));
        for bad in ["", "-o", "a@", "a/b@c@d", "a//b", "a/../b", "/a", "a b/c"] {
            assert!(Source::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_received_snapshot_is_read_off_what_is_said() {
        let said = "receiving full stream of tank/a@lz-send-1 into backup/a into b@lz-send-1\n\
                    received 312B stream in 0.01 seconds (31.2K/sec)\n";
        assert_eq!(received_snapshot(said).as_deref(), Some("b@lz-send-1"));
        assert_eq!(received_snapshot(""), None);
    }

    /// Two pools, and a zfs that notes what it is asked for; what it sends is its own words.
    pub(crate) fn stand(zfs: &str) -> (tempfile::TempDir, Datasets) {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let trace = at("trace").display().to_string();
        let script = format!("#!/bin/sh\necho \"$*\" >> {trace}\n{zfs}\n");
        fs::write(at("zfs"), script).unwrap();
        fs::set_permissions(at("zfs"), fs::Permissions::from_mode(0o755)).unwrap();
        for pool in ["tank", "backup"] {
            fs::create_dir_all(at("kstat").join(pool)).unwrap();
            fs::write(at("kstat").join(pool).join("state"), "ONLINE\n").unwrap();
        }
        let programs = crate::programs::Programs {
            zfs: at("zfs"),
            kstat: at("kstat"),
            ..crate::programs::Programs::default()
        };
        let host = crate::health::tests::host();
        let datasets = Datasets {
            mounts: crate::mounts::Mounts::new(host.clone()),
            host,
            programs,
            pool: PoolName::parse("tank").unwrap(),
            secrets: directory.path().to_owned(),
        };
        (directory, datasets)
    }

    fn volume() -> Volume<VolumeOptions> {
        let text =
            r#"{"id": "01234567-89ab-4cde-8f01-23456789abcd", "options": {"dataset": "db"}}"#;
        serde_json::from_str(text).unwrap()
    }

    /// What zfs was asked for, without when.
    fn asked(directory: &tempfile::TempDir) -> Vec<String> {
        let text = fs::read_to_string(directory.path().join("trace")).unwrap();
        let mut lines: Vec<String> = text
            .lines()
            .map(|line| {
                let at = line
                    .find(MOMENTARY)
                    .map_or(line.len(), |at| at + MOMENTARY.len());
                line[..at].to_owned()
            })
            .collect();
        // The two ends of a pipe begin at once.
        lines.sort();
        lines
    }

    const RECEIVES: &str = "case $1 in receive) cat > /dev/null; echo \"receiving full stream of a into tank/db@lz-send-1\" ;; esac";

    #[test]
    fn another_pools_dataset_goes_into_the_volume_and_leaves_no_snapshot() {
        let (directory, datasets) = stand(RECEIVES);
        let wanted: Receive = serde_json::from_value(json!({"from": "backup/db"})).unwrap();
        receive(&datasets, &crate::health::tests::call(), &volume(), &wanted).unwrap();
        let all = asked(&directory);
        for line in [
            "snapshot -- backup/db@lz-send-",
            "send -- backup/db@lz-send-",
            "receive -v -u -F -- tank/db",
            "destroy -- backup/db@lz-send-",
            "destroy -- tank/db@lz-send-",
        ] {
            assert!(all.iter().any(|l| l == line), "{line}: {all:?}");
        }
    }

    #[test]
    fn what_keeps_a_stream_from_coming_is_told_and_nothing_is_left() {
        let (directory, datasets) = stand(
            "case $1 in send) echo \"cannot send 'backup/db': permission denied\" >&2; exit 1 ;; \
             receive) cat > /dev/null; echo 'cannot receive: failed to read from stream' >&2; exit 1 ;; esac",
        );
        let call = crate::health::tests::call();
        let from = |value| serde_json::from_value::<Receive>(value).unwrap();
        let error = receive(
            &datasets,
            &call,
            &volume(),
            &from(json!({"from": "backup/db"})),
        )
        .unwrap_err()
        .to_string();
        assert!(error.contains("permission denied"), "{error}");
        let destroyed = "destroy -- backup/db@lz-send-".to_owned();
        assert!(asked(&directory).contains(&destroyed));
        for (value, part) in [
            (json!({}), "where from"),
            (json!({"file": "a", "from": "backup/db"}), "where from"),
            (json!({"file": "a", "raw": true}), "since and raw"),
            (json!({"from": "tank/db"}), "the volume itself"),
            (json!({"from": "other/db"}), "other is not imported"),
        ] {
            let error = receive(&datasets, &call, &volume(), &from(value)).unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
        }
    }

    #[test]
    fn a_snapshot_is_sent_by_its_identity_and_stays() {
        let (directory, datasets) = stand("case $1 in receive) cat > /dev/null ;; esac");
        let first = "11111111-1111-4111-8111-111111111111";
        let second = "22222222-2222-4222-8222-222222222222";
        let wanted: Send = serde_json::from_value(json!({
            "dataset": "backup/db", "snapshot": second, "from": first, "raw": true
        }))
        .unwrap();
        send(&datasets, &crate::health::tests::call(), &volume(), &wanted).unwrap();
        let sent = format!("send -w -i @lz-{first} -- tank/db@lz-{second}");
        let all = asked(&directory);
        assert!(all.contains(&sent), "{all:?}");
        assert!(!all.iter().any(|l| l.starts_with("destroy")), "{all:?}");
    }
}
