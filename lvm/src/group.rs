//! The volume group: found by name and UUID, made on blank devices, activated and deactivated.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use lazarette_plugin::{Error, ErrorKind, Host, Level, Result};

use crate::device_mapper;
use crate::devices::{self, Content};
use crate::lvm::{Devices, Lvm, Time};
use crate::options::{Config, ThinPool};
use crate::report::{self, Logical, Physical};
use crate::values::{DevicePath, readable};

/// A volume group that was found, activated as far as it can be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) name: String,
    pub(crate) uuid: String,
    /// The stable names of its devices by the UUIDs that LVM gave them, so that one that goes
    /// missing can be named.
    pub(crate) devices: BTreeMap<String, PathBuf>,
}

/// Finds the volume group or makes it, and activates it.
pub(crate) fn open(lvm: &Lvm, host: &Host, time: Time<'_>, config: &Config) -> Result<Group> {
    let looked_at = match config.devices.as_slice() {
        [] => Devices::All,
        some => Devices::Only(some.iter().map(PathBuf::from).collect()),
    };
    lvm.configure(&looked_at)?;
    let found = match find(lvm, time, config)? {
        Some(found) => found,
        None if config.create => {
            make(lvm, host, time, config)?;
            find(lvm, time, config)?.ok_or_else(|| absent(lvm, time, config))?
        }
        None => return Err(absent(lvm, time, config)),
    };
    refuse_foreign(&found.group)?;
    let group = Group {
        name: found.group.name,
        uuid: found.group.uuid,
        devices: found.devices,
    };
    if found.group.missing == 0 {
        // From now on a device of somebody else's that hangs does not matter.
        let paths = group.devices.values().cloned().collect();
        lvm.configure(&Devices::Only(paths))?;
    } else if !found.namesakes.is_empty() {
        // The missing one must be seen when it comes back, and a name must mean one group.
        lvm.configure(&Devices::Except(found.namesakes))?;
    }
    device_mapper::tidy(lvm, host, time, &group)?;
    activate(lvm, host, time, &group, found.group.missing > 0)?;
    if let Some(pool) = &config.thin_pool {
        ensure_pool(lvm, host, time, &group, pool)?;
    }
    Ok(group)
}

/// Deactivates it. What others use of it stays active.
pub(crate) fn close(lvm: &Lvm, host: &Host, time: Time<'_>, group: &Group) -> Result<()> {
    let what = format!("cannot deactivate the volume group {}", group.name);
    let failed = match lvm.run(time, &what, &["vgchange", "-an", "--", &group.name]) {
        Err(error) if error.kind == ErrorKind::NotFound => return Ok(()),
        Err(error) => error,
        Ok(()) => return Ok(()),
    };
    let open: Vec<Logical> = lvm
        .logicals(time, &group.name)?
        .into_iter()
        .filter(|l| l.open && l.is_public())
        .collect();
    if open.is_empty() || open.iter().any(|l| crate::stamp::volume(l).is_some()) {
        return Err(failed);
    }
    let names: Vec<&str> = open.iter().map(|l| l.name.as_str()).collect();
    let text = format!("{} stay active: the host uses them", names.join(", "));
    host.log(Level::Info, text);
    Ok(())
}

struct Found {
    group: report::Group,
    devices: BTreeMap<String, PathBuf>,
    /// The devices of other volume groups of the same name.
    namesakes: Vec<PathBuf>,
}

/// The volume group that is meant; refused if that is not certain.
fn find(lvm: &Lvm, time: Time<'_>, config: &Config) -> Result<Option<Found>> {
    let name = config.volume_group.as_str();
    let physicals = lvm.physicals(time)?;
    let mut groups = lvm.groups(time)?;
    groups.retain(|g| g.name == name);
    if let Some(uuid) = &config.uuid {
        let others: Vec<String> = groups.iter().map(|g| g.uuid.clone()).collect();
        groups.retain(|g| g.uuid == uuid.as_str());
        if groups.is_empty() && !others.is_empty() {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("the volume group {name} with the UUID {uuid}"),
            )
            .cause(format!(
                "there is one of that name with the UUID {}",
                others.join(", ")
            ))
            .remedy("plug its devices in, or correct uuid"));
        }
        if groups.is_empty() {
            return Ok(None);
        }
    }
    let group = match groups.len() {
        0 => return Ok(None),
        1 => groups.remove(0),
        _ => {
            let uuids: Vec<&str> = groups.iter().map(|g| g.uuid.as_str()).collect();
            return Err(Error::invalid(format!("the volume group {name}"))
                .cause(format!(
                    "there are several of that name: {}",
                    uuids.join(", ")
                ))
                .remedy("say which: uuid: UUID, or devices: [/dev/disk/by-id/…]"));
        }
    };
    let ours: Vec<&Physical> = physicals
        .iter()
        .filter(|p| p.group_uuid == group.uuid)
        .collect();
    refuse_duplicates(name, &physicals, &ours)?;
    let devices = ours
        .iter()
        .filter(|p| !p.missing && p.name.starts_with("/dev/"));
    let named = |p: &&Physical| {
        let node = devices::node(p.name.as_ref()).unwrap_or_else(|_| p.name.clone().into());
        (p.uuid.clone(), devices::stable(&node))
    };
    let devices = devices.map(named).collect();
    let namesakes = physicals
        .iter()
        .filter(|p| p.group == name && p.group_uuid != group.uuid && p.name.starts_with("/dev/"))
        .map(|p| p.name.clone().into())
        .collect();
    Ok(Some(Found {
        group,
        devices,
        namesakes,
    }))
}

