//! Serving the plugin on a Unix socket.

use std::error::Error as StdError;
use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use lazarette_core::context::{Level, Sink};
use lazarette_core::frame;
use lazarette_core::message::{FromPlugin, Method, Misfit, Outcome, PROTOCOL, ToPlugin};
use lazarette_core::{Error, ErrorKind, Manifest, Result};
use lazarette_linux::fd_passing::peer_credentials;
use lazarette_loader::Plugin;
use nix::sys::signal::{SigSet, Signal};
use serde_json::Value;

use crate::arguments::Paths;
use crate::calls::{Caller, Calls, MOST_ABANDONED, Refused, Serial};
use crate::context::Context;
use crate::copies::{Copies, Copy};
use crate::handoff;
use crate::link::{self, Connection, Link};

/// Exit status that asks the supervisor for a successor.
pub(crate) const RESTART: i32 = 75;
/// Whoever connects must say hello within this.
const HELLO_LIMIT: Duration = Duration::from_secs(5);
/// How long closing the context may take at the end.
const CLOSE_LIMIT: Duration = Duration::from_secs(8);
/// Stack of a call's thread: plugins parse and format, and memory that is not touched is free.
const STACK: usize = 1 << 20;

/// What all threads share.
struct Server {
    manifest: Manifest,
    /// Another value after each start.
    instance: String,
    paths: Paths,
    link: Arc<Link>,
    calls: Arc<Calls>,
    context: Context,
    copies: Copies,
}

/// Loads the plugin and serves it until SIGTERM.
pub(crate) fn serve(paths: Paths) -> Result<(), Box<dyn StdError>> {
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]);
    signals.thread_block()?;
    let plugin = Plugin::load(&paths.plugin)?;
    let manifest = plugin.describe()?;
    let listener = listen(&paths.socket)?;
    let link = Arc::new(Link::default());
    let calls = Arc::new(Calls::default());
    let sink = Arc::new(HostSink {
        link: link.clone(),
        calls: calls.clone(),
    });
    link::log(
        Level::Info,
        &format!("serving {} {}", manifest.kind, manifest.version),
    );
    let server = Arc::new(Server {
        manifest,
        instance: uuid::Uuid::new_v4().to_string(),
        context: Context::new(plugin, sink, paths.mounts.clone()),
        copies: Copies::default(),
        paths,
        link,
        calls,
    });
    let watching = server.clone();
    spawn("watchdog", move || watching.watch())?;
    let accepting = server.clone();
    spawn("accept", move || accepting.accept(&listener))?;
    signals.wait()?;
    server.end();
    Ok(())
}

/// Listens at `path`, in place of a predecessor that was killed.
fn listen(path: &Path) -> Result<UnixListener, Box<dyn StdError>> {
    let named = |e: std::io::Error| format!("cannot listen at {}: {e}", path.display());
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => fs::remove_file(path).map_err(named)?,
        Ok(_) => return Err(format!("{} is there and no socket", path.display()).into()),
        Err(_) => {}
    }
    let listener = UnixListener::bind(path).map_err(named)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(named)?;
    Ok(listener)
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    thread::Builder::new()
        .name(name.into())
        .stack_size(STACK)
        .spawn(body)
        .map(drop)
}

