//! The real plugin host with the example plugin, over the wire.

#![allow(clippy::unwrap_used)]

mod harness;

use std::collections::HashSet;
use std::fs;
use std::io::Write;
use std::process::Command;
use std::time::{Duration, Instant};

use harness::{
    Core, Running, can_run, crafted, hello, kill, plain_volume, scratch, volume, within,
};
use lazarette_core::ErrorKind;
use lazarette_core::message::{FromPlugin, Method, PROTOCOL, ToPlugin, Version};
use rustix::fs::{Mode, OFlags, fstatfs, openat};
use rustix::process::Signal;
use serde_json::json;

const TMPFS_MAGIC: u64 = 0x0102_1994;

#[test]
fn describe_prints_the_manifest() {
    let directory = tempfile::tempdir().unwrap();
    let run = |library: &std::path::Path| {
        Command::new(env!("CARGO_BIN_EXE_laz-plugin-host"))
            .arg("describe")
            .arg(library)
            .output()
            .unwrap()
    };
    let described = run(&hello(directory.path()));
    assert!(described.status.success());
    let manifest: lazarette_core::Manifest = serde_json::from_slice(&described.stdout).unwrap();
    assert_eq!(manifest.kind.as_str(), "hello");
    assert!(manifest.context_schema["properties"]["volumes"].is_object());
    let refused = run(&directory.path().join("absent.so"));
    assert_eq!(refused.status.code(), Some(1));
    let text = String::from_utf8(refused.stderr).unwrap();
    assert!(
        text.starts_with("laz-plugin-host: ") && text.contains("absent.so"),
        "{text}"
    );
}

#[test]
fn a_volume_is_made_mounted_handed_on_and_removed() {
    if !can_run() {
        return;
    }
    let host = Running::start("serve", hello);
    let (mut core, greeting) = Core::connect(&host.socket);
    assert_eq!(greeting.manifest.kind.as_str(), "hello");
    assert_eq!((greeting.open, greeting.protocol), (false, PROTOCOL));
    let early = core.call(Method::List).unwrap_err();
    assert_eq!(early.kind, ErrorKind::Plugin);

    core.open(json!({"volumes": ["one"]})).unwrap();
    core.open(json!({"volumes": ["one"]})).unwrap();
    let listed = core.call(Method::List).unwrap();
    assert_eq!(listed[0]["name"], "one");
    assert_eq!(
        core.call(Method::Health).unwrap(),
        json!({"state": "healthy"})
    );

    let volume = volume(json!({"size": "4M", "directory": "below"}));
    let create = Method::Create {
        volume: volume.clone(),
    };
    assert_eq!(core.call(create.clone()).unwrap(), json!("created"));
    assert_eq!(core.call(create).unwrap(), json!("already_exists"));

    let mount = Method::Mount {
        volume: volume.clone(),
        read_only: false,
    };
    let (mounted, fd) = core.call_fd(mount);
    assert_eq!(mounted.unwrap()["fs_type"], "tmpfs");
    let fd = fd.expect("a mount comes as a descriptor");
    assert_eq!(fstatfs(&fd).unwrap().f_type as u64, TMPFS_MAGIC);
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = openat(&fd, "stores", flags, Mode::from_raw_mode(0o644)).unwrap();
    fs::File::from(file).write_all(b"rum").unwrap();
    let seen = format!(
        "/proc/{}/root{}/{}/below/stores",
        host.pid(),
        host.mounts.display(),
        volume.id
    );
    assert_eq!(
        fs::read(seen).unwrap(),
        b"rum",
        "the copy shows the plugin's own mount"
    );

    core.call(Method::Unmount { id: volume.id }).unwrap();
    let remove = Method::Remove {
        volume: volume.clone(),
    };
    assert_eq!(core.call(remove.clone()).unwrap(), json!("removed"));
    assert_eq!(core.call(remove).unwrap(), json!("already_absent"));
    assert!(!Running::mount_table(host.pid()).contains(&volume.id.to_string()));
    // The descriptor keeps the file system alive all the same.
    assert!(openat(&fd, "stores", OFlags::RDONLY, Mode::empty()).is_ok());
}

