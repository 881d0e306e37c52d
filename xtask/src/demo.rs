//! `cargo xtask demo`: the whole way of the data, step by step, on the real parts: storage of four
//! kinds at once in one container of a user's, and each kind's own side with the same bytes.

use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use lazarette_tests::lab::Lab;
use lazarette_tests::vm::{Machine, Options};
use serde_json::Value;

use crate::images;
use crate::progress::{say, started, step};

/// What the user's container writes, beside the name of the kind.
const TEXT: &str = "stores kept in the lazarette";

/// Three kinds beside the lab's own NFS context: a pool and a volume group made on blank disks, and
/// a Gluster volume that its servers have.
const CLOUD_CONFIG: &str = "#cloud-config
lazarette:
  storage:
    contexts:
      tank:
        kind: zfs
        pool: tank
        create:
          layout: mirror
          devices: [/dev/disk/by-id/virtio-disk1, /dev/disk/by-id/virtio-disk2]
      fast:
        kind: lvm
        volume_group: fast
        devices: [/dev/disk/by-id/virtio-disk3, /dev/disk/by-id/virtio-disk4]
        create: true
      big: {kind: gluster, servers: [g1.test, g2.test], volume: gv0}
    volumes:
      ledger: {context: tank, size: 100M}
      cache: {context: fast, size: 200M, fs: ext4}
";

/// Where the storage of each kind appears.
pub(crate) const PLACES: [(&str, &str); 4] = [
    ("nfs", "/mnt/nas/media"),
    ("zfs", "/mnt/tank/ledger"),
    ("lvm", "/mnt/fast/cache"),
    ("gluster", "/mnt/big/gv0"),
];

/// What each kind's own side has of it, without the mount that the user's container had: the
/// server's file, the pool's snapshot stream, the blocks of the logical volume, both bricks.
const BACKINGS: [(&str, &str, &str); 5] = [
    (
        "nfs",
        "the NFS server's file",
        "nas exec cat /srv/media/demo",
    ),
    (
        "zfs",
        "the stream of a snapshot on the pool",
        "laz volume snapshot ledger demo > /dev/null
        tank() { system-docker exec laz-context-tank \"$@\"; }
        tank zfs send \"$(tank zfs list -H -o name -t snapshot -r tank/lazarette | head -n 1)\" | grep -a -o \"$1\" | head -n 1",
    ),
    (
        "lvm",
        "the blocks of the logical volume",
        "grep -a -o -m 1 \"$1\" /dev/mapper/fast-lz* | head -n 1",
    ),
    (
        "gluster",
        "the brick on server g1",
        "cat /var/lib/lab/g1/gv0/demo",
    ),
    (
        "gluster",
        "the brick on server g2",
        "cat /var/lib/lab/g2/gv0/demo",
    ),
];

/// Runs the demo; an error names the step that did not happen.
pub(crate) fn run() -> Result<ExitCode> {
    say("Lazarette: NFS, ZFS, LVM and Gluster for Docker, each in a storage container of its own");
    let (lab, _) = images::ensure(false)?;
    let built = started().elapsed();
    let machine = boot(&lab)?;
    serve(&machine)?;
    contexts(&machine)?;
    one_container(&machine)?;
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

/// Shows that each part answers, and that nothing that speaks to storage is in the OS.
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
            "nothing that speaks to storage is installed outside the storage containers",
            "! command -v mount.nfs rpcbind showmount zpool zfs lvm mount.glusterfs glusterfs || exit 1",
        ),
    ];
    for (what, script) in facts {
        fact(machine, what, script)?;
    }
    step("start the NFS server and the two Gluster servers", || {
        machine.run("lab-prepare")?.ok().map(drop)
    })
}

/// Declares the contexts and waits until all of them serve.
fn contexts(machine: &Machine) -> Result<()> {
    say(&format!("laz config set\n{CLOUD_CONFIG}"));
    machine.push("/tmp/demo.yml", CLOUD_CONFIG.as_bytes(), 0o600)?;
    fact(
        machine,
        "`laz scan` shows the blank disks",
        "laz scan lvm 2> /dev/null > /tmp/scan
        cat /tmp/scan
        for disk in 1 2 3 4; do grep -q \"blank disk.*virtio-disk$disk\" /tmp/scan; done",
    )?;
    let wait = set_and_wait("/tmp/demo.yml");
    fact(
        machine,
        "four contexts of four kinds come up: a pool and a volume group are made on blank disks",
        &wait,
    )?;
    fact(
        machine,
        "each has a container of its own",
        "for context in big fast nas tank; do
            system-docker ps --format '{{.Names}} from {{.Image}}: {{.Status}}' --filter \"name=laz-context-$context\\$\" |
                grep ': Up'
        done",
    )?;
    say(&format!(
        "  laz status\n{}",
        machine.run("laz status")?.ok()?
    ));
    Ok(())
}

