//! The one contract of a storage plugin.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};

use crate::error::{Error, Result};
use crate::manifest::{Action, Capabilities, Manifest, Privileges, UrlMapping};
use crate::name::Kind;
use crate::volume::{
    CloneSource, Created, Found, Health, ListedVolume, Mounted, Removed, SnapshotId, Volume,
    VolumeId,
};

/// A named source of storage: the exports of a server, a volume group, a pool, …
///
/// Calls block and may run side by side, each in a thread of its own. Every call that changes
/// something is idempotent: core repeats it after any crash, and the result says whether this
/// very call did it.
pub trait StorageContext: Send + Sync + Sized + 'static {
    /// The kind of storage, as in `kind:` of the cloud-config and `docker volume create -d`.
    const KIND: &'static str;

    /// The context's options. The schema checks the cloud-config and feeds the documentation;
    /// reject unknown fields with `#[serde(deny_unknown_fields)]`.
    type Config: DeserializeOwned + JsonSchema;

    /// A volume's own options. Keep it flat: `docker volume create -o key=value` fills it.
    type VolumeOptions: DeserializeOwned + Serialize + JsonSchema;

    /// What [`act`](Self::act) can do.
    fn actions() -> Vec<Action> {
        Vec::new()
    }

    /// Looks for storage that no context has yet, and changes nothing. Runs in a container of its
    /// own with the kind's privileges; needs [`Capability::Scan`](crate::manifest::Capability::Scan).
    ///
    /// # Errors
    /// What the storage refuses.
    fn scan() -> Result<Vec<Found>> {
        Err(Error::unsupported("be looked for", Self::KIND))
    }

    /// Brings the context up: imports, activates, looks at the server. Does not wait for a
    /// server that is away: that is [`health`](Self::health)'s to tell and
    /// [`mount`](Self::mount)'s to fail on.
    ///
    /// # Errors
    /// What the storage refuses; core tries again with growing pauses if it is transient.
    fn open(host: Host, config: Self::Config) -> Result<Self>;

    /// What its volumes can do.
    fn capabilities() -> Capabilities {
        Capabilities::new()
    }

    /// What its container must be allowed.
    fn privileges() -> Privileges {
        Privileges::default()
    }

    /// The context option that names what only one context may have at a time (a pool, a volume
    /// group): core refuses a second context of this kind that gives it the same value.
    fn exclusive() -> Option<&'static str> {
        None
    }

    /// How a URL for `laz attach` maps onto options.
    fn url() -> Option<UrlMapping> {
        None
    }

    /// Makes the volume, or finds it made.
    ///
    /// # Errors
    /// `AlreadyExists` if something else has its place, and what the storage refuses.
    fn create(&self, call: &Call, volume: &Volume<Self::VolumeOptions>) -> Result<Created>;

    /// Removes the volume. Never removes data unless the volume's own options ask for it or the
    /// data was made for this volume alone.
    ///
    /// # Errors
    /// `Busy` if it is in use, and what the storage refuses.
    fn remove(&self, call: &Call, volume: &Volume<Self::VolumeOptions>) -> Result<Removed>;

    /// The volumes the context knows of by itself.
    ///
    /// # Errors
    /// What the storage refuses.
    fn list(&self, call: &Call) -> Result<Vec<ListedVolume>>;

    /// Prepares the mount in this container (or finds it prepared). The plugin host checks it and
    /// passes a detached copy on to core.
    ///
    /// # Errors
    /// The server's own reason; `Unreachable`, `PermissionDenied` and `NotFound` where they apply.
    fn mount(
        &self,
        call: &Call,
        volume: &Volume<Self::VolumeOptions>,
        read_only: bool,
    ) -> Result<Mounted>;

    /// Lets go of the mount in this container. Must not wait for a server that is away.
    ///
    /// # Errors
    /// `Busy` if something in this container uses it.
    fn unmount(&self, call: &Call, volume: VolumeId) -> Result<()>;

    /// Takes a snapshot of the volume, which may be mounted and in use.
    ///
    /// # Errors
    /// `Unsupported` by default, and what the storage refuses.
    fn snapshot(
        &self,
        _call: &Call,
        _volume: &Volume<Self::VolumeOptions>,
        _snapshot: SnapshotId,
    ) -> Result<Created> {
        Err(Error::unsupported("take snapshots", Self::KIND))
    }

    /// Removes a snapshot of the volume.
    ///
    /// # Errors
    /// `Busy` if a clone needs it; `Unsupported` by default, and what the storage refuses.
    fn remove_snapshot(
        &self,
        _call: &Call,
        _volume: &Volume<Self::VolumeOptions>,
        _snapshot: SnapshotId,
    ) -> Result<Removed> {
        Err(Error::unsupported("remove snapshots", Self::KIND))
    }

    /// Brings the volume back to a snapshot; what was written since is lost, the snapshot stays.
    /// The volume is not mounted meanwhile.
    ///
    /// # Errors
    /// `Unsupported` by default, and what the storage refuses.
    fn rollback(
        &self,
        _call: &Call,
        _volume: &Volume<Self::VolumeOptions>,
        _snapshot: SnapshotId,
    ) -> Result<()> {
        Err(Error::unsupported("roll back", Self::KIND))
    }

    /// Makes `volume` with the content of another one of this context, or finds it made. It is
    /// written to apart from its source, mounts beside it, and is removed like any other.
    ///
    /// # Errors
    /// As [`create`](Self::create); `Unsupported` by default.
    fn clone_volume(
        &self,
        _call: &Call,
        _volume: &Volume<Self::VolumeOptions>,
        _source: &CloneSource<Self::VolumeOptions>,
    ) -> Result<Created> {
        Err(Error::unsupported("be cloned", Self::KIND))
    }

    /// Gives the volume the size that its options now say, while it is mounted if the storage
    /// can. With [`Capability::Resize`](crate::manifest::Capability::Resize) the option is `size`.
    ///
    /// # Errors
    /// `InvalidArgument` if it cannot be made smaller, `Busy` if only not while it is mounted;
    /// `Unsupported` by default, and what the storage refuses.
    fn resize(&self, _call: &Call, _volume: &Volume<Self::VolumeOptions>) -> Result<()> {
        Err(Error::unsupported("be resized", Self::KIND))
    }

    /// Does one of [`actions`](Self::actions), to `volume` or to the context as a whole. The
    /// value is shown to whoever asked: a text, an object, or a list of objects as a table.
    /// Unlike the other calls it is never repeated by itself.
    ///
    /// # Errors
    /// `Unsupported` by default, `InvalidArgument` for bad parameters, and what the storage refuses.
    fn act(
        &self,
        _call: &Call,
        action: &str,
        _volume: Option<&Volume<Self::VolumeOptions>>,
        _parameters: serde_json::Value,
    ) -> Result<serde_json::Value> {
        Err(Error::unsupported(action, Self::KIND))
    }

    /// How the context is. Cheap and bounded: tell what a background thread has found last.
    fn health(&self) -> Health;

    /// Deactivates, exports; idempotent.
    ///
    /// # Errors
    /// What the storage refuses.
    fn close(&self) -> Result<()> {
        Ok(())
    }

    /// What the plugin says of itself, put together from the above.
    fn manifest(version: &str) -> Manifest {
        Manifest {
            kind: Kind::new(Self::KIND)
                .expect("KIND is a valid kind: checked by the conformance kit"),
            version: version.into(),
            context_schema: schemars::schema_for!(Self::Config).to_value(),
            volume_schema: schemars::schema_for!(Self::VolumeOptions).to_value(),
            capabilities: Self::capabilities(),
            privileges: Self::privileges(),
            url: Self::url(),
            actions: Self::actions(),
            exclusive: Self::exclusive().map(Into::into),
        }
    }
}

