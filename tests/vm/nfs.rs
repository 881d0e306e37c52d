//! NFS, both ways in: declared exports and Docker's volumes.

use anyhow::{Result, ensure};
use lazarette_tests::vm::Machine;

use crate::Case;

crate::cases!(Case: a_declared_export_reaches_containers, a_sub_directory_by_bind,
    a_missing_directory_is_never_made_in_its_place, the_life_of_a_docker_volume, versions,
    locks_work_on_version_3, read_only_is_read_only, a_directory_is_made_on_demand,
    attach_and_detach_by_url, no_setuid_and_no_devices);

fn a_declared_export_reaches_containers(machine: &Machine) -> Result<()> {
    machine.sh("docker run --rm -v /mnt/nas/media:/data busybox sh -ec 'echo from-user > /data/one; cat /data/one'")?;
    ensure!(machine.sh("nas exec cat /srv/media/one")? == "from-user");
    machine.sh("nas exec sh -c 'echo from-server > /srv/home/two'")?;
    let seen = machine.sh("docker run --rm -v /mnt/nas/home:/data busybox cat /data/two")?;
    ensure!(seen == "from-server", "{seen}");
    Ok(())
}

fn a_sub_directory_by_bind(machine: &Machine) -> Result<()> {
    machine.sh("nas exec mkdir /srv/media/x")?;
    machine.sh("docker run --rm -v /mnt/nas/media/x:/data busybox touch /data/here")?;
    machine.sh("nas exec test -e /srv/media/x/here")?;
    Ok(())
}

/// Acceptance case 19: nothing is written under a missing mount.
fn a_missing_directory_is_never_made_in_its_place(machine: &Machine) -> Result<()> {
    let output =
        machine.run("docker run --rm -v /mnt/nas/nothing:/data busybox touch /data/lost")?;
    ensure!(
        output.status != 0,
        "a container started on a mount that is not there"
    );
    ensure!(output.stderr.contains("/mnt/nas/nothing"), "{output:?}");
    Ok(())
}

fn the_life_of_a_docker_volume(machine: &Machine) -> Result<()> {
    machine.sh(
        "docker volume create -d nfs -o server=nas.test -o export=/srv/media -o vers=4.2 media",
    )?;
    // The same again is no error; other options are.
    machine.sh(
        "docker volume create -d nfs -o server=nas.test -o export=/srv/media -o vers=4.2 media",
    )?;
    machine.sh("docker run --rm -v media:/data busybox sh -c 'echo bytes > /data/volume'")?;
    ensure!(machine.sh("nas exec cat /srv/media/volume")? == "bytes");
    let list = machine.sh("docker volume ls --format '{{.Driver}} {{.Name}}'")?;
    ensure!(list.lines().any(|line| line == "nfs media"), "{list}");
    let inspected =
        machine.sh("docker volume inspect media --format '{{.Driver}} {{.Options.export}}'")?;
    ensure!(inspected == "nfs /srv/media", "{inspected}");
    machine.sh("docker volume rm media")?;
    leaves_nothing(machine, "media")?;
    machine.sh("nas exec test -e /srv/media/volume")?;
    Ok(())
}

/// Nothing is left of a volume that was removed: no volume, no mount, no directory.
pub(crate) fn leaves_nothing(machine: &Machine, name: &str) -> Result<()> {
    let volumes = machine.sh("docker volume ls -q; laz volume ls")?;
    ensure!(
        !volumes
            .lines()
            .any(|line| line.split_whitespace().any(|word| word == name)),
        "{volumes}"
    );
    let left = machine.sh(
        "nsenter --mount=/run/lazarette/view/mnt -- sh -c \
         'grep \" /run/lazarette/volumes/\" /proc/self/mountinfo; ls -A /run/lazarette/volumes'; true",
    )?;
    ensure!(left.is_empty(), "{left}");
    Ok(())
}

