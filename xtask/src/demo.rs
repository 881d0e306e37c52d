//! `cargo xtask demo`: the whole way of the data, step by step, on the real parts.

use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use lazarette_tests::lab::Lab;
use lazarette_tests::vm::{Machine, Options};
use serde_json::Value;

use crate::images;
use crate::progress::{say, started, step};

/// What the user's container writes.
const TEXT: &str = "stores kept in the lazarette";

/// Runs the demo; an error names the step that did not happen.
pub(crate) fn run() -> Result<ExitCode> {
    say("Lazarette: NFS volumes for Docker, through a storage context in a container of its own");
    let (lab, _) = images::ensure(false)?;
    let built = started().elapsed();
    let machine = boot(&lab)?;
    serve(&machine)?;
    volumes(&machine)?;
    let limit = Duration::from_secs(60);
    step("shut down in order", || machine.power_off(limit))?;
    say(&format!(
        "all steps happened, in {:.0} s after {:.0} s of building",
        (started().elapsed() - built).as_secs_f32(),
        built.as_secs_f32()
    ));
    Ok(ExitCode::SUCCESS)
}

/// Boots and shows the phases of init as they are done.
fn boot(lab: &Lab) -> Result<Machine> {
    let machine = step("boot the kernel", || {
        Machine::boot(lab, &Options::default())
    })?;
    let begun = Instant::now();
    let limit = machine.patience(Duration::from_secs(60));
    let mut shown = 0;
    loop {
        let record = machine.run("cat /run/lazarette/boot.json 2> /dev/null || echo '{}'")?;
        // A record that is just being written is read again.
        let record: Value = serde_json::from_str(&record.stdout).unwrap_or_default();
        let phases = record["phases"].as_array().map_or(&[][..], Vec::as_slice);
        for phase in phases.iter().skip(shown) {
            let state = phase["state"].as_str().unwrap_or("?");
            if state == "running" {
                break;
            }
            shown += 1;
            say(&format!(
                "  init: {} {state} in {:.1} s {}",
                phase["name"].as_str().unwrap_or("?"),
                phase["seconds"].as_f64().unwrap_or(0.0),
                phase["message"].as_str().unwrap_or(""),
            ));
            if state == "failed" {
                bail!("a phase of init failed\n{}", machine.console());
            }
        }
        if !record["end"].is_null() {
            return Ok(machine);
        }
        if begun.elapsed() > limit {
            bail!("init did not finish in {limit:?}\n{}", machine.console());
        }
        thread::sleep(Duration::from_millis(200));
    }
}

/// Shows that each part answers and that the context comes up when its server does.
fn serve(machine: &Machine) -> Result<()> {
    let facts = [
        (
            "init is process 1",
            "test \"$(readlink /proc/1/exe)\" = /usr/lib/lazarette/laz-init",
        ),
        (
            "system Docker answers",
            "system-docker version -f '{{.Server.Version}}'",
        ),
        ("core answers", "laz status > /dev/null"),
        (
            "user Docker answers",
            "docker version -f '{{.Server.Version}}'",
        ),
        (
            "nothing that speaks NFS is installed outside the NFS container",
            "! command -v mount.nfs mount.nfs4 rpcbind rpc.statd showmount",
        ),
    ];
    for (what, script) in facts {
        fact(machine, what, script)?;
    }
    step("start the NFS server nas.test", || {
        machine.run("lab-prepare")?.ok().map(drop)
    })?;
    fact(
        machine,
        "the NFS context serves both exports in its container",
        "lab-settle && system-docker ps --format '{{.Names}} from {{.Image}}: {{.Status}}' --filter name=laz-context-nas",
    )?;
    say(&format!(
        "  laz status\n{}",
        machine.run("laz status")?.ok()?
    ));
    Ok(())
}

/// A user's container writes and reads on an export, both ways in; the server has the same bytes.
fn volumes(machine: &Machine) -> Result<()> {
    let write = format!(
        "docker run --rm -v /mnt/nas/media:/data busybox sh -ec 'echo {TEXT} > /data/declared; cat /data/declared'"
    );
    same(
        TEXT,
        &fact(
            machine,
            "a user's container writes and reads on the declared export",
            &write,
        )?,
    )?;
    let read = "nas exec cat /srv/media/declared";
    same(
        TEXT,
        &fact(machine, "the server holds the same bytes", read)?,
    )?;
    let create =
        "docker volume create -d nfs -o server=nas.test -o export=/srv/home -o vers=4.2 home";
    fact(
        machine,
        "a user makes a volume with docker volume create",
        create,
    )?;
    let write = format!(
        "docker run --rm -v home:/data busybox sh -ec 'echo {TEXT} > /data/created; cat /data/created'"
    );
    same(
        TEXT,
        &fact(
            machine,
            "a user's container writes and reads on that volume",
            &write,
        )?,
    )?;
    let read = "nas exec cat /srv/home/created";
    same(
        TEXT,
        &fact(machine, "the server holds the same bytes", read)?,
    )?;
    fact(
        machine,
        "the volume is removed, the files stay",
        "docker volume rm home && nas exec test -e /srv/home/created",
    )?;
    Ok(())
}

/// Runs a script that shows a fact, and prints what it says.
fn fact(machine: &Machine, what: &str, script: &str) -> Result<String> {
    let said = step(what, || machine.run(script)?.ok()).with_context(|| what.to_owned())?;
    for line in said.lines() {
        say(&format!("  {line}"));
    }
    Ok(said)
}

fn same(expected: &str, found: &str) -> Result<()> {
    if expected != found {
        bail!("{expected:?} was written, {found:?} is there");
    }
    Ok(())
}
