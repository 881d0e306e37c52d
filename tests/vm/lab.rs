//! The lab itself: what the other cases and people at `cargo xtask vm` rely on.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use lazarette_tests::lab::Lab;

use crate::guest::Guest;
use crate::{Case, cases};

pub(crate) const RESTORED: &[Case] = cases![Restored: the_lab_runs_scripts_on_a_complete_machine];

pub(crate) const BOOTS: &[Case] = cases![Boots: a_person_gets_a_shell_in_a_machine];

/// What a person does who types `cargo xtask vm`, on a terminal that script(1) makes.
fn a_person_gets_a_shell_in_a_machine(_lab: &Lab) -> Result<()> {
    let mut script = Command::new("script")
        .args(["-qefc", "cargo xtask vm", "/dev/null"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("script")?;
    let mut keyboard = script.stdin.take().context("a pipe")?;
    let mut seen = String::new();
    let mut lines = BufReader::new(script.stdout.take().context("a pipe")?);
    loop {
        let from = seen.len();
        let count = lines.read_line(&mut seen)?;
        ensure!(count > 0, "the terminal was closed: {seen}");
        let line = &seen[from..];
        if line.contains("a shell in the machine") {
            writeln!(keyboard, "tty; laz status; exit 3")?;
        }
        // Once typed, once carried out: only then it counts.
        if line.starts_with("nas ") && line.contains("healthy") {
            break;
        }
    }
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut lines, &mut rest)?;
    drop(keyboard);
    let status = script.wait()?;
    ensure!(status.code() == Some(3), "{status}: {seen}{rest}");
    ensure!(seen.contains("/dev/pts/"), "it has no terminal: {seen}");
    Ok(())
}

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
        for program in laz docker system-docker nas g1 g2; do command -v $program; done
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
