//! Cases that need a boot of their own: configuration at boot, shutdown.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use lazarette_tests::lab::Lab;
use lazarette_tests::vm::{Machine, Options};

use crate::Boot;

crate::cases!(Boot: bad_parts_of_the_configuration_fail_alone, a_required_volume_that_is_missing_does_not_hang_the_boot,
    the_machine_shuts_down_in_order);

fn boot(lab: &Lab, cloud_config: &str) -> Result<Machine> {
    let options = Options {
        cloud_config: Some(cloud_config.to_owned()),
        ..Options::default()
    };
    let mut machine = Machine::boot(lab, &options)?;
    machine.prepare()?;
    Ok(machine)
}

/// Acceptance cases 22 and 23: one bad part fails alone and is told; the boot goes on.
fn bad_parts_of_the_configuration_fail_alone(lab: &Lab) -> Result<()> {
    let machine = boot(
        lab,
        "#cloud-config\nhostname: odd\nlazarette:\n  storage:\n    contexts:\n      \
         bad: {kind: nsf, server: nas.test}\n      \"..\": {kind: nfs, server: nas.test}\n",
    )?;
    ensure!(machine.sh("hostname")? == "odd");
    machine.sh("lab-settle")?;
    machine.sh("docker run --rm -v /mnt/nas/media:/data busybox touch /data/good")?;
    let status = machine.sh("laz status")?;
    ensure!(status.contains("nsf") && status.contains("nfs"), "{status}");
    Ok(())
}

/// Acceptance case 7: Docker waits for a required volume, and not for ever.
fn a_required_volume_that_is_missing_does_not_hang_the_boot(lab: &Lab) -> Result<()> {
    let machine = boot(
        lab,
        "#cloud-config\nlazarette:\n  docker: {wait_seconds: 20}\n  storage:\n    contexts:\n      \
         far: {kind: nfs, server: 192.0.2.1, exports: [/x]}\n    volumes:\n      \
         db: {context: far, export: /x, mount: /mnt/db, required: true}\n",
    )?;
    let output = machine.run("docker run --rm -v /mnt/db:/data busybox touch /data/lost")?;
    ensure!(output.status != 0, "a container started without its volume");
    let status = machine.sh("laz status")?;
    ensure!(
        status.contains("far") && status.contains("192.0.2.1"),
        "{status}"
    );
    Ok(())
}

fn the_machine_shuts_down_in_order(lab: &Lab) -> Result<()> {
    let machine = boot(lab, "#cloud-config\nhostname: off\n")?;
    machine.sh("lab-settle")?;
    machine.sh("docker run -d --name user -v /mnt/nas/media:/data busybox sleep 1000")?;
    // The server goes away with the machine: unmounting must not wait for it.
    let begun = Instant::now();
    let limit = Duration::from_secs(45);
    let patience = machine.patience(limit);
    let console = machine.power_off(limit)?;
    ensure!(begun.elapsed() < patience, "{console}");
    Ok(())
}
