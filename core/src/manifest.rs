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
}

/// `scheme://authority/path` as options: `nfs://nas/media` sets `server: nas`, `export: /media`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UrlMapping {
    /// The scheme, usually the kind.
    pub scheme: String,
    /// The context option that the authority becomes.
    pub authority: String,
    /// The volume option that the path (with its leading `/`) becomes.
    pub path: String,
}

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
    /// Volumes can be grown.
    Resize,
    /// What exists already can be taken over.
    Import,
    /// The data can be checked while in use.
    Scrub,
    /// The same volume may be used from several machines.
    Shared,
}

/// What a storage container is granted; everything else is refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Privileges {
    /// Linux capabilities added to none (`SYS_ADMIN`, …).
    pub capabilities: BTreeSet<String>,
    /// Device nodes (`/dev/fuse`).
    pub devices: Vec<String>,
    /// Whether it joins the host's network.
    pub host_network: bool,
    /// Kernel modules that core's side must provide before the container starts.
    pub kernel_modules: Vec<String>,
    /// Directories that must be writable in the otherwise read-only container; each a tmpfs.
    pub writable: Vec<String>,
    /// Memory limit in MiB; none: core's default of 256.
    pub memory_mib: Option<u64>,
}
