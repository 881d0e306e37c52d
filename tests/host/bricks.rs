//! Real bricks: copies that contradict each other, a quorum that is lost, a pool that is managed by
//! one of its peers, and what a context's options do.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lazarette_core::volume::HealthState;
use lazarette_tests::host::gluster::{ADDRESS, GlusterServer, client_of, missing};
use lazarette_tests::host::{World, eventually, mounts, process};
use rustix::process::Signal;

use crate::{Case, bricks};

pub(crate) const CASES: &[Case] = &crate::cases![
    bricks::gluster_copies_that_contradict_each_other_are_told_and_left_alone,
    bricks::a_gluster_context_s_options_reach_its_client_and_another_server_takes_over,
    bricks::a_peer_manages_its_gluster_pool_and_volumes_have_sizes,
];

/// How long anything may take to be noticed, healed or mended.
const PATIENCE: Duration = Duration::from_secs(120);
/// Loopback, but nobody listens there.
const NOBODY: &str = "127.1.1.9";

/// The server, with core knowing the kind; none if this machine lacks a part.
fn server(world: &World) -> Result<Option<GlusterServer>> {
    if let Some(why) = missing() {
        println!("skipped: {why}");
        return Ok(None);
    }
    let server = GlusterServer::start(&world.base)?;
    world.add_gluster()?;
    eventually("core knows the kind", PATIENCE, || {
        Ok(world.laz(&["kinds"])?.contains("gluster"))
    })?;
    Ok(Some(server))
}

fn declare(world: &World, context: &str) -> Result<()> {
    world.set_config(&format!(
        "#cloud-config\nlazarette:\n  storage:\n    contexts:\n      big: {{kind: gluster, {context}}}\n"
    ))
}

fn mounted(target: &str) -> Result<bool> {
    Ok(mounts::volumes()?.iter().any(|m| m.target == target))
}

/// Waits until the context `big` is as `so` says, by its health and the reason for it.
fn becomes(world: &World, what: &str, so: impl Fn(HealthState, &str) -> bool) -> Result<()> {
    let is_so = || {
        let big = world.context("big")?;
        Ok(so(big.health, &big.reason.unwrap_or_default()))
    };
    let became = eventually(what, PATIENCE, is_so);
    became
        .with_context(|| format!("{:?}", world.context("big")))
        .map(drop)
}

