//! The LVM storage context: one volume group, and volumes that are logical volumes in it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lazarette_plugin::monitor::Monitor;
use lazarette_plugin::serde_json::{Value, json};
use lazarette_plugin::turns::Turns;
use lazarette_plugin::{
    Action, Call, Capabilities, Capability, CloneSource, Created, Found, Health, Host, Level,
    ListedVolume, Mounted, Privileges, Removed, Result, SnapshotId, StorageContext, UrlMapping,
    Volume, VolumeId,
};

use crate::file_system::FileSystem;
use crate::group::{self, Group};
use crate::lvm::{DIRECTORY, Lvm, Time};
use crate::options::{Config, VolumeOptions};
use crate::programs::Programs;
use crate::report::Logical;
use crate::{actions, device_mapper, devices, health, mounts, scan, stamp};

/// How long bringing the group up, and taking it down, may take.
const OPEN: Duration = Duration::from_secs(120);
const CLOSE: Duration = Duration::from_secs(25);

/// An open context: one volume group.
pub struct LvmContext {
    inner: Arc<Inner>,
    monitor: Monitor,
}

/// What calls and the health thread share.
pub(crate) struct Inner {
    pub(crate) host: Host,
    pub(crate) config: Config,
    pub(crate) lvm: Lvm,
    pub(crate) group: Group,
    pub(crate) turns: Turns,
}

impl StorageContext for LvmContext {
    const KIND: &'static str = "lvm";
    type Config = Config;
    type VolumeOptions = VolumeOptions;

    fn actions() -> Vec<Action> {
        actions::all()
    }

    fn scan() -> Result<Vec<Found>> {
        scan::scan(&Lvm::new(Programs::default(), Path::new(DIRECTORY)))
    }

    fn open(host: Host, config: Config) -> Result<Self> {
        config.check()?;
        host.log(
            Level::Info,
            format!("opening the volume group {}", config.volume_group),
        );
        let lvm = Lvm::new(Programs::default(), Path::new(DIRECTORY));
        let group = group::open(&lvm, &host, Time::limit(OPEN), &config)?;
        let inner = Arc::new(Inner {
            host,
            config,
            lvm,
            group,
            turns: Turns::default(),
        });
        let monitor = health::watch(&inner)?;
        Ok(Self { inner, monitor })
    }

    fn capabilities() -> Capabilities {
        [
            Capability::Create,
            Capability::Size,
            Capability::Snapshot,
            Capability::Rollback,
            Capability::Clone,
            Capability::Resize,
            Capability::Import,
            Capability::Scan,
        ]
        .into()
    }

    /// SYS_ADMIN for the device mapper and mounts, MKNOD for nodes in `/dev/mapper` (there is no
    /// udev here), CHOWN because they belong to the group `disk`, IPC_LOCK so that LVM does not
    /// wait for a page that lies on a device which it has suspended itself, SYS_RESOURCE because
    /// the kernel lets nobody else grow an ext4 that is mounted.
    fn privileges() -> Privileges {
        let capabilities = ["SYS_ADMIN", "MKNOD", "CHOWN", "IPC_LOCK", "SYS_RESOURCE"];
        // dm_mirror is what pvmove(8) moves with.
        let modules = [
            "dm_mod",
            "dm_snapshot",
            "dm_thin_pool",
            "dm_raid",
            "dm_crypt",
            "dm_mirror",
            "dm_cache",
            "dm_cache_smq",
        ];
        Privileges {
            capabilities: capabilities.map(String::from).into(),
            all_devices: true,
            host_directories: ["/run/lock/lvm", "/run/lvm"].map(String::from).into(),
            secrets: true,
            kernel_modules: modules.map(String::from).into(),
            writable: ["/run", "/tmp", "/mnt"].map(String::from).into(),
            memory_mib: Some(512),
            ..Privileges::default()
        }
    }

    fn url() -> Option<UrlMapping> {
        Some(UrlMapping {
            scheme: "lvm".into(),
            authority: None,
            root: Some("volume_group".into()),
            path: "logical_volume".into(),
        })
    }

