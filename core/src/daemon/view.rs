//! The view: the mount namespace in which user Docker finds its storage (`lazarette_linux::view`),
//! with the kernel's blocking calls kept off core's own thread.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lazarette_linux::mount::{self, DetachedMount, MountError, MountFacts, MountOptions};
use lazarette_linux::mountinfo::MountTable;
use lazarette_linux::namespace::MountNamespace;
use lazarette_linux::process::Process;
use lazarette_linux::view::{self, Missing, Rung, Rungs, Sharing, TargetRoot};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::settings::limits;
use crate::error::{Error, ErrorKind, Result};
use crate::planner::{Attachment, DOCKER_VOLUMES, MNT};
use crate::volume::Mounted;

/// Where mounts are looked at before anybody sees them.
const STAGING: &str = "/run/lazarette/staging";

/// The view of user Docker. Cheap to clone.
#[derive(Clone)]
pub struct View {
    parts: Arc<Parts>,
}

struct Parts {
    view: view::View,
    /// Those that are known already, by path.
    roots: Mutex<BTreeMap<String, TargetRoot>>,
}

/// What a mount must be before it becomes visible.
#[derive(Debug, Clone)]
pub struct Expected {
    expected: mount::Expected,
    options: MountOptions,
    source: String,
}

impl Expected {
    /// What the plugin said it has mounted.
    pub fn new(mounted: &Mounted, read_only: bool) -> Self {
        let mut expected = mount::Expected::types([mounted.fs_type.clone()]);
        if let Some(directory) = &mounted.subdirectory {
            expected = expected.subdirectory(directory);
        }
        let options = MountOptions {
            read_only,
            ..MountOptions::default()
        };
        Self {
            expected,
            options,
            source: mounted.source.clone(),
        }
    }
}

impl View {
    /// The view pinned at `pin`, taken up as an earlier core left it, or made.
    ///
    /// # Errors
    /// `Internal` with the kernel's reason, as a rule for want of privilege.
    pub async fn open(pin: &Path) -> Result<Self> {
        let pin = pin.to_owned();
        let parts = blocking(limits::VIEW, "opening the view", move || Parts::open(&pin)).await?;
        Ok(Self {
            parts: Arc::new(parts),
        })
    }

    /// Places the mount `fd` at `target`, below `root`; the same mount there already is fine.
    ///
    /// # Errors
    /// `Plugin` if it is not as expected, `Busy` if something else is there, `InvalidArgument` if
    /// `root` is new and would cover something.
    pub async fn attach(
        &self,
        root: &str,
        target: String,
        fd: OwnedFd,
        expected: Expected,
    ) -> Result<Attachment> {
        let (parts, root) = (Arc::clone(&self.parts), root.to_owned());
        blocking(limits::VIEW, "attaching the mount", move || {
            let relative = relative(&root, &target)?;
            let root = parts.root(&root)?;
            let mount = DetachedMount::from_fd(fd);
            let attached = root
                .attach(&relative, mount, &expected.expected, expected.options)
                .map_err(explain)?;
            Ok(attachment(target, expected.source, attached.facts()))
        })
        .await
    }

    /// Places the mount `fd` where a dead one is, without a moment in which nothing is there.
    ///
    /// # Errors
    /// As [`attach`](Self::attach).
    pub async fn replace(
        &self,
        root: &str,
        target: String,
        fd: OwnedFd,
        expected: Expected,
    ) -> Result<Attachment> {
        let (parts, root) = (Arc::clone(&self.parts), root.to_owned());
        blocking(limits::VIEW, "replacing the mount", move || {
            let relative = relative(&root, &target)?;
            let root = parts.root(&root)?;
            let mount = DetachedMount::from_fd(fd);
            let replaced = root
                .replace(&relative, mount, &expected.expected, expected.options)
                .map_err(explain)?;
            Ok(attachment(target, expected.source, &replaced.facts))
        })
        .await
    }

    /// Places the mount `fd` where the process `pid` sees the dead mount of `device` at `path`.
    ///
    /// # Errors
    /// `NotFound` if the process has ended; as [`attach`](Self::attach).
    pub async fn replace_in_container(
        &self,
        pid: i32,
        path: String,
        fd: OwnedFd,
        expected: Expected,
        device: (u32, u32),
    ) -> Result<()> {
        let parts = Arc::clone(&self.parts);
        blocking(
            limits::VIEW,
            "replacing the mount in a container",
            move || {
                let gone = |e: &dyn std::error::Error| {
                    Error::not_found(format!("process {pid} has ended")).caused_by(e)
                };
                let process = Process::open(pid).map_err(|e| gone(&e))?;
                let mount = DetachedMount::from_fd(fd);
                let checked = parts
                    .view
                    .check(mount, &expected.expected, expected.options)
                    .map_err(explain)?;
                let dead = lazarette_linux::mountinfo::Device {
                    major: device.0,
                    minor: device.1,
                };
                view::replace_in_process(&process, Path::new(&path), checked, Some(dead))
                    .map_err(explain)?;
                Ok(())
            },
        )
        .await
    }

    /// Takes away what is mounted at `target`; nothing there is fine. Lazily only if told so.
    ///
    /// # Errors
    /// `Busy` if something in the view uses it, `Unreachable` if its server does not let it go.
    pub async fn detach(&self, root: &str, target: String, lazily: bool) -> Result<()> {
        let (parts, root) = (Arc::clone(&self.parts), root.to_owned());
        blocking(limits::VIEW, "unmounting", move || {
            let relative = relative(&root, &target)?;
            let Some(root) = parts.root_if(&root, Missing::Leave)? else {
                return Ok(());
            };
            let rungs = Rungs::up_to(if lazily { Rung::Lazy } else { Rung::Force });
            root.detach(&relative, rungs).map_err(explain)?;
            Ok(())
        })
        .await
    }

