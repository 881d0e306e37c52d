//! `laz status`.

use std::time::Duration;

use lazarette_core::HealthState;
use lazarette_core::control::{
    ContextPhase, ContextStatus, EngineStatus, Origin, Request, Status, VolumePhase, VolumeStatus,
};

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
    let mut table = Table::new(&["CONTEXT", "KIND", STATE, "NEXT TRY", "CONTAINER", "FROM"]);
    for context in contexts {
        table.row([
            context.name.to_string(),
            context.kind.to_string(),
            context_state(context).into(),
            retry(context.retry_in_seconds),
            short(context.container.as_deref()),
            if context.declared { "config" } else { "volume" }.into(),
        ]);
    }
    table
}

/// The table of volumes that `laz status` and `laz volume ls` show.
pub(crate) fn volumes(volumes: &[VolumeStatus]) -> Table {
    let headings = [
        "VOLUME",
        "CONTEXT",
        STATE,
        "MOUNTED AT",
        "ACCESS",
        "USED BY",
        "NEXT TRY",
        "FROM",
    ];
    let mut table = Table::new(&headings);
    for volume in volumes {
        table.row([
            volume.name.to_string(),
            volume.context.to_string(),
            volume_state(volume).into(),
            volume.mountpoint.clone().unwrap_or_default(),
            if volume.read_only { "ro" } else { "rw" }.into(),
            volume.used_by.join(", "),
            retry(volume.retry_in_seconds),
            origin(volume).into(),
        ]);
    }
    table
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
    for volume in &status.volumes {
        let state = volume_state(volume);
        let line = sentence(state, volume.retry_in_seconds, volume.reason.as_deref());
        let required = if volume.required && volume.phase != VolumePhase::Mounted {
            " (required)"
        } else {
            ""
        };
        lines.extend(line.map(|line| format!("volume {}{required}: {line}", volume.name)));
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
    use super::duration;

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
