//! What `zpool status -j` says.

use lazarette_plugin::serde_json::{Map, Value, json};
use lazarette_plugin::{Activity, HealthState};

/// A pool as its tool describes it.
#[derive(Debug, Clone, PartialEq)]
pub struct PoolStatus {
    /// `ONLINE`, `DEGRADED`, …
    pub state: String,
    /// What is wrong, in a sentence or two.
    pub status: Option<String>,
    /// All devices, in the order of the tree.
    pub devices: Vec<Vdev>,
    /// A scrub or a resilver, running or done.
    pub scan: Option<Scan>,
    /// How many blocks are beyond repair.
    pub errors: u64,
}

/// A device or a group of devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vdev {
    /// What it is for: `data`, `logs`, `l2cache`, `spares`, …
    pub class: String,
    /// Its name: `mirror-0`, `virtio-disk1`, or the GUID of one that is missing.
    pub name: String,
    /// Its state.
    pub state: String,
    /// `mirror`, `disk`, …
    pub kind: String,
    /// Where it is, or was.
    pub path: Option<String>,
    /// What zpool(8) knows it by whatever becomes of its path.
    pub guid: Option<String>,
    /// The name of what it is a part of: `mirror-0`, `spare-1`, the pool.
    pub group: String,
    /// What kind that is: `mirror`, `raidz`, `draid`, `spare`, `replacing`, `root`, …
    pub group_kind: String,
    /// Errors of reading, writing and checksums.
    pub errors: [u64; 3],
}

impl Vdev {
    /// Whether it is a device and no group.
    pub fn is_leaf(&self) -> bool {
        matches!(self.kind.as_str(), "disk" | "file" | "dspare")
    }

    /// Where it is, else its name.
    pub fn place(&self) -> &str {
        self.path.as_deref().unwrap_or(&self.name)
    }

    /// What zpool(8) finds it by.
    pub fn id(&self) -> &str {
        self.guid.as_deref().unwrap_or(&self.name)
    }

    /// Whether it is a spare that is spread over all devices of a draid.
    pub fn is_distributed(&self) -> bool {
        self.kind == "dspare"
    }

    /// Whether it serves.
    fn is_fine(&self) -> bool {
        matches!(self.state.as_str(), "ONLINE" | "AVAIL" | "INUSE")
    }
}

/// A scrub or a resilver.
#[derive(Debug, Clone, PartialEq)]
pub struct Scan {
    /// `scrub` or `resilver`.
    pub name: String,
    /// `SCANNING`, `FINISHED`, `CANCELED`, …
    pub state: String,
    /// How much of it is done, between 0 and 1.
    pub share: Option<f32>,
    /// Errors that it found.
    pub errors: u64,
    /// Whether it is paused.
    pub paused: bool,
}

/// Reads the status of `pool`, whatever the text is; none if it says nothing of it.
pub fn parse(text: &str, pool: &str) -> Option<PoolStatus> {
    let all: Value = serde_json::from_str(text).ok()?;
    let found = all.get("pools")?.get(pool)?;
    let line = |name: &str| {
        let text = found.get(name)?.as_str()?;
        Some(text.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    let mut devices = Vec::new();
    let classes = [
        ("data", "vdevs"),
        ("dedup", "dedup"),
        ("special", "special"),
        ("logs", "logs"),
        ("l2cache", "l2cache"),
        ("spares", "spares"),
    ];
    for (class, field) in classes {
        if let Some(tree) = found.get(field).and_then(Value::as_object) {
            let root = Place {
                class,
                group: "",
                kind: "root",
                depth: 0,
            };
            collect(&root, tree, pool, &mut devices);
        }
    }
    Some(PoolStatus {
        state: line("state")?,
        status: line("status"),
        devices,
        scan: found.get("scan_stats").and_then(scan),
        errors: found.get("error_count").map_or(0, number),
    })
}

/// Deeper than any pool's tree.
const DEEPEST: usize = 8;

/// Where in a pool's tree vdevs are.
struct Place<'a> {
    class: &'a str,
    /// The name and the kind of what they are parts of.
    group: &'a str,
    kind: &'a str,
    depth: usize,
}

fn collect(place: &Place<'_>, tree: &Map<String, Value>, pool: &str, all: &mut Vec<Vdev>) {
    for (name, vdev) in tree {
        let text = |field: &str| {
            let value = vdev.get(field).and_then(Value::as_str);
            value.map(str::to_owned)
        };
        let kind = text("vdev_type").unwrap_or_default();
        let root = kind == "root" || (place.depth == 0 && name == pool);
        if !root {
            all.push(Vdev {
                class: text("class")
                    .filter(|c| c != "normal" && place.class == "data")
                    .unwrap_or_else(|| place.class.to_owned()),
                name: name.clone(),
                state: text("state").unwrap_or_default(),
                kind: kind.clone(),
                path: text("path").or_else(|| text("was")),
                guid: vdev.get("guid").and_then(guid),
                group: place.group.to_owned(),
                group_kind: place.kind.to_owned(),
                errors: ERRORS.map(|field| vdev.get(field).map_or(0, number)),
            });
        }
        let below = vdev.get("vdevs").and_then(Value::as_object);
        if let Some(below) = below.filter(|_| place.depth < DEEPEST) {
            let inside = Place {
                class: place.class,
                group: name,
                kind: if root { "root" } else { &kind },
                depth: place.depth + 1,
            };
            collect(&inside, below, pool, all);
        }
    }
}

/// A vdev's errors of reading, writing and checksums.
const ERRORS: [&str; 3] = ["read_errors", "write_errors", "checksum_errors"];

/// In decimal digits, however it is written.
fn guid(value: &Value) -> Option<String> {
    match value {
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) => Some(text.clone()),
        _ => None,
    }
    .filter(|text| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()))
}

