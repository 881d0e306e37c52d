//! Stand-ins for tests: a host that listens, and a call with as much time as wanted.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use lazarette_plugin::serde_json::{self, Value, json};
use lazarette_plugin::turns::Turns;
use lazarette_plugin::{Call, Host, Level, Sink};

use crate::context::Inner;
use crate::group::Group;
use crate::lvm::Lvm;
use crate::programs::Programs;
use crate::report;

/// Keeps what is said.
#[derive(Default)]
pub(crate) struct Listener(pub(crate) Mutex<Vec<String>>);

impl Sink for Listener {
    fn log(&self, _: Level, message: &str) {
        self.0.lock().unwrap().push(message.to_owned());
    }
    fn progress(&self, _: u64, _: &str, _: Option<f32>) {}
    fn cancelled(&self, _: u64) -> bool {
        false
    }
    fn changed(&self) {}
}

/// A call with `left` left.
pub(crate) fn call_of(left: Duration) -> Call {
    Call::new(1, Instant::now() + left, Arc::new(Listener::default()))
}

/// A volume group that is a set of files: its tools answer from them and note how they were called.
pub(crate) struct Container {
    directory: tempfile::TempDir,
}

/// A row of lvs(8) with `name`, `tags` and whatever else is to differ from a plain active one.
pub(crate) fn row(name: &str, tags: &str, more: &[(&str, &str)]) -> Value {
    let mut row = json!({
        "lv_name": name, "lv_uuid": name, "lv_dm_path": format!("/nonexistent/fast-{name}"),
        "lv_size": "1073741824", "lv_tags": tags, "pool_lv": "", "origin": "",
        "lv_layout": "linear", "lv_role": "public", "data_percent": "", "metadata_percent": "",
        "sync_percent": "", "lv_health_status": "", "lv_active": "1", "lv_device_open": "0",
        "lv_suspended": "0", "lv_merging": "0", "lv_snapshot_invalid": "0",
        "lv_permissions": "writeable", "cache_mode": "", "cache_dirty_blocks": "",
    });
    // lvs(8) tells the columns of the group with each row.
    let groups: Value = serde_json::from_str(include_str!("../fixtures/vgs.json")).unwrap();
    for (column, value) in groups["report"][0]["vg"][0].as_object().unwrap() {
        row[column.as_str()] = value.clone();
    }
    for (column, value) in more {
        row[*column] = json!(value);
    }
    row
}

impl Container {
    /// One with these logical volumes.
    pub(crate) fn new(rows: &[Value]) -> Self {
        let container = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        container.set("lvs.json", &json!({"report": [{"lv": rows}]}).to_string());
        container.set("vgs.json", include_str!("../fixtures/vgs.json"));
        container.set("pvs.json", include_str!("../fixtures/pvs-duplicate.json"));
        container.set("kind", "DEVNAME=/dev/x\nTYPE=ext4\n");
        container
    }

    /// What a program answers from now on: `lvs.json`, or what `blkid` says (`kind`).
    pub(crate) fn set(&self, file: &str, text: &str) {
        fs::write(self.path(file), text).unwrap();
    }

    fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }

    fn program(&self, name: &str, script: &str) -> PathBuf {
        let program = self.path(name);
        let directory = self.directory.path().display();
        let text = format!("#!/bin/sh\ncd {directory}\necho \"{name} $1\" >> starts\n{script}\n");
        fs::write(&program, text).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        program
    }

    /// The context's inside, with tools that only note what they are to do.
    pub(crate) fn inner(&self, config: Value) -> Inner {
        let notes = "echo \"$(basename \"$0\") $*\" >> calls";
        // Of an lvcreate comes a node at least, as of LVM's own.
        let node = "while [ \"$1\" != -- ]; do [ \"$1\" != --name ] || name=$2; shift; done
            echo > \"nodes/${2%%/*}-$(echo \"$name\" | sed 's/-/--/g')\"";
        let lvm = format!(
            "case $1 in lvs|vgs|pvs) exec cat $1.json;; esac\n{notes}\n\
             case $1 in lvcreate) {node};; esac"
        );
        let noting = |name: &str| self.program(name, notes);
        let programs = Programs {
            lvm: self.program("lvm", &lvm),
            blkid: self.program("blkid", "cat kind"),
            mkfs_ext4: noting("mkfs.ext4"),
            mkfs_xfs: noting("mkfs.xfs"),
            cryptsetup: noting("cryptsetup"),
            dmsetup: self.program("dmsetup", ""),
            dd: noting("dd"),
            // flock --exclusive --no-fork -- FILE COMMAND…
            flock: self.program("flock", "shift 4\nexec \"$@\""),
            ..Programs::default()
        };
        let group = report::groups(include_str!("../fixtures/vgs.json"))
            .unwrap()
            .remove(0);
        let nodes = self.path("nodes");
        fs::create_dir_all(&nodes).unwrap();
        let mut lvm = Lvm::new(programs, &self.path("settings"));
        lvm.nodes = nodes;
        Inner {
            host: Host::new(Arc::new(Listener::default()), self.path("mounts")),
            config: serde_json::from_value(config).unwrap(),
            lvm,
            group: Group {
                name: group.name,
                uuid: group.uuid,
                devices: BTreeMap::new(),
            },
            turns: Turns::default(),
        }
    }

    /// LVM's configuration.
    pub(crate) fn settings(&self) -> String {
        fs::read_to_string(self.path("settings/lvm.conf")).unwrap_or_default()
    }

    /// What changed something, in order.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.lines("calls")
    }

    /// All programs that were started since the last time this was asked, in order, with the first
    /// word of each.
    pub(crate) fn starts(&self) -> Vec<String> {
        let starts = self.lines("starts");
        self.set("starts", "");
        starts
    }

    fn lines(&self, file: &str) -> Vec<String> {
        let text = fs::read_to_string(self.path(file)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}
