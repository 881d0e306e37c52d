//! What no plugin may have, whoever consents: what would break its container open.

use std::path::Path;

use crate::error::{Error, Result};
use crate::manifest::Privileges;

/// The capabilities of Linux that a storage container may have, `CAP_` left out.
const CAPABILITIES: [&str; 31] = [
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_ADMIN",
    "SYS_CHROOT",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
];

/// Those that have to do with the machine and nothing with storage.
const REFUSED_CAPABILITIES: [&str; 11] = [
    "ALL",
    "AUDIT_CONTROL",
    "BPF",
    "CHECKPOINT_RESTORE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "PERFMON",
    "SYSLOG",
    "SYS_BOOT",
    "SYS_MODULE",
    "SYS_TIME",
];

/// The memory of the machine, and what else is no storage.
const REFUSED_DEVICES: [&str; 5] = [
    "/dev/kmem",
    "/dev/kmsg",
    "/dev/mem",
    "/dev/port",
    "/dev/shm",
];

/// Parts of the host of which a container may have nothing: they hold the engines, the processes,
/// the programs, the accounts.
const REFUSED: [&str; 27] = [
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/lib",
    "/lib32",
    "/lib64",
    "/opt/containerd",
    "/proc",
    "/root",
    "/run/containerd",
    "/run/credentials",
    "/run/dbus",
    "/run/docker",
    "/run/docker.sock",
    "/run/lazarette",
    "/run/secrets",
    "/run/system-docker",
    "/run/system-docker.sock",
    "/run/systemd",
    "/sbin",
    "/sys",
    "/usr",
    "/var/lib/containerd",
    "/var/lib/docker",
    "/var/lib/lazarette",
    "/var/spool/cron",
];

/// What is given although it lies in one of these: files that are passed in and out.
const GIVEN: &str = "/var/lib/lazarette/streams";

/// Below `/etc`, where single files may be read, those that may not.
const SECRET: [&str; 8] = [
    "/etc/docker",
    "/etc/gshadow",
    "/etc/lazarette",
    "/etc/security",
    "/etc/shadow",
    "/etc/ssh",
    "/etc/ssl/private",
    "/etc/sudoers",
];

/// MiB of memory.
const MEMORY_MIB: std::ops::RangeInclusive<u64> = 4..=1 << 20;

impl Privileges {
    /// Whether a container may be given all of this.
    ///
    /// # Errors
    /// `InvalidArgument` naming the field, what it asks for, and why nobody gets it.
    pub fn check(&self) -> Result<()> {
        self.check_capabilities()?;
        for path in &self.devices {
            plain("devices", path)?;
            let fine = path.starts_with("/dev/") && !within(path, &REFUSED_DEVICES);
            require(fine, "devices", path, "it is no device for storage")?;
        }
        for path in &self.host_directories {
            plain("host_directories", path)?;
            check_directory(path)?;
        }
        for path in &self.host_files {
            plain("host_files", path)?;
            let is_read = path.starts_with("/etc/") && !within(path, &SECRET);
            require(
                is_read || !touches(path),
                "host_files",
                path,
                "it would break its container open",
            )?;
            no_socket("host_files", path)?;
        }
        for path in &self.writable {
            plain("writable", path)?;
            let fine = !within(path, &["/proc", "/sys", "/dev"]) && path != "/";
            require(fine, "writable", path, "it is not the container's own")?;
        }
        for module in &self.kernel_modules {
            let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
            let fine = module.starts_with(char::is_alphanumeric) && module.chars().all(word);
            require(fine, "kernel_modules", module, "it is no module's name")?;
        }
        let mib = self.memory_mib.unwrap_or(*MEMORY_MIB.start());
        let why = "it is not between 4 MiB and 1 TiB";
        require(
            MEMORY_MIB.contains(&mib),
            "memory_mib",
            &mib.to_string(),
            why,
        )
    }

    fn check_capabilities(&self) -> Result<()> {
        for name in &self.capabilities {
            let why = match name.as_str() {
                known if CAPABILITIES.contains(&known) => continue,
                known if REFUSED_CAPABILITIES.contains(&known) => {
                    "it is about the machine, not about storage"
                }
                _ => "it is no capability of Linux (write SYS_ADMIN, not CAP_SYS_ADMIN)",
            };
            require(false, "capabilities", name, why)?;
        }
        Ok(())
    }
}

/// Whether a container may share the directory `path` of the host, as it is written and as it is
/// reached once links are followed.
///
/// # Errors
/// As [`Privileges::check`].
pub fn check_directory(path: &str) -> Result<()> {
    let what = "host_directories";
    require(
        !touches(path),
        what,
        path,
        "it would break its container open",
    )?;
    no_socket(what, path)
}

