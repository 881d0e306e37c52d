//! What is done to volumes that exist: snapshots, clones, sizes, names, the kind's own actions.

use std::collections::BTreeSet;
use std::io::Read;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lazarette_core::control::{Origin, Request, SnapshotPhase, VolumePhase, VolumeStatus};
use lazarette_core::{SnapshotName, VolumeName};
use lazarette_tests::host::core::{ask, status};
use lazarette_tests::host::process::limited;
use lazarette_tests::host::{World, eventually};
use serde_json::Value;

use crate::{Case, changes};

pub(crate) const CASES: &[Case] = &crate::cases![
    changes::a_volume_is_brought_back_to_a_snapshot_and_cloned,
    changes::a_declared_volume_is_brought_back_while_it_is_declared,
    changes::sizes_change_under_running_containers,
    changes::a_volume_gets_another_name,
    changes::actions_of_the_kind_are_done,
    changes::core_is_killed_while_snapshots_are_taken,
    changes::core_is_killed_while_volumes_change,
];

fn create(world: &World, name: &str) -> Result<()> {
    let create = ["volume", "create", "--context", "spare", "-o", "size=4M"];
    world.laz(&[&create[..], &[name]].concat()).map(drop)
}

fn known(world: &World, name: &str) -> Result<VolumeStatus> {
    world.volume(name)?.with_context(|| format!("no {name}"))
}

fn a_volume_is_brought_back_to_a_snapshot_and_cloned(world: &mut World) -> Result<()> {
    create(world, "data")?;
    let data = ["-v", "data:/data"];
    world.user.shell(&data, "echo one > /data/f")?;
    let taken = world.laz(&["volume", "snapshot", "data", "before"])?;
    ensure!(taken.contains("before"), "{taken}");
    let said = world.laz_fails(&["volume", "snapshot", "data", "before"])?;
    ensure!(said.contains("has a snapshot \"before\""), "{said}");
    world
        .user
        .shell(&data, "echo two > /data/f; echo more > /data/more")?;
    let unnamed = world.laz(&["volume", "snapshot", "data"])?;
    let listed = world.laz(&["volume", "snapshots", "data"])?;
    ensure!(
        listed.contains("before") && listed.contains(unnamed.trim()),
        "{unnamed} in {listed}"
    );

    // Clones of a snapshot and of the volume as it is, apart from it and from each other.
    let cloned = world.laz_output(&["volume", "clone", "data@before", "old"])?;
    let told = String::from_utf8_lossy(&cloned.stderr);
    ensure!(
        cloned.status.success() && told.contains("copying"),
        "{told}"
    );
    world.laz(&["volume", "clone", "-o", "size=6M", "data", "new"])?;
    let all = ["-v", "data:/data", "-v", "old:/old", "-v", "new:/new"];
    let read = world.user.shell(
        &all,
        "cat /old/f /new/f /new/more; echo x > /new/f; ls /old",
    )?;
    ensure!(read == "one\ntwo\nmore\nf", "{read}");

    // Not under a container.
    world.user.ok(&[
        &["run", "-d", "--name", "holder"],
        &data[..],
        &["busybox", "sleep", "60"],
    ]
    .concat())?;
    let said = world.laz_fails(&["volume", "rollback", "--yes", "data", "before"])?;
    ensure!(said.contains("in use") && said.contains("holder"), "{said}");
    world.user.ok(&["rm", "-f", "holder"])?;
    let said = world.laz_fails(&["volume", "rollback", "--yes", "data", "never"])?;
    ensure!(
        said.contains("no snapshot \"never\"") && said.contains("before"),
        "{said}"
    );
    world.laz(&["volume", "rollback", "--yes", "data", "before"])?;
    let read = world.user.shell(&all, "cat /data/f /new/f; ls /data")?;
    ensure!(read == "one\nx\nf", "{read}");

    // With snapshots it stays, whoever asks.
    let said = world.laz_fails(&["volume", "rm", "--yes", "data"])?;
    ensure!(
        said.contains("has snapshots") && said.contains("before"),
        "{said}"
    );
    let said = world.user.fails(&["volume", "rm", "data"])?;
    ensure!(said.contains("has snapshots"), "{said}");
    world.laz(&["volume", "rm", "--yes", "data@before"])?;
    world.laz(&["volume", "rm", "--yes", "--snapshots", "data"])?;
    ensure!(
        world.user.shell(&["-v", "old:/old"], "cat /old/f")? == "one",
        "a clone went with its source"
    );
    world.laz(&["volume", "rm", "--yes", "old", "new"])?;
    world.becomes_clean()
}

