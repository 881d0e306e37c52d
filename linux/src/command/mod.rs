//! The one runner of external programs.
//!
//! ```no_run
//! use std::time::Duration;
//! use lazarette_linux::command::Command;
//!
//! let output = Command::new("/usr/sbin/showmount")
//!     .args(["-e", "--no-headers", "--", "nas.example"])
//!     .deadline(Duration::from_secs(10))
//!     .run()?;
//! println!("{}", output.stdout_text());
//! # Ok::<(), lazarette_linux::command::CommandError>(())
//! ```
//!
//! What holds for every program started here: the program is an absolute path and no shell is
//! involved; the environment is empty but for `LC_ALL=C`, a fixed `PATH` and what the caller adds;
//! the working directory is `/`; it runs in its own process group; no descriptor above 2 leaks into
//! it; its output is drained while it runs and only a bounded tail is kept; after the deadline its
//! whole group is killed, and it is killed when the process that waits for it ends: nobody would keep
//! the deadline ([`Command::to_the_end`] is for those that must not be cut off). Secrets go through [`Command::stdin`], never into arguments: errors print
//! the arguments.
//!
//! [`Command::run`] and [`Command::output`] wait for the end; [`Command::spawn`] starts a daemon and
//! returns a [`Child`].

mod child;
mod error;
mod reaper;
mod run;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process;
use std::time::Duration;

pub use child::{Child, Output as ChildOutput};
pub use error::{CommandError, Failure};
pub use reaper::{abandoned, reap_orphans};
pub use run::Output;

use crate::namespace::{MountNamespace, NamespaceError};
use crate::syscall::{self, ChildSetup};

/// How long [`Command::run`] waits unless told otherwise.
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(60);
/// How many bytes of each output stream are kept unless told otherwise.
pub const DEFAULT_KEEP: usize = 64 * 1024;
/// `PATH` of every child: programs that we start by absolute path start others by name.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// An external program with its arguments, and how to run it.
#[derive(Debug)]
pub struct Command {
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    directory: PathBuf,
    stdin: Vec<u8>,
    stdin_file: Option<File>,
    stdout_file: Option<File>,
    deadline: Duration,
    keep: usize,
    to_the_end: bool,
    setup: ChildSetup,
}