/// Where a plugin's log lines and progress go.
pub trait Sink: Send + Sync {
    /// One line, without a newline.
    fn log(&self, level: Level, message: &str);
    /// How far the call `id` is: what is being done, and a share between 0 and 1 where known.
    fn progress(&self, id: u64, message: &str, share: Option<f32>);
    /// Whether core has taken the call back.
    fn cancelled(&self, id: u64) -> bool;
    /// The context's health has changed: core should ask for it now.
    fn changed(&self);
}

/// How loud a log line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Something failed.
    Error,
    /// Something is odd.
    Warn,
    /// Something happened.
    Info,
    /// Detail for whoever looks for a fault; so is a level that only a newer version has.
    #[serde(other)]
    Debug,
}

/// What the plugin host gives to a context for its whole life.
///
/// ```
/// use lazarette_core::{Host, context::Level};
///
/// fn noticed(host: &Host, what: &str) {
///     host.log(Level::Warn, format!("{}: {what}", host.mounts().display()));
///     // Core asks for `health` at once.
///     host.changed();
/// }
/// ```
#[derive(Clone)]
pub struct Host {
    sink: Arc<dyn Sink>,
    mounts: PathBuf,
}

impl Host {
    /// A host whose private mounts lie below `mounts`.
    pub fn new(sink: Arc<dyn Sink>, mounts: impl Into<PathBuf>) -> Self {
        Self {
            sink,
            mounts: mounts.into(),
        }
    }

