//! The ZFS storage context: one pool, and volumes that are its datasets and zvols.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lazarette_plugin::monitor::Monitor;
use lazarette_plugin::serde_json::{Value, json};
use lazarette_plugin::turns::Turns;
use lazarette_plugin::{
    Action, Call, Capabilities, Capability, CloneSource, Created, Found, Health, Host, Level,
    ListedVolume, Mounted, Privileges, Removed, Result, SnapshotId, StorageContext, UrlMapping,
    Volume, VolumeId,
};

use crate::config::{Config, MountOwn, VolumeOptions};
use crate::dataset::Datasets;
use crate::mounts::Mounts;
use crate::pool::{self, PARENT};
use crate::programs::{Programs, time_for};
use crate::{actions, health, report, scan, versions};

/// Where the context's secrets are.
const SECRETS: &str = "/run/secrets";
/// The image that builds the kernel's module.
const MODULE_BUILDER: &str = "lazarette/zfs-module";

/// An open context: one imported pool.
pub struct Zfs {
    config: Config,
    datasets: Datasets,
    turns: Turns,
    monitor: Monitor,
    /// Whether nobody is to look at the pool.
    hold: Arc<AtomicBool>,
}

impl StorageContext for Zfs {
    const KIND: &'static str = "zfs";
    type Config = Config;
    type VolumeOptions = VolumeOptions;

    fn actions() -> Vec<Action> {
        actions::all()
    }

    fn exclusive() -> Option<&'static str> {
        Some("pool")
    }

    fn scan() -> Result<Vec<Found>> {
        scan::all(&Programs::default())
    }

    fn open(host: Host, config: Config) -> Result<Self> {
        Self::open_with(host, config, Programs::default(), Path::new(SECRETS))
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

    /// Pools and mounts are SYS_ADMIN's; sending what belongs to others reads it with
    /// DAC_READ_SEARCH; ext4 grows while it is mounted for SYS_RESOURCE only. Disks come and go, so it sees all of /dev; zpool(8) asks udev's database
    /// whether the partitions that it has made are there. The host's identity keeps other
    /// machines from importing what is imported here.
    fn privileges() -> Privileges {
        Privileges {
            capabilities: ["SYS_ADMIN", "SYS_RESOURCE", "DAC_READ_SEARCH"]
                .map(String::from)
                .into(),
            all_devices: true,
            host_directories: vec!["/run/udev".into(), crate::streams::DIRECTORY.into()],
            host_files: vec!["/etc/hostid".into()],
            secrets: true,
            kernel_modules: vec!["zfs".into()],
            module_builder: Some(MODULE_BUILDER.into()),
            writable: ["/run", "/tmp", "/etc/zfs"].map(String::from).into(),
            memory_mib: Some(512),
            ..Privileges::default()
        }
    }

    fn url() -> Option<UrlMapping> {
        Some(UrlMapping {
            scheme: "zfs".into(),
            authority: None,
            root: Some("pool".into()),
            path: "dataset".into(),
        })
    }

    fn create(&self, call: &Call, volume: &Volume<VolumeOptions>) -> Result<Created> {
        let _turn = self.turns.take(call, volume.id)?;
        self.datasets.create(call, volume)
    }

    fn remove(&self, call: &Call, volume: &Volume<VolumeOptions>) -> Result<Removed> {
        let _turn = self.turns.take(call, volume.id)?;
        self.datasets.remove(call, volume)
    }

    fn list(&self, call: &Call) -> Result<Vec<ListedVolume>> {
        pool::ensure_serving(&self.datasets.programs, &self.config.pool)?;
        let output = self
            .datasets
            .programs
            .zfs(time_for(call))
            .args(["list", "-H", "-o", "name,canmount", "-t", "filesystem"])
            .args(["-r", "--", self.config.pool.as_str()])
            .run()
            .map_err(|e| report::explain(&e, "cannot list the pool's datasets"))?;
        let declared = self.config.mount == MountOwn::All;
        Ok(listed(
            &output.stdout_text(),
            self.config.pool.as_str(),
            declared,
        ))
    }

    fn mount(
        &self,
        call: &Call,
        volume: &Volume<VolumeOptions>,
        _read_only: bool,
    ) -> Result<Mounted> {
        let _turn = self.turns.take(call, volume.id)?;
        let (path, source) = self.datasets.mount(call, volume)?;
        Ok(Mounted {
            path,
            subdirectory: None,
            fs_type: source.fs_type.to_owned(),
            source: self.datasets.name(volume),
        })
    }

    fn unmount(&self, call: &Call, volume: VolumeId) -> Result<()> {
        let _turn = self.turns.take(call, volume)?;
        self.datasets.mounts.unmount(volume)
    }

    fn snapshot(
        &self,
        call: &Call,
        volume: &Volume<VolumeOptions>,
        snapshot: SnapshotId,
    ) -> Result<Created> {
        let _turn = self.turns.take(call, volume.id)?;
        self.datasets.snapshot(call, volume, snapshot)
    }

    fn remove_snapshot(
        &self,
        call: &Call,
        volume: &Volume<VolumeOptions>,
        snapshot: SnapshotId,
    ) -> Result<Removed> {
        let _turn = self.turns.take(call, volume.id)?;
        self.datasets.remove_snapshot(call, volume, snapshot)
    }

    fn rollback(
        &self,
        call: &Call,
        volume: &Volume<VolumeOptions>,
        snapshot: SnapshotId,
    ) -> Result<()> {
        let _turn = self.turns.take(call, volume.id)?;
        self.datasets.rollback(call, volume, snapshot)
    }

    fn clone_volume(
        &self,
        call: &Call,
        volume: &Volume<VolumeOptions>,
        source: &CloneSource<VolumeOptions>,
    ) -> Result<Created> {
        let _turn = self.turns.take(call, volume.id)?;
        self.datasets.clone(call, volume, source)
    }

    fn resize(&self, call: &Call, volume: &Volume<VolumeOptions>) -> Result<()> {
        let _turn = self.turns.take(call, volume.id)?;
        self.datasets.resize(call, volume)
    }

    fn act(
        &self,
        call: &Call,
        action: &str,
        volume: Option<&Volume<VolumeOptions>>,
        parameters: Value,
    ) -> Result<Value> {
        let done = actions::act(&self.datasets, call, action, volume, parameters);
        self.monitor.look();
        done
    }

    fn health(&self) -> Health {
        self.monitor.health()
    }

    fn close(&self) -> Result<()> {
        // A tool that looks at the pool would keep it busy.
        self.hold.store(true, Ordering::Relaxed);
        let closed = self.datasets.mounts.close().and_then(|()| {
            pool::export(
                &self.datasets.host,
                &self.datasets.programs,
                &self.config.pool,
            )
        });
        // Refused, the context goes on as it is.
        self.hold.store(closed.is_ok(), Ordering::Relaxed);
        closed
    }
}

