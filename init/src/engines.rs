//! How system Docker, core and user Docker are started.
//!
//! Both engines run with `--live-restore`: containers outlive the death and the restart of their
//! engine. (Swarm mode does not work with it; `lazarette.docker.args: [--live-restore=false]` turns
//! it off for user Docker, at that price.) At the shutdown init stops the containers itself.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lazarette_core::cloud_config::{CloudConfig, UserDocker};
use rustix::fs::statfs;

use crate::error::Error;
use crate::layout::{Layout, PROGRAM_DIRECTORIES};
use crate::service::Spec;

/// How long an engine may take to answer after its start; slow disks and emulated machines count.
pub const ENGINE_LIMIT: Duration = Duration::from_secs(120);
/// How long core waits for required volumes unless the configuration says otherwise, in seconds.
const DEFAULT_WAIT: u64 = 90;
/// What init adds to that before it goes on without core.
const MARGIN: u64 = 30;
/// The configuration file of system Docker, if the image has one.
const SYSTEM_CONFIG: &str = "/etc/lazarette/system-docker.json";

/// How long core may take to say that it is ready.
pub fn core_limit(docker: &UserDocker) -> Duration {
    let wait = docker.wait_seconds.unwrap_or(DEFAULT_WAIT);
    Duration::from_secs(wait.saturating_add(MARGIN))
}

/// System Docker: no bridge, no packet filter, its own directories.
///
/// # Errors
/// When there is no dockerd.
pub fn system_docker(layout: &Layout) -> Result<Spec, Error> {
    let config = Path::new(SYSTEM_CONFIG);
    let config = if layout.at(SYSTEM_CONFIG).exists() {
        config
    } else {
        Path::new("/dev/null")
    };
    let pid_file = layout.at("/run/system-docker.pid");
    let mut arguments = words(&["--config-file"]);
    arguments.push(config.into());
    arguments.extend(words(&[
        "--data-root",
        "/var/lib/system-docker",
        "--exec-root",
        "/run/system-docker",
        "--pidfile",
        "/run/system-docker.pid",
        "--host",
        "unix:///run/system-docker.sock",
        "--bridge=none",
        "--iptables=false",
        "--ip6tables=false",
        "--exec-opt",
        "native.cgroupdriver=cgroupfs",
        "--cgroup-parent",
        "/system-docker",
        "--storage-driver",
        "overlay2",
        "--live-restore",
    ]));
    Ok(Spec {
        name: "system-docker",
        program: program(layout, "dockerd")?,
        arguments,
        environment: engine_environment(layout),
        view: None,
        mounted: None,
        stale: vec![pid_file],
        alone: false,
    })
}

/// core, told to say when user Docker may start.
///
/// # Errors
/// When there is no laz-core.
pub fn core(layout: &Layout) -> Result<Spec, Error> {
    Ok(Spec {
        name: "core",
        program: program(layout, "laz-core")?,
        arguments: words(&[
            "--config",
            "/run/lazarette/config",
            "--state",
            "/var/lib/lazarette",
            "--run",
            "/run/lazarette",
            "--system-docker",
            "/run/system-docker.sock",
            "--user-docker",
            "/run/docker.sock",
            "--notify",
        ]),
        // Its short-lived threads need no heaps of their own.
        environment: vec![("MALLOC_ARENA_MAX", "1".into())],
        view: None,
        mounted: None,
        stale: vec![],
        alone: true,
    })
}

/// User Docker, inside the view. The operator's arguments come last, so they win. If its data root
/// is on a volume, it is never started without that: it would fill the empty mount point.
///
/// # Errors
/// When there is no dockerd.
pub fn user_docker(layout: &Layout, config: &CloudConfig) -> Result<Spec, Error> {
    let data_root = config.data_root().map(PathBuf::from);
    let mut arguments = words(&["--data-root"]);
    arguments.push(match &data_root {
        Some(path) => path.into(),
        None => "/var/lib/docker".into(),
    });
    arguments.extend(words(&[
        "--exec-root",
        "/run/docker",
        "--pidfile",
        "/run/docker.pid",
        "--host",
        "unix:///run/docker.sock",
        "--exec-opt",
        "native.cgroupdriver=cgroupfs",
        "--cgroup-parent",
        "/user-docker",
        "--live-restore",
    ]));
    arguments.extend(config.lazarette.docker.args.iter().map(OsString::from));
    Ok(Spec {
        name: "user-docker",
        program: program(layout, "dockerd")?,
        arguments,
        environment: engine_environment(layout),
        view: Some(layout.view()),
        mounted: data_root,
        stale: vec![layout.at("/run/docker.pid")],
        alone: false,
    })
}

