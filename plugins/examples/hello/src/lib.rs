//! An example plugin: each volume is a small file system in the memory of its container.
//!
//! It needs nothing that some machine may lack, so the tests of the plugin host and of core use
//! it, too. Its data lives as long as its container. A snapshot is a copy in a file system of its
//! own.
//!
//! ```yaml
//! lazarette:
//!   storage:
//!     contexts:
//!       scratch: {kind: hello, volumes: [one, two]}
//! ```
//! `docker volume create -d hello -o size=64M three`

mod copies;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use lazarette_plugin::*;
use serde::{Deserialize, Serialize};

/// Options of a context.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Names of volumes that are mounted without further ado; each has 16 MiB.
    pub volumes: Vec<String>,
    /// Milliseconds by which every call is late: a slow storage to test with.
    pub delay_ms: u64,
    /// The memory that the context claims, by a name of your own: no other context may claim it.
    /// Attached as a whole (`laz attach hello:ram`) it has one volume, `all`.
    pub pool: Option<String>,
}

/// Parameters of the action `wait`.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Wait {
    /// How long.
    pub milliseconds: u64,
}

/// Options of a volume.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Its size: bytes, or with the suffix k, M or G.
    #[schemars(regex(pattern = "^[0-9]{1,12}[kKmMgG]?$"))]
    pub size: String,
    /// The directory in the file system that is the volume, made if need be; none: all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^[A-Za-z0-9_-]{1,64}$"))]
    pub directory: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            size: "16M".into(),
            directory: None,
        }
    }
}

impl Options {
    fn check(&self) -> Result<()> {
        let digits = self.size.trim_end_matches(['k', 'K', 'm', 'M', 'g', 'G']);
        let number = digits.len() <= 12 && digits.parse::<u64>().is_ok_and(|n| n > 0);
        if !number || self.size.len() > digits.len() + 1 {
            return Err(Error::invalid(format!("size {}", quoted(&self.size)))
                .cause("not a number of bytes above 0")
                .remedy("write a number, with k, M or G behind it if you like: 64M"));
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
        match &self.directory {
            Some(d) if d.is_empty() || d.len() > 64 || !d.chars().all(plain) => {
                Err(Error::invalid(format!("directory {}", quoted(d)))
                    .remedy("use 1 to 64 letters, digits, '_' and '-'"))
            }
            _ => Ok(()),
        }
    }
}

/// An open context.
pub struct Hello {
    host: Host,
    config: Config,
    /// Held while a file system is looked for and made or taken away: calls come side by side.
    changing: Mutex<()>,
}

impl Hello {
    fn path(&self, id: VolumeId) -> PathBuf {
        self.host.mounts().join(id.to_string())
    }

    fn snapshot_path(&self, id: VolumeId, snapshot: SnapshotId) -> PathBuf {
        self.host.mounts().join(format!("{id}@{snapshot}"))
    }

    /// Makes the file system at `path`; whether it was there.
    fn ensure(&self, path: &Path, size: &str) -> Result<bool> {
        let _one_at_a_time = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let exists = path.exists() && mount::is_root(path)?;
        mount::tmpfs(path, size)?;
        Ok(exists)
    }

    fn take_away(&self, path: &Path) -> Result<Removed> {
        let _one_at_a_time = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        if !path.exists() {
            return Ok(Removed::AlreadyAbsent);
        }
        mount::unmount(path)?;
        Ok(Removed::Removed)
    }

    fn wait(call: &Call, parameters: &Wait) -> Result<serde_json::Value> {
        let started = Instant::now();
        let all = Duration::from_millis(parameters.milliseconds);
        while started.elapsed() < all {
            call.check()?;
            let share = started.elapsed().as_secs_f32() / all.as_secs_f32();
            call.progress("waiting", Some(share));
            std::thread::sleep(Duration::from_millis(20).min(all));
        }
        Ok(format!("waited {} ms", parameters.milliseconds).into())
    }

