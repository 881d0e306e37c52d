//! Volumes that Docker makes.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lazarette_tests::host::{World, mounts};
use serde_json::Value;

use crate::containers::Writer;
use crate::{Case, docker_volumes};

pub(crate) const CASES: &[Case] = &crate::cases![
    docker_volumes::a_volume_lives_and_leaves_nothing,
    docker_volumes::case_16_other_options_are_an_error_that_says_what_differs,
    docker_volumes::an_unknown_option_is_told_with_the_one_that_was_meant,
    docker_volumes::a_name_is_free_again_as_soon_as_its_create_has_failed,
    docker_volumes::a_volume_is_made_in_the_context_that_is_named,
    docker_volumes::a_context_made_for_a_volume_goes_with_it,
    docker_volumes::case_08_docker_cp_does_not_unmount_under_a_container,
    docker_volumes::case_08_an_unmatched_unmount_changes_nothing,
    docker_volumes::a_volume_that_cannot_be_mounted_fails_its_container_with_the_reason,
    docker_volumes::a_volume_in_use_cannot_be_removed,
];

/// What makes a volume of the kind hello with these options, in words for `docker`.
pub(crate) fn create<'a>(options: &[&'a str], name: &'a str) -> Vec<&'a str> {
    let mut arguments = vec!["volume", "create", "-d", "hello"];
    for option in options {
        arguments.extend(["-o", option]);
    }
    arguments.push(name);
    arguments
}

fn a_volume_lives_and_leaves_nothing(world: &mut World) -> Result<()> {
    world
        .user
        .ok(&create(&["size=4M", "context=spare"], "alpha"))?;
    let listed = world.user.ok(&["volume", "ls"])?;
    ensure!(
        listed
            .lines()
            .any(|l| l.contains("hello") && l.contains("alpha")),
        "{listed}"
    );
    let inspected = world.user.ok(&["volume", "inspect", "alpha"])?;
    let inspected: Value = serde_json::from_str(&inspected)?;
    let volume = &inspected[0];
    ensure!(
        volume["Driver"] == "hello" && volume["Status"]["phase"] == "idle",
        "{volume}"
    );
    ensure!(volume["Status"]["context"] == "spare", "{volume}");
    ensure!(
        volume["CreatedAt"]
            .as_str()
            .is_some_and(|t| t.starts_with("20")),
        "{volume}"
    );
    let script =
        "echo kept > /data/file; grep ' /data ' /proc/self/mountinfo; stat -f -c '%b %S' /data";
    let said = world.user.shell(&["-v", "alpha:/data"], script)?;
    ensure!(
        said.contains("nosuid,nodev") && said.contains("- tmpfs"),
        "{said}"
    );
    let blocks: Vec<u64> = said
        .lines()
        .last()
        .context("no size")?
        .split(' ')
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    ensure!(blocks[0] * blocks[1] == 4 << 20, "{blocks:?}");
    ensure!(!world.backing("spare")?.is_empty(), "the storage has it");
    // While no container has it, it is not in the view; what was written stays.
    let mounted = mounts::volumes()?
        .into_iter()
        .filter(|m| m.target.starts_with("/run"));
    ensure!(mounted.count() == 0, "a volume that nobody uses is mounted");
    ensure!(
        world.user.shell(&["-v", "alpha:/data"], "cat /data/file")? == "kept",
        "another file"
    );
    world.user.ok(&["volume", "rm", "alpha"])?;
    let said = world.user.fails(&["volume", "inspect", "alpha"])?;
    ensure!(
        said.contains("No such volume") || said.contains("no such volume"),
        "{said}"
    );
    world.nothing_left()
}