fn gluster_copies_that_contradict_each_other_are_told_and_left_alone(
    world: &mut World,
) -> Result<()> {
    let Some(server) = server(world)? else {
        return Ok(());
    };
    let world = &*world;
    server.volume("torn", ["torn-a", "torn-b"])?;
    for (option, value) in [
        ("cluster.self-heal-daemon", "off"),
        ("cluster.data-self-heal", "off"),
        ("cluster.metadata-self-heal", "off"),
        ("cluster.entry-self-heal", "off"),
        ("cluster.quorum-type", "none"),
    ] {
        server.gluster(&["volume", "set", "torn", option, value])?;
    }
    declare(world, &format!("servers: {ADDRESS}, volume: torn"))?;
    eventually("it is mounted", PATIENCE, || mounted("/mnt/big/torn"))?;
    becomes(world, "it is healthy", |health, _| {
        health == HealthState::Healthy
    })?;
    let run = ["run", "-d", "--network=none", "--stop-timeout=1"];
    let user = ["--name=torn", "-v", "/mnt/big/torn:/data", "busybox"];
    world
        .user
        .ok(&[&run[..], &user, &["sleep", "1000"]].concat())?;
    let writes = |text: &str| {
        let script = format!("mkdir -p /data/apps && echo {text} > /data/apps/f");
        let written = || {
            let exec = ["exec", "torn", "sh", "-c", &script];
            Ok(world.user.run(&exec)?.status.success())
        };
        eventually("it is written", PATIENCE, written).map(drop)
    };
    let holds = |brick: &str, text: &str| {
        let file = server.brick(brick).join("apps/f");
        eventually("the brick holds it", PATIENCE, || {
            Ok(fs::read_to_string(&file).unwrap_or_default() == text)
        })
        .map(drop)
    };
    writes("both")?;
    holds("torn-a", "both\n")?;
    holds("torn-b", "both\n")?;
    // Each is written while the other is away.
    for (gone, other, text) in [("torn-b", "torn-a", "one"), ("torn-a", "torn-b", "other")] {
        server.kill_brick(gone)?;
        becomes(world, "the brick is away", |_, why| why.contains(gone))?;
        writes(text)?;
        holds(other, &format!("{text}\n"))?;
        server.gluster(&["volume", "start", "torn", "force"])?;
        becomes(world, "the brick is back", |_, why| !why.contains(gone))?;
    }
    becomes(world, "the split brain is told", |health, why| {
        health == HealthState::Degraded && why.contains("split brain in 1 files (/apps/f)")
    })?;
    let cat = ["exec", "torn", "cat", "/data/apps/f"];
    ensure!(!world.user.run(&cat)?.status.success(), "it could be read");
    let listed = world.laz(&["pool", "unhealed", "big"])?;
    ensure!(
        listed.contains("/apps/f") && listed.contains("split brain"),
        "{listed}"
    );
    // Nobody but the operator chooses.
    holds("torn-a", "one\n")?;
    holds("torn-b", "other\n")?;
    let brick = server.place("torn-b")?;
    let choose = ["volume", "heal", "torn", "split-brain", "source-brick"];
    server.gluster(&["volume", "set", "torn", "cluster.self-heal-daemon", "on"])?;
    server_chooses(&server, &[&choose[..], &[&brick, "/apps/f"]].concat())?;
    becomes(world, "it is healthy again", |health, _| {
        health == HealthState::Healthy
    })?;
    ensure!(world.user.ok(&cat)?.trim() == "other");
    a_quorum_that_is_lost_is_told(world, &server)?;
    world.user.ok(&["rm", "-f", "torn"])?;
    ends(world, "torn")
}

/// Has a copy chosen; the glusterd has to learn first which bricks are back.
fn server_chooses(server: &GlusterServer, words: &[&str]) -> Result<()> {
    let chosen = || Ok(server.gluster(words).is_ok());
    eventually("a copy is chosen", PATIENCE, chosen)
        .or_else(|_| server.gluster(words).map(|_| Duration::ZERO))
        .map(drop)
}

fn a_quorum_that_is_lost_is_told(world: &World, server: &GlusterServer) -> Result<()> {
    for (option, value) in [
        ("cluster.quorum-type", "fixed"),
        ("cluster.quorum-count", "2"),
    ] {
        server.gluster(&["volume", "set", "torn", option, value])?;
    }
    server.kill_brick("torn-a")?;
    becomes(world, "the loss is told", |health, _| {
        health == HealthState::Unreachable
    })?;
    let touch = ["exec", "torn", "touch", "/data/apps/g"];
    ensure!(
        !world.user.run(&touch)?.status.success(),
        "written without a quorum"
    );
    server.gluster(&["volume", "start", "torn", "force"])?;
    becomes(world, "the quorum is back", |health, _| {
        health == HealthState::Healthy
    })?;
    eventually("it is written again", PATIENCE, || {
        Ok(world.user.run(&touch)?.status.success())
    })
    .map(drop)
}

/// Nothing is declared any longer: the client ends, and nothing is left.
fn ends(world: &World, volume: &str) -> Result<()> {
    world.set_config("#cloud-config\n{}\n")?;
    eventually("the client ends", PATIENCE, || {
        Ok(client_of(volume)?.is_none())
    })?;
    world.becomes_clean()
}