    /// Writes a line to the context's log (`laz logs CONTEXT`).
    pub fn log(&self, level: Level, message: impl AsRef<str>) {
        self.sink.log(level, message.as_ref());
    }

    /// Has core ask for [`StorageContext::health`] now instead of in two seconds: for what should
    /// be mended at once.
    pub fn changed(&self) {
        self.sink.changed();
    }

    /// The directory of this container below which the plugin mounts; writable, private, and
    /// alive as long as the container.
    pub fn mounts(&self) -> &Path {
        &self.mounts
    }
}

/// One call: its deadline, its cancellation and its progress.
///
/// ```
/// use std::time::Duration;
/// use lazarette_core::{Call, Result};
///
/// fn copy(call: &Call, parts: &[&str]) -> Result<()> {
///     for (done, part) in parts.iter().enumerate() {
///         // Ends where it may end: nobody waits any more, or the time is over.
///         call.check()?;
///         call.progress(&format!("copying {part}"), Some(done as f32 / parts.len() as f32));
///     }
///     Ok(())
/// }
/// /// What a program that it starts may take.
/// fn limit(call: &Call) -> Duration { call.remaining().min(Duration::from_secs(60)) }
/// ```
pub struct Call {
    id: u64,
    deadline: Instant,
    sink: Arc<dyn Sink>,
}

impl Call {
    /// The call `id`, to be done by `deadline`.
    pub fn new(id: u64, deadline: Instant, sink: Arc<dyn Sink>) -> Self {
        Self { id, deadline, sink }
    }

    /// Time left; zero once the deadline has passed or core has taken the call back.
    pub fn remaining(&self) -> Duration {
        if self.sink.cancelled(self.id) {
            return Duration::ZERO;
        }
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Ends the call early where it may end.
    ///
    /// # Errors
    /// `Cancelled` if core has taken the call back, `Timeout` if the deadline has passed.
    pub fn check(&self) -> Result<()> {
        use crate::error::ErrorKind::{Cancelled, Timeout};
        if self.sink.cancelled(self.id) {
            return Err(Error::new(Cancelled, "the call was taken back"));
        }
        if self.remaining().is_zero() {
            return Err(Error::new(Timeout, "the call's deadline has passed"));
        }
        Ok(())
    }

    /// Says what is being done, and how much of it is done (0 to 1) where that is known.
    pub fn progress(&self, message: &str, share: Option<f32>) {
        self.sink.progress(self.id, message, share);
    }
}