    /// The files of a volume, one object for each.
    fn files(&self, volume: &Volume<Options>) -> Result<serde_json::Value> {
        let path = self.path(volume.id);
        let fail =
            |e: std::io::Error| Error::internal(format!("cannot read {}", path.display())).cause(e);
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&path).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let size = entry.metadata().map_err(fail)?.len();
            let name = entry.file_name().to_string_lossy().into_owned();
            files.push(serde_json::json!({"name": name, "bytes": size}));
        }
        Ok(files.into())
    }

    fn late(&self, call: &Call) -> Result<()> {
        let end = Instant::now() + Duration::from_millis(self.config.delay_ms);
        while Instant::now() < end {
            call.check()?;
            std::thread::sleep(Duration::from_millis(5));
        }
        call.check()
    }
}

impl StorageContext for Hello {
    const KIND: &'static str = "hello";
    type Config = Config;
    type VolumeOptions = Options;

    fn open(host: Host, config: Config) -> Result<Self> {
        host.log(Level::Info, "hello");
        Ok(Self {
            host,
            config,
            changing: Mutex::default(),
        })
    }

    fn capabilities() -> Capabilities {
        [
            Capability::Create,
            Capability::Size,
            Capability::Snapshot,
            Capability::Rollback,
            Capability::Clone,
            Capability::Resize,
            Capability::Scan,
        ]
        .into()
    }

    fn actions() -> Vec<Action> {
        vec![
            Action::new::<Wait>(ActionOn::Context, "wait", "wait, telling how far it is"),
            Action::new::<NoParameters>(ActionOn::Volume, "files", "list the files at the top"),
            Action::new::<NoParameters>(ActionOn::Volume, "wipe", "remove all files")
                .losing("all files of the volume"),
        ]
    }