fn a_gluster_context_s_options_reach_its_client_and_another_server_takes_over(
    world: &mut World,
) -> Result<()> {
    let Some(server) = server(world)? else {
        return Ok(());
    };
    server.volume("opts", ["opts-a", "opts-b"])?;
    declare(
        world,
        &format!(
            "servers: [{NOBODY}, {ADDRESS}], volume: opts, transport: tcp, log_level: info, \
             directories: [apps, {{path: teams/one, name: one}}], \
             options: {{attribute-timeout: 3, noatime: true, xlator-option: {{\"*replicate*.data-self-heal\": \"off\"}}}}"
        ),
    )?;
    for (target, directory) in [("/mnt/big/apps", "apps"), ("/mnt/big/one", "teams/one")] {
        eventually("the directory is mounted", PATIENCE, || mounted(target))?;
        let volume = format!("{target}:/data");
        world.user.shell(&["-v", &volume], "echo text > /data/f")?;
        for brick in ["opts-a", "opts-b"] {
            let file = server.brick(brick).join(directory).join("f");
            eventually("the brick holds it", PATIENCE, || Ok(file.exists()))?;
        }
    }
    ensure!(!mounted("/mnt/big/opts")?, "the whole volume, too");
    let client = client_of("opts")?.context("no client")?;
    let line = fs::read_to_string(format!("/proc/{client}/cmdline"))?;
    let words: Vec<&str> = line.split('\0').collect();
    for word in [
        "--volfile-server-transport=tcp",
        "--log-level=INFO",
        "--attribute-timeout=3",
        "--xlator-option=*replicate*.data-self-heal=off",
        "--fuse-mountopts=nosuid,nodev,noatime",
    ] {
        ensure!(words.contains(&word), "no {word} in {words:?}");
    }
    let row = mounts::volumes()?
        .into_iter()
        .find(|m| m.target == "/mnt/big/apps");
    ensure!(row.is_some());
    // What only a client that tells so much says.
    eventually("its log is told", PATIENCE, || {
        let log = world.laz(&["logs", "big"])?;
        Ok(log.contains("attached to remote volume") || log.contains("Connected"))
    })?;
    // The first server does not answer; a client that is started anew finds the other likewise.
    becomes(world, "it is told who is away", |health, why| {
        health == HealthState::Degraded && why.contains(NOBODY)
    })?;
    process::signal(client, Signal::KILL)?;
    eventually("another client serves it", PATIENCE, || {
        let other = client_of("opts")?.is_some_and(|pid| pid != client);
        Ok(other && mounted("/mnt/big/apps")?)
    })?;
    eventually("it is read again", PATIENCE, || {
        let read = world
            .user
            .shell(&["-v", "/mnt/big/apps:/data"], "cat /data/f");
        Ok(read.is_ok_and(|text| text.trim() == "text"))
    })?;
    ends(world, "opts")
}

fn a_peer_manages_its_gluster_pool_and_volumes_have_sizes(world: &mut World) -> Result<()> {
    let Some(server) = server(world)? else {
        return Ok(());
    };
    let world = &*world;
    let place = |brick: &str| server.place(brick);
    let bricks = format!("bricks={},{}", place("own-a")?, place("own-b")?);
    let create = ["pool", "create", "big", &bricks, "force=true"];
    declare(world, &format!("servers: {ADDRESS}, volume: own"))?;
    let refused = || world.laz_fails(&[&create[..], &["--yes"]].concat());
    eventually("the context is there", PATIENCE, || {
        Ok(refused()?.contains("manage: true"))
    })
    .with_context(|| format!("{:?}", refused()))?;
    declare(
        world,
        &format!("servers: {ADDRESS}, volume: own, manage: true"),
    )?;
    let asked = world.laz_fails(&create)?;
    ensure!(asked.contains("--yes"), "it does not ask: {asked}");
    let made = eventually("the volume is made", PATIENCE, || {
        let made = world.laz_output(&[&create[..], &["--yes"]].concat())?;
        Ok(made.status.success())
    });
    made.or_else(|_| {
        world
            .laz(&[&create[..], &["--yes"]].concat())
            .map(|_| Duration::ZERO)
    })?;
    world.laz(&["pool", "start", "big"])?;
    world.laz(&["pool", "start", "big"])?;
    eventually("it is mounted", PATIENCE, || mounted("/mnt/big/own"))?;
    a_volume_has_a_size(world)?;
    bricks_come_and_go(world, &server)?;
    world.laz(&["pool", "heal", "big"])?;
    ends(world, "own")
}

