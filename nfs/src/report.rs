//! What the mount program's messages mean.
//!
//! mount.nfs ends with status 32 whatever went wrong and says the reason in one line, the kernel's
//! or the server's. Here such a line becomes a typed error with the reason and a remedy.

use lazarette_plugin::command::{CommandError, Failure};
use lazarette_plugin::reasons::Reason;
use lazarette_plugin::{Error, ErrorKind};

use crate::values::Version;

/// A failed mount.
#[derive(Debug)]
pub(crate) struct Rejection {
    /// What to tell.
    pub(crate) error: Error,
    /// Which other version of the protocol may do better.
    pub(crate) next: Next,
}

impl Rejection {
    /// What to tell after `later`, of another `version`: that a version is not there says least;
    /// else the version that one would have got comes first.
    pub(crate) fn and_then(mut self, later: Self, version: Version) -> Self {
        if self.next == Next::Any && later.next != Next::Any {
            return later;
        }
        if let (Some(cause), Some(too)) = (&mut self.error.cause, &later.error.cause)
            && cause != too
        {
            cause.push_str(&format!(" (and with NFS {version}: {too})"));
        }
        self
    }
}

/// Which other version of the protocol may do better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// None.
    None,
    /// Any.
    Any,
    /// NFS 3: its exports have names of their own.
    Only3,
}

/// By what messages mean, which other version of the protocol may do better: of all others, none.
/// An NFS 4 server of another pseudo root may have the export for NFS 3 only.
const NEXT: &[(&str, Next)] = &[
    (VERSION, Next::Any),
    (PROTOCOL, Next::Any),
    (NO_EXPORT, Next::Only3),
];
const VERSION: &str = "requested NFS version or transport protocol is not supported";
const PROTOCOL: &str = "Protocol not supported";
const NO_EXPORT: &str = "reason given by server: No such file or directory";

/// In the order in which they are looked for.
const REASONS: &[Reason] = &[
    Reason::new(
        VERSION,
        ErrorKind::NotFound,
        "ask the server's administrator for this version, or set vers and proto to what it has",
    ),
    Reason::new(
        PROTOCOL,
        ErrorKind::NotFound,
        "ask the server's administrator for this version, or set vers and proto to what it has",
    ),
    Reason::new(
        NO_EXPORT,
        ErrorKind::NotFound,
        "check the export's path: showmount -e SERVER, or exportfs -v on the server",
    ),
    Reason::new(
        "access denied by server",
        ErrorKind::PermissionDenied,
        "check that the server exports it to this host's address, and sec",
    ),
    Reason::new(
        "reason given by server: Permission denied",
        ErrorKind::PermissionDenied,
        "check that the server exports it to this host's address, and sec",
    ),
    Reason::new(
        "Failed to resolve server",
        ErrorKind::Unreachable,
        "check the server's name and this host's name server; it is tried again by itself",
    ),
    Reason::new(
        "rpc.statd is not running",
        ErrorKind::Internal,
        "look at laz logs CONTEXT for why rpc.statd did not start, or set nolock",
    ),
    Reason::new(
        "security flavor",
        ErrorKind::PermissionDenied,
        "set sec to a flavour that the server offers",
    ),
    Reason::new(
        "mount point",
        ErrorKind::Internal,
        "please report this with laz logs CONTEXT",
    ),
    Reason::new(
        "Stale file handle",
        ErrorKind::Stale,
        "the server forgot the export: exportfs -ra there; it is tried again by itself",
    ),
    Reason::new(
        "is busy or already mounted",
        ErrorKind::Busy,
        "another context mounts the same export with other options: use the same, or nosharecache",
    ),
    Reason::new(
        "an incorrect mount option was specified",
        ErrorKind::InvalidArgument,
        "this host's kernel does not know one of the options: leave out the newest",
    ),
    Reason::new(
        "No such device",
        ErrorKind::Internal,
        "this host's kernel has no NFS client: load the modules nfs and nfsv4 (laz doctor)",
    ),
    Reason::new(
        "Operation not permitted",
        ErrorKind::PermissionDenied,
        "the storage container may not mount, or the server refuses this host's port",
    ),
    Reason::new(
        "Connection refused",
        ErrorKind::Unreachable,
        "start the NFS server, or check port; it is tried again by itself",
    ),
    Reason::new(
        "timed out",
        ErrorKind::Unreachable,
        "check the network and the server; it is tried again by itself",
    ),
    Reason::new(
        "No route to host",
        ErrorKind::Unreachable,
        "check the network and the server's firewall; it is tried again by itself",
    ),
    Reason::new(
        "Network is unreachable",
        ErrorKind::Unreachable,
        "check this host's network; it is tried again by itself",
    ),
    Reason::new(
        "Program not registered",
        ErrorKind::Unreachable,
        "start mountd on the server, or use NFS 4; it is tried again by itself",
    ),
    Reason::new(
        "Input/output error",
        ErrorKind::Unreachable,
        "look at the server's log; it is tried again by itself",
    ),
];

