//! Real file systems: ext4 and xfs on loop devices, FUSE.

#[cfg(feature = "loop")]
use lazarette_linux::loop_device::LoopDevice;

#[cfg(not(feature = "loop"))]
#[test]
fn loop_devices() {
    println!("skipped: needs the feature `loop` (cargo test --features loop)");
}

#[cfg(feature = "loop")]
mod on_loop_devices {
    use std::path::Path;

    use lazarette_linux::command::Command;
    use lazarette_linux::mount::{Expected, MountOptions, clone_tree_verified};
    use lazarette_linux::view::Rungs;
    use rustix::mount::{MountFlags, mount};

    use super::LoopDevice;
    use crate::fixture::Fixture;

    fn hand_over(fs_type: &str, megabytes: u64) {
        let Some(fixture) = Fixture::new() else {
            return;
        };
        let program = format!("/usr/sbin/mkfs.{fs_type}");
        if !Path::new(&program).exists() {
            println!("skipped: {program} is not installed");
            return;
        }
        let image = fixture.directory.join("image");
        let file = std::fs::File::create(&image).unwrap();
        file.set_len(megabytes << 20).unwrap();
        Command::new(program)
            .arg("-q")
            .arg("--")
            .arg(&image)
            .run()
            .unwrap();
        let device = LoopDevice::attach(&image).unwrap();
        let expected = Expected::types([fs_type]);
        let received = fixture.in_plugin(|_| {
            mount(
                device.path(),
                &fixture.source,
                fs_type,
                MountFlags::empty(),
                None,
            )
            .unwrap();
            std::fs::create_dir(fixture.source.join("sub")).unwrap();
            crate::fixture::mount_tmpfs(&fixture.source.join("sub"));
            clone_tree_verified(&fixture.source, &expected).unwrap()
        });
        let options = MountOptions::default();
        let target = Path::new("disk");
        fixture
            .root
            .attach(target, received, &expected, options)
            .unwrap();
        fixture.in_view(|_| {
            std::fs::write(fixture.target("disk/file"), "on disk").unwrap();
            std::fs::write(fixture.target("disk/sub/file"), "in memory").unwrap();
        });
        let rows = fixture.rows("disk");
        assert_eq!(
            rows.iter().map(|row| &row.fs_type).collect::<Vec<_>>(),
            [fs_type, "tmpfs"]
        );
        assert!(
            rows.iter()
                .all(|row| row.has_option("nosuid") && row.has_option("nodev"))
        );
        let lazily = Rungs::up_to(lazarette_linux::view::Rung::Lazy);
        fixture.root.detach(target, lazily).unwrap();
        fixture.in_plugin(|_| {
            assert_eq!(
                std::fs::read(fixture.source.join("file")).unwrap(),
                b"on disk"
            );
            assert_eq!(
                std::fs::read(fixture.source.join("sub/file")).unwrap(),
                b"in memory"
            );
            let lazy = rustix::mount::UnmountFlags::empty();
            rustix::mount::unmount(fixture.source.join("sub"), lazy).unwrap();
            rustix::mount::unmount(&fixture.source, lazy).unwrap();
        });
        fixture.assert_clean();
        device.detach().unwrap();
    }

    #[test]
    fn ext4() {
        hand_over("ext4", 16);
    }

    #[test]
    fn xfs() {
        hand_over("xfs", 300);
    }