fn case_16_other_options_are_an_error_that_says_what_differs(world: &mut World) -> Result<()> {
    world
        .user
        .ok(&create(&["size=4M", "context=spare"], "same"))?;
    world
        .user
        .ok(&create(&["size=4M", "context=spare"], "same"))?;
    // Docker itself answers for a name it knows, whatever the options: so core is asked by laz.
    let create = ["volume", "create", "--context", "spare", "same"];
    world.laz(&[&create, ["-o", "size=4M"].as_slice()].concat())?;
    let said = world.laz_fails(&[&create, ["-o", "size=5M"].as_slice()].concat())?;
    ensure!(
        said.contains("`size`") && said.contains("4M") && said.contains("5M"),
        "{said}"
    );
    let create = [
        "volume",
        "create",
        "--context",
        "scratch",
        "-o",
        "size=4M",
        "same",
    ];
    let said = world.laz_fails(&create)?;
    ensure!(
        said.contains("its context is \"spare\", not \"scratch\""),
        "{said}"
    );
    world.user.ok(&["volume", "rm", "same"]).map(drop)
}

fn an_unknown_option_is_told_with_the_one_that_was_meant(world: &mut World) -> Result<()> {
    let said = world
        .user
        .fails(&create(&["sise=4M", "context=spare"], "typo"))?;
    ensure!(
        said.contains("sise") && said.contains("did you mean `size`"),
        "{said}"
    );
    let said = world
        .user
        .fails(&create(&["size=huge", "context=spare"], "typo"))?;
    ensure!(said.contains("size") && said.contains("huge"), "{said}");
    // Refused by the plugin itself.
    let said = world
        .user
        .fails(&create(&["size=0", "context=spare"], "typo"))?;
    ensure!(said.contains("above 0"), "{said}");
    world.becomes_clean()
}

fn a_name_is_free_again_as_soon_as_its_create_has_failed(world: &mut World) -> Result<()> {
    // Every call of this context takes its time, so what failed is still being taken back when the
    // next create comes.
    let slow = "delay_ms=300";
    for _ in 0..3 {
        let said = world.user.fails(&create(&["size=0", slow], "again"))?;
        ensure!(said.contains("above 0"), "{said}");
        world.user.ok(&create(&["size=1M", slow], "again"))?;
        world
            .user
            .shell(&["-v", "again:/data"], "echo kept > /data/f")?;
        world.user.ok(&["volume", "rm", "again"])?;
    }
    world.becomes_clean()
}

fn a_volume_is_made_in_the_context_that_is_named(world: &mut World) -> Result<()> {
    let said = world.user.fails(&create(&["context=sparse"], "where"))?;
    ensure!(
        said.contains("no context \"sparse\"") && said.contains("scratch, spare"),
        "{said}"
    );
    let said = world.user.fails(&create(&["size=1M"], "where"))?;
    ensure!(
        said.contains("scratch, spare") && said.contains("-o context="),
        "{said}"
    );
    for context in ["scratch", "spare"] {
        world
            .user
            .ok(&create(&[&format!("context={context}")], context))?;
        let volume = world.volume(context)?.context("it is not there")?;
        ensure!(volume.context.as_str() == context, "{volume:?}");
    }
    ensure!(world.backing("spare")?.len() == 1 && world.backing("scratch")?.len() == 4);
    world
        .user
        .ok(&["volume", "rm", "scratch", "spare"])
        .map(drop)
}

fn a_context_made_for_a_volume_goes_with_it(world: &mut World) -> Result<()> {
    world.user.ok(&create(&["delay_ms=2", "size=1M"], "own"))?;
    let context = world.volume("own")?.context("it is not there")?.context;
    let status = world.context(context.as_str())?;
    ensure!(!status.declared && status.container.is_some(), "{status:?}");
    // The same options lead to the same context.
    world.user.ok(&create(&["delay_ms=2", "size=2M"], "own2"))?;
    ensure!(
        world.volume("own2")?.context("not there")?.context == context,
        "another context"
    );
    world.user.shell(
        &["-v", "own:/a", "-v", "own2:/b"],
        "echo x > /a/x && echo y > /b/y",
    )?;
    world.user.ok(&["volume", "rm", "own"])?;
    ensure!(
        world.context(context.as_str()).is_ok(),
        "it has a volume left"
    );
    world.user.ok(&["volume", "rm", "own2"])?;
    world.becomes_clean()
}