    fn exclusive() -> Option<&'static str> {
        Some("volume_group")
    }

    fn create(&self, call: &Call, volume: &Volume<VolumeOptions>) -> Result<Created> {
        self.inner.create(call, volume)
    }

    fn remove(&self, call: &Call, volume: &Volume<VolumeOptions>) -> Result<Removed> {
        self.inner.remove(call, volume)
    }

    fn list(&self, call: &Call) -> Result<Vec<ListedVolume>> {
        self.inner.list(Time::Of(call))
    }

    fn mount(
        &self,
        call: &Call,
        volume: &Volume<VolumeOptions>,
        _read_only: bool,
    ) -> Result<Mounted> {
        // For reading only is core's to make it: a file system has one state for all its mounts.
        self.inner.mount(call, volume)
    }

    fn unmount(&self, _call: &Call, volume: VolumeId) -> Result<()> {
        self.inner.unmount(volume)
    }

    fn snapshot(
        &self,
        call: &Call,
        volume: &Volume<VolumeOptions>,
        snapshot: SnapshotId,
    ) -> Result<Created> {
        self.inner.snapshot(call, volume, snapshot)
    }

    fn remove_snapshot(
        &self,
        call: &Call,
        volume: &Volume<VolumeOptions>,
        snapshot: SnapshotId,
    ) -> Result<Removed> {
        self.inner.remove_snapshot(call, volume, snapshot)
    }

    fn rollback(
        &self,
        call: &Call,
        volume: &Volume<VolumeOptions>,
        snapshot: SnapshotId,
    ) -> Result<()> {
        self.inner.rollback(call, volume, snapshot)
    }

    fn clone_volume(
        &self,
        call: &Call,
        volume: &Volume<VolumeOptions>,
        source: &CloneSource<VolumeOptions>,
    ) -> Result<Created> {
        self.inner.clone_volume(call, volume, source)
    }

    fn resize(&self, call: &Call, volume: &Volume<VolumeOptions>) -> Result<()> {
        self.inner.resize(call, volume)
    }

    fn act(
        &self,
        call: &Call,
        action: &str,
        volume: Option<&Volume<VolumeOptions>>,
        parameters: Value,
    ) -> Result<Value> {
        self.inner.act(call, action, volume, parameters)
    }

    fn health(&self) -> Health {
        self.monitor.health()
    }

    fn close(&self) -> Result<()> {
        self.monitor.stop();
        self.inner.close()
    }
}

impl Inner {
    /// What is there already: logical volumes with a file system that we have not made. Those
    /// that the configuration names are mounted without further ado.
    fn list(&self, time: Time<'_>) -> Result<Vec<ListedVolume>> {
        let logicals = self.lvm.logicals(time, &self.group.name)?;
        let candidates: Vec<&Logical> = logicals.iter().filter(|l| is_offered(l)).collect();
        let nodes: Vec<_> = candidates.iter().map(|l| l.node.clone()).collect();
        let probed = devices::probe(&self.lvm.programs, time, &nodes)?;
        let has_file_system = |l: &&&Logical| {
            let found = probed.iter().find(|p| p.device == l.node);
            found.is_some_and(|p| FileSystem::of_name(&p.kind).is_some())
        };
        let listed = |l: &&Logical| ListedVolume {
            name: l.name.clone(),
            options: json!({ "logical_volume": l.name }),
            declared: self.config.volumes.iter().any(|v| v.as_str() == l.name),
        };
        Ok(candidates
            .iter()
            .filter(has_file_system)
            .map(listed)
            .collect())
    }

    fn close(&self) -> Result<()> {
        let time = Time::limit(CLOSE);
        for path in mounts::all(&self.host)? {
            mounts::unmount(&path)?;
        }
        for mapping in device_mapper::encrypted(&self.lvm, time, &self.group)? {
            crate::encryption::close_mapping(&self.lvm.programs, time, &mapping)?;
        }
        group::close(&self.lvm, &self.host, time, &self.group)
    }
}

/// Whether a logical volume is one of somebody else's that may be a volume.
fn is_offered(logical: &Logical) -> bool {
    let whole = logical.is_public() && !logical.is_pool() && !logical.is_thick_snapshot();
    whole && logical.active && !stamp::is_ours(logical)
}
