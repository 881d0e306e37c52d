//! The NFS storage context.

use std::sync::Arc;

use lazarette_plugin::serde_json::json;
use lazarette_plugin::{
    Call, Capabilities, Capability, Created, Error, Health, Host, ListedVolume, Mounted,
    Privileges, Removed, Result, StorageContext, UrlMapping, Volume, VolumeId,
};

use crate::export::{Config, VolumeOptions};

/// An open context: one server.
pub struct Nfs {
    host: Host,
    config: Arc<Config>,
}

impl StorageContext for Nfs {
    const KIND: &'static str = "nfs";
    type Config = Config;
    type VolumeOptions = VolumeOptions;

    fn open(host: Host, config: Config) -> Result<Self> {
        config.check()?;
        Ok(Self { host, config: Arc::new(config) })
    }

    fn capabilities() -> Capabilities {
        [Capability::Create, Capability::Import, Capability::Shared].into()
    }

    /// Mounting needs SYS_ADMIN; mountd and rpcbind want ports below 1024; rpcbind and rpc.statd
    /// give up root by themselves, and rpc.statd's directory must be its own.
    fn privileges() -> Privileges {
        let capabilities = ["SYS_ADMIN", "NET_BIND_SERVICE", "SETUID", "SETGID", "CHOWN"];
        Privileges {
            capabilities: capabilities.map(String::from).into(),
            devices: Vec::new(),
            host_network: true,
            kernel_modules: ["nfs", "nfsv4", "nfsv3"].map(String::from).into(),
            writable: ["/run", "/tmp", "/var/lib/nfs", "/mnt"].map(String::from).into(),
            memory_mib: Some(128),
        }
    }

    fn url() -> Option<UrlMapping> {
        Some(UrlMapping {
            scheme: "nfs".into(),
            authority: "server".into(),
            path: "export".into(),
        })
    }

    fn create(&self, _call: &Call, _volume: &Volume<VolumeOptions>) -> Result<Created> {
        Err(Error::unsupported("create", "nfs"))
    }

    fn remove(&self, _call: &Call, _volume: &Volume<VolumeOptions>) -> Result<Removed> {
        Err(Error::unsupported("remove", "nfs"))
    }

    fn list(&self, _call: &Call) -> Result<Vec<ListedVolume>> {
        let listed = |export: &crate::export::Export| {
            Ok(ListedVolume {
                name: export.volume_name()?,
                options: json!({ "export": export.path }),
                declared: true,
            })
        };
        self.config.exports.iter().map(listed).collect()
    }

    fn mount(&self, _call: &Call, _volume: &Volume<VolumeOptions>, _read_only: bool) -> Result<Mounted> {
        let _ = &self.host;
        Err(Error::unsupported("mount", "nfs"))
    }

    fn unmount(&self, _call: &Call, _volume: VolumeId) -> Result<()> {
        Err(Error::unsupported("unmount", "nfs"))
    }

    fn health(&self) -> Health {
        Health::healthy()
    }
}
