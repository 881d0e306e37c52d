//! What can be done to a volume group beyond what every kind can do.

use std::path::{Path, PathBuf};

use lazarette_plugin::command::Command;
use lazarette_plugin::serde_json::{self, Value, json};
use lazarette_plugin::values::without_null;
use lazarette_plugin::{Action, ActionOn, Call, Error, JsonSchema, NoParameters, Result, Volume};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::cache::Cache;
use crate::context::Inner;
use crate::group;
use crate::lvm::{Devices, Time};
use crate::options::VolumeOptions;
use crate::report::Logical;
use crate::values::{DevicePath, LvmName, Size, Tag};
use crate::{devices, message, stamp};

/// Devices that are added.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Extend {
    /// Devices to add to the volume group, by stable paths.
    #[serde(default)]
    pub devices: Vec<DevicePath>,
    /// Whether they may have something on them, which is lost.
    #[serde(default)]
    pub wipe: bool,
    /// Also grows this thin pool, by all of the free space or by `size`.
    #[serde(default)]
    pub pool: Option<LvmName>,
    /// By how much the thin pool grows.
    #[serde(default)]
    pub size: Option<Size>,
}

/// A device that is taken out.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reduce {
    /// The device; what lies on it is moved to the others first.
    pub device: DevicePath,
}

/// A device in another one's place.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Replace {
    /// The device that goes.
    pub device: DevicePath,
    /// The device that takes its place.
    pub with: DevicePath,
    /// Whether the new one may have something on it, which is lost.
    #[serde(default)]
    pub wipe: bool,
}

/// Missing devices that are given up.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Repair {
    /// Whether volumes without redundancy that lie on missing devices are removed, with all that
    /// is in them.
    #[serde(default)]
    pub remove_lost: bool,
}

/// Tags that are added and taken away.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tags {
    /// Tags to add.
    #[serde(default)]
    pub add: Vec<Tag>,
    /// Tags to take away.
    #[serde(default)]
    pub remove: Vec<Tag>,
}

/// All actions, as the manifest shows them.
pub(crate) fn all() -> Vec<Action> {
    let context = ActionOn::Context;
    let mut all = vec![
        Action::new::<Extend>(context, "extend", "Add devices, or let a thin pool grow")
            .losing("what is on the new devices"),
        Action::new::<Reduce>(
            context,
            "reduce",
            "Move everything off a device and take it out",
        ),
        Action::new::<Replace>(context, "replace", "Put a device in another one's place")
            .losing("what is on the new device"),
        Action::new::<Repair>(
            context,
            "repair",
            "Give up missing devices; redundant volumes are made whole on the others",
        )
        .losing("what only the missing devices have"),
        Action::new::<NoParameters>(context, "devices", "Show the devices and how full they are"),
        Action::new::<NoParameters>(
            ActionOn::Volume,
            "trim",
            "Give the space of deleted files back to the thin pool or the device",
        ),
        Action::new::<Cache>(
            ActionOn::Volume,
            "cache",
            "Let a fast device of the group hold what is used most",
        ),
        Action::new::<NoParameters>(
            ActionOn::Volume,
            "uncache",
            "Write back what the cache holds, and take it away",
        ),
        Action::new::<Tags>(ActionOn::Volume, "tag", "Add LVM tags, or take them away"),
    ];
    for action in &mut all {
        if let Ok(mut schema) =
            lazarette_plugin::schemars::Schema::try_from(action.parameters.clone())
        {
            without_null(&mut schema);
            action.parameters = schema.to_value();
        }
    }
    all
}

/// What devices are called for good.
fn stable(nodes: &[PathBuf]) -> Vec<PathBuf> {
    nodes.iter().map(|node| devices::stable(node)).collect()
}

fn parameters<P: DeserializeOwned>(action: &str, value: Value) -> Result<P> {
    // None at all are the same as none of them.
    let value = if value.is_null() { json!({}) } else { value };
    serde_json::from_value(value).map_err(|e| {
        Error::invalid(format!("parameters of {action}"))
            .cause(e)
            .remedy("laz kinds lvm shows what it takes")
    })
}

