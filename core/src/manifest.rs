//! What a plugin says of itself before it runs: printed by `laz-plugin-host describe`, kept in
//! its image's label `dev.lazarette.manifest`, and all that core ever knows of a kind.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::name::Kind;

/// The image label that holds the kind.
pub const KIND_LABEL: &str = "dev.lazarette.plugin";
/// The image label that holds the manifest as JSON.
pub const MANIFEST_LABEL: &str = "dev.lazarette.manifest";

/// In a volume's schema, `true` at an option that names a thing that was there before the volume:
/// that thing is kept when the volume is removed, unless the option `on_remove` says `delete`.
pub const KEPT: &str = "x-lazarette-kept";
/// In a volume's schema, at the option `on_remove`: the name of the option without which removing
/// a volume deletes nothing (the directory of a share that is the volume).
pub const DELETES: &str = "x-lazarette-deletes";

/// The volume option with which a kind lets its users choose what becomes of the data, and the
/// value that keeps it.
const ON_REMOVE: &str = "on_remove";
const KEEP: &str = "keep";

/// What a plugin is and needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The kind of storage; also the name of the Docker volume driver.
    pub kind: Kind,
    /// The plugin's own version.
    pub version: String,
    /// JSON schema (draft 2020-12) of a context's options in the cloud-config, `kind` left out.
    pub context_schema: Value,
    /// JSON schema of a volume's own options.
    pub volume_schema: Value,
    /// What its volumes can do.
    pub capabilities: BTreeSet<Capability>,
    /// What its container must be allowed.
    pub privileges: Privileges,
    /// How a URL for `laz attach` maps onto options, if the kind has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<UrlMapping>,
    /// What can be done to its contexts and volumes beyond what every kind can do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<Action>,
    /// The context option that names what only one context may have at a time: a second context
    /// of the kind that gives it the same value is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exclusive: Option<String>,
}

impl Manifest {
    /// Whether removing a volume that was made with `options` removes its data. A kind that says
    /// nothing of it in its schema may remove what it has made.
    pub fn removal_loses_data(&self, options: &Value) -> bool {
        let properties = &self.volume_schema["properties"];
        let given = |name: &str| options.get(name).filter(|value| !value.is_null());
        let about = properties[ON_REMOVE][DELETES].as_str();
        if !self.capabilities.contains(&Capability::Create)
            || about.is_some_and(|name| given(name).is_none())
        {
            return false;
        }
        if let Some(choice) = given(ON_REMOVE) {
            return choice != KEEP;
        }
        let mut all = properties.as_object().into_iter().flatten();
        let was_there = all.any(|(name, property)| {
            property[KEPT].as_bool() == Some(true) && given(name).is_some()
        });
        !was_there && properties[ON_REMOVE]["default"] != KEEP
    }
}

/// How a URL becomes options.
///
/// | URL | `authority` | `root` | `path` |
/// |---|---|---|---|
/// | `nfs://nas/media` | `server: nas` | – | `export: /media` |
/// | `gluster://g1,g2/gv0/apps` | `servers: [g1, g2]` | `volume: gv0` | `path: apps` |
/// | `zfs:tank/media` | – | `pool: tank` | `dataset: media` |
///
/// Without a path the URL names the whole context: all that it lists appears below `/mnt`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UrlMapping {
    /// The scheme, usually the kind.
    pub scheme: String,
    /// The context option that the authority becomes; a list if it contains commas. None: the
    /// URL has no authority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
    /// The context option that the first part of the path becomes; none: it is part of `path`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
    /// The volume option that the path, or what `root` leaves of it, becomes: with its leading
    /// `/` if there is no `root`, without it after one.
    pub path: String,
}

/// Something that can be done to a context (`laz pool scrub tank`) or a volume (`laz volume
/// send db`), defined by the kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Action {
    /// The verb: `scrub`, `replace`, `send`.
    pub name: String,
    /// One line for `--help`.
    pub summary: String,
    /// What it is done to.
    pub on: ActionOn,
    /// JSON schema of its parameters: a flat object.
    pub parameters: Value,
    /// What is lost by it, as `laz` asks before it goes on (`all data on the new device`);
    /// none: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loses: Option<String>,
}

/// What an action is done to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActionOn {
    /// The context as a whole.
    Context,
    /// One of its volumes.
    Volume,
}

impl Action {
    /// An action whose parameters have the shape `P`, which should refuse unknown fields. Use
    /// [`NoParameters`] where there are none.
    pub fn new<P: schemars::JsonSchema>(on: ActionOn, name: &str, summary: &str) -> Self {
        Self {
            name: name.into(),
            summary: summary.into(),
            on,
            parameters: schemars::schema_for!(P).to_value(),
            loses: None,
        }
    }

    /// The same action, about which `laz` asks first because it loses `what`.
    #[must_use]
    pub fn losing(mut self, what: &str) -> Self {
        self.loses = Some(what.into());
        self
    }
}

/// The parameters of an action that has none.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoParameters {}

/// What a kind of volume can do beyond mount and unmount.
pub type Capabilities = BTreeSet<Capability>;

/// One thing that a kind of volume can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Capability {
    /// Volumes can be made and removed.
    Create,
    /// Volumes have a size limit.
    Size,
    /// Snapshots can be taken.
    Snapshot,
    /// A snapshot can be brought back.
    Rollback,
    /// Volumes can be cloned.
    Clone,
    /// Volumes can be grown, and shrunk where the file system can: their option is `size`.
    Resize,
    /// What exists already can be taken over.
    Import,
    /// What belongs to no context yet can be looked for ([`crate::StorageContext::scan`]).
    Scan,
    /// The same volume may be used from several machines.
    Shared,
    /// One that a newer version has: nothing that this one could use.
    #[serde(other)]
    Unknown,
}

/// What a storage container is granted; everything else is refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Privileges {
    /// Linux capabilities added to none (`SYS_ADMIN`, …).
    pub capabilities: BTreeSet<String>,
    /// Device nodes (`/dev/fuse`).
    pub devices: Vec<String>,
    /// Whether it sees all of the host's `/dev` as it changes, and may use every block device
    /// and the device mapper.
    pub all_devices: bool,
    /// Directories of the host, made if missing, that it shares with the host and with other
    /// containers (`/run/lock/lvm`).
    pub host_directories: Vec<String>,
    /// Files of the host that it may read if they exist (`/etc/hostid`).
    pub host_files: Vec<String>,
    /// Whether it may read the context's secrets: the host's `/etc/lazarette/secrets/CONTEXT` at
    /// `/run/secrets`.
    pub secrets: bool,
    /// Whether it joins the host's network.
    pub host_network: bool,
    /// Kernel modules that core's side must provide before the container starts.
    pub kernel_modules: Vec<String>,
    /// The image that builds those modules for the running kernel if it has none of them: see
    /// docs/kernel-modules.md for what it is given and what it leaves.
    pub module_builder: Option<String>,
    /// Directories that must be writable in the otherwise read-only container; each a tmpfs.
    pub writable: Vec<String>,
    /// Memory limit in MiB; none: core's default of 256.
    pub memory_mib: Option<u64>,
}