fn a_declared_volume_is_brought_back_while_it_is_declared(world: &mut World) -> Result<()> {
    let one = ["-v", "/mnt/scratch/one:/data"];
    world.user.shell(&one, "echo one > /data/f")?;
    world.laz(&["volume", "snapshot", "scratch.one", "s"])?;
    world.user.shell(&one, "echo two > /data/f")?;
    world.laz(&["volume", "rollback", "--yes", "scratch.one", "s"])?;
    let mounted = || Ok(known(world, "scratch.one")?.phase == VolumePhase::Mounted);
    eventually("it is mounted again", Duration::from_secs(5), mounted)?;
    ensure!(world.user.shell(&one, "cat /data/f")? == "one", "not back");
    world.laz(&["volume", "rm", "--yes", "scratch.one@s"])?;
    world.user.shell(&one, "rm /data/f").map(drop)
}

fn sizes_change_under_running_containers(world: &mut World) -> Result<()> {
    create(world, "data")?;
    let run = ["run", "-d", "--name", "holder", "-v", "data:/data"];
    world
        .user
        .ok(&[&run[..], &["busybox", "sleep", "600"]].concat())?;
    let df = "df -k /data | tail -1";
    let size = |world: &World| {
        let line = world.user.ok(&["exec", "holder", "sh", "-c", df])?;
        let size = line
            .split_whitespace()
            .nth(1)
            .context("no size")?
            .to_owned();
        anyhow::Ok(size)
    };
    ensure!(size(world)? == "4096", "{}", size(world)?);
    world.laz(&["volume", "resize", "data", "9M"])?;
    ensure!(size(world)? == "9216", "{}", size(world)?);
    ensure!(known(world, "data")?.size.as_deref() == Some("9M"), "?");
    let said = world.laz_fails(&["volume", "resize", "data", "much"])?;
    ensure!(said.contains("size"), "{said}");
    world.user.ok(&["rm", "-f", "holder"])?;
    world.laz(&["volume", "rm", "--yes", "data"])?;

    // What is declared changes where it is declared, and stays mounted.
    let said = world.laz_fails(&["volume", "resize", "db", "9M"])?;
    ensure!(said.contains("declared in the cloud-config"), "{said}");
    let db = ["-v", "/mnt/db:/data"];
    world.user.shell(&db, "echo kept > /data/f")?;
    let volumes = "lazarette: {storage: {volumes: {db: {size: 12M}}}}";
    world.set_config(&format!("#cloud-config\n{volumes}\n"))?;
    let sized = |wanted: &'static str| {
        let world = &*world;
        move || Ok(known(world, "db")?.size.as_deref() == Some(wanted))
    };
    eventually("it has the new size", Duration::from_secs(10), sized("12M"))?;
    let read = world.user.shell(&db, &format!("cat /data/f; {df}"))?;
    ensure!(
        read.starts_with("kept\n") && read.contains(" 12288 "),
        "{read}"
    );
    world.set_config("#cloud-config\n{}\n")?;
    eventually("it has the old size", Duration::from_secs(10), sized("8M"))?;
    world.user.shell(&db, "rm /data/f")?;
    world.becomes_clean()
}