impl Inner {
    /// Does an action.
    pub(crate) fn act(
        &self,
        call: &Call,
        action: &str,
        volume: Option<&Volume<VolumeOptions>>,
        given: Value,
    ) -> Result<Value> {
        match (action, volume) {
            ("extend", None) => self.extend(call, &parameters(action, given)?),
            ("reduce", None) => self.reduce(call, &parameters(action, given)?),
            ("replace", None) => self.replace_device(call, &parameters(action, given)?),
            ("repair", None) => self.repair(call, &parameters(action, given)?),
            ("devices", None) => {
                parameters::<NoParameters>(action, given)?;
                self.devices(call)
            }
            ("trim", Some(volume)) => {
                parameters::<NoParameters>(action, given)?;
                self.trim(call, volume)
            }
            ("cache", Some(volume)) => self.cache(call, volume, &parameters(action, given)?),
            ("uncache", Some(volume)) => {
                parameters::<NoParameters>(action, given)?;
                self.uncache(call, volume)
            }
            ("tag", Some(volume)) => self.change_tags(call, volume, &parameters(action, given)?),
            _ => Err(Error::unsupported(action, "lvm")
                .remedy("laz kinds lvm shows what can be done, and to what")),
        }
    }

    fn extend(&self, call: &Call, wanted: &Extend) -> Result<Value> {
        let time = Time::Of(call);
        let name = self.group.name.as_str();
        if wanted.devices.is_empty() && wanted.pool.is_none() {
            return Err(Error::invalid("nothing to extend with")
                .remedy("name devices (devices=/dev/disk/by-id/…), or a thin pool (pool=NAME)"));
        }
        self.add_devices(call, &wanted.devices, wanted.wipe)?;
        if let Some(pool) = &wanted.pool {
            let full = self.full(pool.as_str());
            let by = wanted.size.map(|s| format!("+{}b", s.bytes()));
            let words = match &by {
                Some(by) => vec!["lvextend", "--yes", "--size", by, "--", &full],
                None => vec!["lvextend", "--yes", "--extents", "+100%FREE", "--", &full],
            };
            self.lvm
                .run(time, &format!("cannot extend {full}"), &words)?;
        }
        self.host.changed();
        Ok(json!(format!("{name} was extended")))
    }

    /// Adds devices that are not in the group yet.
    fn add_devices(&self, call: &Call, wanted: &[DevicePath], wipe: bool) -> Result<()> {
        if wanted.is_empty() {
            return Ok(());
        }
        let time = Time::Of(call);
        let known = self.device_paths(time)?;
        let mut fresh = wanted.to_vec();
        fresh.retain(|d| devices::node(d.path()).map_or(true, |node| !known.contains(&node)));
        if fresh.is_empty() {
            return Ok(());
        }
        // Missing ones stay looked for: they may come back, under a name that nobody knows here.
        let paths: Vec<PathBuf> = fresh.iter().map(PathBuf::from).collect();
        let before = self.lvm.look_also_at(&paths)?;
        let nodes = match group::prepare(&self.lvm, time, &fresh, wipe) {
            Ok(nodes) => nodes,
            // One that is refused may be another group's, even of the same name.
            Err(refused) => {
                self.lvm.configure(&before)?;
                return Err(refused);
            }
        };
        let what = format!("cannot add devices to {}", self.group.name);
        let mut words = vec!["vgextend", "--yes", "--", &self.group.name];
        words.extend(nodes.iter().map(String::as_str));
        self.lvm.run(time, &what, &words)
    }

    /// The nodes of the group's devices.
    fn device_paths(&self, time: Time<'_>) -> Result<Vec<PathBuf>> {
        let physicals = self.lvm.physicals(time)?;
        let ours = physicals
            .iter()
            .filter(|p| p.group_uuid == self.group.uuid && !p.missing);
        ours.map(|p| devices::node(p.name.as_ref())).collect()
    }

    fn reduce(&self, call: &Call, wanted: &Reduce) -> Result<Value> {
        let time = Time::Of(call);
        let device = wanted.device.as_str();
        let node = devices::node(wanted.device.path())?;
        if self.device_paths(time)?.contains(&node) {
            self.take_out(call, device, &node)?;
        }
        self.host.changed();
        Ok(json!(format!(
            "{device} is no longer part of {}",
            self.group.name
        )))
    }

    /// Moves everything off the device, takes it out and makes it blank.
    fn take_out(&self, call: &Call, device: &str, node: &Path) -> Result<()> {
        let time = Time::Of(call);
        call.progress("moving what lies on it", None);
        let what = format!("cannot move what lies on {device}");
        match self
            .lvm
            .run(time, &what, &["pvmove", "--interval", "1", "--", device])
        {
            // It is empty already.
            Err(error)
                if error
                    .cause
                    .as_deref()
                    .is_some_and(|c| c.contains("No data to move")) => {}
            other => other?,
        }
        let what = format!("cannot take {device} out of {}", self.group.name);
        self.lvm
            .run(time, &what, &["vgreduce", "--", &self.group.name, device])?;
        let what = format!("cannot clear {device}");
        self.lvm
            .run(time, &what, &["pvremove", "--yes", "--", device])?;
        // It leaves the group's description behind the label that it takes away.
        devices::clear(&self.lvm.programs, time, node)
    }