impl Zfs {
    pub(crate) fn open_with(
        host: Host,
        config: Config,
        programs: Programs,
        secrets: &Path,
    ) -> Result<Self> {
        config.check()?;
        let (module, tools) = versions::check(&programs)?;
        host.log(
            Level::Info,
            format!(
                "opening the pool {}; the kernel's ZFS is {module}, the tools' {tools}",
                config.pool
            ),
        );
        pool::change_over(&host, &programs, &config.pool)?;
        pool::bring_up(&host, &programs, &config)?;
        let hold = Arc::new(AtomicBool::new(false));
        let monitor = health::watch(&host, programs.clone(), config.pool.clone(), hold.clone())?;
        let datasets = Datasets {
            mounts: Mounts::new(host.clone()),
            host,
            programs,
            pool: config.pool.clone(),
            secrets: secrets.to_owned(),
        };
        Ok(Self {
            config,
            datasets,
            turns: Turns::default(),
            monitor,
            hold,
        })
    }
}

/// The pool's own datasets, from lines of a name and whether it can be mounted. Those made for
/// volumes are core's to know of.
fn listed(text: &str, pool: &str, declared: bool) -> Vec<ListedVolume> {
    let mut all: Vec<ListedVolume> = Vec::new();
    for line in text.lines() {
        let Some((name, canmount)) = line.split_once('\t') else {
            continue;
        };
        let Some(rest) = name.strip_prefix(pool) else {
            continue;
        };
        let relative = rest.trim_start_matches('/');
        let ours = relative == PARENT || relative.starts_with(&format!("{PARENT}/"));
        // The pool's own dataset is mostly empty: it can be named, but is not listed.
        if relative.is_empty() || ours || canmount == "off" {
            continue;
        }
        let name = relative.replace(['/', ':', ' '], ".");
        let fits = name.len() <= 128 && name.starts_with(|c: char| c.is_ascii_alphanumeric());
        if fits && !all.iter().any(|other| other.name == name) {
            all.push(ListedVolume {
                name,
                options: json!({ "dataset": relative }),
                declared,
            });
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_datasets_are_named_with_dots_and_ours_are_not_listed() {
        let text = "tank\ton\ntank/lazarette\toff\ntank/lazarette/123\tnoauto\n\
                    tank/media\ton\ntank/media/photos\ton\ntank/hidden\toff\n\
                    tank/media.photos\ton\n";
        let all = listed(text, "tank", true);
        let names: Vec<&str> = all.iter().map(|v| v.name.as_str()).collect();
        assert_eq!(names, ["media", "media.photos"]);
        assert_eq!(all[1].options, json!({"dataset": "media/photos"}));
        assert!(all.iter().all(|v| v.declared));
    }
}