fn require(fine: bool, field: &str, value: &str, why: &str) -> Result<()> {
    if fine {
        return Ok(());
    }
    let asked = crate::name::quoted(value);
    Err(
        Error::invalid(format!("its manifest's privileges.{field}: {asked}"))
            .cause(why)
            .remedy("no plugin gets that: use one that does not ask for it"),
    )
}

/// Refuses a path that says another thing than it seems to.
fn plain(field: &str, path: &str) -> Result<()> {
    let parts_are = path
        .split('/')
        .skip(1)
        .all(|part| !matches!(part, "" | "." | ".."));
    let fine = path.starts_with('/')
        && (parts_are || path == "/")
        && !path.contains(|c: char| c == ':' || c == ',' || c == '\\' || c.is_control());
    require(
        fine,
        field,
        path,
        "it is no absolute path that a container can be given",
    )
}

/// Who may talk to a daemon of the host may do what that may. A socket is used through a mount
/// that is for reading only all the same.
fn no_socket(field: &str, path: &str) -> Result<()> {
    let name = path.rsplit('/').next().unwrap_or_default();
    let fine = !name.ends_with(".sock") && !name.ends_with("socket");
    require(fine, field, path, "it is a socket of the host")
}

/// Whether `path` lies in a part of the host that nobody may have, or has one in it.
fn touches(path: &str) -> bool {
    let path = match path.strip_prefix("/var/run") {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => &format!("/run{rest}"),
        _ => path,
    };
    !within(path, &[GIVEN])
        && REFUSED
            .iter()
            .any(|part| within(path, &[part]) || Path::new(part).starts_with(path))
}

/// Whether `path` is one of `parts` or below one.
fn within(path: &str, parts: &[&str]) -> bool {
    parts.iter().any(|part| Path::new(path).starts_with(part))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn asked(privileges: serde_json::Value) -> Result<()> {
        let privileges: Privileges = serde_json::from_value(privileges).unwrap();
        privileges.check()
    }

    #[test]
    fn what_storage_needs_is_given() {
        asked(json!({})).unwrap();
        asked(json!({
            "capabilities": ["SYS_ADMIN", "SYS_RESOURCE", "DAC_READ_SEARCH", "MKNOD", "SYS_RAWIO"],
            "devices": ["/dev/fuse"],
            "all_devices": true,
            "host_directories": ["/run/udev", "/run/lock/lvm", "/run/lvm",
                                 "/var/lib/lazarette/streams", "/srv"],
            "host_files": ["/etc/hostid", "/etc/iscsi/initiatorname.iscsi"],
            "secrets": true,
            "host_network": true,
            "kernel_modules": ["zfs", "dm_thin_pool"],
            "writable": ["/run", "/tmp", "/etc/zfs", "/mnt"],
            "memory_mib": 512,
        }))
        .unwrap();
    }

    #[test]
    fn what_breaks_a_container_open_is_refused_with_the_field_and_the_value() {
        let directories = [
            "/",
            "/run",
            "/var",
            "/var/run",
            "/var/run/docker.sock",
            "/run/docker.sock",
            "/run/docker/plugins",
            "/run/lazarette/contexts",
            "/etc",
            "/etc/cron.d",
            "/proc",
            "/sys/fs/cgroup",
            "/dev",
            "/root/.ssh",
            "/usr/local/bin",
            "/var/lib",
            "/var/lib/docker/volumes",
            "/var/lib/lazarette",
            "/run/udev/..",
            "/run/udev/../../etc",
            "//etc",
            "/srv/",
            "srv",
            "/srv:/etc",
            "/srv/any.sock",
        ];
        for path in directories {
            let said = asked(json!({"host_directories": [path]})).unwrap_err();
            assert!(
                said.message.contains("privileges.host_directories"),
                "{path}: {said}"
            );
        }
        for path in [
            "/run/docker.sock",
            "/run/dbus/system_bus_socket",
            "/etc/shadow",
            "/etc/lazarette/secrets/nas/key",
            "/var/lib/lazarette/state.redb",
            "/etc",
            "/proc/kcore",
        ] {
            asked(json!({"host_files": [path]})).unwrap_err();
        }
        for name in [
            "ALL",
            "SYS_MODULE",
            "SYS_BOOT",
            "CAP_SYS_ADMIN",
            "sys_admin",
            "BPF",
        ] {
            let said = asked(json!({"capabilities": [name]}))
                .unwrap_err()
                .to_string();
            assert!(
                said.contains("capabilities") && said.contains(name),
                "{said}"
            );
        }
        for path in ["/dev/mem", "/dev/../etc/shadow", "/etc/shadow", "/dev"] {
            asked(json!({"devices": [path]})).unwrap_err();
        }
        asked(json!({"writable": ["/proc/sys"]})).unwrap_err();
        asked(json!({"kernel_modules": ["-r"]})).unwrap_err();
        asked(json!({"memory_mib": 1})).unwrap_err();
    }
}
