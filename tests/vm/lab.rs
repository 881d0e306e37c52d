//! The lab itself: what the other cases and people at `cargo xtask vm` rely on.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};

use crate::guest::Guest;
use crate::{Case, cases};

pub(crate) const RESTORED: &[Case] = cases![Restored: the_lab_runs_scripts_on_a_complete_machine];

fn the_lab_runs_scripts_on_a_complete_machine(guest: &Guest) -> Result<()> {
    let machine = guest.machine();
    let there: u64 = guest.sh("the clock", "date +%s")?.parse()?;
    let here = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    ensure!(here.abs_diff(there) <= 10, "{there} there, {here} here");

    let output = machine.run("echo out; echo err >&2; exit 7")?;
    ensure!(output.status == 7, "{output:?}");
    ensure!(
        output.stdout == "out\n" && output.stderr == "err\n",
        "{output:?}"
    );
    let killed = machine.run("kill -KILL $$")?;
    ensure!(killed.status == 137, "{killed:?}");

    let bytes: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    machine.push("/root/file", &bytes, 0o640)?;
    let script = "stat -c '%s %a' /root/file; cksum < /root/file | cut -d' ' -f2";
    let seen = guest.sh("a file arrives whole", script)?;
    ensure!(seen == "1200000 640\n1200000", "{seen}");

    guest.sh(
        "programs, disks and images",
        r#"
        for program in laz docker system-docker nas; do command -v $program; done
        for disk in 1 2 3 4; do
            same 2147483648 "$(blockdev --getsize64 /dev/disk/by-id/virtio-disk$disk)" "the size of disk $disk"
        done
        same busybox "$(docker images --format '{{.Repository}}')" "the user's images"
        same "" "$(docker ps -aq)" "the user's containers"
        "#,
    )?;
    guest.sh(
        "the server can be blocked and stopped",
        r#"
        reach() { timeout 2 bash -c '< /dev/tcp/nas.test/2049'; }
        reach
        nas block
        ! reach || fail "a blocked server answers"
        nas unblock
        reach
        nas stop
        ! reach 2> /dev/null || fail "a stopped server answers"
        nas start
        reach
        "#,
    )?;
    Ok(())
}