    /// More at once than there are free devices at that moment for each.
    #[test]
    fn loop_devices_are_attached_side_by_side() {
        if !crate::fixture::is_root() {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let devices: Vec<_> = std::thread::scope(|scope| {
            let start = |number| {
                let image = directory.path().join(format!("{number}"));
                std::fs::File::create(&image)
                    .unwrap()
                    .set_len(1 << 20)
                    .unwrap();
                scope.spawn(move || LoopDevice::attach(&image).unwrap())
            };
            let threads: Vec<_> = (0..4).map(start).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        let mut paths: Vec<_> = devices
            .iter()
            .map(|device| device.path().to_owned())
            .collect();
        for device in devices {
            device.detach().unwrap();
        }
        paths.sort();
        paths.dedup();
        assert_eq!(paths.len(), 4);
    }
}

mod fuse {
    use std::fs::File;
    use std::io::Write as _;
    use std::path::Path;
    use std::time::{Duration, Instant};

    use lazarette_linux::command::{Child, ChildOutput, Command};
    use lazarette_linux::mount::{
        DetachedMount, Expected, Lookup, MountError, MountOptions, MountRoot, clone_tree_verified,
    };
    use lazarette_linux::view::{Detached, Rung, Rungs, Sharing, Way};

    use crate::fixture::{Fixture, errno};

    const BINDFS: &str = "/usr/bin/bindfs";
    const PLAIN: MountOptions = MountOptions {
        read_only: false,
        no_exec: false,
    };

    fn available() -> bool {
        for needed in [BINDFS, "/dev/fuse"] {
            if !Path::new(needed).exists() {
                println!("skipped: {needed} is missing (apt install bindfs)");
                return false;
            }
        }
        true
    }

    /// Starts bindfs in the storage container, serving `data` at the source directory.
    fn serve(fixture: &Fixture, data: &Path) -> (Child, DetachedMount) {
        let child = Command::new(BINDFS)
            // No `--`: bindfs appends options of its own.
            .arg("-f")
            .args([data, &fixture.source])
            .in_namespace(&fixture.plugin)
            .unwrap()
            .spawn(ChildOutput::Null)
            .unwrap();
        let expected = Expected::types(["fuse.bindfs", "fuse"]);
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            let mount = fixture.in_plugin(|_| clone_tree_verified(&fixture.source, &expected));
            match mount {
                Ok(mount) => return (child, mount),
                Err(error) if Instant::now() > end => panic!("bindfs does not mount: {error}"),
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    #[test]
    fn a_fuse_mount_arrives_dies_with_its_client_and_is_healed() {
        if !available() {
            return;
        }
        for lookup in [Lookup::Auto, Lookup::MountTable] {
            let Some(fixture) = Fixture::with(Sharing::Shared, lookup) else {
                return;
            };
            let data = fixture.directory.join("data");
            std::fs::create_dir(&data).unwrap();
            std::fs::write(data.join("file"), "stores").unwrap();
            let (client, mount) = serve(&fixture, &data);
            let found = fixture.in_plugin(|_| {
                let any = Expected::types(["fuse.bindfs", "fuse"]);
                MountRoot::open_by(&fixture.source, &any, lookup)
                    .unwrap()
                    .facts()
                    .clone()
            });
            let expected = Expected::types([found.fs_type.to_str().unwrap()]);
            let target = Path::new("fuse/a");
            fixture
                .root
                .attach(target, mount, &expected, PLAIN)
                .unwrap();
            assert_eq!(fixture.read("fuse/a/file").unwrap(), "stores");
            client.kill().unwrap();
            client.wait(None).unwrap();
            assert_eq!(errno(fixture.read("fuse/a/file")), libc::ENOTCONN);
            fixture.in_plugin(|_| {
                let flags = rustix::mount::UnmountFlags::DETACH;
                rustix::mount::unmount(&fixture.source, flags).unwrap();
            });

            let (client, mount) = serve(&fixture, &data);
            let replaced = fixture
                .root
                .replace(target, mount, &expected, PLAIN)
                .unwrap();
            assert_eq!(replaced.way, Way::Beneath);
            assert_eq!(fixture.read("fuse/a/file").unwrap(), "stores");
            assert_eq!(fixture.rows("fuse").len(), 1);
            client.kill().unwrap();
            client.wait(None).unwrap();
            // A dead mount goes by the first step.
            let detached = fixture.root.detach(target, Rungs::default()).unwrap();
            assert_eq!(detached, Detached::Detached(Rung::Plain));
            fixture.assert_clean();
        }
    }

    #[test]
    fn a_stopped_client_holds_up_nothing() {
        if !available() {
            return;
        }
        let Some(fixture) = Fixture::new() else {
            return;
        };
        let data = fixture.directory.join("data");
        std::fs::create_dir(&data).unwrap();
        let (client, mount) = serve(&fixture, &data);
        let expected = Expected::types(["fuse.bindfs", "fuse"]);
        client.signal(libc::SIGSTOP).unwrap();
        let start = Instant::now();
        let target = Path::new("fuse");
        fixture
            .root
            .attach(target, mount, &expected, PLAIN)
            .unwrap();
        let again = fixture.in_plugin(|_| clone_tree_verified(&fixture.source, &expected).unwrap());
        fixture
            .root
            .attach(target, again, &expected, PLAIN)
            .unwrap();
        assert!(fixture.root.is_mounted(target).unwrap());
        fixture.root.detach(target, Rungs::default()).unwrap();
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "{:?}",
            start.elapsed()
        );
        client.kill().unwrap();
        client.wait(None).unwrap();
        fixture.assert_clean();
    }

    /// Force would abort the connection to the file system's client, and with it everybody's I/O.
    #[test]
    fn what_is_busy_in_the_view_is_not_torn_from_others() {
        if !available() {
            return;
        }
        let Some(fixture) = Fixture::new() else {
            return;
        };
        let data = fixture.directory.join("data");
        std::fs::create_dir(&data).unwrap();
        std::fs::write(data.join("file"), "stores").unwrap();
        let (client, mount) = serve(&fixture, &data);
        let expected = Expected::types(["fuse.bindfs", "fuse"]);
        let target = Path::new("fuse");
        fixture
            .root
            .attach(target, mount, &expected, PLAIN)
            .unwrap();
        let open = fixture.in_view(|_| File::open(fixture.target("fuse/file")).unwrap());
        let mut elsewhere =
            fixture.in_plugin(|_| File::create(fixture.source.join("log")).unwrap());
        for last in [Rung::Plain, Rung::Force] {
            elsewhere.write_all(b"before ").unwrap();
            let error = fixture.root.detach(target, Rungs::up_to(last)).unwrap_err();
            assert!(matches!(error, MountError::Busy(_)), "{error}");
            elsewhere.write_all(b"after ").unwrap();
            assert_eq!(fixture.read("fuse/file").unwrap(), "stores");
        }
        let lazily = Rungs::up_to(Rung::Lazy);
        let detached = fixture.root.detach(target, lazily).unwrap();
        assert_eq!(detached, Detached::Detached(Rung::Lazy));
        elsewhere.write_all(b"in the end").unwrap();
        elsewhere.sync_all().unwrap();
        assert_eq!(std::io::read_to_string(open).unwrap(), "stores");
        assert_eq!(
            std::fs::read_to_string(data.join("log")).unwrap(),
            "before after before after in the end"
        );
        drop(elsewhere);
        client.kill().unwrap();
        client.wait(None).unwrap();
        fixture.assert_clean();
    }
}