impl Server {
    fn accept(self: Arc<Self>, listener: &UnixListener) {
        loop {
            let stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) => {
                    link::log(Level::Warn, &format!("cannot accept a connection: {error}"));
                    thread::sleep(Duration::from_millis(100));
                    continue;
                }
            };
            let server = self.clone();
            if let Err(error) = spawn("connection", move || server.greet(stream)) {
                link::log(
                    Level::Error,
                    &format!("no thread for a connection: {error}"),
                );
            }
        }
    }

    /// Checks who connects, says hello, and serves.
    fn greet(self: Arc<Self>, mut stream: UnixStream) {
        match peer_credentials(&stream) {
            Ok(peer) if peer.uid == 0 => {}
            Ok(peer) => {
                let text = format!("refused a connection of user {}", peer.uid);
                return link::log(Level::Warn, &text);
            }
            Err(error) => {
                return link::log(Level::Warn, &format!("refused a connection: {error}"));
            }
        }
        let ready = stream.set_read_timeout(Some(HELLO_LIMIT));
        let hello = ready.and_then(|()| frame::read::<ToPlugin>(&mut stream));
        let theirs = match hello {
            Ok(Some(ToPlugin::Hello { protocol, context })) => {
                link::log(Level::Debug, &format!("core serves the context {context}"));
                protocol
            }
            Ok(None) => return,
            Ok(Some(_)) => return link::log(Level::Warn, "a connection did not begin with hello"),
            Err(error) => {
                return link::log(Level::Warn, &format!("a connection without hello: {error}"));
            }
        };
        let copy = stream
            .set_read_timeout(None)
            .and_then(|()| stream.try_clone());
        let hello = FromPlugin::Hello {
            protocol: PROTOCOL,
            manifest: Box::new(self.manifest.clone()),
            instance: self.instance.clone(),
            open: self.context.is_open(),
        };
        let replaced = copy.and_then(|copy| self.link.replace(copy, theirs.minor, &hello));
        let connection = match replaced {
            Ok(connection) => connection,
            Err(error) => {
                return link::log(
                    Level::Error,
                    &format!("a connection cannot be kept: {error}"),
                );
            }
        };
        if theirs.major == PROTOCOL.major {
            self.clone().converse(connection, &mut stream);
        } else {
            link::log(
                Level::Error,
                &format!(
                    "core speaks protocol {}.{}, this plugin host {}.{}; update the older one",
                    theirs.major, theirs.minor, PROTOCOL.major, PROTOCOL.minor
                ),
            );
        }
        self.link.close(connection);
        self.calls.cancel_all(connection);
    }

    /// Reads until the connection ends or breaks the protocol.
    fn converse(self: Arc<Self>, connection: Connection, stream: &mut UnixStream) {
        loop {
            let broke = |error: &dyn StdError| {
                link::log(Level::Warn, &format!("core's connection broke: {error}"));
            };
            let body = match frame::read_body(stream) {
                Ok(Some(body)) => body,
                Ok(None) => return,
                Err(error) => return broke(&error),
            };
            match ToPlugin::parse(&body) {
                Ok(ToPlugin::Call {
                    id,
                    deadline_ms,
                    method,
                }) => {
                    let limit = Duration::from_millis(deadline_ms);
                    if !self.clone().begin(Caller { connection, id }, limit, method) {
                        return;
                    }
                }
                Ok(ToPlugin::Cancel { id }) => self.calls.cancel(Caller { connection, id }),
                Ok(ToPlugin::Hello { .. }) => {
                    return link::log(Level::Warn, "core said hello twice; disconnected");
                }
                Err(Misfit::Method { id, method }) => {
                    let error = Error::unsupported(&method, self.manifest.kind.as_str())
                        .remedy("update the plugin's image, or do without what it cannot do");
                    self.refuse(connection, id, error);
                }
                Err(Misfit::Parameters { id, error }) => self.refuse(connection, id, error),
                Err(Misfit::Message(error)) => return broke(&error),
            }
        }
    }

    fn refuse(&self, connection: Connection, id: u64, error: Error) {
        self.link.reply(connection, id, Outcome::Error(error), None);
    }

    /// Starts a call. False if the caller does not keep to the protocol.
    fn begin(self: Arc<Self>, caller: Caller, limit: Duration, method: Method) -> bool {
        let refuse = |error| self.refuse(caller.connection, caller.id, error);
        let serial = match self.calls.begin(caller, method.name(), limit) {
            Ok(serial) => serial,
            Err(Refused::Busy(error)) => {
                refuse(error);
                return true;
            }
            Err(Refused::Duplicate) => {
                link::log(Level::Warn, "core used a call's number twice; disconnected");
                return false;
            }
        };
        let server = self.clone();
        let started = spawn("call", move || {
            let (outcome, copy) = server.run(serial, limit, &method);
            if let Some(caller) = server.calls.end(serial) {
                let mount = copy.as_ref().map(Copy::mount);
                server
                    .link
                    .reply(caller.connection, caller.id, outcome, mount);
            }
        });
        if let Err(error) = started {
            self.calls.end(serial);
            refuse(Error::new(ErrorKind::Busy, "no thread for the call").cause(error));
        }
        true
    }

    fn run(&self, serial: Serial, limit: Duration, method: &Method) -> (Outcome, Option<Copy<'_>>) {
        let done = catch_unwind(AssertUnwindSafe(|| self.try_run(serial, limit, method)));
        match done {
            Ok(Ok((value, mount))) => (Outcome::Ok(value), mount),
            Ok(Err(error)) => (Outcome::Error(error), None),
            Err(_) => {
                let error =
                    Error::internal(format!("the plugin host panicked in {}", method.name()))
                        .remedy("please report this with the container's log");
                (Outcome::Error(error), None)
            }
        }
    }

    fn try_run(
        &self,
        serial: Serial,
        limit: Duration,
        method: &Method,
    ) -> Result<(Value, Option<Copy<'_>>)> {
        let unmounted = match method {
            Method::Unmount { id } => Some(*id),
            Method::Remove { volume } | Method::Rollback { volume, .. } => Some(volume.id),
            _ => None,
        };
        if let Some(volume) = unmounted {
            self.copies.wait(volume, limit)?;
        }
        let value = self.context.call(serial, limit, method)?;
        let copy = match method {
            Method::Mount { volume, .. } => {
                let clone = || handoff::clone(&value, &self.paths.mounts);
                Some(self.copies.make(volume.id, clone)?)
            }
            _ => None,
        };
        Ok((value, copy))
    }

    /// Answers for calls that hang, and ends the process when there are too many of them: SIGKILL
    /// and exit end what a thread cannot be made to leave, such as waiting for an NFS server.
    fn watch(&self) {
        loop {
            let late = self.calls.next_abandoned();
            let error = Error::new(
                ErrorKind::Timeout,
                format!("{} did not end before its deadline", late.method),
            )
            .cause("the storage or its server does not answer")
            .remedy("it is tried again by itself");
            self.link.reply(
                late.caller.connection,
                late.caller.id,
                Outcome::Error(error),
                None,
            );
            let text = format!("{} hangs; {} calls hang now", late.method, late.hanging);
            self.link.log(Level::Warn, &text);
            if late.hanging >= MOST_ABANDONED {
                self.link.log(
                    Level::Error,
                    "too many calls hang: the plugin host starts afresh",
                );
                std::process::exit(RESTART);
            }
        }
    }

    /// Closes the context within a limit.
    fn end(self: &Arc<Self>) {
        link::log(Level::Info, "closing the context");
        let (done, closed) = std::sync::mpsc::channel();
        let server = self.clone();
        let closing = spawn("close", move || {
            // No receiver any more means that the limit has passed.
            let _ = done.send(server.context.call(0, CLOSE_LIMIT, &Method::Close));
        });
        let result = match closing {
            Ok(()) => closed.recv_timeout(CLOSE_LIMIT),
            Err(error) => Ok(Err(Error::internal("no thread to close with").cause(error))),
        };
        match result {
            Ok(Ok(_)) => link::log(Level::Info, "the context is closed"),
            Ok(Err(error)) => link::log(Level::Error, &format!("closing the context: {error}")),
            Err(_) => link::log(Level::Error, "closing the context took too long"),
        }
        let _ = fs::remove_file(&self.paths.socket);
    }
}

/// Where the plugin's log lines and progress go.
struct HostSink {
    link: Arc<Link>,
    calls: Arc<Calls>,
}

impl Sink for HostSink {
    fn log(&self, level: Level, message: &str) {
        self.link.log(level, message);
    }

    fn progress(&self, id: Serial, message: &str, share: Option<f32>) {
        let Some(Caller { connection, id }) = self.calls.caller(id) else {
            return;
        };
        let message = message.to_owned();
        self.link
            .send(connection, &FromPlugin::Progress { id, message, share });
    }

    fn cancelled(&self, id: Serial) -> bool {
        // Call 0 is the closing at the end: nobody takes it back.
        id != 0 && self.calls.is_cancelled(id)
    }

    fn changed(&self) {
        self.link.tell(&FromPlugin::Changed);
    }
}
