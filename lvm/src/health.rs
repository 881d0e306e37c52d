//! How the volume group is, found out by a thread of its own with programs that are killed when
//! they take too long; and what it does by itself: growing, and setting right what a killed command
//! has left.

use std::sync::Arc;
use std::time::Duration;

use lazarette_plugin::monitor::{Look, Monitor};
use lazarette_plugin::{Activity, Capacity, Health, HealthState, Level, Result, VolumeHealth};

use crate::context::Inner;
use crate::device_mapper::{self, Mapping};
use crate::lvm::Time;
use crate::options::Autoextend;
use crate::report::{Group, Logical};
use crate::values::{DevicePath, readable};
use crate::{devices, group, stamp};

/// Between two looks at a group that is well, and at any other.
const CALM: Duration = Duration::from_secs(10);
const ALERT: Duration = Duration::from_secs(3);
/// How long a look may take.
const LIMIT: Duration = Duration::from_secs(20);
/// From so many per cent on, a pool or a thick snapshot needs attention.
const FULL: f64 = 80.0;

/// A cache is shown as an activity that never ends.
const CACHE: &str = "cache";

/// Looks once, then lets a thread go on looking.
///
/// # Errors
/// If there is no thread to be had.
pub(crate) fn watch(inner: &Arc<Inner>) -> Result<Monitor> {
    let mut course = Course::default();
    let first = look(inner, &mut course);
    let mut found = Some(first.clone());
    let inner = inner.clone();
    let host = inner.host.clone();
    Monitor::start(&host, first, move |_| {
        let health = found.take().unwrap_or_else(|| look(&inner, &mut course));
        Look {
            pause: pause(&health, course.untidy),
            health: Some(health),
        }
    })
}

/// How long it is until the next look, which is to come `soon` or not.
fn pause(health: &Health, soon: bool) -> Duration {
    let goes_on = |a: &Activity| a.name != CACHE;
    let busy =
        soon || health.state != HealthState::Healthy || health.activities.iter().any(goes_on);
    if busy { ALERT } else { CALM }
}

/// What follows from one look to the next.
#[derive(Default)]
struct Course {
    /// Something was suspended or left over at the last look: nobody is at work that long.
    untidy: bool,
    /// Why that could not be set right.
    left: Option<String>,
    /// A device was missing.
    incomplete: bool,
    /// What was last said of growing that failed.
    growing: Option<String>,
}

fn look(inner: &Inner, course: &mut Course) -> Health {
    let time = Time::limit(LIMIT);
    match observe(inner, time, course) {
        Ok(health) => health,
        Err(error) => Health::because(HealthState::Unreachable, error.to_string()),
    }
}

fn observe(inner: &Inner, time: Time<'_>, course: &mut Course) -> Result<Health> {
    let (name, uuid) = (&inner.group.name, &inner.group.uuid);
    let mapping = Mapping::of(&inner.lvm, time, &inner.group)?;
    let Some((group, mut logicals)) = inner.lvm.whole(time, name, uuid)? else {
        let why = format!("all devices of the volume group {name} are gone");
        return Ok(Health::because(HealthState::Faulted, why));
    };
    let missing = missing(inner, time, &group)?;
    if course.incomplete && missing.is_empty() {
        group::reunite(&inner.lvm, &inner.host, time, &inner.group)?;
    }
    if course.incomplete || group.missing > 0 {
        // What was just taken back is to be seen.
        logicals = inner.lvm.logicals(time, name)?;
    }
    course.incomplete = !missing.is_empty();
    let untidy = mapping.beside(&logicals).is_untidy();
    course.left = None;
    if untidy && course.untidy {
        let tidied = device_mapper::tidy(&inner.lvm, &inner.host, time, &inner.group);
        course.left = tidied.err().map(|error| error.to_string());
    }
    course.untidy = untidy;
    if let Some(policy) = &inner.config.autoextend
        && missing.is_empty()
    {
        grow(inner, time, policy, &logicals, course);
    }
    let mut health = judge(&group, &logicals, &missing);
    let failed = course.left.as_ref().or(course.growing.as_ref());
    if let (None, Some(why)) = (&health.reason, failed) {
        health.state = HealthState::Degraded;
        health.reason = Some(why.clone());
    }
    Ok(health)
}

