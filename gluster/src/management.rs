//! What is asked of a server of the pool, and what this host's own glusterd is told to do.
//!
//! glusterd answers questions to everybody, by the network. It takes orders only through a Unix
//! socket, so from its own host: the operator makes this host a peer of the pool, has its glusterd
//! put that socket where the container finds it, and says `manage: true`.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lazarette_plugin::command::{Command, Failure};
use lazarette_plugin::reasons::Reason;
use lazarette_plugin::{Call, Error, ErrorKind, Result};

use crate::client::PORT;
use crate::config::Config;
use crate::programs::Programs;
use crate::server;
use crate::xml::{self, Element};

/// How long a server may take to accept a connection before it is asked.
const PROBE: Duration = Duration::from_secs(2);
/// Of a call's time, what is left to tell that a question or an order has not ended.
const MARGIN: Duration = Duration::from_millis(500);

/// The pool, as far as it may be managed.
pub(crate) struct Management {
    programs: Programs,
    config: Arc<Config>,
}

impl Management {
    pub(crate) fn new(programs: Programs, config: Arc<Config>) -> Self {
        Self { programs, config }
    }

    /// The Gluster volume's name.
    pub(crate) fn volume(&self) -> &str {
        self.config.volume.as_str()
    }

    /// Has this host's glusterd do `gluster volume VERB VOLUME WORDS…`; what it says then.
    ///
    /// # Errors
    /// `Unsupported` if the context may not, and what Gluster says against it.
    pub(crate) fn tell(
        &self,
        call: &Call,
        what: &str,
        verb: &str,
        words: &[&str],
    ) -> Result<String> {
        self.may(what)?;
        let output = self
            .gluster(call, &self.by_socket())
            .args(["volume", verb, self.volume()])
            .args(words)
            .output()
            .map_err(|e| not_run(what, &e.failure).caused_by(&e))?;
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        let said = said.trim();
        if output.exit.success() {
            Ok(said.to_owned())
        } else {
            Err(explain(what, said))
        }
    }

    /// Asks this host's glusterd, or the first server that answers, for `gluster volume VERB VOLUME
    /// WORDS…`.
    ///
    /// # Errors
    /// If none answers, and what Gluster says against it.
    pub(crate) fn ask(
        &self,
        call: &Call,
        what: &str,
        verb: &str,
        words: &[&str],
    ) -> Result<Element> {
        let place = if self.may(what).is_ok() {
            self.by_socket()
        } else {
            self.by_network(call, what)?
        };
        let output = self
            .gluster(call, &place)
            .args(["--xml", "volume", verb, self.volume()])
            .args(words)
            .output()
            .map_err(|e| not_run(what, &e.failure).caused_by(&e))?;
        let text = output.stdout_text();
        match xml::parse(&text).filter(|_| !output.truncated) {
            Some(answer) if answer.text_of("opRet") == "0" => Ok(answer),
            Some(answer) => Err(explain(what, answer.text_of("opErrstr"))),
            None => {
                let said = String::from_utf8_lossy(&output.stderr);
                Err(explain(what, &format!("{}{said}", text.trim())))
            }
        }
    }

    /// Whether orders may be given.
    ///
    /// # Errors
    /// Why not, and what to do about it.
    pub(crate) fn may(&self, what: &str) -> Result<()> {
        if !self.config.manages() {
            return Err(Error::new(ErrorKind::Unsupported, what)
                .cause("this context may not manage its pool")
                .remedy(
                    "make this host a peer of the pool and say manage: true in the context's \
                     options (docs/gluster.md), or do it on a server",
                ));
        }
        if !self.programs.socket.exists() {
            return Err(no_glusterd(what, &self.programs.socket));
        }
        Ok(())
    }

    fn by_socket(&self) -> String {
        format!("--glusterd-sock={}", self.programs.socket.display())
    }

