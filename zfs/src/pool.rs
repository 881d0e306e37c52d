//! The pool: imported by its GUID, made if it was told how, exported in the end.

use std::fs;
use std::path::Path;
use std::time::Duration;

use lazarette_plugin::command::Command;
use lazarette_plugin::{Error, ErrorKind, Host, Level, Result};

use crate::blank;
use crate::config::{Config, Create};
use crate::importable::{self, Importable};
use crate::programs::Programs;
use crate::report;
use crate::status::Vdev;
use crate::values::{Guid, PoolName};

/// Looking at all devices, and importing a pool that was not exported, replays logs.
const IMPORT: Duration = Duration::from_secs(50);
/// Making partitions waits for udev.
const CREATE: Duration = Duration::from_secs(50);
/// The last data is written.
const EXPORT: Duration = Duration::from_secs(40);
/// Where devices are looked for unless the configuration names them: by names that stay.
const STABLE_NAMES: &str = "/dev/disk/by-id";
/// The dataset below which volumes are made.
pub(crate) const PARENT: &str = "lazarette";

/// What the kernel says of an imported pool without asking its devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    /// It is not imported.
    Absent,
    /// Its I/O waits for its devices.
    Suspended,
    /// It is imported: `ONLINE`, `DEGRADED`, …
    Imported(String),
}

/// Asks the kernel; never waits for the pool's devices.
pub(crate) fn state(programs: &Programs, pool: &PoolName) -> State {
    let file = programs.kstat.join(pool.as_str()).join("state");
    match fs::read_to_string(file) {
        Ok(text) if text.trim() == "SUSPENDED" => State::Suspended,
        Ok(text) => State::Imported(text.trim().to_owned()),
        Err(_) => State::Absent,
    }
}

/// Refuses what would wait for ever.
///
/// # Errors
/// `Unreachable` if the pool is suspended, `NotFound` if it is not imported.
pub(crate) fn ensure_serving(programs: &Programs, pool: &PoolName) -> Result<()> {
    match state(programs, pool) {
        State::Imported(_) => Ok(()),
        State::Suspended => Err(Error::new(
            ErrorKind::Unreachable,
            format!("the pool {pool} is suspended: its devices do not answer"),
        )
        .remedy("bring them back, then run laz pool clear CONTEXT")),
        State::Absent => Err(Error::new(
            ErrorKind::NotFound,
            format!("the pool {pool} is not imported"),
        )
        .remedy("it is imported by itself when its devices are there: see laz status")),
    }
}

/// Imports the pool, or makes it, unless it is imported.
///
/// # Errors
/// What is wrong with it or with its devices.
pub(crate) fn bring_up(host: &Host, programs: &Programs, config: &Config) -> Result<()> {
    if let Some(guid) = imported_guid(programs, &config.pool) {
        return match config.guid {
            Some(wanted) if Some(wanted) != guid => Err(other_guid(config, wanted, guid)),
            _ => Ok(()),
        };
    }
    let devices = config.search();
    let mut command = programs.zpool(IMPORT).arg("import");
    command = searching(command, devices.iter().map(|d| d.path()));
    let said = command
        .output()
        .map_err(|e| report::explain(&e, "cannot look for pools"))?;
    let found = importable::parse(&said.stdout_text());
    let complaint = String::from_utf8_lossy(&said.stderr);
    if found.is_empty() && !said.exit.success() && !complaint.contains("no pools available") {
        return Err(report::explain_message(&complaint, "cannot look for pools"));
    }
    match choose(&found, config)? {
        Some(pool) => import(host, programs, config, pool),
        None => match &config.create {
            Some(create) => make(host, programs, &config.pool, create),
            None => Err(absent(config, &found)),
        },
    }
}

/// Exports the pool that the context had under other options, and notes the one that it is to have:
/// whatever ends in between, no pool stays imported of which nobody knows.
///
/// # Errors
/// What keeps the other pool, naming it.
pub(crate) fn change_over(host: &Host, programs: &Programs, pool: &PoolName) -> Result<()> {
    let noted = fs::read_to_string(&programs.held).unwrap_or_default();
    if let Ok(former) = PoolName::parse(noted.trim())
        && former != *pool
    {
        let kept = |error: Error| {
            let what = format!("the context still has the pool {former}, not yet {pool}");
            Error::new(error.kind, what)
                .cause(error)
                .remedy(format!("it changes over as soon as nothing uses {former}"))
        };
        if state(programs, &former) == State::Suspended {
            return ensure_serving(programs, &former).map_err(kept);
        }
        export(host, programs, &former).map_err(kept)?;
    }
    fs::write(&programs.held, format!("{pool}\n"))
        .map_err(|e| Error::internal(format!("cannot write {}", programs.held.display())).cause(e))
}

