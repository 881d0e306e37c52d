//! What the cloud-config declares.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use anyhow::{Context, Result, ensure};
use lazarette_tests::host::core::status;
use lazarette_tests::host::process::{limited, refused};
use lazarette_tests::host::{World, dockerd::PIN, mounts};

use crate::Case;

pub(crate) const CASES: &[Case] = &crate::cases![
    declared::volumes_are_mounted_in_the_view_and_nowhere_else,
    declared::case_21_containers_share_a_declared_volume,
    declared::case_19_what_is_not_mounted_cannot_be_written_to,
    declared::case_07_ready_is_said_once_required_volumes_are_mounted,
    declared::sockets_and_directories_are_closed_to_others,
];
use crate::declared;

fn volumes_are_mounted_in_the_view_and_nowhere_else(_: &mut World) -> Result<()> {
    let mut found = mounts::volumes()?;
    found.sort_by(|a, b| a.target.cmp(&b.target));
    let targets: Vec<&str> = found.iter().map(|m| m.target.as_str()).collect();
    ensure!(
        targets == ["/mnt/db", "/mnt/scratch/one", "/mnt/scratch/two"],
        "{targets:?}"
    );
    for mount in &found {
        ensure!(
            mount.has("nosuid") && mount.has("nodev") && mount.has("rw"),
            "{mount:?}"
        );
        ensure!(
            mount.fs_type == "tmpfs" && mount.propagation.is_empty(),
            "{mount:?}"
        );
    }
    for mount in mounts::outside()? {
        let ours = targets.contains(&mount.target.as_str())
            || mount.target.starts_with("/run/lazarette/volumes");
        ensure!(!ours, "visible outside of the view: {mount:?}");
    }
    Ok(())
}

fn case_21_containers_share_a_declared_volume(world: &mut World) -> Result<()> {
    let volume = ["-v", "/mnt/scratch/one:/data"];
    world
        .user
        .shell(&volume, "echo 'from one' > /data/shared")?;
    let read = world.user.shell(
        &volume,
        "cat /data/shared; grep ' /data ' /proc/self/mountinfo",
    )?;
    let (text, row) = read.split_once('\n').context("two lines expected")?;
    ensure!(text == "from one", "{text}");
    ensure!(
        row.contains("nosuid") && row.contains("nodev") && row.contains("- tmpfs"),
        "{row}"
    );
    // The other volume of that context, and the one at a path of its own, are others.
    let others = ["-v", "/mnt/scratch/two:/two", "-v", "/mnt/db:/db"];
    let listed = world.user.shell(&others, "ls -A /two /db")?;
    ensure!(!listed.contains("shared"), "{listed}");
    world.user.shell(&volume, "rm /data/shared")?;
    Ok(())
}

fn case_19_what_is_not_mounted_cannot_be_written_to(world: &mut World) -> Result<()> {
    for missing in [
        "/mnt/scratch/missing",
        "/mnt/nowhere/at/all",
        "/mnt/missing",
    ] {
        let volume = format!("{missing}:/data");
        let said = world
            .user
            .shell_fails(&["-v", &volume], "touch /data/lost")?;
        ensure!(
            said.contains("read-only file system") && said.contains(missing),
            "{said}"
        );
    }
    let touch = limited(10, "nsenter")
        .arg(format!("--mount={PIN}"))
        .args(["touch", "/mnt/scratch/lost"])
        .output()?;
    let said = refused("touch below /mnt", &touch)?;
    ensure!(said.contains("Read-only file system"), "{said}");
    Ok(())
}

fn case_07_ready_is_said_once_required_volumes_are_mounted(world: &mut World) -> Result<()> {
    ensure!(status()?.ready, "READY=1 was said");
    let log = world.core.log();
    let mounted = log
        .find("volume \"db\": tmpfs is mounted at /mnt/db")
        .context("never mounted")?;
    let ready = log
        .lines()
        .position(|line| line.ends_with(": ready"))
        .context("never ready")?;
    let mounted = log[..mounted].lines().count() - 1;
    ensure!(
        mounted < ready,
        "line {mounted}: mounted; line {ready}: ready"
    );
    Ok(())
}

fn sockets_and_directories_are_closed_to_others(_: &mut World) -> Result<()> {
    let group = fs::read_to_string("/etc/group")?;
    let docker = group
        .lines()
        .find_map(|l| l.strip_prefix("docker:")?.split(':').nth(1));
    let docker: u32 = docker.map_or(Ok(0), str::parse)?;
    for path in ["/run/lazarette/core.sock", "/run/docker/plugins/hello.sock"] {
        let found = fs::metadata(path).context(path)?;
        ensure!(found.file_type().is_socket(), "{path} is no socket");
        let (mode, owner) = (found.mode() & 0o7777, (found.uid(), found.gid()));
        ensure!(
            mode == 0o660 && owner == (0, docker),
            "{path}: {mode:o} {owner:?}"
        );
    }
    for path in ["/run/lazarette/contexts", "/run/lazarette/contexts/scratch"] {
        let mode = fs::metadata(path)?.mode() & 0o7777;
        ensure!(mode == 0o700, "{path}: {mode:o}");
    }
    let plugin = fs::metadata("/run/lazarette/contexts/scratch/plugin.sock")?.mode() & 0o7777;
    ensure!(plugin == 0o600, "plugin.sock: {plugin:o}");
    Ok(())
}
