//! An example plugin: each volume is a small file system in the memory of its container.
//!
//! It needs nothing that some machine may lack, so the tests of the plugin host and of core use
//! it, too. Its data lives as long as its container.
//!
//! ```yaml
//! lazarette:
//!   storage:
//!     contexts:
//!       scratch: {kind: hello, volumes: [one, two]}
//! ```
//! `docker volume create -d hello -o size=64M three`

use std::path::PathBuf;
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
}

impl Hello {
    fn path(&self, id: VolumeId) -> PathBuf {
        self.host.mounts().join(id.to_string())
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
        Ok(Self { host, config })
    }

    fn capabilities() -> Capabilities {
        [Capability::Create, Capability::Size].into()
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
        let exists = path.exists() && mount::is_root(&path)?;
        mount::tmpfs(&path, &volume.options.size)?;
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
        let path = self.path(volume.id);
        if !path.exists() {
            return Ok(Removed::AlreadyAbsent);
        }
        mount::unmount(&path)?;
        Ok(Removed::Removed)
    }

    fn list(&self, call: &Call) -> Result<Vec<ListedVolume>> {
        self.late(call)?;
        let listed = |name: &String| ListedVolume {
            name: name.clone(),
            options: serde_json::json!({}),
            declared: true,
        };
        Ok(self.config.volumes.iter().map(listed).collect())
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
