//! What is found on this machine.

use std::collections::BTreeMap;
use std::fs;

/// What `laz doctor` knows of the machine.
pub(crate) struct Facts {
    /// The kernel's release.
    pub(crate) release: String,
    /// What the kernel can do.
    pub(crate) features: Vec<Feature>,
    /// Its modules.
    pub(crate) modules: Vec<Module>,
}

/// Something that the kernel or this process can do, or not.
pub(crate) struct Feature {
    pub(crate) name: &'static str,
    /// What it is for.
    pub(crate) purpose: &'static str,
    /// How to get it.
    pub(crate) remedy: &'static str,
    /// Whether nothing works without it.
    pub(crate) required: bool,
    /// Why it is not there.
    pub(crate) missing: Option<String>,
}

/// A kernel module, or what it would bring if it is built into the kernel.
pub(crate) struct Module {
    pub(crate) name: String,
    /// What it is for.
    pub(crate) purpose: String,
    /// Whether nothing works without it.
    pub(crate) required: bool,
    /// Whether it is loaded or built in.
    pub(crate) loaded: bool,
    /// Whether it can be loaded.
    pub(crate) available: bool,
}

/// Kernel releases from which system calls of ours are there.
const SINCE: [(&str, (u32, u32), &str, bool); 4] = [
    ("open_tree, move_mount", (5, 2), "handing mounts over", true),
    (
        "mount_setattr",
        (5, 12),
        "handing mounts over without setuid programs and devices",
        true,
    ),
    (
        "MOVE_MOUNT_BENEATH",
        (6, 5),
        "replacing dead mounts under running containers",
        false,
    ),
    (
        "statmount",
        (6, 8),
        "handing mounts over at the same speed however many there are",
        false,
    ),
];

/// Modules that are needed whatever the kinds of storage are.
const MODULES: [(&str, &str, bool); 2] = [
    ("overlay", "the engines' images", true),
    ("fuse", "storage that is served by a program", false),
];

impl Facts {
    /// Looks at this machine. `wanted` are modules and the kinds of storage that want them.
    pub(crate) fn of_machine(wanted: &[(String, String)]) -> Self {
        // What cannot be read is shown as missing.
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let release = read("/proc/sys/kernel/osrelease").trim().to_owned();
        let directory = format!("/lib/modules/{release}");
        let known = Known {
            loaded: read("/proc/modules"),
            built_in: read(&format!("{directory}/modules.builtin")),
            loadable: read(&format!("{directory}/modules.dep")),
            filesystems: read("/proc/filesystems"),
        };
        let mut features: Vec<Feature> = SINCE
            .iter()
            .map(|(name, since, purpose, required)| Feature {
                name,
                purpose,
                remedy: "use a newer kernel",
                required: *required,
                missing: older(&release, *since),
            })
            .collect();
        features.push(cgroup2(&read("/proc/self/mountinfo")));
        Self {
            features,
            modules: modules(wanted, &known),
            release,
        }
    }
}

/// The kernel's own lists.
struct Known {
    loaded: String,
    built_in: String,
    loadable: String,
    filesystems: String,
}

fn modules(wanted: &[(String, String)], known: &Known) -> Vec<Module> {
    let mut all: BTreeMap<String, (String, bool)> = MODULES
        .iter()
        .map(|(name, purpose, required)| ((*name).into(), ((*purpose).into(), *required)))
        .collect();
    for (name, kind) in wanted {
        let purpose = all.entry(name.clone()).or_default();
        if !purpose.0.is_empty() {
            purpose.0.push_str(", ");
        }
        purpose.0.push_str(&format!("storage of kind {kind}"));
    }
    let described = |(name, (purpose, required)): (String, (String, bool))| {
        let (loaded, available) = known.module(&name);
        Module {
            name,
            purpose,
            required,
            loaded,
            available,
        }
    };
    all.into_iter().map(described).collect()
}

