//! The one contract of a storage plugin.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};

use crate::error::{Error, Result};
use crate::manifest::{Capabilities, Manifest, Privileges, UrlMapping};
use crate::name::Kind;
use crate::volume::{Created, Health, ListedVolume, Mounted, Removed, Volume, VolumeId};

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
    /// Detail for whoever looks for a fault.
    Debug,
}

/// What the plugin host gives to a context for its whole life.
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

    /// The directory of this container below which the plugin mounts; writable, private, and
    /// alive as long as the container.
    pub fn mounts(&self) -> &Path {
        &self.mounts
    }
}

/// One call: its deadline, its cancellation and its progress.
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
