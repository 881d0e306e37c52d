//! `laz status`.

use std::time::Duration;

use lazarette_core::HealthState;
use lazarette_core::control::{
    ContextPhase, ContextStatus, EngineStatus, Origin, Request, Status, VolumePhase, VolumeStatus,
};
use lazarette_core::volume::{Activity, Capacity};

use crate::arguments::StatusArguments;
use crate::client::Client;
use crate::failure::Failure;
use crate::terminal::{STATE, Table, Terminal, printable};

/// How often `--watch` looks.
const PAUSE: Duration = Duration::from_secs(2);

pub(crate) fn run(
    arguments: &StatusArguments,
    client: &Client,
    terminal: &mut Terminal,
) -> Result<(), Failure> {
    loop {
        let answer = client.get::<Status>(&Request::Status);
        if arguments.watch && !arguments.json {
            terminal.clear()?;
        }
        match answer {
            Ok(status) if arguments.json => terminal.json(&status, !arguments.watch)?,
            Ok(status) => show(&status, terminal)?,
            // Who watches wants to see core come back.
            Err(failure) if arguments.watch && !arguments.json => {
                terminal.line(&failure.line().unwrap_or_default())?;
            }
            Err(failure) => return Err(failure),
        }
        if !arguments.watch {
            return Ok(());
        }
        std::thread::sleep(PAUSE);
    }
}

fn show(status: &Status, terminal: &mut Terminal) -> Result<(), Failure> {
    terminal.line(&format!(
        "core {}, up {}, {}",
        printable(&status.version),
        duration(status.uptime_seconds),
        if status.ready {
            "ready"
        } else {
            "not ready: something that is required is not there yet"
        },
    ))?;
    terminal.line("")?;
    if status.contexts.is_empty() {
        terminal.line("No storage contexts. Declare some in a cloud-config (laz config set FILE) or attach storage (laz attach URL).")?;
    } else {
        terminal.table(&contexts(&status.contexts))?;
    }
    terminal.line("")?;
    if status.volumes.is_empty() {
        terminal.line("No volumes. Declare some in a cloud-config, or make one: laz volume create, docker volume create.")?;
    } else {
        terminal.table(&volumes(&status.volumes))?;
    }
    terminal.line("")?;
    terminal.table(&engines(&status.engines))?;
    let going_on = going_on(&status.contexts);
    if !going_on.is_empty() {
        terminal.line("")?;
        terminal.heading("Going on")?;
        for line in going_on {
            terminal.line(&format!("  {}", printable(&line)))?;
        }
    }
    let attention = attention(status);
    if !attention.is_empty() {
        terminal.line("")?;
        terminal.heading("Needs attention")?;
        for line in attention {
            terminal.line(&format!("  {}", printable(&line)))?;
        }
    }
    if !status.problems.is_empty() {
        terminal.line("")?;
        terminal.heading("Problems of the configuration (the parts named are not in force)")?;
        for problem in &status.problems {
            terminal.line(&format!("  {}", printable(&problem.to_string())))?;
        }
    }
    Ok(())
}

fn contexts(contexts: &[ContextStatus]) -> Table {
    // Most machines have no context that is full or empty: servers do not say.
    let full = contexts.iter().any(|context| context.capacity.is_some());
    let mut headings = vec!["CONTEXT", "KIND", STATE];
    headings.extend(full.then_some("USED"));
    headings.extend(["NEXT TRY", "CONTAINER", "FROM"]);
    let mut table = Table::new(&headings);
    for context in contexts {
        let mut row = vec![
            context.name.to_string(),
            context.kind.to_string(),
            context_state(context).into(),
        ];
        row.extend(full.then(|| used(context)));
        row.extend([
            retry(context.retry_in_seconds),
            short(context.container.as_deref()),
            context_origin(context).into(),
        ]);
        table.row(row);
    }
    table
}

/// The table that `laz pool ls` shows.
pub(crate) fn pools(contexts: &[ContextStatus]) -> Table {
    let mut table = Table::new(&["CONTEXT", "KIND", STATE, "USED", "GOING ON"]);
    for context in contexts {
        let activities: Vec<String> = context.activities.iter().map(activity).collect();
        table.row([
            context.name.to_string(),
            context.kind.to_string(),
            context_state(context).into(),
            used(context),
            activities.join(", "),
        ]);
    }
    table
}

