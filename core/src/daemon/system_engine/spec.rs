//! How a storage container is made: the least it needs, and a hash that tells whether one was
//! made that very way.

use std::collections::HashMap;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::models::{
    ContainerCreateBody, DeviceMapping, HostConfig, HostConfigLogConfig, Mount, MountBindOptions,
    MountBindOptionsPropagationEnum, MountType, RestartPolicy, RestartPolicyNameEnum,
};
use serde_json::Value;

use super::{CONTEXT_LABEL, SPEC_LABEL};
use crate::error::{Error, Result};
use crate::manifest::Privileges;
use crate::name::ContextName;

/// Where the plugin host listens, as the container sees it.
const RUN: &str = "/run/lazarette";
/// Below which the plugin mounts.
const MOUNTS: &str = "/mnt";
/// Files of the host that a container on its network reads live.
const HOST_FILES: [&str; 2] = ["/etc/hosts", "/etc/resolv.conf"];
/// Where the host keeps secrets, a directory for each context.
const HOST_SECRETS: &str = "/etc/lazarette/secrets";
/// Where a container sees those of its context.
const SECRETS: &str = "/run/secrets";
/// Every block device; among the character devices `/dev/zfs`, `/dev/mapper/control`,
/// `/dev/loop-control` and others whose numbers the kernel gives out as they come (major 10).
const ALL_DEVICES: [&str; 2] = ["b *:* rwm", "c 10:* rwm"];
/// MiB of memory unless the plugin asks for another amount.
const MEMORY_MIB: u64 = 256;
/// Processes and threads.
const PIDS: i64 = 512;

/// What a context's container is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerSpec {
    /// The context it serves.
    pub context: ContextName,
    /// The plugin's image (`sha256:…`).
    pub image_id: String,
    /// What it is granted.
    pub privileges: Privileges,
    /// The host's directory that becomes its `/run/lazarette`; made if missing.
    pub run_directory: PathBuf,
    /// How long it may take to close the context when stopped.
    pub grace: Duration,
}

impl ContainerSpec {
    /// The container's name, `laz-context-NAME`.
    pub fn container_name(&self) -> String {
        container_name(&self.context)
    }

    /// Sixteen hexadecimal digits over everything the container is made with. Another value
    /// means that the container must be made anew.
    pub fn hash(&self) -> String {
        let body = serde_json::to_value(self.fixed_body()).expect("a body has string keys only");
        let mut hash = Fnv(0xcbf2_9ce4_8422_2325);
        hash.value(&body);
        format!("{:016x}", hash.0)
    }

    /// The request that makes it.
    pub(super) fn body(&self) -> ContainerCreateBody {
        let mut body = self.fixed_body();
        if let Some(labels) = &mut body.labels {
            labels.insert(SPEC_LABEL.into(), self.hash());
        }
        if let Some(mounts) = body.host_config.as_mut().and_then(|c| c.mounts.as_mut()) {
            // Not part of the hash: whether they exist says nothing about the container.
            let network = self.privileges.host_network.then_some(HOST_FILES);
            let files = network.into_iter().flatten().map(String::from);
            let files = files.chain(self.privileges.host_files.iter().cloned());
            let present = files.filter(|file| Path::new(file).exists());
            mounts.extend(present.map(|file| bind(file.clone().into(), &file, true)));
        }
        body
    }

    fn fixed_body(&self) -> ContainerCreateBody {
        let labels = HashMap::from([(CONTEXT_LABEL.into(), self.context.to_string())]);
        ContainerCreateBody {
            // With the host's network the host's name comes with it.
            hostname: (!self.privileges.host_network).then(|| self.context.to_string()),
            image: Some(self.image_id.clone()),
            entrypoint: Some(vec!["laz-plugin-host".into()]),
            cmd: Some(vec!["supervise".into()]),
            user: Some("0:0".into()),
            working_dir: Some("/".into()),
            labels: Some(labels),
            stop_signal: Some("SIGTERM".into()),
            stop_timeout: Some(seconds(self.grace)),
            host_config: Some(self.host_config()),
            ..ContainerCreateBody::default()
        }
    }