fn refuse_duplicates(name: &str, all: &[Physical], ours: &[&Physical]) -> Result<()> {
    for physical in ours {
        let mut same: Vec<String> = all
            .iter()
            .filter(|p| p.uuid == physical.uuid)
            .map(|p| devices::stable(p.name.as_ref()).display().to_string())
            .collect();
        same.sort();
        if same.len() > 1 || physical.duplicate {
            let remedy = "take the copy away, or name the right ones: devices: [/dev/disk/by-id/…]";
            let what = format!("the volume group {name} is there twice");
            return Err(Error::invalid(what)
                .cause(format!("{} say to be the same device", same.join(" and ")))
                .remedy(remedy));
        }
    }
    Ok(())
}

fn refuse_foreign(group: &report::Group) -> Result<()> {
    let what = format!("the volume group {}", group.name);
    if group.exported {
        return Err(Error::new(ErrorKind::Busy, what)
            .cause("it is exported: it was taken out of its machine on purpose")
            .remedy("vgimport it, then it is taken over by itself"));
    }
    if !matches!(group.lock_type.as_str(), "" | "none") {
        return Err(Error::new(ErrorKind::Unsupported, what)
            .cause(format!(
                "other machines may use it at the same time ({})",
                group.lock_type
            ))
            .remedy("make it local: vgchange --lock-type none"));
    }
    if !group.system_id.is_empty() {
        return Err(Error::new(ErrorKind::PermissionDenied, what)
            .cause(format!(
                "it belongs to the machine with the system ID {}",
                group.system_id
            ))
            .remedy("change that there: vgchange --systemid \"\" VG"));
    }
    Ok(())
}

fn absent(lvm: &Lvm, time: Time<'_>, config: &Config) -> Error {
    let what = format!("the volume group {} is not there", config.volume_group);
    let missing: Vec<&str> = config
        .devices
        .iter()
        .filter(|d| devices::node(d.path()).is_err())
        .map(DevicePath::as_str)
        .collect();
    if !missing.is_empty() {
        return Error::not_found(what)
            .cause(format!("no device {}", missing.join(", ")))
            .remedy("plug it in; it is tried again by itself");
    }
    let groups = lvm.groups(time).unwrap_or_default();
    let names: Vec<&str> = groups.iter().map(|g| g.name.as_str()).collect();
    let cause = match names.as_slice() {
        [] => "there is none at all".to_owned(),
        names => format!("there are {}", names.join(", ")),
    };
    Error::not_found(what)
        .cause(cause)
        .remedy("check the name; to make it, set devices: [/dev/disk/by-id/…] and create: true")
}

/// Makes the volume group on the devices of the configuration.
fn make(lvm: &Lvm, host: &Host, time: Time<'_>, config: &Config) -> Result<()> {
    let name = config.volume_group.as_str();
    let nodes = prepare(lvm, time, &config.devices, config.wipe)?;
    let what = format!("cannot make the volume group {name}");
    let mut words = vec!["vgcreate", "--yes", "--", name];
    words.extend(nodes.iter().map(String::as_str));
    lvm.run(time, &what, &words)?;
    let devices: Vec<&str> = config.devices.iter().map(DevicePath::as_str).collect();
    host.log(
        Level::Info,
        format!("made the volume group {name} on {}", devices.join(", ")),
    );
    Ok(())
}

/// Sees to it that the devices may be taken, and wipes them if that is wanted. Their paths.
pub(crate) fn prepare(
    lvm: &Lvm,
    time: Time<'_>,
    wanted: &[DevicePath],
    wipe: bool,
) -> Result<Vec<String>> {
    let physicals = lvm.physicals(time)?;
    let mut nodes = Vec::new();
    for device in wanted {
        let node = devices::node(device.path())?;
        let what = format!("the device {device} cannot be taken");
        if devices::is_held(&node)? {
            return Err(Error::new(ErrorKind::Busy, what)
                .cause("it is in use: mounted, or part of something else")
                .remedy("free it first"));
        }
        let paths = [device.as_str(), &node.to_string_lossy()];
        let ours = physicals.iter().find(|p| {
            paths.contains(&p.name.as_str())
                || devices::node(p.name.as_ref()).is_ok_and(|found| found == node)
        });
        // One that was prepared before a crash, and lies in no volume group: it is as good as blank.
        let prepared = ours.is_some_and(|p| p.group.is_empty() && !p.in_use);
        if let Some(other) = ours.filter(|p| !p.group.is_empty()) {
            return Err(Error::invalid(what)
                .cause(format!("it belongs to the volume group {}", other.group))
                .remedy("choose another one, or remove that volume group by hand"));
        }
        let content = devices::content(&lvm.programs, time, &node)?;
        if content != Content::Blank && !prepared {
            if !wipe {
                return Err(Error::invalid(what)
                    .cause(format!("there is {} on it", content.describe()))
                    .remedy(
                        "choose another one, or set wipe: true, by which what is on it is lost",
                    ));
            }
            devices::wipe(&lvm.programs, time, &node)?;
        }
        nodes.push(device.as_str().to_owned());
    }
    Ok(nodes)
}

