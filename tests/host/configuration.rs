//! Configuration, good and bad, while everything runs.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lazarette_tests::host::core::{CONFIG, status};
use lazarette_tests::host::{World, eventually, mounts};

use crate::{Case, configuration, docker_volumes};

pub(crate) const CASES: &[Case] = &crate::cases![
    configuration::a_context_comes_and_goes_with_the_cloud_config,
    configuration::a_declared_volume_can_be_changed_in_place,
    configuration::case_23_what_is_wrong_is_refused_when_set,
    configuration::case_22_one_bad_part_fails_alone,
    configuration::a_context_with_volumes_of_docker_is_kept,
];

/// Sets `storage`, indented by four, and nothing else as the operator's part.
fn set(world: &World, storage: &str) -> Result<()> {
    world.set_config(&config(storage))
}

fn config(storage: &str) -> String {
    format!("#cloud-config\nlazarette:\n  storage:\n{storage}")
}

fn unset(world: &World) -> Result<()> {
    world.set_config("#cloud-config\n{}\n")
}

fn mounted(target: &str) -> Result<bool> {
    Ok(mounts::volumes()?.iter().any(|m| m.target == target))
}

fn a_context_comes_and_goes_with_the_cloud_config(world: &mut World) -> Result<()> {
    let extra = "    contexts:
      extra: {kind: hello, volumes: [e1, e2]}
    volumes:
      e3: {context: extra, read_only: true}
";
    set(world, extra)?;
    let all = ["/mnt/extra/e1", "/mnt/extra/e2", "/mnt/extra/e3"];
    eventually("all three are mounted", Duration::from_secs(15), || {
        Ok(all
            .iter()
            .map(|t| mounted(t))
            .collect::<Result<Vec<_>>>()?
            .iter()
            .all(|m| *m))
    })?;
    let said = world
        .user
        .shell_fails(&["-v", "/mnt/extra/e3:/data"], "touch /data/x")?;
    ensure!(said.contains("Read-only file system"), "{said}");
    world
        .user
        .shell(&["-v", "/mnt/extra/e1:/data"], "echo x > /data/x")?;
    // One volume less, then the context itself.
    set(
        world,
        "    contexts:\n      extra: {kind: hello, volumes: [e1]}\n",
    )?;
    eventually("two are gone", Duration::from_secs(15), || {
        Ok(mounted(all[0])? && !mounted(all[1])? && !mounted(all[2])?)
    })?;
    ensure!(
        world
            .user
            .shell(&["-v", "/mnt/extra/e1:/data"], "cat /data/x")?
            == "x",
        "new bytes"
    );
    unset(world)?;
    world.becomes_clean()
}

fn a_declared_volume_can_be_changed_in_place(world: &mut World) -> Result<()> {
    set(
        world,
        "    volumes:\n      moving: {context: spare, size: 1M}\n",
    )?;
    eventually("it is mounted", Duration::from_secs(10), || {
        mounted("/mnt/spare/moving")
    })?;
    world
        .user
        .shell(&["-v", "/mnt/spare/moving:/data"], "echo same > /data/x")?;
    set(
        world,
        "    volumes:\n      moving: {context: spare, size: 1M, mount: /mnt/elsewhere/x}\n",
    )?;
    eventually("it has moved", Duration::from_secs(10), || {
        Ok(mounted("/mnt/elsewhere/x")? && !mounted("/mnt/spare/moving")?)
    })?;
    let volume = ["-v", "/mnt/elsewhere/x:/data"];
    ensure!(
        world.user.shell(&volume, "cat /data/x")? == "same",
        "other bytes"
    );
    // Taking it out of the text is no order to delete: put back, it is what it was.
    unset(world)?;
    eventually("it is gone", Duration::from_secs(10), || {
        Ok(!mounted("/mnt/elsewhere/x")?)
    })?;
    set(
        world,
        "    volumes:\n      moving: {context: spare, size: 1M, mount: /mnt/elsewhere/x}\n",
    )?;
    eventually("it is back", Duration::from_secs(10), || {
        mounted("/mnt/elsewhere/x")
    })?;
    ensure!(
        world.user.shell(&volume, "cat /data/x")? == "same",
        "other bytes"
    );
    unset(world)?;
    eventually("it is gone", Duration::from_secs(10), || {
        Ok(!mounted("/mnt/elsewhere/x")?)
    })?;
    ensure!(
        world.backing("spare")?.len() == 1,
        "it is one and the same to the storage"
    );
    world.forget_backing("spare")
}