    fn replace_device(&self, call: &Call, wanted: &Replace) -> Result<Value> {
        self.add_devices(call, std::slice::from_ref(&wanted.with), wanted.wipe)?;
        let (old, new) = (wanted.device.as_str(), wanted.with.as_str());
        match devices::node(wanted.device.path()) {
            Ok(node) => self.take_out(call, old, &node)?,
            // It is gone: redundant volumes are made whole with the new one.
            Err(_) => self.give_up(call, false)?,
        }
        self.host.changed();
        Ok(json!(format!("{new} has the place of {old}")))
    }

    fn repair(&self, call: &Call, wanted: &Repair) -> Result<Value> {
        self.give_up(call, wanted.remove_lost)?;
        self.host.changed();
        Ok(json!(format!("{} is complete", self.group.name)))
    }

    /// Makes redundant volumes whole without the missing devices, and forgets these.
    fn give_up(&self, call: &Call, remove_lost: bool) -> Result<()> {
        let time = Time::Of(call);
        let look = self.look(time)?;
        if look.group.missing == 0 {
            return Ok(());
        }
        let partial = |l: &&Logical| l.is_public() && l.health.contains("partial");
        for logical in look.all.iter().filter(partial) {
            let full = self.full(&logical.name);
            if self.do_without_cache(time, &look, logical, remove_lost)? {
                continue;
            }
            if logical.sync.is_some() {
                call.progress(&format!("repairing {full}"), None);
                let words = ["lvconvert", "--repair", "--yes", "--", &full];
                self.lvm
                    .run(time, &format!("cannot repair {full}"), &words)?;
            } else if !remove_lost {
                return Err(
                    Error::invalid(format!("{full} has no copy of what is missing"))
                        .cause(match stamp::volume(logical) {
                            Some(id) => format!("it is the volume {id}"),
                            None => "it lies on a missing device".into(),
                        })
                        .remedy("plug the device in again, or give its data up: remove_lost=true"),
                );
            }
        }
        let what = format!("cannot forget the missing devices of {}", self.group.name);
        let mut words = vec!["vgreduce", "--removemissing"];
        if remove_lost {
            words.push("--force");
        }
        words.extend(["--yes", "--", &self.group.name]);
        self.lvm.run(time, &what, &words)?;
        // What is given up is not waited for any more.
        let known = stable(&self.device_paths(time)?);
        self.lvm.configure(&Devices::Only(known))
    }

    fn devices(&self, call: &Call) -> Result<Value> {
        let physicals = self.lvm.physicals(Time::Of(call))?;
        let ours = physicals.iter().filter(|p| p.group_uuid == self.group.uuid);
        let row = |p: &crate::report::Physical| {
            let state = if p.missing { "missing" } else { "here" };
            json!({
                "device": match self.group.devices.get(&p.uuid) {
                    Some(name) => name.display().to_string(),
                    None => p.name.clone(),
                },
                "uuid": p.uuid,
                "size": crate::values::readable(p.size),
                "state": state,
            })
        };
        Ok(Value::Array(ours.map(row).collect()))
    }

    fn trim(&self, call: &Call, volume: &Volume<VolumeOptions>) -> Result<Value> {
        let time = Time::Of(call);
        let _turn = self.turns.take(call, volume.id)?;
        let (_, found) = self.existing(time, volume)?;
        let mut said = String::new();
        self.mounted(time, volume, &found, |path| {
            let output = Command::new(&self.lvm.programs.fstrim)
                .args(["--verbose", "--"])
                .arg(path)
                .deadline(time.left())
                .run()
                .map_err(|failed| {
                    message::explain(&failed, &format!("cannot trim {}", self.full(&found.name)))
                })?;
            let text = output.stdout_text();
            said = text
                .rsplit(": ")
                .next()
                .unwrap_or_default()
                .trim()
                .to_owned();
            Ok(())
        })?;
        Ok(json!(said))
    }