/// The missing devices, by what LVM knows of them.
fn missing(inner: &Inner, time: Time<'_>, group: &Group) -> Result<Vec<String>> {
    if group.missing == 0 {
        return Ok(Vec::new());
    }
    let physicals = inner.lvm.physicals(time)?;
    let ours = || {
        physicals
            .iter()
            .filter(|p| p.group_uuid == group.uuid && p.missing)
    };
    // LVM has noted that they were missing, and they are there again.
    for back in ours().filter(|p| p.name.starts_with("/dev/")) {
        let what = format!("cannot take {} back", back.name);
        let words = [
            "vgextend",
            "--restoremissing",
            "--",
            &group.name,
            &back.name,
        ];
        inner.lvm.run(time, &what, &words)?;
        inner
            .host
            .log(Level::Info, format!("{} is there again", back.name));
    }
    let configured = inner.config.devices.iter().map(DevicePath::path);
    let absent: Vec<String> = configured
        .filter(|path| devices::node(path).is_err())
        .map(|path| path.display().to_string())
        .collect();
    Ok(ours()
        .filter(|p| !p.name.starts_with("/dev/"))
        .map(|p| match inner.group.devices.get(&p.uuid) {
            Some(name) => format!("{} (PV {})", name.display(), p.uuid),
            None if absent.len() == 1 => format!("{} (PV {})", absent[0], p.uuid),
            None => format!("PV {}", p.uuid),
        })
        .collect())
}

/// What is to be told of a group.
fn judge(group: &Group, logicals: &[Logical], missing: &[String]) -> Health {
    let mut reasons = Vec::new();
    if !missing.is_empty() {
        reasons.push(format!(
            "missing devices: {}; plug them in, or give them up: laz pool repair CONTEXT",
            missing.join(", ")
        ));
    }
    let mut volumes = Vec::new();
    for logical in logicals.iter().filter(|l| l.is_public() || l.is_pool()) {
        let Some((state, why)) = trouble(logical, !missing.is_empty()) else {
            continue;
        };
        match stamp::volume(logical) {
            Some(id) => volumes.push(VolumeHealth {
                id,
                state,
                reason: Some(why),
            }),
            None => reasons.push(why),
        }
    }
    if !volumes.is_empty() && reasons.is_empty() {
        reasons.push(format!("{} volumes need attention", volumes.len()));
    }
    let state = match reasons.is_empty() {
        true => HealthState::Healthy,
        false => HealthState::Degraded,
    };
    Health {
        state,
        reason: (!reasons.is_empty()).then(|| reasons.join("; ")),
        volumes,
        capacity: Some(Capacity {
            total: group.size,
            used: group.size.saturating_sub(group.free),
        }),
        activities: activities(logicals),
    }
}

/// What people know a logical volume by. Core has the name of a snapshot of ours, and puts it in the
/// identity's place.
fn called(logical: &Logical) -> String {
    match stamp::snapshot(logical) {
        Some(id) => format!("the snapshot {id}"),
        None if logical.is_thick_snapshot() => format!("the snapshot {}", logical.name),
        None => logical.name.clone(),
    }
}

/// What is wrong with a logical volume.
fn trouble(logical: &Logical, incomplete: bool) -> Option<(HealthState, String)> {
    let name = &called(logical);
    if logical.health.contains("partial") {
        return Some(match logical.is_redundant() && logical.active {
            true => (
                HealthState::Degraded,
                format!("{name} has lost a part: a device is missing"),
            ),
            false => (
                HealthState::Faulted,
                format!("{name} lies on a missing device"),
            ),
        });
    }
    if incomplete && !logical.active && stamp::volume(logical).is_some() {
        return Some((
            HealthState::Faulted,
            format!("{name} lies on a missing device"),
        ));
    }
    if logical.invalid {
        let why = format!("{name} ran full and is lost: remove it");
        return Some((HealthState::Degraded, why));
    }
    if logical.is_pool() && logical.health == "out_of_data" {
        let why = format!(
            "{name} is full (100 % of {}): writes that need space fail, what is there is read; \
             extend it (laz pool extend CONTEXT) or remove volumes",
            readable(logical.size)
        );
        return Some((HealthState::Degraded, why));
    }
    if !logical.health.is_empty() {
        return Some((HealthState::Degraded, format!("{name}: {}", logical.health)));
    }
    let fills = logical.is_pool() || logical.is_thick_snapshot();
    let shares = [("", logical.data), ("'s metadata", logical.metadata)];
    let (what, share) = shares
        .into_iter()
        .find_map(|(what, share)| share.filter(|s| fills && *s >= FULL).map(|s| (what, s)))?;
    let remedy = match logical.is_pool() {
        true => "no new volumes or snapshots until it is extended (laz pool extend CONTEXT)",
        false => "it is lost when it runs full: remove it, or give snapshots more (snapshot_size)",
    };
    let of = readable(logical.size);
    Some((
        HealthState::Degraded,
        format!("{name}{what}: {share:.1} % of {of} in use; {remedy}"),
    ))
}