    fn by_network(&self, call: &Call, what: &str) -> Result<String> {
        if self.config.port.is_some_and(|p| p.0 != u32::from(PORT)) {
            return Err(Error::new(ErrorKind::Unsupported, what)
                .cause("servers with another port can be asked only by the client")
                .remedy("ask on a server: gluster volume status"));
        }
        let answers = server::ask(&self.config, PROBE.min(call.remaining()));
        let there = answers.iter().find(|(_, why)| why.is_none());
        match there {
            Some((server, _)) => Ok(format!("--remote-host={server}")),
            None => {
                let reasons = answers.iter();
                let reasons =
                    reasons.filter_map(|(s, why)| Some(format!("{s}: {}", why.as_ref()?)));
                Err(Error::new(ErrorKind::Unreachable, what)
                    .cause(reasons.collect::<Vec<_>>().join("; "))
                    .remedy("check the servers and the network"))
            }
        }
    }

    fn gluster(&self, call: &Call, place: &str) -> Command {
        // If it cannot be made, the log is lost, and nothing else.
        let _ = fs::create_dir_all(&self.programs.logs);
        let log = self.programs.logs.join("gluster.log");
        Command::new(&self.programs.gluster)
            .args(["--mode=script", place, "--log-level=CRITICAL"])
            .arg(format!("--log-file={}", log.display()))
            .deadline(call.remaining().saturating_sub(MARGIN))
            .keep(4 << 20)
    }
}

fn no_glusterd(what: &str, socket: &Path) -> Error {
    Error::new(ErrorKind::Unreachable, what)
        .cause(format!(
            "this host's glusterd has no socket {}",
            socket.display()
        ))
        .remedy(format!(
            "start it, with `option glusterd-sockfile {}` in its glusterd.vol",
            socket.display()
        ))
}

fn not_run(what: &str, failure: &Failure) -> Error {
    let kind = match failure {
        Failure::Deadline(_) | Failure::Abandoned { .. } => ErrorKind::Timeout,
        _ => ErrorKind::Internal,
    };
    Error::new(kind, what)
}

/// A part of what Gluster says, what kind of failure that is, and what to do about it.
const REASONS: &[Reason] = &[
    Reason::new(
        "Connection failed",
        ErrorKind::Unreachable,
        "start this host's glusterd, or check the servers",
    ),
    Reason::new(
        "Quota is disabled",
        ErrorKind::InvalidArgument,
        "let volumes have sizes: laz pool quota CONTEXT",
    ),
    Reason::new(
        "Failed to get trusted.gfid",
        ErrorKind::NotFound,
        "make the directory first",
    ),
    Reason::new(
        "'force'",
        ErrorKind::InvalidArgument,
        "take other bricks, or say force=true if that is meant",
    ),
    Reason::new(
        "already part of a volume",
        ErrorKind::AlreadyExists,
        "take other bricks: these belong to a volume, or did",
    ),
    Reason::new(
        "nother transaction is in progress",
        ErrorKind::Busy,
        "try it again in a moment",
    ),
    Reason::new(
        "already exists",
        ErrorKind::AlreadyExists,
        "look at what is there: laz pool status CONTEXT",
    ),
    Reason::new(
        "does not exist",
        ErrorKind::NotFound,
        "check the name; a volume is made by laz pool create CONTEXT",
    ),
    Reason::new(
        "elf-heal daemon is not running",
        ErrorKind::Unreachable,
        "start the volume's daemons: laz pool start CONTEXT force=true",
    ),
    Reason::new(
        "elf-heal-daemon is disabled",
        ErrorKind::InvalidArgument,
        "enable it on a server: gluster volume heal VOLUME enable",
    ),
];

fn explain(what: &str, said: &str) -> Error {
    let said = if said.is_empty() {
        "Gluster gives no reason"
    } else {
        said
    };
    match Reason::of(REASONS, said.lines()) {
        Some((reason, _)) => reason.error(what, said),
        None => Error::internal(what)
            .cause(said)
            .remedy("look at the log of glusterd on the server, and at laz pool status CONTEXT"),
    }
}

#[cfg(test)]
#[path = "management_tests.rs"]
mod tests;