    fn change_tags(
        &self,
        call: &Call,
        volume: &Volume<VolumeOptions>,
        wanted: &Tags,
    ) -> Result<Value> {
        let time = Time::Of(call);
        let _turn = self.turns.take(call, volume.id)?;
        let (_, found) = self.existing(time, volume)?;
        let missing = |t: &&Tag| !found.has_tag(t.as_str());
        let added: Vec<&str> = wanted.add.iter().filter(missing).map(Tag::as_str).collect();
        let there = |t: &&Tag| found.has_tag(t.as_str());
        let removed: Vec<&str> = wanted
            .remove
            .iter()
            .filter(there)
            .map(Tag::as_str)
            .collect();
        self.tag(time, &found.name, &added, &removed)?;
        let (_, found) = self.existing(time, volume)?;
        let own = |t: &&String| !t.starts_with(crate::values::OUR_TAGS);
        let tags: Vec<&String> = found.tags.iter().filter(own).collect();
        Ok(json!({ "tags": tags }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fakes::Container;

    #[test]
    fn parameters_are_flat_and_strict() {
        for action in all() {
            let schema = &action.parameters;
            assert_eq!(
                schema["additionalProperties"],
                json!(false),
                "{}",
                action.name
            );
            let fields = schema["properties"]
                .as_object()
                .cloned()
                .unwrap_or_default();
            for (name, field) in fields {
                assert!(
                    field["type"].is_string(),
                    "{}: {name}: {field}",
                    action.name
                );
            }
        }
        let bad = parameters::<Extend>("extend", json!({"devices": ["/etc/passwd"]})).unwrap_err();
        assert!(bad.to_string().contains("/dev/disk/by-id"), "{bad}");
        parameters::<Reduce>("reduce", Value::Null).unwrap_err();
        parameters::<Repair>("repair", Value::Null).unwrap();
    }

    #[test]
    fn a_missing_device_is_still_looked_for_when_others_are_added() {
        let container = Container::new(&[]);
        let inner = container.inner(json!({"volume_group": "fast"}));
        let lost = "/dev/disk/by-id/lost";
        let looked_at = Devices::Only(vec![lost.into()]);
        inner.lvm.configure(&looked_at).unwrap();
        let pvs = json!({"report": [{"pv": []}]});
        container.set("pvs.json", &pvs.to_string());
        let wanted: Extend = serde_json::from_value(json!({"devices": ["/dev/fresh"]})).unwrap();
        let call = crate::fakes::call_of(std::time::Duration::from_secs(60));
        // There is no such device: it is not looked at any more.
        inner.extend(&call, &wanted).unwrap_err();
        let filter = container.settings();
        let only = format!("global_filter=[\"a|^{lost}$|\",\"r|.*|\"]");
        assert!(filter.contains(&only), "{filter}");
        // Missing when the group was opened, its name is not known: all devices are looked at.
        inner.lvm.configure(&Devices::All).unwrap();
        inner.extend(&call, &wanted).unwrap_err();
        assert!(!container.settings().contains("filter"));
        // Another group of the same name is there, whose device must not be taken.
        let namesakes = Devices::Except(vec!["/dev/null".into()]);
        inner.lvm.configure(&namesakes).unwrap();
        let wanted: Extend = serde_json::from_value(json!({"devices": ["/dev/null"]})).unwrap();
        let refused = inner.extend(&call, &wanted).unwrap_err().to_string();
        assert!(refused.contains("another volume group"), "{refused}");
    }

    #[test]
    fn what_is_given_up_is_not_looked_for_any_more() {
        let missing = [("vg_missing_pv_count", "1")];
        let container = Container::new(&[crate::fakes::row("home", "", &missing)]);
        let inner = container.inner(json!({"volume_group": "fast"}));
        let lost = "/dev/disk/by-id/lost";
        let both = [lost, "/dev/null"].map(PathBuf::from);
        inner.lvm.configure(&Devices::Only(both.into())).unwrap();
        // As it is when the lost one is forgotten.
        let kept = json!({"pv_name": "/dev/null", "pv_uuid": "u", "vg_name": "fast",
            "vg_uuid": inner.group.uuid, "pv_size": "1", "pv_missing": "0", "pv_duplicate": "0",
            "pv_in_use": "1"});
        let pvs = json!({"report": [{"pv": [kept]}]});
        container.set("pvs.json", &pvs.to_string());
        let call = crate::fakes::call_of(std::time::Duration::from_secs(60));
        inner.repair(&call, &Repair { remove_lost: false }).unwrap();
        assert_eq!(
            container.calls(),
            ["lvm vgreduce --removemissing --yes -- fast"]
        );
        let filter = container.settings();
        assert!(
            filter.contains("global_filter=[\"a|^/dev/null$|\",\"r|.*|\"]"),
            "{filter}"
        );
    }

    #[test]
    fn what_loses_data_says_so() {
        let losing: Vec<String> = all()
            .into_iter()
            .filter(|a| a.loses.is_some())
            .map(|a| a.name)
            .collect();
        assert_eq!(losing, ["extend", "replace", "repair"]);
    }
}