/// Copies that are being brought into step, snapshots that are merged back, caches.
fn activities(logicals: &[Logical]) -> Vec<Activity> {
    let mut all = Vec::new();
    for logical in logicals.iter().filter(|l| l.is_public()) {
        if logical.is_cached() {
            all.push(cache(logical));
            continue;
        }
        if let Some(sync) = logical.sync.filter(|s| *s < 100.0) {
            #[expect(clippy::cast_possible_truncation, reason = "a share of progress")]
            let share = (sync / 100.0) as f32;
            all.push(Activity {
                name: "sync".into(),
                share: Some(share),
                detail: Some(logical.name.clone()),
            });
        }
        if logical.merging && logical.is_thick_snapshot() {
            all.push(Activity {
                name: "merge".into(),
                share: None,
                detail: Some(logical.name.clone()),
            });
        }
    }
    all
}

/// How full a volume's cache is, and how much of it is not written back.
fn cache(logical: &Logical) -> Activity {
    let mut detail = format!("{}: {}", logical.name, logical.cache_mode);
    if logical.dirty > 0 {
        detail.push_str(&format!(", {} blocks to be written back", logical.dirty));
    }
    #[expect(clippy::cast_possible_truncation, reason = "a share")]
    let share = logical.data.map(|percent| (percent / 100.0) as f32);
    Activity {
        name: CACHE.into(),
        share,
        detail: Some(detail),
    }
}

/// Lets pools and thick snapshots grow that are as full as the policy says.
fn grow(
    inner: &Inner,
    time: Time<'_>,
    policy: &Autoextend,
    logicals: &[Logical],
    course: &mut Course,
) {
    course.growing = None;
    for (name, metadata) in to_grow(policy, logicals) {
        let full = inner.full(name);
        let what = format!("cannot extend {full} by itself");
        let by = format!("+{}%LV", policy.by);
        let words: Vec<&str> = if metadata {
            vec![
                "lvextend",
                "--yes",
                "--poolmetadatasize",
                "+64m",
                "--",
                &full,
            ]
        } else {
            vec!["lvextend", "--yes", "--extents", &by, "--", &full]
        };
        match inner.lvm.run(time, &what, &words) {
            Ok(()) => {
                let part = if metadata { "'s metadata" } else { "" };
                inner.host.log(
                    Level::Info,
                    format!("extended {full}{part}: it was filling up"),
                );
            }
            Err(error) => course.growing = Some(error.to_string()),
        }
    }
}

/// The names of what is to grow, and whether it is the metadata that do.
fn to_grow<'a>(policy: &Autoextend, logicals: &'a [Logical]) -> Vec<(&'a str, bool)> {
    let threshold = f64::from(policy.threshold);
    let full = |share: Option<f64>| share.is_some_and(|s| s >= threshold);
    let mut all = Vec::new();
    for logical in logicals.iter().filter(|l| l.active && !l.invalid) {
        let grows = logical.is_pool() || (logical.is_thick_snapshot() && !logical.merging);
        if grows && full(logical.data) {
            all.push((logical.name.as_str(), false));
        }
        if logical.is_pool() && full(logical.metadata) {
            all.push((logical.name.as_str(), true));
        }
    }
    all
}

#[cfg(test)]
#[path = "health_tests.rs"]
mod tests;
