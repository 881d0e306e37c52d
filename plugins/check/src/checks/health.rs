//! Health while the storage is away.

use std::time::{Duration, Instant};

use lazarette_core::message::Method;
use lazarette_core::{Health, HealthState};
use lazarette_linux::command::Command;

use super::{Found, Named, failed, skipped};
use crate::kit::{Kit, shaped};
use crate::report::Verdict;
use crate::subject::Failed;

pub(super) const CHECKS: &[Named] = &[Named::open(
    "health.fault",
    "`health` tells within seconds that the storage is away, and that it is back",
    fault,
)];

/// How long one question may take: it must not wait for a server that is away.
const ANSWERS: Duration = Duration::from_secs(10);

fn hook(words: &[String]) -> Result<(), Failed> {
    let Some((program, arguments)) = words.split_first() else {
        return Ok(());
    };
    let command = Command::new(program).args(arguments);
    command
        .run()
        .map(drop)
        .map_err(|e| Failed::new(format!("the hook of the settings: {e}")))
}

/// Asks until the storage is `wanted`.
fn until(kit: &mut Kit, healthy: bool) -> Result<(), Failed> {
    let shows = kit.deadline() * 4;
    let end = Instant::now() + shows;
    loop {
        let asked = Instant::now();
        let value = kit.done(Method::Health)?;
        if asked.elapsed() > ANSWERS {
            return failed(format!(
                "`health` takes {:.1} s",
                asked.elapsed().as_secs_f64()
            ));
        }
        let health: Health = shaped("health", value)?;
        if (health.state == HealthState::Healthy) == healthy {
            if !healthy && health.reason.is_none_or(|why| why.trim().is_empty()) {
                return failed("`health` is not healthy and says no reason");
            }
            return Ok(());
        }
        if Instant::now() > end {
            return failed(format!(
                "`health` still says {:?} after {} s",
                health.state,
                shows.as_secs()
            ));
        }
        std::thread::sleep(Duration::from_millis(300));
    }
}

fn fault(kit: &mut Kit) -> Found {
    let Some(fault) = kit.settings.fault.clone() else {
        return skipped("the settings have no `fault` that breaks the storage");
    };
    let volume = kit.made()?;
    let (_, fd) = kit.mount(&volume)?;
    hook(&fault.break_it)?;
    let told = until(kit, false);
    hook(&fault.mend)?;
    told?;
    until(kit, true)?;
    drop(fd);
    Ok(Verdict::Passed)
}