/// Numbers come as numbers or as text.
fn number(value: &Value) -> u64 {
    match value {
        Value::Number(number) => number.as_u64().unwrap_or(0),
        Value::String(text) => text.parse().unwrap_or(0),
        _ => 0,
    }
}

#[allow(clippy::cast_precision_loss)]
fn scan(stats: &Value) -> Option<Scan> {
    let text = |field: &str| stats.get(field).and_then(Value::as_str).unwrap_or("");
    let amount = |field: &str| stats.get(field).map_or(0, number);
    let total = amount("to_examine").saturating_sub(amount("skipped"));
    let issued = amount("issued").min(total);
    Some(Scan {
        name: match text("function") {
            "" | "NONE" => return None,
            name => name.to_ascii_lowercase(),
        },
        state: text("state").to_owned(),
        share: (total > 0).then(|| issued as f32 / total as f32),
        errors: amount("errors"),
        paused: amount("scrub_pause") > 0 || !matches!(text("scrub_pause"), "" | "-"),
    })
}

impl PoolStatus {
    /// The state of a context, and why.
    pub fn health(&self) -> (HealthState, Option<String>) {
        let bad: Vec<String> = self
            .devices
            .iter()
            .filter(|vdev| vdev.is_leaf() && !vdev.is_fine())
            .map(|vdev| {
                let stands_in = self.stand_in(vdev).map_or_else(String::new, |spare| {
                    format!(", the spare {} stands in", spare.place())
                });
                format!("{} is {}{stands_in}", vdev.place(), vdev.state)
            })
            .collect();
        let state = match self.state.as_str() {
            "ONLINE" if bad.is_empty() && self.errors == 0 => return (HealthState::Healthy, None),
            "ONLINE" | "DEGRADED" => HealthState::Degraded,
            _ => HealthState::Faulted,
        };
        let mut why = match (&bad[..], &self.status) {
            ([], Some(status)) => status.clone(),
            ([], None) => format!("the pool is {}", self.state),
            (bad, _) => bad.join(", "),
        };
        // A device that fails may be ONLINE for a while.
        let failing = self.devices.iter().filter(|vdev| vdev.is_leaf());
        for vdev in failing.filter(|vdev| vdev.is_fine() && vdev.errors != [0; 3]) {
            let [read, write, checksum] = vdev.errors;
            why.push_str(&format!(
                "; {}: {read} errors of reading, {write} of writing, {checksum} wrong checksums",
                vdev.place()
            ));
        }
        if self.errors > 0 {
            why.push_str(&format!("; {} blocks are beyond repair", self.errors));
        }
        (state, Some(why))
    }

    /// The spare that serves in the place of a device that does not.
    fn stand_in(&self, failed: &Vdev) -> Option<&Vdev> {
        let beside = |vdev: &&Vdev| vdev.group == failed.group && vdev.is_fine();
        let stands_in = failed.group_kind == "spare";
        self.devices.iter().find(beside).filter(|_| stands_in)
    }

    /// Errors of reading and writing of devices that count as good.
    pub fn failures(&self) -> u64 {
        let failing = self.devices.iter().filter(|vdev| vdev.is_leaf());
        failing
            .filter(|vdev| vdev.is_fine())
            .map(|vdev| vdev.errors[0].saturating_add(vdev.errors[1]))
            .fold(0, u64::saturating_add)
    }

    /// What the pool does by itself.
    pub fn activities(&self) -> Vec<Activity> {
        let running = self.scan.iter().filter(|scan| scan.state == "SCANNING");
        running
            .map(|scan| {
                let paused = if scan.paused { "paused, " } else { "" };
                let errors = match scan.errors {
                    0 => "no errors so far".to_owned(),
                    some => format!("{some} errors so far"),
                };
                Activity {
                    name: scan.name.clone(),
                    share: scan.share,
                    detail: Some(format!("{paused}{errors}")),
                }
            })
            .collect()
    }

    /// For people and programs: the pool and its devices, a row each.
    pub fn describe(&self, pool: &str) -> Value {
        let mut remarks: Vec<String> = self.status.iter().cloned().collect();
        if let Some(scan) = &self.scan {
            let share = scan.share.filter(|_| scan.state == "SCANNING");
            let share = share.map_or_else(String::new, |s| format!(" {:.0} %", s * 100.0));
            remarks.push(format!(
                "{} {}{share}, {} errors",
                scan.name, scan.state, scan.errors
            ));
        }
        if self.errors > 0 {
            remarks.push(format!("{} blocks are beyond repair", self.errors));
        }
        let row = |device: &str, class: &str, state: &str, errors: [u64; 3], remark: &str| {
            json!({
                "device": device, "class": class, "state": state,
                "read": errors[0], "write": errors[1], "checksum": errors[2],
                "remark": remark,
            })
        };
        let whole = row(pool, "pool", &self.state, [0; 3], &remarks.join("; "));
        let devices = self.devices.iter().map(|vdev| {
            let device = vdev.path.as_ref().unwrap_or(&vdev.name);
            // One that is missing is addressed by its number.
            let number = if *device == vdev.name { "" } else { &vdev.name };
            row(device, &vdev.class, &vdev.state, vdev.errors, number)
        });
        std::iter::once(whole).chain(devices).collect()
    }
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