/// Looks on these devices only; if there are none, on all of the machine's.
fn searching<'a>(command: Command, devices: impl Iterator<Item = &'a Path>) -> Command {
    let mut command = command;
    let mut any = false;
    for device in devices {
        any = true;
        command = command.arg("-d").arg(data_partition(device));
    }
    if any || !Path::new(STABLE_NAMES).is_dir() {
        return command;
    }
    command.args(["-d", STABLE_NAMES])
}

/// The partition with the data, if zpool(8) was given the whole disk and made some.
fn data_partition(device: &Path) -> std::path::PathBuf {
    let text = device.display().to_string();
    let by_name = text.starts_with("/dev/disk/");
    let digit = text.ends_with(|c: char| c.is_ascii_digit());
    let partition = match (by_name, digit) {
        (true, _) => format!("{text}-part1"),
        (false, true) => format!("{text}p1"),
        (false, false) => format!("{text}1"),
    };
    let partition = std::path::PathBuf::from(partition);
    if partition.exists() {
        partition
    } else {
        device.to_owned()
    }
}

/// The GUID of an imported pool, where the kernel says it.
fn imported_guid(programs: &Programs, pool: &PoolName) -> Option<Option<Guid>> {
    let directory = programs.kstat.join(pool.as_str());
    if !directory.join("state").exists() {
        return None;
    }
    let guid = fs::read_to_string(directory.join("guid")).ok();
    Some(guid.and_then(|text| Guid::parse(text.trim()).ok()))
}

fn other_guid(config: &Config, wanted: Guid, found: Option<Guid>) -> Error {
    let found = found.map_or_else(|| "another".to_owned(), |guid| guid.to_string());
    Error::new(
        ErrorKind::AlreadyExists,
        format!(
            "a pool {} is imported, but its GUID is {found}, not {wanted}",
            config.pool
        ),
    )
    .remedy("export that one, or correct guid")
}

/// The pool that is meant.
fn choose<'a>(found: &'a [Importable], config: &Config) -> Result<Option<&'a Importable>> {
    let name = config.pool.as_str();
    if let Some(guid) = config.guid {
        let guid = guid.to_string();
        let Some(pool) = found.iter().find(|pool| pool.guid == guid) else {
            return Ok(None);
        };
        if pool.name == name {
            return Ok(Some(pool));
        }
        return Err(Error::invalid(format!(
            "the pool with GUID {guid} is {}, not {name}",
            pool.name
        ))
        .remedy(format!("set pool: {}", pool.name)));
    }
    let named: Vec<&Importable> = found.iter().filter(|pool| pool.name == name).collect();
    match named.as_slice() {
        [] => Ok(None),
        [only] => Ok(Some(only)),
        several => {
            let guids: Vec<&str> = several.iter().map(|pool| pool.guid.as_str()).collect();
            Err(
                Error::invalid(format!("{} pools are called {name}", several.len()))
                    .remedy(format!("set guid to one of {}", guids.join(", "))),
            )
        }
    }
}

fn absent(config: &Config, found: &[Importable]) -> Error {
    let others: Vec<&str> = found.iter().map(|pool| pool.name.as_str()).collect();
    let cause = if others.is_empty() {
        "no pool is on the devices".to_owned()
    } else {
        format!("on the devices are {}", others.join(", "))
    };
    let what = match config.guid {
        Some(guid) => format!("there is no pool {} with GUID {guid}", config.pool),
        None => format!("there is no pool {}", config.pool),
    };
    Error::new(ErrorKind::NotFound, what)
        .cause(cause)
        .remedy("attach its devices, or say how to make it: create: {layout: mirror, devices: […]}")
}

fn import(host: &Host, programs: &Programs, config: &Config, pool: &Importable) -> Result<()> {
    if !config.force_import && pool.is_foreign() {
        // Trying tells which machine had it.
        host.log(Level::Warn, format!("{}: {}", pool.name, pool.status));
    }
    let devices = config.search();
    // Nothing is mounted but by us, and no list of pools is kept: the configuration is that list.
    let mut command = programs
        .zpool(IMPORT)
        .args(["import", "-N", "-o", "cachefile=none"]);
    if config.force_import {
        command = command.arg("-f");
    }
    command = searching(command, devices.iter().map(|d| d.path()));
    let what = format!("cannot import the pool {}", pool.name);
    match command.arg("--").arg(&pool.guid).run() {
        Ok(_) => {
            host.log(
                Level::Info,
                format!("imported {} ({}, {})", pool.name, pool.guid, pool.state),
            );
            Ok(())
        }
        // Another call, or the one before a crash, was quicker.
        Err(_) if imported_guid(programs, &config.pool).is_some() => Ok(()),
        Err(failed) => {
            let mut error = report::explain(&failed, &what);
            if error.kind == ErrorKind::Internal || error.kind == ErrorKind::Unreachable {
                let bad: Vec<String> = pool
                    .devices
                    .iter()
                    .filter(|leaf| leaf.is_bad())
                    .map(|leaf| format!("{} {}", leaf.name, leaf.state))
                    .collect();
                if !bad.is_empty() {
                    let cause = error.cause.take().unwrap_or_default();
                    error = error.cause(format!("{cause} ({})", bad.join(", ")));
                }
            }
            Err(error)
        }
    }
}