/// A script that sets a configuration and waits until all of [`PLACES`] are mounted.
pub(crate) fn set_and_wait(config: &str) -> String {
    let mut script = format!(
        "laz config set {config}\nuntil=$((SECONDS + 240))\n\
         mounted() {{ nsenter --mount=/run/lazarette/view/mnt -- grep -q \" $1 \" /proc/self/mountinfo; }}\n",
    );
    for (_, place) in PLACES {
        script.push_str(&format!(
            "until mounted {place}; do\n\
             [ $SECONDS -lt $until ] || {{ laz status >&2; exit 1; }}\nsleep 0.5\ndone\n"
        ));
    }
    script
}

/// One container of a user's writes to all four; each kind's own side has the bytes.
fn one_container(machine: &Machine) -> Result<()> {
    let mut run = String::from("docker run --rm");
    let mut script = String::new();
    for (kind, place) in PLACES {
        run.push_str(&format!(" -v {place}:/{kind}"));
        script.push_str(&format!(
            "echo \"{TEXT}: {kind}\" > /{kind}/demo; cat /{kind}/demo; grep \" /{kind} \" /proc/mounts; "
        ));
    }
    let said = fact(
        machine,
        "one container of a user's writes and reads on all four at once",
        &format!("{run} busybox sh -ec '{script}sync'"),
    )?;
    for (kind, _) in PLACES {
        let read = said
            .lines()
            .find(|line| line.ends_with(&format!(": {kind}")));
        same(&format!("{TEXT}: {kind}"), read.unwrap_or_default())?;
    }
    for (kind, what, script) in BACKINGS {
        let text = format!("{TEXT}: {kind}");
        let script = format!("sync\nset -- \"{text}\"\n{script}");
        same(
            &text,
            &fact(machine, &format!("{what} has the same bytes"), &script)?,
        )?;
    }
    Ok(())
}

/// A user makes volumes with Docker; removed, they leave nothing.
fn volumes(machine: &Machine) -> Result<()> {
    let create = [
        ("nfs", "-o server=nas.test -o export=/srv/home"),
        ("zfs", "-o pool=tank -o size=50M"),
        ("lvm", "-o volume_group=fast -o size=64M -o fs=ext4"),
        (
            "gluster",
            "-o servers=g1.test,g2.test -o volume=gv0 -o path=made",
        ),
    ];
    for (kind, options) in create {
        fact(
            machine,
            &format!("`docker volume create -d {kind}`"),
            &format!("docker volume create -d {kind} {options} made-{kind}"),
        )?;
    }
    let places = create.map(|(kind, _)| format!("-v made-{kind}:/{kind}"));
    let script = create.map(|(kind, _)| format!("echo {TEXT} > /{kind}/f; cat /{kind}/f;"));
    let said = fact(
        machine,
        "a user's container writes and reads on all of them",
        &format!(
            "docker run --rm {} busybox sh -ec '{}'",
            places.join(" "),
            script.join(" ")
        ),
    )?;
    same(&[TEXT; 4].join("\n"), &said)?;
    fact(
        machine,
        "they are removed, and nothing of them is left in the kernel",
        "docker volume rm made-nfs made-zfs made-lvm made-gluster > /dev/null
        ! nsenter --mount=/run/lazarette/view/mnt -- grep ' /run/lazarette/volumes/' /proc/self/mountinfo || exit 1
        laz volume ls > /tmp/volumes
        cat /tmp/volumes
        ! grep '^made-' /tmp/volumes || exit 1",
    )?;
    Ok(())
}

/// Runs a script that shows a fact, and prints what it says; any command of it that fails is an error.
fn fact(machine: &Machine, what: &str, script: &str) -> Result<String> {
    let script = format!("set -eu\n{script}");
    let said = step(what, || machine.run(&script)?.ok()).with_context(|| what.to_owned())?;
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
