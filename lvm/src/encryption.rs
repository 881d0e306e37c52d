//! LUKS2 below a volume's file system. The key is a file that the context may read; it reaches
//! cryptsetup(8) by standard input and is nowhere else.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use lazarette_plugin::command::Command;
use lazarette_plugin::{Error, ErrorKind, Result, VolumeId};

use crate::context::Inner;
use crate::lvm::Time;
use crate::message;
use crate::programs::Programs;
use crate::values::SecretName;

/// What blkid calls an encrypted device.
pub(crate) const KIND: &str = "crypto_LUKS";
/// Where the context's secrets are.
const SECRETS: &str = "/run/secrets";
/// A key file is as long as this at most; cryptsetup's own limit is 8 MiB.
const LONGEST: u64 = 64 << 10;
/// The slow function that guards the key, with a fixed cost: without it cryptsetup measures how fast
/// the machine is, and a busy one gets a cheap guard. More than twice what OWASP asks for at least (46 MiB
/// once), and the container has not a GiB for it.
const GUARD: [&str; 8] = [
    "--pbkdf",
    "argon2id",
    "--pbkdf-memory",
    "65536",
    "--pbkdf-force-iterations",
    "4",
    "--pbkdf-parallel",
    "1",
];

/// What the names of opened devices begin with.
pub(crate) const PREFIX: &str = "lazarette-";

fn mapping(id: VolumeId) -> String {
    format!("{PREFIX}{id}")
}

fn node(inner: &Inner, id: VolumeId) -> PathBuf {
    inner.lvm.nodes.join(mapping(id))
}

fn read(key: &SecretName) -> Result<Vec<u8>> {
    let path = Path::new(SECRETS).join(key.as_str());
    let what = || Error::new(ErrorKind::NotFound, format!("the key {key} cannot be read"));
    let remedy = format!("put it into /etc/lazarette/secrets/CONTEXT/{key}, mode 0600");
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(LONGEST + 1).read_to_end(&mut bytes))
        .map_err(|e| what().cause(e).remedy(&remedy))?;
    if bytes.is_empty() || bytes.len() as u64 > LONGEST {
        return Err(Error::invalid(format!("the key {key}"))
            .cause("it is empty or longer than 64 KiB")
            .remedy(remedy));
    }
    Ok(bytes)
}

fn run(inner: &Inner, time: Time<'_>, key: Vec<u8>, what: &str, words: &[&str]) -> Result<()> {
    Command::new(&inner.lvm.programs.cryptsetup)
        .args(["--batch-mode", "--disable-keyring"])
        .args(words)
        .stdin(key)
        .deadline(time.left())
        // Cut off while it gives a device another size, it leaves it suspended.
        .to_the_end()
        .run()
        .map(drop)
        .map_err(|failed| message::explain(&failed, what))
}

/// Makes `device` an encrypted one with that key and opens it. What was there is lost.
pub(crate) fn make(
    inner: &Inner,
    time: Time<'_>,
    id: VolumeId,
    device: &Path,
    key: &SecretName,
) -> Result<PathBuf> {
    let bytes = read(key)?;
    close(inner, time, id)?;
    let what = format!("cannot encrypt {}", device.display());
    let path = device.to_string_lossy();
    let mut words = vec!["luksFormat", "--type", "luks2"];
    words.extend(GUARD);
    words.extend(["--key-file", "-", "--", &path]);
    run(inner, time, bytes, &what, &words)?;
    open(inner, time, id, device, Some(key))
}

/// Opens the encrypted `device`, unless it is open. The device with the content.
pub(crate) fn open(
    inner: &Inner,
    time: Time<'_>,
    id: VolumeId,
    device: &Path,
    key: Option<&SecretName>,
) -> Result<PathBuf> {
    let what = format!("cannot open the encrypted {}", device.display());
    let Some(key) = key else {
        return Err(Error::new(ErrorKind::PermissionDenied, what)
            .cause("the volume does not say which key opens it")
            .remedy("set key: NAME, a file in /etc/lazarette/secrets/CONTEXT"));
    };
    let opened = node(inner, id);
    if opened.exists() {
        return Ok(opened);
    }
    let bytes = read(key)?;
    let (path, name) = (device.to_string_lossy(), mapping(id));
    let words = [
        "open",
        "--type",
        "luks2",
        "--key-file",
        "-",
        "--",
        &path,
        &name,
    ];
    run(inner, time, bytes, &what, &words).map_err(|error| {
        let wrong = error
            .cause
            .as_deref()
            .is_some_and(|c| c.contains("No key available"));
        if !wrong {
            return error;
        }
        Error::new(ErrorKind::PermissionDenied, error.message)
            .cause(format!("the key {key} does not open it"))
            .remedy("put the right one into /etc/lazarette/secrets/CONTEXT")
    })?;
    Ok(opened)
}

/// Gives the opened device the size of what it lies on.
pub(crate) fn resize(inner: &Inner, time: Time<'_>, id: VolumeId, key: &SecretName) -> Result<()> {
    let name = mapping(id);
    let what = format!("cannot resize the encrypted device {name}");
    run(
        inner,
        time,
        read(key)?,
        &what,
        &["resize", "--key-file", "-", "--", &name],
    )
}

/// Closes the volume's encrypted device, if it is open.
pub(crate) fn close(inner: &Inner, time: Time<'_>, id: VolumeId) -> Result<()> {
    if !node(inner, id).exists() {
        return Ok(());
    }
    close_mapping(&inner.lvm.programs, time, &mapping(id))
}

/// Closes an encrypted device by its name in `/dev/mapper`.
pub(crate) fn close_mapping(programs: &Programs, time: Time<'_>, name: &str) -> Result<()> {
    Command::new(&programs.cryptsetup)
        .args(["--batch-mode", "close", "--", name])
        .deadline(time.left())
        .run()
        .map(drop)
        .map_err(|failed| {
            message::explain(
                &failed,
                &format!("cannot close the encrypted device {name}"),
            )
        })
}

/// Refuses what is not encrypted although it should be, and the other way round.
pub(crate) fn expect(device: &Path, kind: &str, key: Option<&SecretName>) -> Result<()> {
    match (kind == KIND, key) {
        (true, Some(_)) => Ok(()),
        (true, None) => Err(Error::invalid(format!("{} is encrypted", device.display()))
            .remedy("set key: NAME, a file in /etc/lazarette/secrets/CONTEXT")),
        (false, _) => Err(
            Error::invalid(format!("{} is not encrypted", device.display()))
                .cause("the volume has a key")
                .remedy("leave out key, or make a new volume with it and copy"),
        ),
    }
}