/// Activates all that is complete.
pub(crate) fn activate(
    lvm: &Lvm,
    host: &Host,
    time: Time<'_>,
    group: &Group,
    incomplete: bool,
) -> Result<()> {
    let what = format!("cannot activate the volume group {}", group.name);
    let words = ["vgchange", "--activate", "y", "--", group.name.as_str()];
    match lvm.run(time, &what, &words) {
        // Those on missing devices stay inactive; health tells which device it is.
        Err(error) if incomplete => host.log(Level::Warn, error.to_string()),
        Err(error) => return Err(error),
        Ok(()) => {}
    }
    await_nodes(lvm, time, group)
}

/// Devices that were missing are back: activates what lies on them, and lets redundant volumes
/// catch up.
pub(crate) fn reunite(lvm: &Lvm, host: &Host, time: Time<'_>, group: &Group) -> Result<()> {
    host.log(
        Level::Info,
        format!("all devices of {} are there again", group.name),
    );
    activate(lvm, host, time, group, false)?;
    let what = format!("cannot refresh the volume group {}", group.name);
    lvm.run(time, &what, &["vgchange", "--refresh", "--", &group.name])
}

/// The nodes of what is active are there: udev of the host may come in between, as it makes links
/// of the same names.
fn await_nodes(lvm: &Lvm, time: Time<'_>, group: &Group) -> Result<()> {
    for pause in [0, 50, 200, 1000] {
        thread::sleep(Duration::from_millis(pause));
        let logicals = lvm.logicals(time, &group.name)?;
        let absent = |l: &&Logical| l.active && l.is_public() && !l.is_pool() && !l.node.exists();
        if !logicals.iter().any(|l| absent(&l)) {
            return Ok(());
        }
        device_mapper::make_nodes(lvm, time)?;
    }
    Err(Error::internal(format!(
        "nodes of the volume group {} are missing in /dev/mapper",
        group.name
    ))
    .remedy("look at laz logs CONTEXT"))
}

/// Makes the thin pool if it is not there.
fn ensure_pool(
    lvm: &Lvm,
    host: &Host,
    time: Time<'_>,
    group: &Group,
    pool: &ThinPool,
) -> Result<()> {
    let logicals = lvm.logicals(time, &group.name)?;
    let name = pool.name.as_str();
    let what = format!("the thin pool {}/{name}", group.name);
    match logicals.iter().find(|l| l.name == name) {
        Some(found) if found.is_pool() => return Ok(()),
        Some(found) => {
            return Err(Error::new(ErrorKind::AlreadyExists, what)
                .cause(format!(
                    "a logical volume ({}) has its name",
                    found.layout.join(", ")
                ))
                .remedy("choose another name"));
        }
        None => {}
    }
    let groups = lvm.groups(time)?;
    let free = groups
        .iter()
        .find(|g| g.uuid == group.uuid)
        .map_or(0, |g| g.free);
    let Some(size) = pool.size else {
        return Err(Error::not_found(what)
            .cause("it is not there")
            .remedy("to make it, say how large: thin_pool: {name: pool, size: 80%}"));
    };
    let size = format!("{}b", size.bytes_of(free) / 512 * 512);
    let metadata = pool.metadata_size.map(|m| format!("{}b", m.bytes()));
    let chunk = pool.chunk_size.map(|c| format!("{}b", c.bytes()));
    // A pool that is full refuses writes at once instead of letting them wait for a minute. (With
    // `--type thin-pool` instead of `--thin`, lvcreate does not take that.)
    let mut words = vec!["lvcreate", "--yes", "--thin", "--errorwhenfull", "y"];
    words.extend(["--zero", "y", "--size", &size]);
    for (flag, value) in [("--poolmetadatasize", &metadata), ("--chunksize", &chunk)] {
        words.extend(value.iter().flat_map(|v| [flag, v.as_str()]));
    }
    let full = format!("{}/{name}", group.name);
    words.extend(["--", &full]);
    lvm.run(time, &format!("cannot make {what}"), &words)?;
    host.log(
        Level::Info,
        format!("made {what} in {} of free space", readable(free)),
    );
    Ok(())
}

#[cfg(test)]
#[path = "group_tests.rs"]
mod tests;
