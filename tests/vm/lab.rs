//! The lab itself: what the other cases and people at `cargo xtask vm` rely on.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};
use lazarette_tests::vm::Machine;

use crate::Case;

crate::cases!(Case: a_script_has_streams_and_a_status, extra_disks_have_stable_names,
    the_clock_is_right_after_restoring, the_server_can_be_blocked_and_restarted, files_arrive_whole);

fn a_script_has_streams_and_a_status(machine: &Machine) -> Result<()> {
    let output = machine.run("echo out; echo err >&2; exit 7")?;
    ensure!(
        output.status == 7 && output.stdout == "out\n" && output.stderr == "err\n",
        "{output:?}"
    );
    let killed = machine.run("kill -KILL $$")?;
    ensure!(killed.status == 137, "{killed:?}");
    for command in ["laz", "docker", "system-docker", "nas"] {
        machine.sh(&format!("command -v {command}"))?;
    }
    Ok(())
}

fn extra_disks_have_stable_names(machine: &Machine) -> Result<()> {
    for number in 1..=4 {
        let bytes = machine.sh(&format!(
            "blockdev --getsize64 /dev/disk/by-id/virtio-disk{number}"
        ))?;
        ensure!(bytes == "2147483648", "disk{number}: {bytes} bytes");
    }
    Ok(())
}

fn the_clock_is_right_after_restoring(machine: &Machine) -> Result<()> {
    let there: u64 = machine.sh("date +%s")?.parse()?;
    let here = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    ensure!(here.abs_diff(there) <= 5, "{there} there, {here} here");
    Ok(())
}

fn the_server_can_be_blocked_and_restarted(machine: &Machine) -> Result<()> {
    let reach = "timeout 2 bash -c '< /dev/tcp/nas.test/2049'";
    machine.sh(reach)?;
    machine.sh("nas block")?;
    ensure!(machine.run(reach)?.status != 0, "a blocked server answers");
    machine.sh("nas unblock")?;
    machine.sh(reach)?;
    machine.sh("nas stop")?;
    ensure!(machine.run(reach)?.status != 0, "a stopped server answers");
    machine.sh("nas start")?;
    machine.sh(reach)?;
    Ok(())
}

fn files_arrive_whole(machine: &Machine) -> Result<()> {
    let bytes: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    machine.push("/root/file", &bytes, 0o640)?;
    let seen = machine.sh("stat -c '%s %a' /root/file; cksum < /root/file | cut -d' ' -f2")?;
    ensure!(seen == "1200000 640\n1200000", "{seen}");
    Ok(())
}
