//! The messages between core and a plugin host, and between a plugin host and its plugin.
//!
//! The plugin host listens on a Unix stream socket, `/run/lazarette/plugin.sock` in its
//! container; core connects, one connection at a time. Frames are those of [`crate::frame`]. The
//! first message each way is `hello`. After it core sends calls, as many at once as it likes;
//! replies come in any order. A reply with `fd: true` carries one mount descriptor in the
//! ancillary data (`SCM_RIGHTS`) of the frame's first byte.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::context::{Call, Level, StorageContext};
use crate::error::{Error, Result};
use crate::manifest::Manifest;
use crate::volume::{CloneSource, SnapshotId, Volume, VolumeId};

/// The version of this protocol. A difference in `major` refuses the connection.
pub const PROTOCOL: Version = Version { major: 1, minor: 1 };

/// A protocol version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Changed when an old peer would misunderstand.
    pub major: u16,
    /// Changed when something was added.
    pub minor: u16,
}

/// From core to the plugin host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToPlugin {
    /// The first message.
    Hello {
        /// Core's protocol version.
        protocol: Version,
        /// The name of the context, for log lines.
        context: String,
    },
    /// A call of a method.
    Call {
        /// Chosen by core, unique on the connection.
        id: u64,
        /// Milliseconds until core gives up on it.
        deadline_ms: u64,
        /// What to do.
        #[serde(flatten)]
        method: Method,
    },
    /// Core no longer wants the reply. The call may still finish; it replies all the same.
    Cancel {
        /// Which call.
        id: u64,
    },
}

/// What is no message of this version.
#[derive(Debug)]
pub enum Misfit {
    /// A call of a method that only a newer version has: answer it with `Unsupported`.
    Method {
        /// Which call.
        id: u64,
        /// The method's name.
        method: String,
    },
    /// A call of a known method whose parameters have another shape: answer it with the error.
    Parameters {
        /// Which call.
        id: u64,
        /// `InvalidArgument`, saying what is wrong.
        error: Error,
    },
    /// Nothing that could be answered.
    Message(serde_json::Error),
}

impl ToPlugin {
    /// Parses a frame's body.
    ///
    /// # Errors
    /// What can still be done about it.
    pub fn parse(body: &[u8]) -> Result<Self, Misfit> {
        /// What every version's calls have.
        #[derive(Deserialize)]
        struct Envelope {
            r#type: String,
            id: u64,
            method: String,
        }
        let wrong = match serde_json::from_slice(body) {
            Ok(message) => return Ok(message),
            Err(wrong) => wrong,
        };
        match serde_json::from_slice::<Envelope>(body) {
            Ok(call) if call.r#type == "call" => {
                let (id, method) = (call.id, call.method);
                if !Method::NAMES.contains(&method.as_str()) {
                    return Err(Misfit::Method { id, method });
                }
                let error = Error::invalid(format!("parameters of {method}")).cause(wrong);
                Err(Misfit::Parameters { id, error })
            }
            _ => Err(Misfit::Message(wrong)),
        }
    }
}