impl Command {
    /// A command that runs `program`, which must be an absolute path.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            directory: PathBuf::from("/"),
            stdin: Vec::new(),
            stdin_file: None,
            stdout_file: None,
            deadline: DEFAULT_DEADLINE,
            keep: DEFAULT_KEEP,
            to_the_end: false,
            setup: ChildSetup::default(),
        }
    }

    /// Adds one argument. Put `--` before anything that a user chose.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(
            arguments
                .into_iter()
                .map(|argument| argument.as_ref().to_owned()),
        );
        self
    }

    /// Sets a variable in the otherwise empty environment. Never a secret.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment
            .push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Sets the working directory; `/` unless told otherwise.
    #[must_use]
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = directory.into();
        self
    }

    /// Gives the program these bytes on standard input (for [`Command::run`]); nothing unless told.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// Lets the program read this file (or pipe) on standard input (for [`Command::run`]), instead
    /// of bytes.
    #[must_use]
    pub fn stdin_file(mut self, file: File) -> Self {
        self.stdin_file = Some(file);
        self
    }

    /// Lets the program write standard output into this file (or pipe), of which nothing is kept
    /// (for [`Command::run`]).
    #[must_use]
    pub fn stdout_file(mut self, file: File) -> Self {
        self.stdout_file = Some(file);
        self
    }

    /// Kills the program and its process group after this time; [`DEFAULT_DEADLINE`] unless told
    /// otherwise. Has no meaning for [`Command::spawn`].
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Keeps this many bytes of the end of each output stream; [`DEFAULT_KEEP`] unless told
    /// otherwise.
    #[must_use]
    pub fn keep(mut self, bytes: usize) -> Self {
        self.keep = bytes;
        self
    }

    /// Lets the program go on when the process that waits for it is killed (for [`Command::run`]):
    /// one that leaves something broken when it is cut off. Whoever comes next has to wait for it; in
    /// a storage container the plugin host's supervisor does.
    #[must_use]
    pub fn to_the_end(mut self) -> Self {
        self.to_the_end = true;
        self
    }

    /// Starts the program inside `namespace`: its paths, including the program's own, mean what they
    /// mean there.
    ///
    /// # Errors
    /// When the descriptor of the namespace cannot be duplicated.
    pub fn in_namespace(mut self, namespace: &MountNamespace) -> Result<Self, NamespaceError> {
        self.setup.mount_namespace = Some(namespace.duplicate_fd()?);
        Ok(self)
    }

    /// Gives the program a session of its own (`setsid`), out of reach of terminal signals. In a
    /// storage container such programs are taken for daemons: nobody waits for their end.
    #[must_use]
    pub fn session(mut self) -> Self {
        self.setup.session = true;
        self
    }

    /// Gives the program a session of its own and makes standard input (which must be a terminal)
    /// its controlling terminal. For shells on a console; use with [`ChildOutput::Terminal`].
    #[must_use]
    pub fn controlling_terminal(mut self) -> Self {
        self.setup.session = true;
        self.setup.controlling_terminal = true;
        self
    }

    /// The program's path.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Runs the program to its end and succeeds only if it exits with status 0.
    ///
    /// # Errors
    /// A [`CommandError`] that names the program, its arguments, how it ended and the end of what it
    /// wrote to standard error.
    pub fn run(self) -> Result<Output, CommandError> {
        let (output, identity) = self.run_any()?;
        match output.exit.failure() {
            None => Ok(output),
            Some(failure) => Err(identity.error_with(failure, &output.stderr)),
        }
    }

    /// Runs the program to its end and returns what it wrote whatever its exit status is.
    ///
    /// # Errors
    /// A [`CommandError`] when it could not be started, or did not end before the deadline.
    pub fn output(self) -> Result<Output, CommandError> {
        self.run_any().map(|(output, _)| output)
    }

    /// Starts a long-lived program with nothing on standard input, and returns a handle to it.
    /// Dropping the handle neither kills nor waits.
    ///
    /// # Errors
    /// A [`CommandError`] when it could not be started.
    pub fn spawn(self, output: ChildOutput) -> Result<Child, CommandError> {
        child::spawn(self, output)
    }

    fn run_any(self) -> Result<(Output, error::Identity), CommandError> {
        run::run(self)
    }

    /// Splits into what the standard library starts and what errors are made from.
    fn into_process(mut self) -> Result<(process::Command, error::Identity), CommandError> {
        let identity = error::Identity {
            program: std::mem::take(&mut self.program),
            arguments: std::mem::take(&mut self.arguments),
        };
        if let Some(reason) = invalid(&identity, &self.environment) {
            return Err(identity.error(Failure::Invalid(reason)));
        }
        let mut command = process::Command::new(&identity.program);
        command
            .args(&identity.arguments)
            .env_clear()
            .env("LC_ALL", "C")
            .env("PATH", PATH)
            .envs(self.environment)
            .current_dir(&self.directory);
        if !self.setup.session {
            // `setsid` makes the child lead a group too, and fails if it already does.
            std::os::unix::process::CommandExt::process_group(&mut command, 0);
        }
        syscall::prepare_child(&mut command, self.setup);
        Ok((command, identity))
    }
}

/// Why a command cannot be passed to `execve` as it is, if so.
fn invalid(
    identity: &error::Identity,
    environment: &[(OsString, OsString)],
) -> Option<&'static str> {
    let has_nul = |text: &OsStr| text.as_bytes().contains(&0);
    if !identity.program.is_absolute() {
        return Some("the program must be an absolute path");
    }
    if has_nul(identity.program.as_os_str()) || identity.arguments.iter().any(|a| has_nul(a)) {
        return Some("the program or an argument contains a NUL byte");
    }
    let bad_variable = |(name, value): &(OsString, OsString)| {
        name.is_empty() || name.as_bytes().contains(&b'=') || has_nul(name) || has_nul(value)
    };
    if environment.iter().any(bad_variable) {
        return Some("an environment variable has an empty name, a '=' in its name or a NUL byte");
    }
    None
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It exited with this status.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

impl Exit {
    /// True for exit status 0.
    pub fn success(self) -> bool {
        self == Self::Code(0)
    }

    fn failure(self) -> Option<Failure> {
        (!self.success()).then_some(Failure::Exit(self))
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit status {code}"),
            Self::Signal(signal) => write!(f, "ended by signal {signal}"),
        }
    }
}

#[cfg(test)]
mod tests;