/// Makes the pool on devices on which nothing is.
fn make(host: &Host, programs: &Programs, pool: &PoolName, create: &Create) -> Result<()> {
    for device in create.all() {
        blank::ensure(host, programs, device.path(), create.wipe)?;
    }
    let mut command = programs
        .zpool(CREATE)
        .args(["create", "-o", "cachefile=none"]);
    if let Some(ashift) = create.ashift {
        command = command.arg("-o").arg(format!("ashift={ashift}"));
    }
    for (name, value) in &create.properties.0 {
        command = command.arg("-o").arg(format!("{name}={value}"));
    }
    for (name, value) in &create.dataset_properties.0 {
        command = command.arg("-O").arg(format!("{name}={value}"));
    }
    if !create.dataset_properties.0.contains_key("mountpoint") {
        command = command.args(["-O", "mountpoint=none"]);
    }
    let what = format!("cannot make the pool {pool}");
    command
        .arg("--")
        .arg(pool.as_str())
        .args(create.vdevs())
        .run()
        .map_err(|e| report::explain(&e, &what))?;
    host.log(Level::Info, format!("made the pool {pool}"));
    Ok(())
}

/// Makes the dataset below which volumes are made, if it is not there.
///
/// # Errors
/// What zfs(8) says.
pub(crate) fn ensure_parent(programs: &Programs, limit: Duration, pool: &PoolName) -> Result<()> {
    let name = format!("{pool}/{PARENT}");
    let made = programs
        .zfs(limit)
        .args([
            "create",
            "-o",
            "canmount=off",
            "-o",
            "mountpoint=none",
            "--",
        ])
        .arg(&name)
        .run();
    match made {
        Ok(_) => Ok(()),
        Err(failed) if failed.stderr.contains("dataset already exists") => Ok(()),
        Err(failed) => Err(report::explain(&failed, &format!("cannot make {name}"))),
    }
}

/// Has the kernel open the pool's devices anew, whatever it thinks of them.
///
/// # Errors
/// What zpool(8) says; `Unreachable` if the pool is suspended.
pub(crate) fn reopen(programs: &Programs, pool: &PoolName, limit: Duration) -> Result<()> {
    programs
        .zpool(limit)
        .args(["reopen", "-n", "--", pool.as_str()])
        .run()
        .map(drop)
        .map_err(|e| report::explain(&e, &format!("cannot open the devices of {pool} anew")))
}

/// Has a spare stand in for a device that has failed; what was done, in words.
///
/// # Errors
/// What zpool(8) says.
pub(crate) fn put_in_spare(
    programs: &Programs,
    pool: &PoolName,
    failed: &Vdev,
    spare: &str,
) -> Result<String> {
    let (place, state) = (failed.place(), &failed.state);
    programs
        .zpool(CREATE)
        .args(["replace", "--", pool.as_str(), failed.id(), spare])
        .run()
        .map_err(|e| {
            let what = format!("the spare {spare} cannot stand in for {place}, which is {state}");
            report::explain(&e, &what)
        })?;
    Ok(format!(
        "the spare {spare} stands in for {place}, which is {state}"
    ))
}

/// Exports the pool; nothing if it is not imported.
///
/// # Errors
/// `Busy` if something uses it.
pub(crate) fn export(host: &Host, programs: &Programs, pool: &PoolName) -> Result<()> {
    if state(programs, pool) == State::Absent {
        return Ok(());
    }
    let what = format!("cannot export the pool {pool}");
    let exported = programs
        .zpool(EXPORT)
        .args(["export", "--", pool.as_str()])
        .run();
    match exported {
        Ok(_) => {
            host.log(Level::Info, format!("exported {pool}"));
            Ok(())
        }
        Err(_) if state(programs, pool) == State::Absent => Ok(()),
        Err(failed) => Err(report::explain(&failed, &what)),
    }
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
