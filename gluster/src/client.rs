//! The client process: a daemon of this container that serves one mount. It is no thread and no
//! child that ends with the plugin host, so that a mount lives on when the plugin host dies.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use lazarette_plugin::command::{Child, ChildOutput, Command};
use lazarette_plugin::linux::process::Process;
use lazarette_plugin::{Error, Result};
use rustix::process::{Signal, pidfd_send_signal};

use crate::config::{Config, LogLevel, Transport};
use crate::programs::Programs;

/// The port of glusterd.
pub(crate) const PORT: u16 = 24_007;
/// How long a killed client may take to end.
const DEATH: Duration = Duration::from_secs(2);
/// The argument by which a client is recognised.
const VOLUME: &str = "--volfile-id=";

/// What a client serves: all that its arguments are made of, but for where.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    arguments: Vec<String>,
    name: String,
}

impl Source {
    /// What `config` asks for.
    pub(crate) fn new(config: &Config) -> Self {
        let mut arguments = vec![format!(
            "--log-level={}",
            config.log_level.unwrap_or(LogLevel::Warning).word()
        )];
        for server in config.servers.all() {
            arguments.push(format!("--volfile-server={server}"));
        }
        if let Some(port) = config.port {
            arguments.push(format!("--volfile-server-port={port}"));
        }
        match config.transport {
            None => {}
            Some(Transport::Tcp) => arguments.push("--volfile-server-transport=tcp".into()),
            Some(Transport::Tcp6) => {
                arguments.push("--volfile-server-transport=tcp".into());
                arguments.push("--xlator-option=transport.address-family=inet6".into());
            }
        }
        if let Some(directory) = &config.subdirectory {
            arguments.push(format!("--subdir-mount=/{directory}"));
        }
        arguments.extend(config.options.arguments());
        arguments.push(format!("{VOLUME}{}", config.volume));
        let below = config
            .subdirectory
            .as_ref()
            .map_or(String::new(), |d| format!("/{d}"));
        Self {
            arguments,
            name: format!("{}:{}{below}", config.servers.joined(), config.volume),
        }
    }

    /// For people: `g1,g2:gv0`.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The same for the same mount, in this and in the next process.
    pub(crate) fn key(&self) -> String {
        // FNV-1a: stable, and nobody gains by a collision in his own context.
        let text = self.arguments.join("\0");
        let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        format!("{hash:016x}")
    }

    /// All arguments of the client that serves it at `place` and writes its log to `log`.
    fn arguments(&self, place: &Path, log: &Path) -> Vec<std::ffi::OsString> {
        let mut all = vec!["--no-daemon".into(), "--process-name=fuse".into()];
        all.extend(self.arguments.iter().map(Into::into));
        let mut log_file = std::ffi::OsString::from("--log-file=");
        log_file.push(log);
        all.push(log_file);
        // Absolute, so it does not begin with '-'.
        all.push(place.into());
        all
    }
}

/// Starts a client. It serves `place` once that is mounted, or ends.
///
/// # Errors
/// If there is no such program.
pub(crate) fn start(
    programs: &Programs,
    source: &Source,
    place: &Path,
    log: &Path,
) -> Result<Child> {
    Command::new(&programs.glusterfs)
        .args(source.arguments(place, log))
        .session()
        .spawn(ChildOutput::Null)
        .map_err(|e| {
            Error::internal("the Gluster client does not start")
                .caused_by(&e)
                .remedy("the storage container's image lacks glusterfs-client: build it again")
        })
}

/// The clients that serve `place`, or are about to, or did and have not ended yet.
pub(crate) fn find(place: &Path) -> Vec<Process> {
    let numbers = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let serves = |pid: &i32| {
        fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| is_client_of(&line, place))
    };
    numbers
        .filter(serves)
        .filter_map(|pid| Process::open(pid).ok())
        .collect()
}

/// Whether a process with the arguments `line` (as in `/proc/PID/cmdline`) is a client of `place`.
fn is_client_of(line: &[u8], place: &Path) -> bool {
    let line = line.strip_suffix(b"\0").unwrap_or(line);
    let mut arguments: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
    let last = arguments.pop();
    last == Some(place.as_os_str().as_bytes())
        && arguments.iter().any(|a| a.starts_with(VOLUME.as_bytes()))
}

