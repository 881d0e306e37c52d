//! The daemon `laz-core`: its state, its supervisor and its edges to the outside.
//!
//! | module | what it is |
//! |---|---|
//! | [`supervisor`] | the actor that owns the world: takes in, keeps, plans, sends steps off |
//! | [`requests`], `change_requests`, `whole_contexts`, `docker_requests` | what is asked of it |
//! | `resolve`, `urls`, [`options`] | which context and volume are meant |
//! | [`usage`] | who uses what |
//! | [`waiting`] | how long that is waited for |
//! | [`watchers`] | who is told how far the work on a volume is |
//! | [`steps`], `change_steps`, `modules` | doing what the planner says |
//! | `acts`, `scan` | what plugins do beside the planner |
//! | `plugins`, `admission` | installing plugins, and which may serve |
//! | [`store`] | what survives core |
//! | [`configuration`] | the cloud-config in force |
//! | `health` | asking plugins how they are |
//! | [`link`], `flood` | the wire to a plugin host, and how much it may say on it |
//! | [`view`] | the mount namespace of user Docker |
//! | [`system_engine`], [`user_engine`], [`engine_client`] | the two Docker engines |
//! | [`observers`] | tasks that watch all of these |
//! | [`volume_api`], [`control_server`], [`backend`] | the front doors |

mod acts;
mod admission;
pub mod backend;
mod change_requests;
mod change_steps;
pub mod configuration;
pub mod control_server;
mod docker_requests;
pub mod engine_client;
mod flood;
mod health;
pub mod link;
mod modules;
pub mod observers;
pub mod options;
mod plugins;
pub mod requests;
mod resolve;
mod scan;
pub mod settings;
pub mod steps;
pub mod store;
pub mod supervisor;
pub mod system_engine;
mod urls;
pub mod usage;
pub mod user_engine;
pub mod view;
pub mod volume_api;
pub mod waiting;
pub mod watchers;
mod whole_contexts;

use std::fs::{self, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::FlockOperation;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use self::backend::Backend;
use self::configuration::Configuration;
use self::observers::Doors;
use self::settings::Settings;
use self::steps::Hands;
use self::store::Store;
use self::supervisor::{Message, Supervisor};
use self::system_engine::SystemEngine;
use self::user_engine::UserEngine;
use self::view::View;
use self::volume_api::Scope;
use crate::error::{Error, ErrorKind, Result};
use crate::planner::Event;

/// Runs core until SIGTERM or SIGINT. Mounts and storage containers are left as they are: a new
/// core takes them up. (When the machine goes down, [`crate::control::Request::Drain`] comes first.)
///
/// # Errors
/// What keeps it from starting: another core, a state or a view that cannot be opened, a socket
/// that cannot be bound.
pub async fn run(settings: Settings) -> Result<()> {
    prepare_directories(&settings)?;
    let _lock = only_one(&settings)?;
    let store = Store::open(&settings.state)?;
    let configuration = Configuration::read(&settings);
    let view = View::open(&settings.view_pin()).await?;
    let (sender, messages) = mpsc::unbounded_channel();
    let system = SystemEngine::new(&settings.system_docker);
    let user = UserEngine::new(&settings.user_docker);
    let hands = Arc::new(Hands::new(
        settings.clone(),
        system,
        user,
        view,
        sender.clone(),
    ));
    let say_ready = Box::new(move || say_ready(settings.notify));
    let mut supervisor = Supervisor::new(
        Arc::clone(&hands),
        store,
        configuration,
        &boot_id()?,
        say_ready,
    )?;
    supervisor.apply(Event::ViewObserved(hands.view.observe().await?));

    let backend = Backend::new(sender.clone());
    let (stop, stopped) = watch::channel(false);
    let mut doors = Doors::new(
        hands.settings.plugin_sockets.clone(),
        hands.settings.run.join("doors"),
        backend.clone(),
        stopped,
    );
    // User Docker may be there before the system Docker answers: what it knows must be served.
    for kind in supervisor.kinds_in_use() {
        doors.open(&kind, Scope::Global).await;
    }
    let (control, _socket) = volume_api::listen_at(hands.settings.control_socket()).await?;
    tokio::spawn(control_server::serve(control, backend, Arc::clone(&hands)));
    tokio::spawn(observers::system_engine(Arc::clone(&hands), doors));
    tokio::spawn(observers::user_engine(Arc::clone(&hands)));
    tokio::spawn(observers::view(Arc::clone(&hands)));
    tokio::spawn(signals(sender, stop)?);
    supervisor.run(messages).await;
    Ok(())
}

fn prepare_directories(settings: &Settings) -> Result<()> {
    let make = |path: &Path, mode: u32| {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(mode)
            .create(path)
            .map_err(|e| Error::internal(format!("cannot make {}", path.display())).cause(e))
    };
    make(&settings.run, 0o755)?;
    make(&settings.run.join("contexts"), 0o700)?;
    make(&settings.state, 0o700)
}

/// Two cores on one state would undo each other's work.
fn only_one(settings: &Settings) -> Result<File> {
    let path = settings.run.join("core.lock");
    let what = format!("cannot lock {}", path.display());
    let file = File::create(&path).map_err(|e| Error::internal(what.clone()).cause(e))?;
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|e| match e {
        rustix::io::Errno::WOULDBLOCK => Error::new(ErrorKind::Busy, what)
            .cause("another laz-core is running")
            .remedy("stop it first"),
        other => Error::internal(what).cause(other),
    })?;
    Ok(file)
}

fn boot_id() -> Result<String> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|id| id.trim().to_owned())
        .map_err(|e| Error::internal("cannot read the boot's identity").cause(e))
}

fn say_ready(notify: bool) {
    tracing::info!("ready");
    if notify && let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        tracing::error!("cannot say READY=1: {error}");
    }
}

/// Turns signals into messages: SIGTERM and SIGINT end core, SIGHUP has the cloud-config read again.
fn signals(
    messages: mpsc::UnboundedSender<Message>,
    stop: watch::Sender<bool>,
) -> Result<impl Future<Output = ()> + Send + use<>> {
    let on = |kind| signal(kind).map_err(|e| Error::internal("cannot handle signals").cause(e));
    let (mut terminate, mut interrupt, mut hangup) = (
        on(SignalKind::terminate())?,
        on(SignalKind::interrupt())?,
        on(SignalKind::hangup())?,
    );
    Ok(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hangup.recv() => {
                    let reload = Message::Ask(Box::new(|supervisor: &mut Supervisor| supervisor.reload()));
                    if messages.send(reload).is_err() {
                        return;
                    }
                }
            }
        }
        tracing::info!("ending; mounts and storage containers stay");
        stop.send_replace(true);
        let _ = messages.send(Message::Stop);
    })
}