fn a_volume_gets_another_name(world: &mut World) -> Result<()> {
    create(world, "data")?;
    create(world, "other")?;
    world
        .user
        .shell(&["-v", "data:/data"], "echo one > /data/f")?;
    let said = world.laz_fails(&["volume", "rename", "data", "other"])?;
    ensure!(said.contains("there is a volume \"other\""), "{said}");
    let said = world.laz_fails(&["volume", "rename", "db", "base"])?;
    ensure!(said.contains("declared in the cloud-config"), "{said}");
    world.laz(&["volume", "rename", "data", "named"])?;
    ensure!(
        world.user.shell(&["-v", "named:/data"], "cat /data/f")? == "one",
        "not the same"
    );
    let said = world.user.fails(&["volume", "inspect", "data"])?;
    ensure!(said.to_lowercase().contains("no such volume"), "{said}");
    world.laz(&["volume", "rm", "--yes", "named", "other"])?;
    world.becomes_clean()
}

fn actions_of_the_kind_are_done(world: &mut World) -> Result<()> {
    create(world, "data")?;
    world
        .user
        .shell(&["-v", "data:/data"], "echo one > /data/f")?;
    let said = world.laz(&["pool", "wait", "spare", "milliseconds=300"])?;
    ensure!(said.contains("waited 300 ms"), "{said}");
    let said = world.laz_fails(&["pool", "wait", "spare", "milliseconds=soon"])?;
    ensure!(said.contains("milliseconds"), "{said}");
    let files = world.laz(&["volume", "files", "data", "--json"])?;
    let files: Value = serde_json::from_str(&files)?;
    ensure!(files[0]["name"] == "f" && files[0]["bytes"] == 4, "{files}");
    world.laz(&["volume", "wipe", "data", "--yes"])?;
    let read = world.user.shell(&["-v", "data:/data"], "ls -A /data")?;
    ensure!(read.is_empty(), "{read}");

    // A client that goes takes its call back.
    let mut client = Command::new(&world.programs.laz)
        .args(["pool", "wait", "spare", "milliseconds=40000"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    // Calls of health come and go beside it.
    let threads = |world: &World| {
        let host = world.plugin_host("spare")?;
        let count = std::fs::read_dir(format!("/proc/{host}/task"))?.count();
        sleep(Duration::from_millis(50));
        anyhow::Ok(count)
    };
    let mut word = [0];
    let told = client.stderr.as_mut().context("no standard error")?;
    told.read_exact(&mut word)?;
    let busy = threads(world)?.min(threads(world)?);
    client.kill()?;
    client.wait()?;
    let ended = || Ok(threads(world)? < busy);
    eventually("the call ends", Duration::from_secs(5), ended)?;
    world.laz(&["volume", "rm", "--yes", "data"])?;
    world.becomes_clean()
}

fn core_is_killed_while_snapshots_are_taken(world: &mut World) -> Result<()> {
    create(world, "data")?;
    world
        .user
        .shell(&["-v", "data:/data"], "echo one > /data/f")?;
    let mut told = BTreeSet::new();
    for round in 0..6_u64 {
        let mut asked = Vec::new();
        for n in 0..4 {
            let name = format!("s{round}-{n}");
            let laz = world.programs.laz.to_string_lossy();
            let client = limited(60, &laz)
                .args(["volume", "snapshot", "data", &name])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()?;
            asked.push((name, client));
        }
        // One at least is told; the others are on their way.
        let first = &mut asked[0].1;
        eventually("one is taken", Duration::from_secs(10), || {
            Ok(first.try_wait()?.is_some())
        })?;
        sleep(Duration::from_millis(3 * round));
        world.core.kill()?;
        for (name, mut client) in asked {
            if client.wait()?.success() {
                told.insert(name);
            }
        }
        world.core.start_answering()?;
    }
    let agreed = || {
        let data = known(world, "data")?;
        let all = data.snapshots.iter();
        let taken = all.clone().all(|s| s.phase == SnapshotPhase::Taken);
        let names: BTreeSet<String> = all.map(|s| s.name.to_string()).collect();
        let backing = world.backing("spare")?;
        let snapshots = backing.iter().filter(|path| path.contains('@')).count();
        Ok(taken && told.is_subset(&names) && snapshots == data.snapshots.len())
    };
    eventually("all agree", Duration::from_secs(30), agreed)
        .map_err(|e| e.context(format!("told {told:?}; {:#?}", status())))?;
    println!("{} of 24 snapshots were acknowledged", told.len());
    ensure!(told.len() >= 6, "too few were told of to show anything");
    world.settled()?;
    world.laz(&["volume", "rm", "--yes", "--snapshots", "data"])?;
    world.becomes_clean()
}

/// One change after the other, each cut off at another moment, in a context that takes its time.
fn core_is_killed_while_volumes_change(world: &mut World) -> Result<()> {
    let make = ["volume", "create", "-d", "hello"];
    let options = ["-o", "delay_ms=30", "-o", "size=4M", "data"];
    world.user.ok(&[&make[..], &options[..]].concat())?;
    let data = ["-v", "data:/data"];
    world.user.shell(&data, "echo one > /data/f")?;
    world.laz(&["volume", "snapshot", "data", "s"])?;
    let mut told = 0;
    for round in 0..12_u64 {
        world.user.shell(&data, "echo two > /data/f")?;
        let request = change(round)?;
        let asked =
            std::thread::spawn(move || ask::<Value>(&request, Duration::from_secs(20)).is_ok());
        sleep(Duration::from_millis(5 + 22 * (round / 3)));
        world.core.kill()?;
        let told_now = asked.join().unwrap_or(false);
        told += usize::from(told_now);
        world.core.start_answering()?;
        let rests = || {
            let volumes = status()?.volumes;
            let still = |v: &VolumeStatus| v.phase == VolumePhase::Idle && v.new_size.is_none();
            let ours = |v: &&VolumeStatus| v.origin == Origin::Created;
            Ok(volumes.iter().filter(ours).all(still))
        };
        eventually("all rest", Duration::from_secs(30), rests)
            .map_err(|e| e.context(format!("round {round}: {:#?}", status())))?;
        let size = known(world, "data")?.size.context("no size")?;
        let read = world
            .user
            .shell(&data, "cat /data/f; df -m /data | tail -1")?;
        let (content, line) = read.split_once('\n').context("two lines")?;
        let megabytes = format!("{}M", line.split_whitespace().nth(1).context("no size")?);
        ensure!(megabytes == size, "round {round}: {line}, not {size}");
        let rolled_back = round % 3 == 1 && told_now;
        ensure!(
            content == "one" && round % 3 == 1 || content == "two" && !rolled_back,
            "round {round}: {content}"
        );
        let clone = world.volume(&format!("c{round}"))?;
        ensure!(
            clone.is_some() || !(told_now && round % 3 == 2),
            "round {round}: an acknowledged clone is lost"
        );
    }
    println!("{told} of 12 changes were acknowledged");
    for volume in status()?.volumes {
        let name = volume.name.as_str();
        if name.starts_with('c') {
            let clone = format!("{name}:/data");
            let content = world.user.shell(&["-v", &clone], "cat /data/f")?;
            ensure!(content == "two", "{name} has {content}");
            world.laz(&["volume", "rm", "--yes", name])?;
        }
    }
    world.laz(&["volume", "rm", "--yes", "--snapshots", "data"])?;
    world.becomes_clean()
}

/// A resize, a rollback or a clone, in turns.
fn change(round: u64) -> Result<Request> {
    let name = VolumeName::new("data")?;
    Ok(match round % 3 {
        0 => Request::VolumeResize {
            name,
            size: format!("{}M", 5 + round),
        },
        1 => Request::VolumeRollback {
            name,
            snapshot: SnapshotName::new("s")?,
        },
        _ => Request::VolumeClone {
            source: name,
            snapshot: None,
            name: VolumeName::new(format!("c{round}"))?,
            options: std::collections::BTreeMap::new(),
        },
    })
}