    fn host_config(&self) -> HostConfig {
        let granted = &self.privileges;
        let memory = granted
            .memory_mib
            .unwrap_or(MEMORY_MIB)
            .saturating_mul(1 << 20);
        let memory = i64::try_from(memory).unwrap_or(i64::MAX);
        let network = if granted.host_network { "host" } else { "none" };
        let mut security = vec!["no-new-privileges:true".to_owned()];
        if granted.capabilities.contains("SYS_ADMIN") {
            // Docker's own AppArmor profile refuses every mount, whatever the capabilities.
            security.push("apparmor=unconfined".into());
        }
        HostConfig {
            readonly_rootfs: Some(true),
            cap_drop: Some(vec!["ALL".into()]),
            cap_add: Some(granted.capabilities.iter().cloned().collect()),
            security_opt: Some(security),
            devices: Some(granted.devices.iter().map(|path| device(path)).collect()),
            network_mode: Some(network.into()),
            tmpfs: Some(self.tmpfs()),
            device_cgroup_rules: granted
                .all_devices
                .then(|| ALL_DEVICES.map(String::from).into()),
            mounts: Some(self.mounts()),
            memory: Some(memory),
            // The same: no swap on top.
            memory_swap: Some(memory),
            pids_limit: Some(PIDS),
            log_config: Some(HostConfigLogConfig {
                typ: Some("json-file".into()),
                config: Some(HashMap::from([
                    ("max-size".into(), "1m".into()),
                    ("max-file".into(), "2".into()),
                ])),
            }),
            // core decides when it runs.
            restart_policy: Some(RestartPolicy {
                name: Some(RestartPolicyNameEnum::NO),
                maximum_retry_count: None,
            }),
            ..HostConfig::default()
        }
    }

    fn mounts(&self) -> Vec<Mount> {
        let granted = &self.privileges;
        let mut mounts = vec![bind(self.run_directory.clone(), RUN, false)];
        if granted.all_devices {
            mounts.push(bind("/dev".into(), "/dev", false));
        }
        let shared = granted.host_directories.iter();
        mounts.extend(shared.map(|path| bind(path.into(), path, false)));
        if granted.secrets {
            mounts.push(bind(self.secrets_directory(), SECRETS, true));
        }
        mounts
    }

    /// Where the host keeps the secrets that this context alone may read.
    fn secrets_directory(&self) -> PathBuf {
        Path::new(HOST_SECRETS).join(self.context.as_str())
    }

    /// Directories of the host that have to be there before the container is made, with their
    /// permission bits.
    fn host_directories(&self) -> Vec<(PathBuf, u32)> {
        let shared = self.privileges.host_directories.iter();
        let mut directories = vec![(self.run_directory.clone(), 0o700)];
        directories.extend(shared.map(|path| (path.into(), 0o755)));
        if self.privileges.secrets {
            directories.push((self.secrets_directory(), 0o700));
        }
        directories
    }

    /// Makes the directories of the host that the container shares.
    ///
    /// # Errors
    /// `Internal` naming the one that cannot be made.
    pub fn make_host_directories(&self) -> Result<()> {
        for (directory, mode) in self.host_directories() {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(mode)
                .create(&directory)
                .map_err(|error| {
                    Error::internal(format!("cannot make {}", directory.display())).cause(error)
                })?;
        }
        self.check_where_they_lead()
    }

    /// A link in what the container may write could lead to anything the next time.
    fn check_where_they_lead(&self) -> Result<()> {
        for shared in &self.privileges.host_directories {
            let real = std::fs::canonicalize(shared)
                .map_err(|e| Error::internal(format!("cannot look at {shared}")).cause(e))?;
            crate::privileges::check_directory(&real.to_string_lossy())
                .map_err(|e| e.remedy(format!("remove the link at {shared}")))?;
        }
        Ok(())
    }

    /// Writable directories: memory that goes with the container. Docker adds
    /// nosuid,nodev,noexec, and they are private: nothing mounted there is seen elsewhere.
    fn tmpfs(&self) -> HashMap<String, String> {
        let options = |path: &str| {
            let mode = if path == "/tmp" || path == "/var/tmp" {
                "1777"
            } else {
                "0755"
            };
            format!("rw,mode={mode},size=64m")
        };
        let mut tmpfs: HashMap<_, _> = self
            .privileges
            .writable
            .iter()
            .map(|path| (path.clone(), options(path)))
            .collect();
        // Nothing but mount points lies there.
        tmpfs.insert(MOUNTS.into(), "rw,mode=0755,size=4m".into());
        tmpfs
    }
}

/// The name of the container of `context`.
pub(super) fn container_name(context: &ContextName) -> String {
    format!("laz-context-{context}")
}

fn seconds(time: Duration) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

pub(super) fn bind(source: PathBuf, target: &str, read_only: bool) -> Mount {
    Mount {
        typ: Some(MountType::BIND),
        source: Some(source.to_string_lossy().into_owned()),
        target: Some(target.into()),
        read_only: Some(read_only),
        bind_options: Some(MountBindOptions {
            propagation: Some(MountBindOptionsPropagationEnum::RPRIVATE),
            ..MountBindOptions::default()
        }),
        ..Mount::default()
    }
}

