//! The shape of the cloud-config. The JSON schema of these types is what checks it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::name::{ContextName, Kind, VolumeName};
use crate::signature::{Policy, TrustedKey};

/// The whole document.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CloudConfig {
    /// The machine's host name.
    pub hostname: Option<String>,
    /// Kernel modules loaded early, in order.
    pub modules: Vec<String>,
    /// The network.
    pub network: Network,
    /// Storage, the engines and the console.
    pub lazarette: Lazarette,
    /// Containers on system Docker that belong to the machine, by name. Reserved.
    pub services: BTreeMap<String, Value>,
    /// Commands run once at the end of the boot, in order; each a list of program and arguments.
    pub runcmd: Vec<Vec<String>>,
}

/// The network of the machine.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Network {
    /// Interfaces by name. An empty map: DHCP on the first Ethernet interface.
    pub interfaces: BTreeMap<String, Interface>,
    /// Name servers (IP addresses); used beside those that DHCP gives.
    pub nameservers: Vec<std::net::IpAddr>,
    /// Search domains.
    pub search: Vec<String>,
    /// Further lines of `/etc/hosts`: host name to address.
    pub hosts: BTreeMap<String, std::net::IpAddr>,
}

/// One network interface.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Interface {
    /// Ask a DHCP server.
    pub dhcp: bool,
    /// Static addresses with prefix length (`192.0.2.7/24`).
    pub addresses: Vec<String>,
    /// The default route.
    pub gateway: Option<std::net::IpAddr>,
    /// Bytes; none: as it is.
    pub mtu: Option<u32>,
}

/// What Lazarette itself does.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Lazarette {
    /// User Docker.
    pub docker: UserDocker,
    /// Storage contexts and volumes.
    pub storage: Storage,
    /// Plugins and their signatures.
    pub plugins: Plugins,
    /// The console's image, by name. Reserved.
    pub console: Option<String>,
}

impl CloudConfig {
    /// Where in the view user Docker's own data is, if on a volume.
    pub fn data_root(&self) -> Option<String> {
        let text = self.lazarette.docker.data_root.as_ref()?;
        let declared = text.split_once('/').and_then(|(context, name)| {
            let volume = self
                .lazarette
                .storage
                .volumes
                .get(&VolumeName::new(name).ok()?)?;
            (volume.context.as_str() == context)
                .then_some(volume)?
                .mount
                .clone()
        });
        Some(declared.unwrap_or_else(|| format!("/mnt/{text}")))
    }
}

/// User Docker.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UserDocker {
    /// Further arguments of `dockerd`.
    pub args: Vec<String>,
    /// How long user Docker's start waits for required volumes, in seconds; none: 90.
    pub wait_seconds: Option<u64>,
    /// The volume that holds user Docker's own data, as `CONTEXT/VOLUME`: it is required, and user
    /// Docker is never started without it. None: `/var/lib/docker`.
    pub data_root: Option<String>,
}

/// Which plugins may serve.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Plugins {
    /// Whether a plugin that is not part of the OS serves only with a signature by one of `keys`.
    pub require_signature: bool,
    /// Public keys of minisign (the second line of `minisign.pub`) whose signatures count.
    pub keys: Vec<String>,
}

impl Plugins {
    /// The same as it is judged by.
    pub fn policy(&self) -> Policy {
        let parsed = self.keys.iter().map(|key| TrustedKey::parse(key));
        Policy {
            required: self.require_signature,
            // What does not parse has been told, and counts for nothing.
            keys: parsed.filter_map(Result::ok).collect(),
        }
    }
}

/// Storage contexts and volumes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Storage {
    /// The contexts, by name.
    pub contexts: BTreeMap<ContextName, Context>,
    /// Empty directories beside `/mnt` that are set aside for volumes, such as `/srv`: a volume may be
    /// mounted below each of them. What else is made there is not seen by user Docker.
    pub mount_roots: Vec<String>,
    /// Volumes beyond those that the contexts list themselves, by name.
    pub volumes: BTreeMap<VolumeName, DeclaredVolume>,
}

/// A storage context: its kind and that kind's own options beside it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Context {
    /// The kind of storage.
    pub kind: Kind,
    /// The kind's own options; its plugin's schema checks them.
    #[serde(flatten)]
    pub options: serde_json::Map<String, Value>,
}

/// A declared volume: where it is, and its kind's own options beside that.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeclaredVolume {
    /// The context it lies in.
    pub context: ContextName,
    /// Where it is mounted, below `/mnt` or one of `mount_roots`; none: `/mnt/<context>/<name>`.
    #[serde(default)]
    pub mount: Option<String>,
    /// Whether user Docker's start waits for it.
    #[serde(default)]
    pub required: bool,
    /// Mount it for reading only.
    #[serde(default)]
    pub read_only: bool,
    /// The kind's own options; its plugin's schema checks them.
    #[serde(flatten)]
    pub options: serde_json::Map<String, Value>,
}