/// What core asks of a plugin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "method", content = "params", rename_all = "snake_case")]
pub enum Method {
    /// [`StorageContext::open`]. Repeated with the same configuration it does nothing; with another, it re-opens.
    Open {
        /// The context's options.
        config: Value,
    },
    /// [`StorageContext::create`]. Reply: [`crate::Created`].
    Create {
        /// The volume.
        volume: VolumeParams,
    },
    /// [`StorageContext::remove`]. Reply: [`crate::Removed`].
    Remove {
        /// The volume.
        volume: VolumeParams,
    },
    /// [`StorageContext::list`]. Reply: a list of [`crate::ListedVolume`].
    List,
    /// [`StorageContext::mount`]. Reply: [`crate::Mounted`] with the descriptor of the mount.
    Mount {
        /// The volume.
        volume: VolumeParams,
        /// Whether it will only be read.
        read_only: bool,
    },
    /// [`StorageContext::unmount`]. Reply: null.
    Unmount {
        /// The volume.
        id: VolumeId,
    },
    /// [`StorageContext::snapshot`]. Reply: [`crate::Created`].
    Snapshot {
        /// The volume.
        volume: VolumeParams,
        /// The snapshot to be.
        snapshot: SnapshotId,
    },
    /// [`StorageContext::remove_snapshot`]. Reply: [`crate::Removed`].
    RemoveSnapshot {
        /// The volume.
        volume: VolumeParams,
        /// The snapshot.
        snapshot: SnapshotId,
    },
    /// [`StorageContext::rollback`]. Reply: null.
    Rollback {
        /// The volume.
        volume: VolumeParams,
        /// The snapshot.
        snapshot: SnapshotId,
    },
    /// [`StorageContext::clone_volume`]. Reply: [`crate::Created`].
    Clone {
        /// The volume to be.
        volume: VolumeParams,
        /// What it is made of.
        source: CloneSource,
    },
    /// [`StorageContext::resize`]. Reply: null.
    Resize {
        /// The volume, with the size it is to have.
        volume: VolumeParams,
    },
    /// [`StorageContext::act`]. Reply: any value.
    Act {
        /// Which action.
        action: String,
        /// The volume; none: the context.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        volume: Option<VolumeParams>,
        /// Its parameters.
        parameters: Value,
    },
    /// [`StorageContext::health`]. Reply: [`crate::Health`].
    Health,
    /// [`StorageContext::close`]. Reply: null.
    Close,
}

impl Method {
    /// Every method's name.
    pub const NAMES: &'static [&'static str] = &[
        "open",
        "create",
        "remove",
        "list",
        "mount",
        "unmount",
        "snapshot",
        "remove_snapshot",
        "rollback",
        "clone",
        "resize",
        "act",
        "health",
        "close",
    ];

    /// The method's name on the wire and in the C ABI.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Open { .. } => "open",
            Self::Create { .. } => "create",
            Self::Remove { .. } => "remove",
            Self::List => "list",
            Self::Mount { .. } => "mount",
            Self::Unmount { .. } => "unmount",
            Self::Snapshot { .. } => "snapshot",
            Self::RemoveSnapshot { .. } => "remove_snapshot",
            Self::Rollback { .. } => "rollback",
            Self::Clone { .. } => "clone",
            Self::Resize { .. } => "resize",
            Self::Act { .. } => "act",
            Self::Health => "health",
            Self::Close => "close",
        }
    }

    /// Whether it changes something.
    pub fn is_mutating(&self) -> bool {
        !matches!(self, Self::List | Self::Health)
    }
}

/// A volume whose options have not been parsed yet.
pub type VolumeParams = Volume<Value>;

/// From the plugin host to core.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromPlugin {
    /// The first message.
    Hello {
        /// The plugin host's protocol version.
        protocol: Version,
        /// What the plugin says of itself.
        manifest: Box<Manifest>,
        /// Another value after each start of the plugin host, so that core sees a restart.
        instance: String,
        /// Whether a context is open (it survives a reconnect of core, not a restart of the host).
        open: bool,
    },
    /// The end of a call.
    Reply {
        /// Which call.
        id: u64,
        /// Its value or its error.
        #[serde(flatten)]
        outcome: Outcome,
        /// Whether a mount descriptor comes with it.
        #[serde(default)]
        fd: bool,
    },
    /// How far a call is.
    Progress {
        /// Which call.
        id: u64,
        /// What is being done.
        message: String,
        /// Between 0 and 1 where known.
        share: Option<f32>,
    },
    /// The context's health has changed: ask for it. Since protocol 1.1.
    Changed,
    /// A line for the context's log.
    Log {
        /// How loud.
        level: Level,
        /// The line.
        message: String,
    },
}

