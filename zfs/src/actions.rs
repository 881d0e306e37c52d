//! What else can be done to pools and volumes.

use lazarette_plugin::schemars::{self, JsonSchema};
use lazarette_plugin::serde_json::{Value, json};
use lazarette_plugin::values::without_null;
use lazarette_plugin::{Action, ActionOn, Call, Error, NoParameters, Result, Volume};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::blank;
use crate::config::VolumeOptions;
use crate::dataset::Datasets;
use crate::pool;
use crate::programs::time_for;
use crate::report;
use crate::status;
use crate::streams;
use crate::values::{Device, Layout, PropertyValue, is_property};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Scrub {
    /// Stop it instead.
    #[serde(default)]
    stop: bool,
    /// Pause it instead; starting it again goes on.
    #[serde(default)]
    pause: bool,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Trim {
    /// Stop it instead.
    #[serde(default)]
    stop: bool,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Replace {
    /// The device to replace, as `status` names it: a path, or the number of one that is missing.
    old: String,
    /// The blank device that takes its place.
    new: Device,
    /// Whether that device is wiped if it is not blank; without it it is refused.
    #[serde(default)]
    wipe: bool,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = without_null)]
struct Add {
    /// How the devices are put together, as in `create`; stripe unless told.
    #[serde(default)]
    layout: Option<Layout>,
    /// Blank devices.
    devices: Vec<Device>,
    /// What they are for; data unless told.
    #[serde(default)]
    class: Option<Class>,
    /// Whether devices that are not blank are wiped; without it they are refused.
    #[serde(default)]
    wipe: bool,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum Class {
    Data,
    Log,
    Cache,
    Special,
    Spare,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct OneDevice {
    /// The device, as `status` names it.
    device: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Set {
    /// The property's name (zfsprops(7)).
    property: String,
    /// Its value.
    value: PropertyValue,
}

/// All actions.
pub(crate) fn all() -> Vec<Action> {
    use ActionOn::{Context, Volume};
    vec![
        Action::new::<NoParameters>(
            Context,
            "status",
            "Show the pool's devices and their errors",
        ),
        Action::new::<NoParameters>(
            Context,
            "datasets",
            "List the pool's datasets and snapshots",
        ),
        Action::new::<Scrub>(Context, "scrub", "Read everything and mend what is damaged"),
        Action::new::<Trim>(Context, "trim", "Tell the devices which blocks are free"),
        Action::new::<NoParameters>(
            Context,
            "clear",
            "Forget the devices' errors; a suspended pool goes on",
        ),
        Action::new::<Replace>(
            Context,
            "replace",
            "Put a blank device in the place of another",
        )
        .losing("the redundancy that the old device gives, once it is replaced"),
        Action::new::<Add>(Context, "add", "Make the pool larger")
            .losing("the way back: most devices cannot be taken out of a pool again"),
        Action::new::<OneDevice>(Context, "offline", "Stop using a device for now")
            .losing("the redundancy that the device gives, until it is online again"),
        Action::new::<OneDevice>(Context, "online", "Use a device again"),
        Action::new::<streams::Send>(Volume, "send", "Copy the volume to a file or another pool"),
        Action::new::<streams::Receive>(Volume, "receive", "Put what was sent into the volume")
            .losing("what the volume holds now"),
        Action::new::<Set>(Volume, "set", "Set a property of ZFS"),
    ]
}

/// Of what goes on by itself.
const BEGUN: &str = "begun; laz status shows how far it is";

/// Does one.
///
/// # Errors
/// What zpool(8) and zfs(8) say.
pub(crate) fn act(
    datasets: &Datasets,
    call: &Call,
    action: &str,
    volume: Option<&Volume<VolumeOptions>>,
    parameters: Value,
) -> Result<Value> {
    let pool = datasets.pool.as_str();
    match (action, volume) {
        ("status", None) => show(datasets, call),
        ("datasets", None) => list(datasets, call),
        ("scrub", None) => {
            let wanted: Scrub = read(action, parameters)?;
            let (how, state): (&[&str], _) = match (wanted.stop, wanted.pause) {
                (true, _) => (&["-s"], "stopped"),
                (false, true) => (&["-p"], "paused; scrub again to go on"),
                (false, false) => (&[], BEGUN),
            };
            zpool(datasets, call, "scrub", how, &[])?;
            Ok(json!(format!("{pool}: scrub {state}")))
        }
        ("trim", None) => {
            let wanted: Trim = read(action, parameters)?;
            let (how, state): (&[&str], _) = match wanted.stop {
                true => (&["-c"], "stopped"),
                false => (&[], BEGUN),
            };
            zpool(datasets, call, "trim", how, &[])?;
            Ok(json!(format!("{pool}: trim {state}")))
        }
        // The one thing that a suspended pool waits for.
        ("clear", None) => clear(datasets, call),
        ("replace", None) => {
            let wanted: Replace = read(action, parameters)?;
            blank::ensure(
                &datasets.host,
                &datasets.programs,
                wanted.new.path(),
                wanted.wipe,
            )?;
            let new = wanted.new.to_string();
            let old = vdev(&wanted.old)?;
            zpool(datasets, call, "replace", &[], &[old, &new])?;
            Ok(json!(format!("{pool}: {new} for {old}: {BEGUN}")))
        }
        ("add", None) => add(datasets, call, &read(action, parameters)?),
        ("offline" | "online", None) => {
            let wanted: OneDevice = read(action, parameters)?;
            let device = vdev(&wanted.device)?;
            zpool(datasets, call, action, &[], &[device])?;
            Ok(json!(format!("{pool}: {device} is {action}")))
        }
        ("send", Some(volume)) => streams::send(datasets, call, volume, &read(action, parameters)?),
        ("receive", Some(volume)) => {
            streams::receive(datasets, call, volume, &read(action, parameters)?)
        }
        ("set", Some(volume)) => {
            let wanted: Set = read(action, parameters)?;
            if !is_property(&wanted.property) {
                return Err(Error::invalid("property: not a property's name")
                    .remedy("zfsprops(7) lists the names"));
            }
            datasets.set_property(call, volume, &wanted.property, wanted.value.as_str())?;
            Ok(json!(format!("{}={}", wanted.property, wanted.value)))
        }
        _ => Err(Error::unsupported(action, "zfs")),
    }
}

fn read<P: DeserializeOwned>(action: &str, parameters: Value) -> Result<P> {
    serde_json::from_value(parameters)
        .map_err(|e| Error::invalid(format!("parameters of {action}")).cause(e))
}

/// A device as zpool(8) names them: a path, a name, a GUID.
fn vdev(text: &str) -> Result<&str> {
    let fine = !text.is_empty()
        && text.len() <= 255
        && !text.starts_with('-')
        && !text
            .chars()
            .any(|c| c.is_control() || c.is_whitespace() || c == ',');
    if fine {
        return Ok(text);
    }
    Err(Error::invalid("not the name of a device").remedy("laz pool status CONTEXT lists them"))
}

fn zpool(
    datasets: &Datasets,
    call: &Call,
    verb: &str,
    options: &[&str],
    operands: &[&str],
) -> Result<()> {
    pool::ensure_serving(&datasets.programs, &datasets.pool)?;
    datasets
        .programs
        .zpool(time_for(call))
        .arg(verb)
        .args(options)
        .args(["--", datasets.pool.as_str()])
        .args(operands)
        .run()
        .map(drop)
        .map_err(|e| report::explain(&e, &format!("cannot {verb} {}", datasets.pool)))
}

fn clear(datasets: &Datasets, call: &Call) -> Result<Value> {
    if pool::state(&datasets.programs, &datasets.pool) != pool::State::Suspended {
        // Clearing alone does not look whether a device that counts as good is another one by now.
        pool::reopen(&datasets.programs, &datasets.pool, time_for(call))?;
    }
    datasets
        .programs
        .zpool(time_for(call))
        .args(["clear", "--", datasets.pool.as_str()])
        .run()
        .map_err(|e| report::explain(&e, &format!("cannot clear {}", datasets.pool)))?;
    Ok(json!(format!("{}: cleared", datasets.pool)))
}

fn show(datasets: &Datasets, call: &Call) -> Result<Value> {
    pool::ensure_serving(&datasets.programs, &datasets.pool)?;
    let pool = datasets.pool.as_str();
    let what = format!("cannot look at {pool}");
    let output = datasets
        .programs
        .zpool(time_for(call))
        .args(["status", "-j", "--json-int", "-P", "--", pool])
        .run()
        .map_err(|e| report::explain(&e, &what))?;
    status::parse(&output.stdout_text(), pool)
        .map(|found| found.describe(pool))
        .ok_or_else(|| Error::internal(what).cause("zpool status is not understood"))
}

/// Columns of the list.
const COLUMNS: [&str; 6] = ["name", "type", "used", "referenced", "mountpoint", "origin"];

fn list(datasets: &Datasets, call: &Call) -> Result<Value> {
    pool::ensure_serving(&datasets.programs, &datasets.pool)?;
    let output = datasets
        .programs
        .zfs(time_for(call))
        .args(["list", "-H", "-t", "all", "-o"])
        .arg(COLUMNS.join(","))
        .args(["-r", "--", datasets.pool.as_str()])
        .run()
        .map_err(|e| report::explain(&e, "cannot list the pool's datasets"))?;
    let row = |line: &str| -> Value {
        let cells = COLUMNS.iter().copied().map(str::to_owned);
        let values = line.split('\t').map(Value::from);
        cells.zip(values).collect::<serde_json::Map<_, _>>().into()
    };
    Ok(output.stdout_text().lines().map(row).collect())
}

fn add(datasets: &Datasets, call: &Call, wanted: &Add) -> Result<Value> {
    if wanted.devices.is_empty() {
        return Err(Error::invalid("add: no devices").remedy("give devices=/dev/disk/by-id/…"));
    }
    for device in &wanted.devices {
        blank::ensure(
            &datasets.host,
            &datasets.programs,
            device.path(),
            wanted.wipe,
        )?;
    }
    let mut words: Vec<String> = Vec::new();
    let class = match wanted.class.unwrap_or(Class::Data) {
        Class::Data => None,
        Class::Log => Some("log"),
        Class::Cache => Some("cache"),
        Class::Special => Some("special"),
        Class::Spare => Some("spare"),
    };
    words.extend(class.map(str::to_owned));
    let layout = wanted.layout.as_ref().and_then(Layout::word);
    words.extend(layout.map(str::to_owned));
    words.extend(wanted.devices.iter().map(ToString::to_string));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    zpool(datasets, call, "add", &[], &words)?;
    let devices: Vec<String> = wanted.devices.iter().map(ToString::to_string).collect();
    let (pool, devices) = (datasets.pool.as_str(), devices.join(", "));
    Ok(json!(format!("{pool} has {devices} now")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_that_lose_something_say_what() {
        for name in ["replace", "add", "receive", "offline"] {
            let action = all().into_iter().find(|a| a.name == name).unwrap();
            assert!(action.loses.is_some(), "{name}");
        }
        for action in all() {
            let text = action.parameters.to_string();
            assert!(!text.contains("null"), "{}: {text}", action.name);
            let fields = action.parameters["properties"].as_object();
            for (field, schema) in fields.into_iter().flatten() {
                assert_ne!(
                    schema["type"], "object",
                    "{}.{field} is not flat",
                    action.name
                );
            }
        }
    }

    #[test]
    fn a_device_is_no_option() {
        assert!(vdev("/dev/disk/by-id/x").is_ok() && vdev("1234567").is_ok());
        for bad in ["", "-f", "a b", "a,b", "a\n"] {
            assert!(vdev(bad).is_err(), "{bad:?}");
        }
    }
}