/// What the failure of the mount program, mounting `source` with `version`, means.
pub(crate) fn explain(failed: &CommandError, source: &str, version: Version) -> Rejection {
    let what = format!("cannot mount {source} with NFS {version}");
    let plain = |kind, remedy: &str| Rejection {
        error: Error::new(kind, what.clone())
            .caused_by(failed)
            .remedy(remedy),
        next: Next::None,
    };
    match failed.failure {
        Failure::Deadline(_) | Failure::Abandoned { .. } => {
            let error = Error::new(ErrorKind::Timeout, what)
                .cause(match last_line(&failed.stderr) {
                    "" => "the server does not answer".to_owned(),
                    said => said.to_owned(),
                })
                .remedy("check the network and the server; it is tried again by itself");
            Rejection {
                error,
                next: Next::None,
            }
        }
        Failure::Exit(_) => explain_message(&failed.stderr, what),
        _ => plain(
            ErrorKind::Internal,
            "the storage container's image lacks nfs-common; build it again",
        ),
    }
}

fn explain_message(stderr: &str, what: String) -> Rejection {
    let found = Reason::of(REASONS, stderr.lines());
    let said = match found {
        Some((_, line)) => without_program(line),
        None => last_line(stderr),
    };
    let cause = match said {
        "" => "the mount program failed without a word",
        said => said,
    };
    let Some((reason, _)) = found else {
        let error = Error::internal(what)
            .cause(cause)
            .remedy("look at laz logs CONTEXT");
        return Rejection {
            error,
            next: Next::None,
        };
    };
    let next = NEXT.iter().find(|(says, _)| *says == reason.says);
    Rejection {
        error: reason.error(what, cause),
        next: next.map_or(Next::None, |(_, next)| *next),
    }
}

fn last_line(stderr: &str) -> &str {
    without_program(stderr.lines().rfind(|l| !l.trim().is_empty()).unwrap_or(""))
}