/// The first program of that name.
///
/// # Errors
/// [`Error::NoProgram`] when there is none.
pub fn program(layout: &Layout, name: &'static str) -> Result<PathBuf, Error> {
    layout.program(name).ok_or_else(|| no_program(name))
}

/// The error for a program that the image lacks.
pub fn no_program(name: &'static str) -> Error {
    Error::NoProgram {
        name,
        searched: PROGRAM_DIRECTORIES.join(", "),
    }
}

/// In a root that lives in RAM `pivot_root` fails, and engines must be told.
fn engine_environment(layout: &Layout) -> Vec<(&'static str, OsString)> {
    /// `RAMFS_MAGIC` and `TMPFS_MAGIC` of `linux/magic.h`.
    const IN_RAM: [i64; 2] = [0x8584_58f6, 0x0102_1994];
    match statfs(&layout.root) {
        Ok(stat) if IN_RAM.contains(&stat.f_type) => vec![("DOCKER_RAMDISK", "true".into())],
        _ => vec![],
    }
}

fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn machine(programs: &[&str]) -> (tempfile::TempDir, Layout) {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::below(root.path());
        fs::create_dir_all(layout.at("/usr/sbin")).unwrap();
        for name in programs {
            let path = layout.at("/usr/sbin").join(name);
            fs::write(&path, "").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        (root, layout)
    }

    #[test]
    fn what_the_image_lacks_is_named() {
        let (_root, layout) = machine(&["dockerd"]);
        assert!(system_docker(&layout).is_ok());
        let error = core(&layout).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("no program laz-core in /usr/local/sbin")
        );
    }

    #[test]
    fn the_engines_share_no_directory_and_no_socket() {
        let (_root, layout) = machine(&["dockerd"]);
        let system = system_docker(&layout).unwrap().arguments;
        let user = user_docker(&layout, &CloudConfig::default())
            .unwrap()
            .arguments;
        for option in [
            "--data-root",
            "--exec-root",
            "--pidfile",
            "--host",
            "--cgroup-parent",
        ] {
            let value = |arguments: &[OsString]| {
                let at = arguments.iter().position(|word| word == option).unwrap();
                arguments[at + 1].clone()
            };
            assert_ne!(value(&system), value(&user), "{option}");
        }
    }

    #[test]
    fn the_operators_arguments_come_last_and_run_in_the_view() {
        let (_root, layout) = machine(&["dockerd"]);
        let mut config = CloudConfig::default();
        let docker = &mut config.lazarette.docker;
        docker.args = vec!["--live-restore=false".into()];
        docker.wait_seconds = Some(5);
        let spec = user_docker(&layout, &config).unwrap();
        let docker = config.lazarette.docker;
        assert_eq!(spec.arguments.last().unwrap(), "--live-restore=false");
        assert_eq!(spec.view, Some(layout.view()));
        assert_eq!(core_limit(&docker), Duration::from_secs(35));
        assert_eq!(core_limit(&UserDocker::default()), Duration::from_secs(120));
    }

    #[test]
    fn a_data_root_on_a_volume_is_waited_for() {
        let (_root, layout) = machine(&["dockerd"]);
        let plain = user_docker(&layout, &CloudConfig::default()).unwrap();
        assert_eq!(plain.mounted, None);
        assert_eq!(plain.arguments[1], "/var/lib/docker");
        let mut config = CloudConfig::default();
        config.lazarette.docker.data_root = Some("tank/docker".into());
        let spec = user_docker(&layout, &config).unwrap();
        assert_eq!(spec.mounted.as_deref(), Some(Path::new("/mnt/tank/docker")));
        assert_eq!(spec.arguments[..2], ["--data-root", "/mnt/tank/docker"]);
    }
}