    fn exclusive() -> Option<&'static str> {
        Some("pool")
    }

    fn url() -> Option<UrlMapping> {
        Some(UrlMapping {
            scheme: Self::KIND.into(),
            authority: None,
            root: Some("pool".into()),
            path: "directory".into(),
        })
    }

    /// Memory is always there.
    fn scan() -> Result<Vec<Found>> {
        Ok(vec![Found {
            what: "memory".into(),
            name: "ram".into(),
            size: None,
            detail: None,
            devices: Vec::new(),
            url: Some("hello:ram".into()),
        }])
    }

    fn privileges() -> Privileges {
        Privileges {
            capabilities: ["SYS_ADMIN".into()].into(),
            writable: vec!["/mnt".into()],
            ..Privileges::default()
        }
    }

    fn create(&self, call: &Call, volume: &Volume<Options>) -> Result<Created> {
        self.late(call)?;
        volume.options.check()?;
        let path = self.path(volume.id);
        let exists = self.ensure(&path, &volume.options.size)?;
        if let Some(directory) = &volume.options.directory {
            let path = path.join(directory);
            std::fs::create_dir_all(&path)
                .map_err(|e| Error::internal(format!("cannot make {}", path.display())).cause(e))?;
        }
        Ok(if exists {
            Created::AlreadyExists
        } else {
            Created::Created
        })
    }

    fn remove(&self, call: &Call, volume: &Volume<Options>) -> Result<Removed> {
        self.late(call)?;
        self.take_away(&self.path(volume.id))
    }

    fn snapshot(
        &self,
        call: &Call,
        volume: &Volume<Options>,
        snapshot: SnapshotId,
    ) -> Result<Created> {
        self.late(call)?;
        let path = self.snapshot_path(volume.id, snapshot);
        self.ensure(&path, &volume.options.size)?;
        Ok(match copies::take(call, &self.path(volume.id), &path)? {
            true => Created::Created,
            false => Created::AlreadyExists,
        })
    }

    fn remove_snapshot(
        &self,
        call: &Call,
        volume: &Volume<Options>,
        snapshot: SnapshotId,
    ) -> Result<Removed> {
        self.late(call)?;
        self.take_away(&self.snapshot_path(volume.id, snapshot))
    }

    fn rollback(&self, call: &Call, volume: &Volume<Options>, snapshot: SnapshotId) -> Result<()> {
        self.late(call)?;
        let path = self.snapshot_path(volume.id, snapshot);
        copies::bring_back(call, &path, &self.path(volume.id))
    }

    /// Begun anew if it was cut off: nobody was told that the volume exists, so nothing but a
    /// part of the copy is in it.
    fn clone_volume(
        &self,
        call: &Call,
        volume: &Volume<Options>,
        source: &CloneSource<Options>,
    ) -> Result<Created> {
        let created = self.create(call, volume)?;
        let from = match source.snapshot {
            None => self.path(source.volume.id),
            Some(snapshot) => copies::content(&self.snapshot_path(source.volume.id, snapshot)),
        };
        copies::replace(call, &from, &self.path(volume.id))?;
        Ok(created)
    }

    fn resize(&self, call: &Call, volume: &Volume<Options>) -> Result<()> {
        self.late(call)?;
        volume.options.check()?;
        mount::resize_tmpfs(&self.path(volume.id), &volume.options.size)
    }

    fn act(
        &self,
        call: &Call,
        action: &str,
        volume: Option<&Volume<Options>>,
        parameters: serde_json::Value,
    ) -> Result<serde_json::Value> {
        match (action, volume) {
            ("wait", None) => {
                let parameters = serde_json::from_value(parameters)
                    .map_err(|e| Error::invalid("parameters of wait").cause(e))?;
                Self::wait(call, &parameters)
            }
            ("files", Some(volume)) => self.files(volume),
            ("wipe", Some(volume)) => {
                copies::empty(&self.path(volume.id))?;
                Ok(serde_json::Value::Null)
            }
            _ => Err(Error::unsupported(action, Self::KIND)),
        }
    }

    fn list(&self, call: &Call) -> Result<Vec<ListedVolume>> {
        self.late(call)?;
        let listed = |name: &String| ListedVolume {
            name: name.clone(),
            options: serde_json::json!({}),
            declared: true,
        };
        let mut volumes: Vec<_> = self.config.volumes.iter().map(listed).collect();
        volumes.extend(self.config.pool.as_ref().map(|_| ListedVolume {
            declared: false,
            ..listed(&"all".to_owned())
        }));
        Ok(volumes)
    }

    fn mount(&self, call: &Call, volume: &Volume<Options>, _read_only: bool) -> Result<Mounted> {
        self.create(call, volume)?;
        Ok(Mounted {
            path: self.path(volume.id),
            subdirectory: volume.options.directory.clone().map(PathBuf::from),
            fs_type: "tmpfs".into(),
            source: "tmpfs".into(),
        })
    }

    /// The file system stays: it is the volume. `remove` takes it away.
    fn unmount(&self, call: &Call, _volume: VolumeId) -> Result<()> {
        self.late(call)
    }

    fn health(&self) -> Health {
        Health::healthy()
    }
}

declare_plugin!(Hello);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_directories_are_checked() {
        let check = |size: &str, directory: Option<&str>| {
            Options {
                size: size.into(),
                directory: directory.map(Into::into),
            }
            .check()
        };
        for good in ["1", "64M", "64m", "4k", "1G"] {
            check(good, Some("a-b_C1")).unwrap();
        }
        for bad in [
            "",
            "0",
            "M",
            "64MB",
            "-1",
            "1,mode=777",
            "64 M",
            "9999999999999",
        ] {
            assert!(check(bad, None).is_err(), "{bad}");
        }
        for bad in ["", "..", "a/b", ".", "a\n"] {
            assert!(check("1M", Some(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_manifest_asks_for_the_least() {
        let manifest = Hello::manifest("1.2.3");
        assert_eq!(manifest.kind.as_str(), "hello");
        assert_eq!(manifest.privileges.capabilities.len(), 1);
        assert!(!manifest.privileges.host_network);
    }
}