/// The line without the `mount.nfs4: ` in front.
fn without_program(line: &str) -> &str {
    let line = line.trim();
    ["mount.nfs4: ", "mount.nfs: "]
        .iter()
        .find_map(|p| line.strip_prefix(p))
        .unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ErrorKind::*;
    use lazarette_plugin::command::Exit;
    use std::time::Duration;

    fn failed(failure: Failure, stderr: &str) -> CommandError {
        CommandError {
            program: "/sbin/mount.nfs4".into(),
            arguments: Vec::new(),
            failure,
            stderr: stderr.into(),
        }
    }

    fn explained(stderr: &str) -> Rejection {
        let failed = failed(Failure::Exit(Exit::Code(32)), stderr);
        explain(&failed, "nas.test:/srv/media", Version::V42)
    }

    /// Outputs of nfs-utils 2.6.2 and 2.8.3: what they mean, the reason shown, and which
    /// other version is tried.
    const SEEN: &[(&str, ErrorKind, &str, Next)] = &[
        (
            "mount.nfs4: access denied by server while mounting nas.test:/srv/media\n",
            PermissionDenied,
            "access denied by server",
            Next::None,
        ),
        (
            "mount.nfs4: mounting nas.test:/srv/media failed, reason given by server: No such file or directory\n",
            NotFound,
            "reason given by server",
            Next::Only3,
        ),
        (
            "mount.nfs: requested NFS version or transport protocol is not supported for /mnt/a/fs\n",
            NotFound,
            "requested NFS version",
            Next::Any,
        ),
        (
            "mount.nfs4: Protocol not supported\n",
            NotFound,
            "Protocol not supported",
            Next::Any,
        ),
        (
            "mount.nfs: Failed to resolve server nosuch.invalid: Name or service not known\n",
            Unreachable,
            "nosuch.invalid: Name or service",
            Next::None,
        ),
        (
            "mount.nfs: Failed to resolve server nas: Temporary failure in name resolution\nmount.nfs: Operation already in progress\n",
            Unreachable,
            "Temporary failure",
            Next::None,
        ),
        (
            "mount.nfs: rpc.statd is not running but is required for remote locking.\nmount.nfs: Either use '-o nolock' to keep locks local, or start statd.\n",
            Internal,
            "rpc.statd is not running",
            Next::None,
        ),
        (
            "mount.nfs: No such device\n",
            Internal,
            "No such device",
            Next::None,
        ),
        (
            "mount.nfs: Connection refused for nas.test:/srv/media on /mnt/a/fs\n",
            Unreachable,
            "Connection refused",
            Next::None,
        ),
        (
            "mount.nfs4: Connection timed out\n",
            Unreachable,
            "Connection timed out",
            Next::None,
        ),
        (
            "mount.nfs: portmap query failed: RPC: Timed out\nmount.nfs: Connection timed out\n",
            Unreachable,
            "timed out",
            Next::None,
        ),
        (
            "mount.nfs: No route to host\n",
            Unreachable,
            "No route",
            Next::None,
        ),
        (
            "mount.nfs4: Network is unreachable\n",
            Unreachable,
            "Network is unreachable",
            Next::None,
        ),
        (
            "mount.nfs4: an incorrect mount option was specified\n",
            InvalidArgument,
            "incorrect mount option",
            Next::None,
        ),
        (
            "mount.nfs4: Operation not permitted\n",
            PermissionDenied,
            "Operation not permitted",
            Next::None,
        ),
        (
            "mount.nfs4: Stale file handle\n",
            Stale,
            "Stale",
            Next::None,
        ),
        (
            "mount.nfs: /mnt/a/fs is busy or already mounted or sharecache fail\n",
            Busy,
            "busy",
            Next::None,
        ),
        (
            "mount.nfs: mount point /mnt/a/fs does not exist\n",
            Internal,
            "mount point",
            Next::None,
        ),
        (
            "mount.nfs: nas.test:/srv/media failed, security flavor not supported\n",
            PermissionDenied,
            "security flavor",
            Next::None,
        ),
        (
            "mount.nfs: requested a thing\nmount.nfs: portmap query failed: RPC: Program not registered\n",
            Unreachable,
            "Program not registered",
            Next::None,
        ),
    ];

    #[test]
    fn every_known_message_has_its_kind_its_reason_and_a_remedy() {
        for &(stderr, kind, reason, another) in SEEN {
            let rejection = explained(stderr);
            let error = &rejection.error;
            assert_eq!(error.kind, kind, "{stderr}");
            assert_eq!(rejection.next, another, "{stderr}");
            assert!(error.message.contains("nas.test:/srv/media") && error.message.contains("4.2"));
            let cause = error.cause.as_deref().unwrap();
            assert!(
                cause.contains(reason) && !cause.starts_with("mount.nfs"),
                "{cause}"
            );
            assert!(error.remedy.is_some(), "{stderr}");
        }
    }

    #[test]
    fn of_several_versions_reasons_the_useful_one_is_told() {
        let unsupported =
            || explained("requested NFS version or transport protocol is not supported");
        let absent = || explained("reason given by server: No such file or directory");
        let denied = || explained("access denied by server while mounting nas.test:/srv/media");
        let told = unsupported().and_then(denied(), Version::V3).error;
        assert_eq!(told.kind, PermissionDenied);
        let told = absent().and_then(denied(), Version::V3).error;
        assert_eq!(told.kind, NotFound);
        let cause = told.cause.unwrap();
        assert!(
            cause.contains("No such file") && cause.contains("with NFS 3: access denied"),
            "{cause}"
        );
        let told = unsupported().and_then(unsupported(), Version::V41).error;
        assert!(!told.cause.unwrap().contains("4.1"));
    }

    #[test]
    fn what_nobody_has_seen_yet_is_passed_on() {
        let error = explained("mount.nfs4: first\nmount.nfs4: the moon is full\n\n").error;
        assert_eq!(error.kind, ErrorKind::Internal);
        assert_eq!(error.cause.as_deref(), Some("the moon is full"));
        assert!(
            explained("")
                .error
                .cause
                .unwrap()
                .contains("without a word")
        );
    }

    #[test]
    fn a_time_out_is_one_and_a_missing_program_is_the_image_s_fault() {
        let late = failed(Failure::Deadline(Duration::from_secs(9)), "");
        let late = explain(&late, "nas:/x", Version::V3).error;
        assert_eq!(late.kind, ErrorKind::Timeout);
        let absent = failed(Failure::Start(std::io::ErrorKind::NotFound.into()), "");
        let absent = explain(&absent, "nas:/x", Version::V3).error;
        assert!(absent.to_string().contains("nfs-common"), "{absent}");
    }

    #[test]
    fn failures_that_pass_by_themselves_are_tried_again() {
        for stderr in [
            "Connection refused",
            "Failed to resolve server",
            "access denied by server",
            "not supported",
        ] {
            assert!(explained(stderr).error.kind.is_transient(), "{stderr}");
        }
    }
}
