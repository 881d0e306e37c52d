//! Docker's volume plugin protocol, served on one Unix socket per kind of storage.
//!
//! The wire is that of moby's `pkg/plugins` and `volume/drivers`: HTTP/1.1, `POST`, JSON. What
//! matters here is how dockerd reads failures:
//!
//! - **`Get` answered by an error means "there is no such volume"**, and dockerd then forgets
//!   its own record of it. So only [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) (and a
//!   name that no volume can have) is answered at all; after any other failure of `Get` the
//!   connection is closed without a reply, which dockerd treats as "ask again".
//! - A request that dockerd repeats after a lost connection comes *without its body*. It gets a
//!   clean error; for `Get`, again, no reply.
//! - A reply is either complete or not begun: it is put together before its first byte is sent.
//! - A call goes on to its end even if dockerd hangs up: what it has done is in the state.
//!
//! Served by hyper itself and not by a framework, because a framework cannot leave a request
//! unanswered.

mod caller;
mod server;
mod socket;
mod wire;

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::error::Result;
use crate::name::{Kind, VolumeName};

pub use caller::Caller;
pub use socket::VolumeSocket;
pub(crate) use socket::listen_at;

/// What the volume API asks of core.
///
/// `get`, `list` and `path` are answered from core's own state; the others end within their own
/// deadline: below 120 s for `create` and `mount`, below 60 s for `remove` and `unmount`, after
/// which dockerd hangs up. None of them may call user Docker: it is waiting for the answer.
pub trait VolumeBackend: Clone + Send + Sync + 'static {
    /// Makes a volume. Made already with the same options: fine; with others: an error that says
    /// what differs.
    fn create(
        &self,
        kind: &Kind,
        name: VolumeName,
        options: BTreeMap<String, String>,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Removes a volume.
    fn remove(&self, kind: &Kind, name: VolumeName) -> impl Future<Output = Result<()>> + Send;

    /// Mounts a volume for `mount_id` and returns where it is mounted. The same ID may come
    /// again (`docker cp` on a running container): uses are counted per ID. It is empty if
    /// dockerd sent none.
    fn mount(
        &self,
        kind: &Kind,
        name: VolumeName,
        mount_id: String,
        caller: Caller,
    ) -> impl Future<Output = Result<String>> + Send;

    /// Takes one use by `mount_id` back. Unknown IDs and unmatched calls are fine.
    fn unmount(
        &self,
        kind: &Kind,
        name: VolumeName,
        mount_id: String,
        caller: Caller,
    ) -> impl Future<Output = Result<()>> + Send;

    /// One volume. `NotFound` makes dockerd forget it: to be returned only if that is so.
    fn get(
        &self,
        kind: &Kind,
        name: VolumeName,
    ) -> impl Future<Output = Result<DockerVolume>> + Send;

    /// All volumes of the kind.
    fn list(&self, kind: &Kind) -> impl Future<Output = Result<Vec<DockerVolume>>> + Send;

    /// Where a volume is mounted, if it is.
    fn path(
        &self,
        kind: &Kind,
        name: VolumeName,
    ) -> impl Future<Output = Result<Option<String>>> + Send;
}

/// A volume as Docker shows it (`docker volume inspect`).
#[derive(Debug, Clone, PartialEq)]
pub struct DockerVolume {
    /// Its name.
    pub name: VolumeName,
    /// Where it is mounted in the view, if it is.
    pub mountpoint: Option<String>,
    /// When it was made, RFC 3339. Left out of the reply if it is not that: dockerd would refuse
    /// the whole reply.
    pub created_at: String,
    /// Whatever else is worth showing.
    pub status: Map<String, Value>,
}

/// Whether a volume is the same one on every machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Only this machine has it.
    Local,
    /// Every machine that mounts it sees the same.
    Global,
}
