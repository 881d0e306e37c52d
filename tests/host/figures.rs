//! What it costs. Printed; the bounds are wide, because these are builds for debugging as a rule.

use anyhow::{Result, ensure};
use lazarette_tests::host::World;
use lazarette_tests::host::process::resident_kib;

use crate::{Case, figures};

pub(crate) const CASES: &[Case] = &crate::cases![figures::memory_and_times];

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