fn device(path: &str) -> DeviceMapping {
    DeviceMapping {
        path_on_host: Some(path.into()),
        path_in_container: Some(path.into()),
        cgroup_permissions: Some("rwm".into()),
    }
}

/// FNV-1a, 64 bits, over a JSON value whatever the order of its keys: the same from one build of
/// core to the next, which the standard library's hashers don't promise.
struct Fnv(u64);

impl Fnv {
    fn bytes(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Array(items) => {
                self.bytes(b"[");
                items.iter().for_each(|item| self.value(item));
                self.bytes(b"]");
            }
            Value::Object(map) => {
                self.bytes(b"{");
                let mut entries: Vec<_> = map.iter().collect();
                entries.sort_by_key(|(key, _)| *key);
                for (key, item) in entries {
                    self.bytes(key.as_bytes());
                    self.bytes(b"\0");
                    self.value(item);
                }
                self.bytes(b"}");
            }
            leaf => {
                self.bytes(leaf.to_string().as_bytes());
                self.bytes(b"\0");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> ContainerSpec {
        ContainerSpec {
            context: ContextName::new("nas").unwrap(),
            image_id: "sha256:abc".into(),
            privileges: Privileges {
                capabilities: ["SYS_ADMIN", "CHOWN"].map(Into::into).into(),
                devices: vec!["/dev/fuse".into()],
                host_network: true,
                writable: ["/run", "/tmp", "/var/lib/nfs"].map(Into::into).into(),
                ..Privileges::default()
            },
            run_directory: "/run/lazarette/contexts/nas".into(),
            grace: Duration::from_secs(10),
        }
    }

    #[test]
    fn the_hash_is_stable_and_covers_what_the_container_is_made_with() {
        let hash = spec().hash();
        assert_eq!(hash.len(), 16);
        // Maps in the body are ordered at random; the hash must not be.
        for _ in 0..50 {
            assert_eq!(spec().hash(), hash);
        }
        let change = |edit: fn(&mut ContainerSpec)| {
            let mut other = spec();
            edit(&mut other);
            assert_ne!(other.hash(), hash, "{other:?}");
        };
        change(|s| s.context = ContextName::new("nas2").unwrap());
        change(|s| s.image_id.push('d'));
        change(|s| s.run_directory.push("x"));
        change(|s| s.grace += Duration::from_secs(1));
        change(|s| s.privileges.host_network = false);
        change(|s| s.privileges.memory_mib = Some(512));
        change(|s| s.privileges.devices.clear());
        change(|s| s.privileges.writable.push("/x".into()));
        change(|s| drop(s.privileges.capabilities.pop_first()));
    }

    #[test]
    fn nothing_is_granted_that_was_not_asked_for() {
        let bare = ContainerSpec {
            privileges: Privileges::default(),
            ..spec()
        };
        let body = bare.body();
        let labels = body.labels.unwrap();
        assert_eq!(labels[CONTEXT_LABEL], "nas");
        assert_eq!(labels[SPEC_LABEL], bare.hash());
        let host = body.host_config.unwrap();
        assert_eq!(host.privileged, None);
        assert_eq!(host.readonly_rootfs, Some(true));
        assert_eq!(host.cap_drop.unwrap(), ["ALL"]);
        assert!(host.cap_add.unwrap().is_empty());
        assert_eq!(host.network_mode.unwrap(), "none");
        assert!(host.devices.unwrap().is_empty());
        assert_eq!(host.security_opt.unwrap(), ["no-new-privileges:true"]);
        assert_eq!(
            host.tmpfs.unwrap().into_keys().collect::<Vec<_>>(),
            ["/mnt"]
        );
        let mounts = host.mounts.unwrap();
        assert_eq!(
            mounts.len(),
            1,
            "the run directory and no socket of any engine"
        );
        assert_eq!(mounts[0].target.as_deref(), Some(RUN));
    }

    #[test]
    fn what_was_asked_for_is_granted() {
        let host = spec().body().host_config.unwrap();
        assert_eq!(host.cap_add.unwrap(), ["CHOWN", "SYS_ADMIN"]);
        assert_eq!(host.network_mode.unwrap(), "host");
        assert_eq!(host.memory, Some(256 << 20));
        let tmpfs = host.tmpfs.unwrap();
        assert!(tmpfs["/tmp"].contains("mode=1777") && tmpfs["/run"].contains("mode=0755"));
        assert!(
            host.security_opt
                .unwrap()
                .contains(&"apparmor=unconfined".to_owned())
        );
        let mounts = host.mounts.unwrap();
        let live = mounts.iter().filter(|m| m.target.as_deref() != Some(RUN));
        assert!(live.clone().count() >= 1, "/etc/hosts at least");
        assert!(live.clone().all(|m| m.read_only == Some(true)));
    }
}