/// `61 % of 1.9 TiB`
fn used(context: &ContextStatus) -> String {
    let Some(Capacity { total, used }) = context.capacity else {
        return String::new();
    };
    #[expect(clippy::cast_precision_loss, reason = "shown with two digits")]
    let share = used as f32 / total.max(1) as f32;
    format!("{} of {}", percent(share), bytes(total))
}

/// `scrub 43 %, 2 h left`
fn activity(activity: &Activity) -> String {
    let mut text = activity.name.clone();
    if let Some(share) = activity.share {
        text.push_str(&format!(" {}", percent(share)));
    }
    if let Some(detail) = &activity.detail {
        text.push_str(&format!(", {detail}"));
    }
    text
}

fn going_on(contexts: &[ContextStatus]) -> Vec<String> {
    let line =
        |context: &ContextStatus, one| format!("context {}: {}", context.name, activity(one));
    contexts
        .iter()
        .flat_map(|context| context.activities.iter().map(move |one| line(context, one)))
        .collect()
}

/// `43 %`: never 100 before all is done.
pub(crate) fn percent(share: f32) -> String {
    format!("{:.0} %", (share.clamp(0.0, 1.0) * 100.0).floor())
}

/// `1.9 TiB`
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1 << 10 {
        return format!("{bytes} B");
    }
    let unit = (bytes.ilog2() / 10) as usize;
    #[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
    let number = bytes as f64 / (1_u64 << (10 * unit)) as f64;
    format!("{number:.1} {}", UNITS[unit - 1])
}

fn context_origin(context: &ContextStatus) -> &'static str {
    match (context.declared, context.attached) {
        (true, _) => "config",
        (false, true) => "attached",
        (false, false) => "volume",
    }
}

/// The table of volumes that `laz status` and `laz volume ls` show.
pub(crate) fn volumes(volumes: &[VolumeStatus]) -> Table {
    let sizes = volumes.iter().any(|volume| volume.size.is_some());
    let snapshots = volumes.iter().any(|volume| !volume.snapshots.is_empty());
    let mut headings = vec!["VOLUME", "CONTEXT", STATE, "MOUNTED AT", "ACCESS"];
    headings.extend(sizes.then_some("SIZE"));
    headings.extend(snapshots.then_some("SNAPSHOTS"));
    headings.extend(["USED BY", "NEXT TRY", "FROM"]);
    let mut table = Table::new(&headings);
    for volume in volumes {
        let mut row = vec![
            volume.name.to_string(),
            volume.context.to_string(),
            volume_state(volume).into(),
            volume.mountpoint.clone().unwrap_or_default(),
            if volume.read_only { "ro" } else { "rw" }.into(),
        ];
        row.extend(sizes.then(|| size(volume)));
        let count = volume.snapshots.len();
        row.extend(snapshots.then(|| match count {
            0 => String::new(),
            _ => count.to_string(),
        }));
        row.extend([
            volume.used_by.join(", "),
            retry(volume.retry_in_seconds),
            origin(volume).into(),
        ]);
        table.row(row);
    }
    table
}

/// `20G`, or `20G -> 30G` while it is being resized.
fn size(volume: &VolumeStatus) -> String {
    let size = volume.size.clone().unwrap_or_default();
    match &volume.new_size {
        Some(new) => format!("{size} -> {new}"),
        None => size,
    }
}

fn engines(engines: &[EngineStatus]) -> Table {
    let mut table = Table::new(&["ENGINE", STATE, "VERSION"]);
    for engine in engines {
        table.row([
            format!("{} Docker", engine.name),
            if engine.reachable {
                "answers"
            } else {
                "silent"
            }
            .into(),
            engine.version.clone().unwrap_or_default(),
        ]);
    }
    table
}