fn a_volume_has_a_size(world: &World) -> Result<()> {
    let create = ["volume", "create", "--context", "big", "-o", "path=apps/db"];
    let sized = [
        &create[..],
        &["-o", "size=8M", "-o", "on_remove=delete", "sized"],
    ]
    .concat();
    let refused = world.laz_fails(&sized)?;
    ensure!(refused.contains("laz pool quota"), "{refused}");
    world.laz(&["pool", "quota", "big"])?;
    world.laz(&["pool", "quota", "big"])?;
    eventually("it has a size", PATIENCE, || {
        Ok(world.laz_output(&sized)?.status.success() || world.volume("sized")?.is_some())
    })?;
    let room = || -> Result<u64> {
        let script = "stat -f -c '%b %S' /data";
        let text = world.user.shell(&["-v", "sized:/data"], script)?;
        let mut numbers = text.split_whitespace().map(str::parse::<u64>);
        let (blocks, size) = (numbers.next(), numbers.next());
        Ok(blocks.context("no number")?? * size.context("one number")??)
    };
    eventually("it has room for that", PATIENCE, || Ok(room()? == 8 << 20))
        .with_context(|| format!("{:?}", room()))?;
    world.laz(&["volume", "resize", "sized", "16M"])?;
    eventually("it has more room", PATIENCE, || Ok(room()? == 16 << 20))
        .with_context(|| format!("{:?}", room()))?;
    world.laz(&["volume", "rm", "--yes", "sized"]).map(drop)
}

fn bricks_come_and_go(world: &World, server: &GlusterServer) -> Result<()> {
    let state = || world.laz(&["pool", "status", "big"]);
    let run = ["-v", "/mnt/big/own:/data"];
    world.user.shell(&run, "echo kept > /data/kept")?;
    let more = format!(
        "bricks={},{}",
        server.place("own-c")?,
        server.place("own-d")?
    );
    let expand = ["pool", "expand", "big", &more, "force=true"];
    let asked = world.laz_fails(&expand)?;
    ensure!(asked.contains("--yes"), "it does not ask: {asked}");
    world.laz(&[&expand[..], &["--yes"]].concat())?;
    let status = state()?;
    for brick in ["own-a", "own-b", "own-c", "own-d"] {
        ensure!(status.contains(brick), "no {brick} in {status}");
    }
    let (old, new) = (server.place("own-b")?, server.place("own-e")?);
    let (old, new) = (format!("old={old}"), format!("new={new}"));
    let replace = ["pool", "replace-brick", "big", &old, &new, "--yes"];
    eventually("the brick is replaced", PATIENCE, || {
        Ok(world.laz_output(&replace)?.status.success() || state()?.contains("own-e"))
    })
    .or_else(|_| world.laz(&replace).map(|_| Duration::ZERO))?;
    let status = state()?;
    ensure!(
        status.contains("own-e") && !status.contains("own-b/"),
        "{status}"
    );
    let file = server.brick("own-e").join("kept");
    eventually("the new brick is filled", PATIENCE, || {
        let there = fs::read_to_string(&file).unwrap_or_default() == "kept\n";
        if !there {
            // Its daemons have just learned of the brick.
            let _ = world.laz_output(&["pool", "heal", "big", "full=true"]);
        }
        Ok(there)
    })?;
    Ok(())
}