impl Known {
    /// Whether a module is loaded or built in, and whether it can be loaded.
    fn module(&self, name: &str) -> (bool, bool) {
        let plain = |text: &str| text.replace('-', "_");
        let name = plain(name);
        let file = |line: &str| {
            let path = line.split(':').next().unwrap_or_default();
            let file = path.rsplit('/').next().unwrap_or_default();
            plain(file.split(".ko").next().unwrap_or_default()) == name
        };
        let first = |line: &str| {
            line.split_whitespace()
                .next()
                .is_some_and(|word| plain(word) == name)
        };
        let filesystem = |line: &str| line.split_whitespace().last() == Some(name.as_str());
        let loaded = self.loaded.lines().any(first)
            || self.built_in.lines().any(file)
            || self.filesystems.lines().any(filesystem);
        (loaded, self.loadable.lines().any(file))
    }
}

/// Why a kernel of `release` lacks what came with `since`.
fn older(release: &str, since: (u32, u32)) -> Option<String> {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|part| part.parse::<u32>().unwrap_or_default());
    let is = (
        numbers.next().unwrap_or_default(),
        numbers.next().unwrap_or_default(),
    );
    (is < since).then(|| format!("came with Linux {}.{}", since.0, since.1))
}

fn cgroup2(mountinfo: &str) -> Feature {
    let mounted = mountinfo
        .lines()
        .filter_map(|line| line.split_once(" - "))
        .any(|(_, rest)| rest.starts_with("cgroup2 "));
    Feature {
        name: "cgroup v2",
        purpose: "limits of storage containers",
        remedy: "boot with systemd.unified_cgroup_hierarchy=1",
        required: false,
        missing: (!mounted).then(|| "not mounted".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Known {
        Known {
            loaded: "nfs 1 0 - Live 0x0\n".into(),
            built_in: "kernel/fs/fuse/fuse.ko\n".into(),
            loadable:
                "kernel/fs/nfs/nfsv4.ko.xz: kernel/fs/nfs/nfs.ko.xz\nkernel/drivers/dm-mod.ko:\n"
                    .into(),
            filesystems: "nodev\ttmpfs\n\text4\nnodev\toverlay\n".into(),
        }
    }

    #[test]
    fn modules_are_found_wherever_they_are() {
        for (name, loaded, available) in [
            ("nfs", true, false),
            ("fuse", true, false),
            ("overlay", true, false),
            ("nfsv4", false, true),
            ("dm_mod", false, true),
            ("dm-mod", false, true),
            ("nfsv", false, false),
            ("ext", false, false),
        ] {
            assert_eq!(known().module(name), (loaded, available), "{name}");
        }
    }

    #[test]
    fn what_several_kinds_want_is_listed_once() {
        let wanted = [
            ("nfsv4".into(), "a".into()),
            ("nfsv4".into(), "b".into()),
            ("fuse".into(), "b".into()),
        ];
        let modules = modules(&wanted, &known());
        let shown: Vec<_> = modules
            .iter()
            .map(|m| (m.name.as_str(), m.purpose.as_str(), m.required))
            .collect();
        assert_eq!(
            shown,
            [
                (
                    "fuse",
                    "storage that is served by a program, storage of kind b",
                    false
                ),
                ("nfsv4", "storage of kind a, storage of kind b", false),
                ("overlay", "the engines' images", true),
            ]
        );
    }

    #[test]
    fn releases_are_compared_by_number() {
        for (release, since, missing) in [
            ("6.12.48+deb13-cloud-amd64", (6, 8), false),
            ("6.8.0", (6, 8), false),
            ("6.7-rc1", (6, 8), true),
            ("5.10.0-13", (5, 12), true),
            ("10.0", (6, 8), false),
            ("", (5, 2), true),
        ] {
            assert_eq!(older(release, since).is_some(), missing, "{release}");
        }
    }

    #[test]
    fn cgroup_v2_is_seen_in_the_mount_table() {
        let row = "30 24 0:26 / /sys/fs/cgroup rw shared:9 - cgroup2 cgroup2 rw\n";
        assert_eq!(cgroup2(row).missing, None);
        assert!(
            cgroup2("30 24 0:26 / /a rw - cgroup cgroup2 rw\n")
                .missing
                .is_some()
        );
    }
}