fn case_23_what_is_wrong_is_refused_when_set(world: &mut World) -> Result<()> {
    let bad = [
        (
            "    contexts:\n      x: {kind: helo}\n",
            "5",
            &["helo", "hello"][..],
        ),
        (
            "    contexts:\n      x: {kind: hello, volums: [a]}\n",
            "5",
            &["volums", "`volumes`"],
        ),
        (
            "    contexts:\n      x: {kind: hello, delay_ms: soon}\n",
            "5",
            &["delay_ms"],
        ),
        (
            "    contexts:\n      x: {kind: hello}\n      x: {kind: hello}\n",
            "6",
            &["x"],
        ),
        (
            "    volumes:\n      v: {context: scrach}\n",
            "5",
            &["scrach", "scratch"],
        ),
        (
            "    volumes:\n      v: {context: scratch, mount: /etc/x}\n",
            "5",
            &["/mnt"],
        ),
        (
            "    volumes:\n      v: {context: scratch, mount: /mnt/db/x}\n",
            "5",
            &["/mnt/db"],
        ),
        ("    contexts:\n      ../x: {kind: hello}\n", "5", &["../x"]),
    ];
    let file = world.base.join("bad.yml");
    for (text, line, words) in bad {
        fs::write(&file, config(text))?;
        let path = file.to_string_lossy();
        for verb in ["validate", "set"] {
            let output = world.laz_output(&["config", verb, &path])?;
            let said = [output.stdout.as_slice(), &output.stderr].concat();
            let said = String::from_utf8_lossy(&said);
            ensure!(
                output.status.code() == Some(5),
                "{verb} {text}: {}: {said}",
                output.status
            );
            ensure!(said.contains(&format!(":{line}:")), "{verb} {text}: {said}");
            ensure!(
                words.iter().all(|word| said.contains(word)),
                "{verb} {text}: {said}"
            );
        }
    }
    ensure!(status()?.problems.is_empty(), "nothing of it is in force");
    ensure!(status()?.contexts.len() == 2, "nothing of it is in force");
    fs::write(&file, config("    contexts:\n      fine: {kind: hello}\n"))?;
    world.laz(&["config", "validate", &file.to_string_lossy()])?;
    ensure!(status()?.contexts.len() == 2, "validating applies nothing");
    Ok(())
}

fn case_22_one_bad_part_fails_alone(world: &mut World) -> Result<()> {
    // As a boot finds it: nobody has checked these files.
    let source = format!("{CONFIG}/20-bad.yml");
    let bad = "    contexts:
      wrong: {kind: nonesuch}
      typo: {kind: hello, volums: [x]}
      good: {kind: hello, volumes: [g1]}
    volumes:
      lost: {context: wrong}
      later: {context: scratch, mount: /mnt/db}
      fine: {context: good, size: 1M}
";
    fs::write(&source, config(bad))?;
    world.core.kill()?;
    world.core.start(Duration::from_secs(40))?;
    eventually("the good parts are there", Duration::from_secs(15), || {
        Ok(mounted("/mnt/good/g1")? && mounted("/mnt/good/fine")? && mounted("/mnt/db")?)
    })?;
    let problems: Vec<String> = status()?.problems.iter().map(ToString::to_string).collect();
    for (line, words) in [
        ("5", "nonesuch"),
        ("6", "volums"),
        ("9", "wrong"),
        ("10", "/mnt/db"),
    ] {
        let told = |p: &&String| p.contains(&format!("20-bad.yml:{line}:")) && p.contains(words);
        problems
            .iter()
            .find(told)
            .with_context(|| format!("no {words}: {problems:#?}"))?;
    }
    ensure!(
        world.laz(&["status"])?.contains("20-bad.yml"),
        "laz status shows it"
    );
    ensure!(mounts::volumes()?.len() == 5, "{:?}", mounts::volumes()?);
    // A socket for a kind that nobody serves would make Docker slow.
    let sockets = || -> Result<Vec<String>> {
        let found = fs::read_dir("/run/docker/plugins")?;
        found
            .map(|e| Ok(e?.file_name().to_string_lossy().into_owned()))
            .collect()
    };
    ensure!(sockets()? == ["hello.sock"], "{:?}", sockets()?);
    fs::remove_file(&source)?;
    world.core.kill()?;
    world.core.start(Duration::from_secs(40))?;
    ensure!(sockets()? == ["hello.sock"], "{:?}", sockets()?);
    world.becomes_clean()
}

fn a_context_with_volumes_of_docker_is_kept(world: &mut World) -> Result<()> {
    set(
        world,
        "    contexts:\n      mine: {kind: hello, volumes: [m1]}\n",
    )?;
    let create = docker_volumes::create(&["context=mine"], "precious");
    world.user.ok(&create)?;
    world
        .user
        .shell(&["-v", "precious:/data"], "echo gold > /data/x")?;
    unset(world)?;
    eventually("what was declared goes", Duration::from_secs(10), || {
        Ok(!mounted("/mnt/mine/m1")?)
    })?;
    ensure!(
        world.user.shell(&["-v", "precious:/data"], "cat /data/x")? == "gold",
        "lost"
    );
    ensure!(!world.context("mine")?.declared, "still declared");
    world.user.ok(&["volume", "rm", "precious"])?;
    world.becomes_clean()
}