/// Kills a client and waits until it has ended, which lets go of everybody who waits for it.
/// Whether it has.
pub(crate) fn kill(process: &Process) -> bool {
    // It may have ended already: fine.
    let _ = pidfd_send_signal(process, Signal::KILL);
    let end = Instant::now() + DEATH;
    while process.is_alive() {
        if Instant::now() > end {
            return false;
        }
        thread::sleep(Duration::from_millis(10));
    }
    true
}

/// Whether somebody has stopped it (SIGSTOP): nobody gets an answer until it is continued.
pub(crate) fn is_stopped(process: &Process) -> bool {
    fs::read(format!("/proc/{}/stat", process.pid())).is_ok_and(|stat| state(&stat) == Some(b'T'))
}

/// Field 3. The second field, the program's name in brackets, may hold blanks and brackets.
fn state(stat: &[u8]) -> Option<u8> {
    let after_name = stat.iter().rposition(|byte| *byte == b')')?;
    stat.get(after_name + 2).copied()
}

/// Which client it is, among all of this boot.
pub(crate) fn generation(process: &Process) -> String {
    format!("{}-{}", process.pid(), process.start_time())
}

/// The log of the client for `key`.
pub(crate) fn log(programs: &Programs, key: &str) -> PathBuf {
    programs.logs.join(format!("{key}.log"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn source(config: serde_json::Value) -> Source {
        Source::new(&serde_json::from_value(config).unwrap())
    }

    #[test]
    fn a_configuration_becomes_arguments() {
        let source = source(json!({
            "servers": ["g1.test", "fe80::1%eth0"], "volume": "gv0", "port": 24008,
            "transport": "tcp6", "log_level": "info", "subdirectory": "team",
            "options": {"acl": true}
        }));
        let all = source.arguments("/mnt/a/fs".as_ref(), "/run/l".as_ref());
        let words: Vec<&str> = all.iter().map(|a| a.to_str().unwrap()).collect();
        assert_eq!(
            words,
            [
                "--no-daemon",
                "--process-name=fuse",
                "--log-level=INFO",
                "--volfile-server=g1.test",
                "--volfile-server=fe80::1%eth0",
                "--volfile-server-port=24008",
                "--volfile-server-transport=tcp",
                "--xlator-option=transport.address-family=inet6",
                "--subdir-mount=/team",
                "--acl",
                "--fuse-mountopts=nosuid,nodev",
                "--volfile-id=gv0",
                "--log-file=/run/l",
                "/mnt/a/fs",
            ]
        );
        assert_eq!(source.name(), "g1.test,fe80::1%eth0:gv0/team");
    }

    #[test]
    fn the_key_tells_mounts_apart_and_is_stable() {
        let one = source(json!({"servers": "g1,g2", "volume": "gv0"}));
        let same = source(json!({"servers": ["g1", "g2"], "volume": "gv0"}));
        assert_eq!(one.key(), same.key());
        assert_eq!(one.key().len(), 16);
        for other in [
            json!({"servers": "g2,g1", "volume": "gv0"}),
            json!({"servers": "g1,g2", "volume": "gv1"}),
            json!({"servers": "g1,g2", "volume": "gv0", "options": {"acl": true}}),
        ] {
            assert_ne!(source(other).key(), one.key());
        }
    }

    #[test]
    fn a_client_is_known_by_its_arguments_and_a_look_at_its_mount_is_none() {
        let place = Path::new("/mnt/a/fs");
        let client = b"/usr/sbin/glusterfs\0--volfile-id=gv0\0/mnt/a/fs\0";
        assert!(is_client_of(client, place));
        for other in [
            &b"/usr/bin/stat\0--\0/mnt/a/fs\0"[..],
            b"/usr/sbin/glusterfs\0--volfile-id=gv0\0/mnt/b/fs\0",
            b"",
            b"\0",
        ] {
            assert!(!is_client_of(other, place));
        }
    }

    #[test]
    fn a_stopped_process_is_seen_behind_an_odd_name() {
        assert_eq!(state(b"12 (a) b (c) T 1 12"), Some(b'T'));
        assert_eq!(state(b"12 (a) S 1 12"), Some(b'S'));
        assert_eq!(state(b"12 (a)"), None);
        assert_eq!(state(b""), None);
    }
}