#[test]
fn errors_of_options_name_the_option() {
    if !can_run() {
        return;
    }
    let host = Running::start("serve", hello);
    let (mut core, _) = Core::connect(&host.socket);
    let error = core.open(json!({"volums": []})).unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidArgument);
    assert!(error.to_string().contains("volums"), "{error}");
    core.open(json!({})).unwrap();
    let error = core
        .call(Method::Create {
            volume: volume(json!({"size": "4M,mode=0777"})),
        })
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidArgument);
    let error = core
        .call(Method::Create {
            volume: volume(json!({"colour": "red"})),
        })
        .unwrap_err();
    assert!(error.to_string().contains("colour"), "{error}");
}

#[test]
fn whoever_breaks_the_protocol_is_disconnected_and_nobody_else() {
    if !can_run() {
        return;
    }
    let host = Running::start("serve", hello);
    let (mut core, _) = Core::connect(&host.socket);
    core.open(json!({})).unwrap();
    let say = |bytes: &[u8]| {
        let mut stranger = Core::silent(&host.socket);
        stranger.send_bytes(bytes);
        assert!(stranger.is_closed(), "{bytes:?}");
    };
    say(&u32::MAX.to_le_bytes());
    say(b"\x05\0\0\0{\"a\":");
    say(b"\x02\0\0\0{}");
    say(b"\x0f\0\0\0{\"type\":\"list\"}");
    say(&lazarette_core::frame::encode(&ToPlugin::Cancel { id: 1 }).unwrap());
    assert_eq!(core.call(Method::Health).unwrap()["state"], "healthy");

    // After hello, too; then the next connection finds the context still open.
    for bytes in [
        &u32::MAX.to_le_bytes()[..],
        b"\x03\0\0\0nil",
        b"\x02\0\0\0{}",
    ] {
        let (mut core, greeting) = Core::connect(&host.socket);
        assert!(greeting.open);
        core.send_bytes(bytes);
        assert!(core.is_closed(), "{bytes:?}");
    }
    let (mut core, _) = Core::connect(&host.socket);
    let call = ToPlugin::Call {
        id: 5,
        deadline_ms: 5000,
        method: Method::Health,
    };
    let slow = ToPlugin::Call {
        id: 5,
        deadline_ms: 5000,
        method: Method::Open {
            config: json!({"delay_ms": 300}),
        },
    };
    core.send(&slow);
    core.send_if_open(&ToPlugin::Call {
        id: 5,
        deadline_ms: 5000,
        method: Method::List,
    });
    core.send_if_open(&call);
    // Open may have ended before the second came: then the calls are in turn, and that is allowed.
    let (mut next, _) = Core::connect(&host.socket);
    // Opened with other options, it is closed for a moment.
    let end = Instant::now() + Duration::from_secs(20);
    while let Err(error) = next.call(Method::Health) {
        assert!(Instant::now() < end, "{error}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn another_major_version_is_told_ours_and_refused() {
    if !can_run() {
        return;
    }
    let host = Running::start("serve", hello);
    let mut core = Core::silent(&host.socket);
    let greeting = core.hello(Version {
        major: PROTOCOL.major + 1,
        minor: 0,
    });
    assert_eq!(greeting.protocol, PROTOCOL);
    assert!(core.is_closed());
}

#[test]
fn a_new_connection_replaces_the_old_one_and_finds_everything_as_it_was() {
    if !can_run() {
        return;
    }
    let host = Running::start("serve", hello);
    let (mut old, first) = Core::connect(&host.socket);
    old.open(json!({})).unwrap();
    let volume = plain_volume();
    old.call(Method::Create {
        volume: volume.clone(),
    })
    .unwrap();
    let (mut new, second) = Core::connect(&host.socket);
    assert!(old.is_closed());
    assert_eq!(first.instance, second.instance);
    assert!(second.open);
    let again = new.call(Method::Create { volume }).unwrap();
    assert_eq!(again, json!("already_exists"));
}

#[test]
fn calls_run_side_by_side_up_to_a_cap_keep_their_deadline_and_can_be_taken_back() {
    if !can_run() {
        return;
    }
    let host = Running::start("serve", hello);
    let (mut core, _) = Core::connect(&host.socket);
    core.open(json!({"delay_ms": 600})).unwrap();
    let began = Instant::now();
    for _ in 0..40 {
        core.begin(Method::List, Duration::from_secs(20));
    }
    let ended: Vec<_> = (0..40).map(|_| core.reply()).collect();
    assert!(
        began.elapsed() < Duration::from_secs(15),
        "side by side: {:?}",
        began.elapsed()
    );
    let ids: HashSet<u64> = ended.iter().map(|e| e.0).collect();
    assert_eq!(ids.len(), 40, "each call is answered once");
    let busy = ended
        .iter()
        .filter(|e| e.1.as_ref().is_err_and(|e| e.kind == ErrorKind::Busy));
    assert_eq!(busy.count(), 8);

    core.open(json!({"delay_ms": 30_000})).unwrap();
    let began = Instant::now();
    let id = core.begin(Method::List, Duration::from_millis(200));
    let (late, result, _) = core.reply();
    assert_eq!((late, result.unwrap_err().kind), (id, ErrorKind::Timeout));
    let id = core.begin(Method::List, Duration::from_secs(60));
    core.send(&ToPlugin::Cancel { id });
    let (back, result, _) = core.reply();
    assert_eq!((back, result.unwrap_err().kind), (id, ErrorKind::Cancelled));
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[test]
fn the_socket_is_private_a_leftover_is_replaced_and_nothing_leaks_into_children() {
    if !can_run() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(
        path.exists(),
        "a predecessor that was killed leaves its socket"
    );
    let plugin = hello(directory.path());
    // Through our own runner, so that it inherits nothing from whoever runs the tests.
    let process = lazarette_linux::command::Command::new(env!("CARGO_BIN_EXE_laz-plugin-host"))
        .args(["serve", "--socket"])
        .arg(&path)
        .arg("--plugin")
        .arg(plugin)
        .arg("--mounts")
        .arg(directory.path())
        .spawn(lazarette_linux::command::ChildOutput::Null)
        .unwrap();
    let pid = u32::try_from(process.pid()).unwrap();
    let (_core, _) = Core::connect(&path);
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap() {
        let entry = entry.unwrap();
        let number: u32 = entry.file_name().to_str().unwrap().parse().unwrap();
        let info = fs::read_to_string(entry.path()).unwrap();
        let flags = info
            .lines()
            .find_map(|l| l.strip_prefix("flags:"))
            .unwrap()
            .trim();
        let flags = u32::from_str_radix(flags, 8).unwrap();
        assert!(
            number < 3 || flags & 0o2_000_000 != 0,
            "descriptor {number}: {flags:o}"
        );
    }
    println!("resident: {} KiB", resident_kib(pid));
    let ended = process.stop(Duration::from_secs(10)).unwrap().unwrap();
    assert!(ended.success(), "{ended}");
    assert!(!path.exists(), "the socket goes with the server");
}

fn resident_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|l| l.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Acceptance: a plugin host's death is mended in less than a second (reliability f2).
#[test]
fn a_killed_server_is_back_within_a_second_and_its_mounts_are_still_there() {
    if !can_run() {
        return;
    }
    let mut host = Running::start("supervise", hello);
    let (mut core, first) = Core::connect(&host.socket);
    core.open(json!({})).unwrap();
    let volume = plain_volume();
    core.call(Method::Create {
        volume: volume.clone(),
    })
    .unwrap();
    let killed = Instant::now();
    kill(host.server(), Signal::KILL);
    assert!(core.is_closed());
    let (mut core, second) = within(Duration::from_secs(5), || {
        std::panic::catch_unwind(|| Core::connect(&host.socket)).ok()
    });
    let mended = killed.elapsed();
    println!("serving again after {mended:?}");
    assert!(mended < Duration::from_secs(1), "{mended:?}");
    assert_ne!(first.instance, second.instance);
    assert!(!second.open);
    core.open(json!({})).unwrap();
    let again = core.call(Method::Create { volume }).unwrap();
    assert_eq!(again, json!("already_exists"));
    host.signal(Signal::TERM);
    assert_eq!(host.ended(), Some(0));
    assert!(
        host.log().contains("the context is closed"),
        "{}",
        host.log()
    );
    assert!(!host.socket.exists());
}

#[test]
fn orphans_are_reaped() {
    if !can_run() {
        return;
    }
    // A process that starts another one, which outlives it, becomes the supervisor's child.
    let directory = tempfile::tempdir().unwrap();
    let plugin = hello(directory.path());
    let socket = directory.path().join("sock");
    let script = format!(
        "(sleep 0.3 & echo $! > {0}/orphan) & exec {1} supervise --plugin {2} --socket {3} --mounts {0}",
        directory.path().display(),
        env!("CARGO_BIN_EXE_laz-plugin-host"),
        plugin.display(),
        socket.display(),
    );
    let mut process = Command::new("unshare")
        .args([
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "sh",
            "-c",
        ])
        .arg(script)
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let _core = Core::connect(&socket);
    std::thread::sleep(Duration::from_millis(800));
    let supervisor = within(Duration::from_secs(5), || {
        let children = format!("/proc/{0}/task/{0}/children", process.id());
        fs::read_to_string(children)
            .ok()?
            .split_whitespace()
            .next()?
            .parse::<u32>()
            .ok()
    });
    let children =
        fs::read_to_string(format!("/proc/{supervisor}/task/{supervisor}/children")).unwrap();
    assert_eq!(
        children.split_whitespace().count(),
        1,
        "only serve is left: {children}"
    );
    kill(supervisor, Signal::TERM);
    assert!(process.wait().unwrap().success());
}

#[test]
fn a_plugin_that_breaks_its_contract_hurts_nobody_else() {
    if !can_run() {
        return;
    }
    let host = Running::start("supervise", crafted);
    let (mut core, _) = Core::connect(&host.socket);
    core.open(json!({})).unwrap();
    assert_eq!(core.call(Method::Health).unwrap()["state"], "healthy");
    assert!(
        core.heard
            .iter()
            .any(|m| matches!(m, FromPlugin::Log { message, .. } if message == "called"))
    );
    assert!(
        core.heard
            .iter()
            .any(|m| matches!(m, FromPlugin::Progress { share: Some(s), .. } if *s == 0.5))
    );
    let volume = plain_volume();
    let (error, fd) = core.call_fd(Method::Mount {
        volume: volume.clone(),
        read_only: false,
    });
    let error = error.unwrap_err();
    assert!(
        fd.is_none() && error.message.contains("/etc is not below"),
        "{error}"
    );
    let error = core
        .call(Method::Create {
            volume: volume.clone(),
        })
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::Plugin);
    // It panics: the error says so, and the context is opened anew.
    let error = core.call(Method::Remove { volume }).unwrap_err();
    assert_eq!(error.message, "panicked as asked");
    assert_eq!(
        core.call(Method::Health).unwrap()["state"],
        "degraded",
        "opened a second time"
    );
    // It hangs: the deadline holds, and when too many calls hang, a fresh process takes over.
    let before = host.server();
    let began = Instant::now();
    for _ in 0..8 {
        core.begin(Method::List, Duration::from_millis(100));
    }
    for _ in 0..8 {
        assert_eq!(core.reply().1.unwrap_err().kind, ErrorKind::Timeout);
    }
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "{:?}",
        began.elapsed()
    );
    assert!(core.is_closed());
    within(Duration::from_secs(3), || {
        (host.server() != before).then_some(())
    });
    let (mut core, greeting) = within(Duration::from_secs(5), || {
        std::panic::catch_unwind(|| Core::connect(&host.socket)).ok()
    });
    assert!(!greeting.open);
    core.open(json!({})).unwrap();
    assert!(host.log().contains("starts afresh"), "{}", host.log());
}

#[test]
fn the_example_in_c_serves_volumes() {
    if !can_run() {
        return;
    }
    let host = Running::start("serve", scratch);
    let (mut core, greeting) = Core::connect(&host.socket);
    assert_eq!(greeting.manifest.kind.as_str(), "scratch");
    core.open(json!({})).unwrap();
    let volume = volume(json!({"size": "4M"}));
    let create = Method::Create {
        volume: volume.clone(),
    };
    let remove = Method::Remove {
        volume: volume.clone(),
    };
    let mount = Method::Mount {
        volume: volume.clone(),
        read_only: false,
    };
    assert_eq!(
        core.call(mount.clone()).unwrap_err().kind,
        ErrorKind::NotFound
    );
    assert_eq!(core.call(create.clone()).unwrap(), json!("created"));
    assert_eq!(core.call(create).unwrap(), json!("already_exists"));
    for _ in 0..2 {
        let (mounted, fd) = core.call_fd(mount.clone());
        assert_eq!(mounted.unwrap()["source"], "scratch");
        let facts = fstatfs(fd.expect("a mount comes as a descriptor")).unwrap();
        assert_eq!(facts.f_type as u64, TMPFS_MAGIC);
        assert_eq!(facts.f_blocks * facts.f_bsize as u64, 4 << 20);
    }
    let unmount = Method::Unmount { id: volume.id };
    assert_eq!(core.call(unmount.clone()).unwrap(), json!(null));
    assert_eq!(core.call(unmount).unwrap(), json!(null));
    assert_eq!(core.call(remove.clone()).unwrap(), json!("removed"));
    assert_eq!(core.call(remove).unwrap(), json!("already_absent"));
    let resize = core.call(Method::Resize { volume }).unwrap_err();
    assert_eq!(resize.kind, ErrorKind::Unsupported);
    assert_eq!(
        core.call(Method::Health).unwrap(),
        json!({"state": "healthy"})
    );
}

#[test]
fn a_process_of_its_own_serves_the_wire_like_the_plugin_host() {
    if !can_run() {
        return;
    }
    let data = tempfile::tempdir().unwrap();
    let shelf = Running::shelf();
    let (mut core, greeting) = Core::connect(&shelf.socket);
    assert_eq!(greeting.manifest.kind.as_str(), "shelf");
    assert_eq!((greeting.open, greeting.protocol), (false, PROTOCOL));
    let early = core.call(Method::List).unwrap_err();
    assert_eq!(early.kind, ErrorKind::Plugin);
    let absent = core.open(json!({"directory": "/no/such/directory"}));
    assert_eq!(absent.unwrap_err().kind, ErrorKind::NotFound);
    core.open(json!({"directory": data.path()})).unwrap();

    let volume = volume(json!({}));
    let create = Method::Create {
        volume: volume.clone(),
    };
    assert_eq!(core.call(create.clone()).unwrap(), json!("created"));
    assert_eq!(core.call(create).unwrap(), json!("already_exists"));
    let mount = Method::Mount {
        volume: volume.clone(),
        read_only: false,
    };
    let (mounted, fd) = core.call_fd(mount);
    mounted.unwrap();
    let root = fd.expect("a mount comes as a descriptor");
    let file = openat(
        &root,
        "f",
        OFlags::CREATE | OFlags::WRONLY,
        Mode::from_raw_mode(0o644),
    );
    drop((file.unwrap(), root));
    let kept = data.path().join(volume.id.to_string()).join("f");
    assert!(
        kept.exists(),
        "what is written through the mount is on the shelf"
    );
    let resize = Method::Resize {
        volume: volume.clone(),
    };
    assert_eq!(core.call(resize).unwrap_err().kind, ErrorKind::Unsupported);

    // Core comes back: the context is open still.
    drop(core);
    let (mut core, greeting) = Core::connect(&shelf.socket);
    assert!(greeting.open);
    let remove = Method::Remove { volume };
    assert_eq!(core.call(remove.clone()).unwrap(), json!("removed"));
    assert_eq!(core.call(remove).unwrap(), json!("already_absent"));
    assert!(!kept.exists());
}

#[test]
fn new_options_take_effect_although_the_storage_is_in_use() {
    if !can_run() {
        return;
    }
    let host = Running::start("serve", crafted);
    let (mut core, _) = Core::connect(&host.socket);
    core.open(json!({"be": "busy"})).unwrap();
    let refused = core.call(Method::Close).unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Busy);
    core.open(json!({"be": "calm"})).unwrap();
    // The plugin counts how often it was opened.
    assert_eq!(
        core.call(Method::Health).unwrap(),
        json!({"state": "degraded"})
    );
    assert_eq!(core.call(Method::Close).unwrap(), json!(null));
}
