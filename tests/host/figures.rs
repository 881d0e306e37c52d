//! What it costs. Printed; the bounds are wide, because these are builds for debugging as a rule.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lazarette_core::control::ContextPhase;
use lazarette_tests::host::core::status;
use lazarette_tests::host::process::{self, resident_kib};
use lazarette_tests::host::{World, eventually};
use rustix::process::Signal;

use crate::{Case, figures};

pub(crate) const CASES: &[Case] = &crate::cases![
    figures::memory_and_times,
    figures::status_beside_dead_storage,
];

/// How many contexts are dead while the status is asked for, if not a few.
const DEAD: &str = "LAZARETTE_DEAD_CONTEXTS";
/// How often it is asked for.
const LOOKS: usize = 200;

fn memory_and_times(world: &mut World) -> Result<()> {
    let core = resident_kib(world.core.pid()?)?;
    let host = resident_kib(world.plugin_host("scratch")?)?;
    println!("core: {core} KiB resident; plugin host: {host} KiB");
    println!(
        "first start to READY=1: {} ms",
        world.first_ready.as_millis()
    );
    ensure!(core < 64 << 10, "core has {core} KiB");
    ensure!(host < 16 << 10, "the plugin host has {host} KiB");
    Ok(())
}

/// `cargo xtask bench` reads the line that begins with `status:`.
fn status_beside_dead_storage(world: &mut World) -> Result<()> {
    let dead: usize = match std::env::var(DEAD) {
        Ok(number) => number.parse().context(DEAD)?,
        Err(_) => 4,
    };
    let before = looks(world)?;
    let contexts: String = (0..dead)
        .map(|number| format!("      dead{number}: {{kind: hello, volumes: [one]}}\n"))
        .collect();
    world.set_config(&format!(
        "#cloud-config\nlazarette:\n  storage:\n    contexts:\n{contexts}"
    ))?;
    let all = |wanted: &dyn Fn(&str) -> Result<bool>| {
        (0..dead).try_fold(true, |so_far, number| {
            Ok::<_, anyhow::Error>(so_far && wanted(&format!("dead{number}"))?)
        })
    };
    let patience = Duration::from_secs(30 + 5 * dead as u64);
    eventually("they are open and mounted", patience, || {
        all(&|name| {
            let open = world.context(name)?.phase == ContextPhase::Ready;
            let volume = world.volume(&format!("{name}.one"))?;
            Ok(open && volume.is_some_and(|volume| volume.mountpoint.is_some()))
        })
    })?;
    let mut stopped = Vec::new();
    let shown = (|| {
        for number in 0..dead {
            let host = world.plugin_host(&format!("dead{number}"))?;
            process::signal(host, Signal::STOP)?;
            stopped.push(host);
        }
        // So that core has asked them and waits for answers.
        std::thread::sleep(Duration::from_secs(5));
        looks(world)
    })();
    for host in stopped {
        process::signal(host, Signal::CONT)?;
    }
    let beside = shown?;
    println!(
        "\nstatus: {{\"dead\": {dead}, \"core\": {:?}, \"laz\": {:?}, \"core_before\": {:?}, \"laz_before\": {:?}}}",
        beside.0, beside.1, before.0, before.1
    );
    ensure!(beside.0[1] < 1000.0, "core's status took {:?} ms", beside.0);
    world.set_config("#cloud-config\n{}\n")?;
    let patience = Duration::from_secs(30 + 5 * dead as u64);
    eventually("they are gone", patience, || {
        Ok(status()?
            .contexts
            .iter()
            .all(|c| !c.name.as_str().starts_with("dead")))
    })?;
    world.becomes_clean()
}

/// Median and 99th percentile, in ms, of core's answer and of `laz status`.
fn looks(world: &World) -> Result<([f64; 2], [f64; 2])> {
    let times = |count: usize, look: &dyn Fn() -> Result<()>| {
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            let started = Instant::now();
            look()?;
            times.push(started.elapsed().as_secs_f64() * 1e3);
        }
        times.sort_by(f64::total_cmp);
        Ok::<_, anyhow::Error>([times[count / 2], times[count * 99 / 100]])
    };
    let core = times(LOOKS, &|| status().map(drop))?;
    let laz = times(LOOKS / 4, &|| world.laz(&["status"]).map(drop))?;
    Ok((core, laz))
}