    /// What is mounted below all target roots, also those that nobody asks for any more.
    ///
    /// # Errors
    /// `Internal` if the mount table cannot be read.
    pub async fn observe(&self) -> Result<BTreeMap<String, Attachment>> {
        let parts = Arc::clone(&self.parts);
        blocking(limits::VIEW, "reading the view's mounts", move || {
            let table = parts.view.mount_table().map_err(explain)?;
            Ok(observed(&table))
        })
        .await
    }
}

impl Parts {
    fn open(pin: &Path) -> Result<Self> {
        let namespace = match MountNamespace::open_pin(pin) {
            Ok(namespace) => namespace,
            Err(_) => MountNamespace::create_pinned(pin).map_err(|e| no_view(&e))?,
        };
        let view = view::View::open(namespace, Path::new(STAGING)).map_err(|e| no_view(&e))?;
        let mut roots = BTreeMap::new();
        for (path, sharing) in [(MNT, Sharing::Shared), (DOCKER_VOLUMES, Sharing::Private)] {
            let root = view.target_root(Path::new(path), sharing);
            roots.insert(path.to_owned(), root.map_err(|e| no_view(&e))?);
        }
        Ok(Self {
            view,
            roots: Mutex::new(roots),
        })
    }

    /// The target root at `path`, made if need be.
    fn root(&self, path: &str) -> Result<TargetRoot> {
        let root = self.root_if(path, Missing::MakeOnEmpty)?;
        Ok(root.expect("a missing target root is made"))
    }

    fn root_if(&self, path: &str, missing: Missing) -> Result<Option<TargetRoot>> {
        let known = || self.roots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(root) = known().get(path) {
            return Ok(Some(root.clone()));
        }
        let opened = self
            .view
            .target_root_if(Path::new(path), Sharing::Shared, missing)
            .map_err(|error| {
                explain(error)
                    .remedy("empty the directory, or choose another one in storage.mount_roots")
            })?;
        known().extend(opened.clone().map(|root| (path.to_owned(), root)));
        Ok(opened)
    }
}

fn relative(root: &str, target: &str) -> Result<PathBuf> {
    let below = target
        .strip_prefix(root)
        .and_then(|rest| rest.strip_prefix('/'));
    below
        .map(PathBuf::from)
        .ok_or_else(|| Error::internal(format!("{target} does not lie below {root}")))
}

fn attachment(target: String, source: String, facts: &MountFacts) -> Attachment {
    let device = (facts.device.major, facts.device.minor);
    Attachment {
        target,
        source,
        mount_id: facts.table_id,
        device,
    }
}

/// The topmost mount at each path below a target root. Sub-mounts of a volume are part of it.
fn observed(table: &MountTable) -> BTreeMap<String, Attachment> {
    let mut found: BTreeMap<String, Attachment> = BTreeMap::new();
    for root in view::target_roots(table) {
        let on_root = table.top_at(root).map(|row| row.id);
        for row in table.below(root) {
            // A path that is no text was not made by core.
            let Some(target) = row.target.to_str() else {
                continue;
            };
            if Some(row.parent) != on_root && !found.contains_key(target) {
                continue;
            }
            let device = (row.device.major, row.device.minor);
            let source = row.source.to_string_lossy().into_owned();
            let seen = Attachment {
                target: target.to_owned(),
                source,
                mount_id: row.id,
                device,
            };
            found.insert(target.to_owned(), seen);
        }
    }
    found
}

/// Runs `work` in a thread of its own and gives it up after `limit`: the thread is left behind then.
async fn blocking<T: Send + 'static>(
    limit: Duration,
    what: &str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let (sender, receiver) = oneshot::channel();
    std::thread::Builder::new()
        .name("view".into())
        .stack_size(256 << 10)
        .spawn(move || drop(sender.send(work())))
        .map_err(|e| Error::internal("cannot start a thread").cause(e))?;
    match timeout(limit, receiver).await {
        Ok(result) => result.map_err(|_| Error::internal(format!("{what}: the worker died")))?,
        Err(_) => Err(Error::new(
            ErrorKind::Timeout,
            format!("{what} did not end within {} s", limit.as_secs()),
        )),
    }
}

fn no_view(error: &dyn std::error::Error) -> Error {
    Error::internal("cannot make the view, user Docker's mount namespace")
        .caused_by(error)
        .remedy("laz-core needs CAP_SYS_ADMIN and Linux 5.12 or later: see laz doctor")
}

fn explain(error: MountError) -> Error {
    let kind = match &error {
        MountError::NotMounted(_)
        | MountError::WrongFileSystem { .. }
        | MountError::WrongRoot { .. } => ErrorKind::Plugin,
        MountError::Occupied { .. } | MountError::Busy(_) => ErrorKind::Busy,
        MountError::Stuck { .. } => ErrorKind::Unreachable,
        MountError::BadPath { .. } => ErrorKind::InvalidArgument,
        _ => ErrorKind::Internal,
    };
    let mut message = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        message = format!("{message}: {cause}");
        source = cause.source();
    }
    Error::new(kind, message)
}