/// What an operator should know beyond the tables: one line each.
fn attention(status: &Status) -> Vec<String> {
    let mut lines = Vec::new();
    for context in &status.contexts {
        let state = context_state(context);
        let line = sentence(state, context.retry_in_seconds, context.reason.as_deref());
        lines.extend(line.map(|line| format!("context {}: {line}", context.name)));
        if context.abandoned > 0 {
            lines.push(format!(
                "context {}: {} operations were given up on because the storage does not let them end",
                context.name, context.abandoned
            ));
        }
    }
    let died = |context: &&ContextStatus| context.crashes > 0;
    lines.extend(status.contexts.iter().filter(died).map(|context| {
        let times = match context.crashes {
            1 => "once".into(),
            times => format!("{times} times"),
        };
        format!("context {}: its plugin has died {times}", context.name)
    }));
    for volume in &status.volumes {
        let state = volume_state(volume);
        let line = sentence(state, volume.retry_in_seconds, volume.reason.as_deref());
        let required = if volume.required && volume.phase != VolumePhase::Mounted {
            " (required)"
        } else {
            ""
        };
        lines.extend(line.map(|line| format!("volume {}{required}: {line}", volume.name)));
        for snapshot in &volume.snapshots {
            let reason = snapshot.reason.as_ref();
            lines.extend(
                reason.map(|why| format!("snapshot {}@{}: {why}", volume.name, snapshot.name)),
            );
        }
    }
    for engine in status.engines.iter().filter(|engine| !engine.reachable) {
        let reason = engine.reason.as_deref().unwrap_or("no reason known");
        lines.push(format!("{} Docker does not answer: {reason}", engine.name));
    }
    lines
}

/// None: all is well.
fn sentence(state: &str, retry: Option<u64>, reason: Option<&str>) -> Option<String> {
    let well = matches!(state, "healthy" | "mounted" | "idle");
    let again = retry.map(|seconds| format!(", next try in {}", duration(seconds)));
    let again = again.unwrap_or_default();
    match (well, reason) {
        (true, None) => None,
        (true, Some(reason)) => Some(format!("{state}; last error: {reason}")),
        (false, Some(reason)) => Some(format!("{state}{again}: {reason}")),
        (false, None) => Some(format!("{state}{again}")),
    }
}

fn context_state(context: &ContextStatus) -> &'static str {
    match context.phase {
        ContextPhase::Starting => "starting",
        ContextPhase::Connecting => "connecting",
        ContextPhase::Opening => "opening",
        ContextPhase::Waiting => "waiting",
        ContextPhase::Failed => "failed",
        ContextPhase::Stopped => "stopped",
        ContextPhase::Ready => health(context.health),
    }
}

fn volume_state(volume: &VolumeStatus) -> &'static str {
    match (volume.phase, volume.health) {
        (VolumePhase::Idle, HealthState::Healthy) => "idle",
        (VolumePhase::Mounted, HealthState::Healthy) => "mounted",
        (VolumePhase::Pending, _) => "pending",
        (VolumePhase::Waiting, _) => "waiting",
        (VolumePhase::Leaving, _) => "leaving",
        (VolumePhase::Quarantined, _) => "quarantined",
        (VolumePhase::Failed, _) => "failed",
        (VolumePhase::Idle | VolumePhase::Mounted, state) => health(state),
    }
}

fn health(state: HealthState) -> &'static str {
    match state {
        HealthState::Healthy => "healthy",
        HealthState::Degraded => "degraded",
        HealthState::Unreachable => "unreachable",
        HealthState::Recovering => "recovering",
        HealthState::Stale => "stale",
        HealthState::Faulted => "faulted",
        _ => "unknown",
    }
}

fn origin(volume: &VolumeStatus) -> &'static str {
    match volume.origin {
        Origin::Declared => "config",
        Origin::Created => "created",
        Origin::Attached => "attached",
    }
}

fn retry(seconds: Option<u64>) -> String {
    seconds
        .map(|seconds| format!("in {}", duration(seconds)))
        .unwrap_or_default()
}

fn short(identity: Option<&str>) -> String {
    identity.unwrap_or_default().chars().take(12).collect()
}

/// The two largest units.
fn duration(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..=59 => format!("{seconds} s"),
        60..=3_599 => format!("{minutes} min {} s", seconds % 60),
        3_600..=86_399 => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::{bytes, duration, percent};

    #[test]
    fn sizes_and_shares_are_short() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(2 << 40), "2.0 TiB");
        assert_eq!(bytes(u64::MAX), "16.0 EiB");
        assert_eq!(percent(0.999), "99 %");
        assert_eq!(percent(7.0), "100 %");
    }

    #[test]
    fn durations_have_two_units() {
        for (seconds, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min 0 s"),
            (3_661, "1 h 1 min"),
            (90_000, "1 d 1 h"),
        ] {
            assert_eq!(duration(seconds), text);
        }
    }
}
