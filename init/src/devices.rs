//! Devices' stable names: udev, in a container of system Docker's that Docker keeps running.
//!
//! The names below `/dev/disk` are what configurations call disks by, and partitioning tools wait
//! for udev. It is no service of init's own, because its programs are not in the OS.

use std::fs;
use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use lazarette_core::built_in::{self, BuiltIn};
use lazarette_linux::command::Command;

use crate::engines;
use crate::error::Error;
use crate::layout::Layout;
use crate::phase::Outcome;

/// The container's name.
pub const CONTAINER: &str = "udev";
/// Its image.
const IMAGE: &str = "lazarette/udev";
/// What the container writes once every block device has been looked at.
const SETTLED: &str = "/run/udev/lazarette-settled";
/// How long the boot waits for that; a shelf of old disks takes its time.
pub const LIMIT: Duration = Duration::from_secs(120);
/// How long one command of the engine may take.
const COMMAND_LIMIT: Duration = Duration::from_secs(120);
/// How often is looked whether it is done.
const POLL: Duration = Duration::from_millis(50);

/// Starts udev and waits for at most `limit` until it has looked at the block devices, or until
/// `stopping`. A container of an earlier boot gives way: it may be of an older image.
///
/// # Errors
/// When there is no `docker` or no image, or when it takes too long; the container then goes on.
pub fn start(
    layout: &Layout,
    limit: Duration,
    stopping: &dyn Fn() -> bool,
) -> Result<Outcome, Error> {
    let program = engines::program(layout, "docker")?;
    let mut host = std::ffi::OsString::from("unix://");
    host.push(layout.system_socket());
    let docker = |arguments: &[&str]| {
        let command = Command::new(&program).arg("--host").arg(&host);
        command.args(arguments).deadline(COMMAND_LIMIT)
    };
    // Fails when there is none.
    docker(&["rm", "--force", "--", CONTAINER]).output()?;
    let settled = layout.at(SETTLED);
    match fs::remove_file(&settled) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(Error::file("remove", settled, error));
        }
        _ => {}
    }
    let mut image = IMAGE.to_owned();
    // Without the list, or with one that cannot be trusted, of which core tells: what has the name.
    if let Ok(list) = BuiltIn::read(&layout.at(built_in::PATH))
        && let Some(listed) = list.latest(IMAGE)
    {
        // The name may be another image's since an archive was loaded. This gives it back, and fails if
        // the engine's disk is of another version of the OS.
        if docker(&["tag", listed, IMAGE]).run().is_ok() {
            image = listed.to_owned();
        }
    }
    docker(&arguments(&image)).run()?;
    wait_for(&settled, limit, stopping)
}

/// It sees and sets up all devices, and hears of them on the host's network: less than everything
/// would not do.
fn arguments(image: &str) -> [&str; 12] {
    [
        "run",
        "--detach",
        "--pull=never",
        "--restart=always",
        "--privileged",
        "--network=host",
        "--log-opt=max-size=1m",
        "--volume=/dev:/dev",
        "--volume=/run/udev:/run/udev",
        "--volume=/lib/modules:/usr/lib/modules:ro",
        "--name=udev",
        image,
    ]
}

fn wait_for(
    settled: &Path,
    limit: Duration,
    stopping: &dyn Fn() -> bool,
) -> Result<Outcome, Error> {
    let end = Instant::now() + limit;
    while !settled.exists() {
        if stopping() {
            return Ok(Outcome::Skipped("the machine is being stopped".into()));
        }
        if Instant::now() >= end {
            return Err(Error::Late {
                what: format!(
                    "not every disk has its names below /dev/disk (`system-docker logs {CONTAINER}` \
                     says more); going on, they may come later: not done"
                ),
                seconds: limit.as_secs(),
            });
        }
        thread::sleep(POLL);
    }
    Ok(Outcome::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// A machine whose `docker` does what `script` says and notes how it was called.
    fn machine(script: &str) -> (tempfile::TempDir, Layout) {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::below(root.path());
        for directory in ["/usr/bin", "/run/udev"] {
            fs::create_dir_all(layout.at(directory)).unwrap();
        }
        let path = layout.at("/usr/bin/docker");
        let root_path = root.path().display();
        let text = format!("#!/bin/sh\nroot={root_path}\necho \"$*\" >> $root/calls\n{script}\n");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        (root, layout)
    }

    #[test]
    fn an_earlier_container_gives_way_and_its_word_does_not_count() {
        let (root, layout) = machine(
            "case $3 in rm) exit 1;; run) [ ! -e $root/run/udev/lazarette-settled ] || exit 1
             : > $root/run/udev/lazarette-settled;; esac",
        );
        fs::write(layout.at(SETTLED), "").unwrap();
        let outcome = start(&layout, LIMIT, &|| false).unwrap();
        assert_eq!(outcome, Outcome::Done);
        let calls = fs::read_to_string(root.path().join("calls")).unwrap();
        let calls: Vec<&str> = calls.lines().collect();
        assert!(calls[0].ends_with("rm --force -- udev"), "{calls:?}");
        assert!(calls[1].contains("system-docker.sock run"), "{calls:?}");
        assert_eq!(calls.len(), 2);
    }

    /// What udev is started from, on a machine with this list of the OS's images, and whose `docker`
    /// names images as `tag` says.
    fn started_from(list: &str, mode: u32, tag: &str) -> (String, Vec<String>) {
        let (root, layout) = machine(&format!(
            "case $3 in tag) {tag};; run) : > $root/run/udev/lazarette-settled;; esac"
        ));
        let path = layout.at(built_in::PATH);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, list).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(start(&layout, LIMIT, &|| false).unwrap(), Outcome::Done);
        let calls = fs::read_to_string(root.path().join("calls")).unwrap();
        let calls: Vec<String> = calls.lines().map(str::to_owned).collect();
        let run = calls.last().unwrap();
        let image = run.rsplit(' ').next().unwrap().to_owned();
        (image, calls)
    }

    #[test]
    fn it_is_the_os_s_image_whatever_has_its_name() {
        let list = "sha256:1 lazarette/nfs:latest\nsha256:2 lazarette/udev:latest\n";
        let (image, calls) = started_from(list, 0o644, "exit 0");
        assert_eq!(image, "sha256:2");
        let back = "tag sha256:2 lazarette/udev";
        assert!(calls[1].ends_with(back), "{calls:?}");
        let (image, _) = started_from(list, 0o644, "exit 1");
        assert_eq!(image, IMAGE, "the disk is of another version of the OS");
        for (list, mode) in [(list, 0o666), ("sha256:2\n", 0o644), ("", 0o644)] {
            let (image, calls) = started_from(list, mode, "exit 0");
            assert_eq!((image.as_str(), calls.len()), (IMAGE, 2), "{calls:?}");
        }
    }

    #[test]
    fn what_takes_too_long_or_has_no_image_is_told_and_a_stop_is_heeded() {
        let (_root, layout) = machine("");
        let short = Duration::from_millis(100);
        let late = start(&layout, short, &|| false).unwrap_err().to_string();
        assert!(late.contains("system-docker logs udev"), "{late}");
        let outcome = start(&layout, LIMIT, &|| true).unwrap();
        assert!(matches!(outcome, Outcome::Skipped(_)), "{outcome:?}");
        let (_root, layout) = machine("[ $3 != run ] || { echo 'No such image' >&2; exit 125; }");
        let error = start(&layout, LIMIT, &|| false).unwrap_err();
        let told = crate::error::chain(&error);
        assert!(told.contains("No such image"), "{told}");
    }
}