impl FromPlugin {
    /// The minor version of the protocol that brought this message: a peer of an older one must not
    /// be sent it, for it would not know what it is.
    pub fn since(&self) -> u16 {
        u16::from(matches!(self, Self::Changed))
    }
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Its value, of the shape the method gives.
    Ok(Value),
    /// Its error.
    Error(Error),
}

/// Runs every method but `open` on an open context: what a plugin's entry point does with a call.
///
/// # Errors
/// The context's own, and `InvalidArgument` for parameters of the wrong shape.
pub fn dispatch<C: StorageContext>(context: &C, call: &Call, method: &Method) -> Result<Value> {
    match method {
        Method::Open { .. } => Err(Error::internal("open is not for an open context")),
        Method::Create { volume } => json(&context.create(call, &typed(volume)?)?),
        Method::Remove { volume } => json(&context.remove(call, &typed(volume)?)?),
        Method::List => json(&context.list(call)?),
        Method::Mount { volume, read_only } => {
            json(&context.mount(call, &typed(volume)?, *read_only)?)
        }
        Method::Unmount { id } => json(&context.unmount(call, *id)?),
        Method::Snapshot { volume, snapshot } => {
            json(&context.snapshot(call, &typed(volume)?, *snapshot)?)
        }
        Method::RemoveSnapshot { volume, snapshot } => {
            json(&context.remove_snapshot(call, &typed(volume)?, *snapshot)?)
        }
        Method::Rollback { volume, snapshot } => {
            json(&context.rollback(call, &typed(volume)?, *snapshot)?)
        }
        Method::Clone { volume, source } => {
            let source = CloneSource {
                volume: typed(&source.volume)?,
                snapshot: source.snapshot,
            };
            json(&context.clone_volume(call, &typed(volume)?, &source)?)
        }
        Method::Resize { volume } => json(&context.resize(call, &typed(volume)?)?),
        Method::Act {
            action,
            volume,
            parameters,
        } => {
            let volume = volume.as_ref().map(typed).transpose()?;
            context.act(call, action, volume.as_ref(), parameters.clone())
        }
        Method::Health => json(&context.health()),
        Method::Close => json(&context.close()?),
    }
}

/// Parses the options of `volume`.
///
/// # Errors
/// `InvalidArgument` saying which option is wrong.
pub fn typed<O: serde::de::DeserializeOwned>(volume: &VolumeParams) -> Result<Volume<O>> {
    let options =
        O::deserialize(&volume.options).map_err(|e| Error::invalid("volume options").cause(e))?;
    Ok(Volume {
        id: volume.id,
        options,
    })
}

fn json<T: Serialize>(value: &T) -> Result<Value> {
    serde_json::to_value(value).map_err(|e| Error::internal("a reply that is not JSON").cause(e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_wire_is_what_the_documentation_shows() {
        let call = ToPlugin::Call {
            id: 7,
            deadline_ms: 20_000,
            method: Method::Unmount {
                id: VolumeId(uuid::Uuid::nil()),
            },
        };
        assert_eq!(
            serde_json::to_value(&call).unwrap(),
            json!({"type": "call", "id": 7, "deadline_ms": 20000, "method": "unmount",
                   "params": {"id": "00000000-0000-0000-0000-000000000000"}})
        );
        let list = ToPlugin::Call {
            id: 8,
            deadline_ms: 1,
            method: Method::List,
        };
        let text = serde_json::to_string(&list).unwrap();
        assert_eq!(serde_json::from_str::<ToPlugin>(&text).unwrap(), list);
        let reply = FromPlugin::Reply {
            id: 7,
            outcome: Outcome::Error(Error::not_found("no export /x")),
            fd: false,
        };
        assert_eq!(
            serde_json::to_value(&reply).unwrap(),
            json!({"type": "reply", "id": 7, "error": {"kind": "not_found", "message": "no export /x"}, "fd": false})
        );
        let text = serde_json::to_string(&reply).unwrap();
        assert_eq!(serde_json::from_str::<FromPlugin>(&text).unwrap(), reply);
    }
}