fn case_08_docker_cp_does_not_unmount_under_a_container(world: &mut World) -> Result<()> {
    world.user.ok(&create(&["context=spare"], "busy"))?;
    let writer = Writer::start(world, "copied", "busy", &[])?;
    let file = world.base.join("copied");
    for _ in 0..3 {
        // Docker mounts again with the container's own identity, and unmounts once.
        world
            .user
            .ok(&["cp", "copied:/data/n", &file.to_string_lossy()])?;
    }
    writer.goes_on()?;
    let mounted = world.volume("busy")?.context("it is gone")?.mountpoint;
    ensure!(mounted.is_some(), "unmounted under the container");
    ensure!(
        writer.mountinfo()?.contains("nosuid,nodev"),
        "{}",
        writer.mountinfo()?
    );
    world.user.ok(&["rm", "-f", "copied"])?;
    ensure!(
        world
            .volume("busy")?
            .context("it is gone")?
            .mountpoint
            .is_none(),
        "still mounted"
    );
    world.user.ok(&["volume", "rm", "busy"]).map(drop)
}

/// A call of the volume API as dockerd makes it; the answer's body.
pub(crate) fn call(endpoint: &str, body: &str) -> Result<String> {
    let mut stream = UnixStream::connect("/run/docker/plugins/hello.sock")?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    write!(
        stream,
        "POST /VolumeDriver.{endpoint} HTTP/1.1\r\nHost: \r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").context("no body")?;
    Ok(body.trim().to_owned())
}

fn case_08_an_unmatched_unmount_changes_nothing(world: &mut World) -> Result<()> {
    world.user.ok(&create(&["context=spare"], "held"))?;
    let writer = Writer::start(world, "holder", "held", &[])?;
    for body in [r#"{"Name":"held","ID":"unheard-of"}"#, r#"{"Name":"held"}"#] {
        let answer = call("Unmount", body)?;
        ensure!(
            !answer.contains("rror") || answer.contains(r#""Err":"""#),
            "{answer}"
        );
    }
    let answer = call("Unmount", r#"{"Name":"never-was","ID":"x"}"#)?;
    ensure!(!answer.contains("panic"), "{answer}");
    writer.goes_on()?;
    ensure!(
        world
            .volume("held")?
            .context("it is gone")?
            .mountpoint
            .is_some(),
        "unmounted"
    );
    world.user.ok(&["rm", "-f", "holder"])?;
    world.user.ok(&["volume", "rm", "held"]).map(drop)
}

fn a_volume_that_cannot_be_mounted_fails_its_container_with_the_reason(
    world: &mut World,
) -> Result<()> {
    world
        .user
        .ok(&create(&["context=spare", "directory=inner"], "broken"))?;
    let id = world.volume("broken")?.context("it is not there")?.id;
    // A file where the volume's directory was.
    let script = format!("cd /mnt/{id} && rm -r inner && echo > inner");
    world
        .system
        .ok(&["exec", "laz-context-spare", "sh", "-c", &script])?;
    let started = Instant::now();
    let said = world
        .user
        .shell_fails(&["-v", "broken:/data"], "touch /data/lost")?;
    let took = started.elapsed();
    ensure!(
        said.contains("cannot make") && said.contains("inner"),
        "{said}"
    );
    ensure!(took < Duration::from_secs(20), "after {took:?}");
    let volume = world.volume("broken")?.context("it is gone")?;
    ensure!(volume.mountpoint.is_none(), "{volume:?}");
    world.user.ok(&["volume", "rm", "broken"]).map(drop)
}

fn a_volume_in_use_cannot_be_removed(world: &mut World) -> Result<()> {
    world.user.ok(&create(&["context=spare"], "used"))?;
    let writer = Writer::start(world, "user-of-it", "used", &[])?;
    let said = world.user.fails(&["volume", "rm", "used"])?;
    ensure!(said.contains("in use"), "{said}");
    let said = world.laz_fails(&["volume", "rm", "--yes", "used"])?;
    ensure!(
        said.contains("in use") && said.contains("user-of-it"),
        "{said}"
    );
    writer.goes_on()?;
    world.user.ok(&["rm", "-f", "user-of-it"])?;
    // At once: what core heard of containers last may be older than the container's end.
    world.laz(&["volume", "rm", "--yes", "used"])?;
    let said = world.user.fails(&["volume", "rm", "scratch.one"])?;
    ensure!(said.contains("declared in the cloud-config"), "{said}");
    Ok(())
}