fn versions(machine: &Machine) -> Result<()> {
    for version in ["3", "4.0", "4.1", "4.2"] {
        let name = format!("v{}", version.replace('.', "-"));
        machine.sh(&format!(
            "docker volume create -d nfs -o server=nas.test -o export=/srv/media -o vers={version} {name}"
        ))?;
        let options = machine.sh(&format!(
            "docker run --rm -v {name}:/data busybox sh -ec \
             'echo {version} > /data/{name}; grep \" /data \" /proc/mounts'"
        ))?;
        ensure!(options.contains(&format!("vers={version},")), "{options}");
        ensure!(!options.contains("soft"), "hard is the default: {options}");
        ensure!(machine.sh(&format!("nas exec cat /srv/media/{name}"))? == version);
        machine.sh(&format!("docker volume rm {name}"))?;
    }
    Ok(())
}

/// Acceptance case 17: locks on version 3 without `nolock`.
fn locks_work_on_version_3(machine: &Machine) -> Result<()> {
    machine.sh(
        "docker volume create -d nfs -o server=nas.test -o export=/srv/media -o vers=3 three",
    )?;
    machine.sh("docker run -d --name holder -v three:/data busybox sh -c \
         'touch /data/lock; flock /data/lock sh -c \"touch /data/held; sleep 600\"'")?;
    machine.sh("for i in $(seq 300); do nas exec test -e /srv/media/held && exit 0; sleep 0.2; done; exit 1")?;
    let mount = machine.sh("docker exec holder grep ' /data ' /proc/mounts")?;
    ensure!(
        mount.contains("vers=3") && !mount.contains("nolock"),
        "{mount}"
    );
    let second = machine.run("docker run --rm -v three:/data busybox flock -n /data/lock true")?;
    ensure!(second.status == 1, "the lock was given twice: {second:?}");
    machine.sh("docker rm -f holder")?;
    machine.sh("docker run --rm -v three:/data busybox flock /data/lock true")?;
    Ok(())
}

fn read_only_is_read_only(machine: &Machine) -> Result<()> {
    machine.sh("nas exec sh -c 'echo kept > /srv/media/kept'")?;
    machine.sh(
        "docker volume create -d nfs -o server=nas.test -o export=/srv/media -o ro=true fixed",
    )?;
    let output = machine
        .run("docker run --rm -v fixed:/data busybox sh -c 'cat /data/kept; touch /data/new'")?;
    ensure!(
        output.status != 0 && output.stdout == "kept\n",
        "{output:?}"
    );
    ensure!(
        output.stderr.contains("Read-only file system"),
        "{output:?}"
    );
    Ok(())
}

fn a_directory_is_made_on_demand(machine: &Machine) -> Result<()> {
    machine.sh(
        "docker volume create -d nfs -o server=nas.test -o export=/srv/home -o path=people/ada \
         -o mode=0750 -o uid=1000 -o gid=1001 ada",
    )?;
    machine.sh("docker run --rm -v ada:/data busybox touch /data/file")?;
    let stat = machine.sh("nas exec stat -c '%a %u %g' /srv/home/people/ada")?;
    ensure!(stat == "750 1000 1001", "{stat}");
    machine.sh("nas exec test -e /srv/home/people/ada/file")?;
    Ok(())
}

fn attach_and_detach_by_url(machine: &Machine) -> Result<()> {
    machine.sh("nas exec mkdir /srv/media/music; laz attach nfs://nas.test/srv/media")?;
    let status = machine.sh("laz status --json")?;
    ensure!(status.contains("nas.test"), "{status}");
    Ok(())
}

fn no_setuid_and_no_devices(machine: &Machine) -> Result<()> {
    let options = machine
        .sh("docker run --rm -v /mnt/nas/media:/data busybox grep ' /data ' /proc/mounts")?;
    ensure!(
        options.contains("nosuid") && options.contains("nodev"),
        "{options}"
    );
    Ok(())
}
