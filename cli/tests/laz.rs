//! laz against a stand-in core.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod support;

use std::collections::BTreeSet;
use std::io::Write;
use std::time::{Duration, Instant};

use lazarette_core::control::{
    Attached, NewVolume, Origin, Problem, Request, Response, VolumePhase,
};
use lazarette_core::manifest::{Capability, UrlMapping};
use lazarette_core::{Error, ErrorKind, Kind, Manifest, Privileges, frame};
use serde_json::{Value, json};
use support::{StandIn, golden, laz, status, volume};

fn done(value: impl serde::Serialize) -> Response {
    Response::Done(serde_json::to_value(value).unwrap())
}

fn manifest(on_remove: bool) -> Manifest {
    let mut volume = json!({"type": "object", "properties": {
        "export": {"type": "string", "description": "The export,\n as the server names it."},
        "vers": {"enum": ["3", "4.2"], "description": "The protocol's version."},
    }});
    if on_remove {
        volume["properties"]["on_remove"] =
            json!({"type": "string", "enum": ["keep", "delete"], "default": "keep"});
    } else {
        volume["properties"]["existing"] = json!({"type": "string", "x-lazarette-kept": true});
    }
    Manifest {
        kind: Kind::new("nfs").unwrap(),
        version: "0.1.0".into(),
        context_schema: json!({"type": "object", "required": ["server"], "properties": {
            "server": {"type": "string", "description": "The server."},
        }}),
        volume_schema: volume,
        capabilities: BTreeSet::from([Capability::Create, Capability::Shared]),
        privileges: Privileges::default(),
        url: Some(UrlMapping {
            scheme: "nfs".into(),
            authority: Some("server".into()),
            root: None,
            path: "export".into(),
        }),
        actions: Vec::new(),
        exclusive: None,
    }
}

#[test]
fn status_as_people_see_it() {
    let core = StandIn::answering(|_| done(status()));
    let ran = core.laz(&["status"]);
    assert_eq!((ran.status, ran.errors.as_str()), (0, ""));
    golden("status.txt", &ran.output);

    let socket = core.socket();
    let narrow = laz(
        &["--socket", socket.to_str().unwrap(), "status"],
        Some(80),
        None,
    );
    golden("status-80.txt", &narrow.output);
    let tables = narrow.output.split("Needs attention").next().unwrap();
    for line in tables.lines().filter(|line| !line.starts_with("core ")) {
        assert!(line.chars().count() <= 80, "{line:?}");
    }
}

#[test]
fn status_of_an_empty_machine_says_what_to_do_next() {
    let core = StandIn::answering(|_| {
        let mut status = status();
        status.contexts.clear();
        status.volumes.clear();
        status.problems.clear();
        status.engines.truncate(1);
        status.ready = true;
        done(status)
    });
    golden("status-empty.txt", &core.laz(&["status"]).output);
}

#[test]
fn status_as_programs_see_it() {
    let core = StandIn::answering(|_| done(status()));
    let ran = core.laz(&["status", "--json"]);
    let value: Value = serde_json::from_str(&ran.output).unwrap();
    assert_eq!(value, serde_json::to_value(status()).unwrap());
}

#[test]
fn text_from_elsewhere_cannot_steer_the_terminal() {
    let core = StandIn::answering(|_| {
        let mut status = status();
        status.contexts[1].reason = Some("a\x1b]0;owned\x07b\nc".into());
        status.volumes[0].mountpoint = Some("/mnt/\x1b[2J".into());
        done(status)
    });
    let output = core.laz(&["status"]).output;
    assert!(
        !output.contains('\x1b') && !output.contains('\x07'),
        "{output:?}"
    );
}

#[test]
fn a_volume_is_made_as_with_docker() {
    let core = StandIn::answering(|_| done(volume("media", VolumePhase::Idle)));
    let ran = core.laz(&[
        "volume",
        "create",
        "--kind",
        "nfs",
        "-o",
        "server=nas",
        "-o",
        "export=/a=b",
        "-o",
        "soft",
        "media",
    ]);
    assert_eq!((ran.status, ran.output.as_str()), (0, "media\n"));
    let Request::VolumeCreate(NewVolume {
        name,
        kind,
        context,
        options,
    }) = core.last_request()
    else {
        panic!("{:?}", core.last_request());
    };
    assert_eq!(
        (name.as_str(), kind.unwrap().as_str(), context),
        ("media", "nfs", None)
    );
    assert_eq!(options["export"], "/a=b");
    assert_eq!(options["soft"], "");

    core.laz(&["volume", "create", "-d", "nfs", "media"]);
    let Request::VolumeCreate(NewVolume { kind, .. }) = core.last_request() else {
        panic!("{:?}", core.last_request());
    };
    assert_eq!(kind.unwrap().as_str(), "nfs", "as docker's users write it");

    let ran = core.laz(&["volume", "create", "media"]);
    assert_eq!(ran.status, 2, "neither kind nor context");
    assert!(ran.errors.contains("--kind"), "{}", ran.errors);
}

#[test]
fn bad_names_never_reach_core() {
    let core = StandIn::answering(|_| done(()));
    for name in ["a/b", "..", "a,b", "a\nb", ".a"] {
        let ran = core.laz(&["volume", "rm", "--yes", name]);
        assert_eq!(ran.status, 5, "{name:?}: {}", ran.errors);
        assert!(ran.errors.contains("volume name"), "{}", ran.errors);
        assert_eq!(ran.errors.lines().count(), 1, "{}", ran.errors);
    }
    assert_eq!(core.laz(&["logs", "--", "-x"]).status, 5);
    assert!(core.requests.lock().unwrap().is_empty());
}

#[test]
fn volumes_are_listed() {
    let core = StandIn::answering(|_| done(status()));
    golden("volume-ls.txt", &core.laz(&["volume", "ls"]).output);
    assert_eq!(core.laz(&["volume", "ls", "-q"]).output, "db\nmedia\nold\n");
    let json: Vec<Value> =
        serde_json::from_str(&core.laz(&["volume", "ls", "--json"]).output).unwrap();
    assert_eq!(json.len(), 3);
}

#[test]
fn inspect_shows_what_exists_and_fails_for_the_rest() {
    let core = StandIn::answering(|request| match request {
        Request::VolumeInspect { name } if name.as_str() == "media" => {
            done(volume("media", VolumePhase::Idle))
        }
        _ => Response::Failed(
            Error::not_found("no volume is called nope").remedy("`laz volume ls` lists them"),
        ),
    });
    let ran = core.laz(&["volume", "inspect", "media", "nope"]);
    assert_eq!(ran.status, 4);
    assert_eq!(
        ran.errors,
        "laz: no volume is called nope; `laz volume ls` lists them\n"
    );
    let shown: Vec<Value> = serde_json::from_str(&ran.output).unwrap();
    assert_eq!(shown[0]["name"], "media");
}

fn removing(on_remove: bool, options: Value) -> StandIn {
    StandIn::answering(move |request| match request {
        Request::VolumeInspect { name } => {
            let mut volume = volume(name.as_str(), VolumePhase::Idle);
            volume.options = options.clone();
            volume.origin = Origin::Created;
            done(volume)
        }
        Request::Kinds => done([manifest(on_remove)]),
        _ => done(()),
    })
}

fn removed(core: &StandIn) -> bool {
    let requests = core.requests.lock().unwrap();
    requests
        .iter()
        .any(|request| matches!(request, Request::VolumeRemove { .. }))
}

#[test]
fn nothing_is_asked_where_the_data_stays() {
    for (on_remove, options) in [
        (true, json!({"export": "/a"})),
        (false, json!({"existing": "data"})),
    ] {
        let core = removing(on_remove, options);
        let ran = core.laz(&["volume", "rm", "media"]);
        assert_eq!(
            (ran.status, ran.output.as_str(), removed(&core)),
            (0, "media\n", true),
            "{}",
            ran.errors
        );
    }
}

#[test]
fn losing_data_needs_the_name_typed_or_a_yes() {
    for (on_remove, options) in [
        (true, json!({"on_remove": "delete"})),
        (false, json!({})),
        (false, json!({"existing": "data", "on_remove": "delete"})),
    ] {
        let core = removing(on_remove, options);
        let socket = core.socket();
        let arguments = [
            "--socket",
            socket.to_str().unwrap(),
            "volume",
            "rm",
            "media",
        ];

        let nobody = laz(&arguments, None, None);
        assert_eq!(
            (nobody.status, removed(&core)),
            (1, false),
            "{}",
            nobody.errors
        );
        assert!(nobody.errors.contains("--yes"), "{}", nobody.errors);

        let no = laz(&arguments, None, Some("\n"));
        assert_eq!((no.status, removed(&core)), (1, false));
        assert!(
            no.errors
                .contains("This loses volume media of context nas with its data"),
            "{}",
            no.errors
        );
        let other = laz(&arguments, None, Some("y\n"));
        assert_eq!(
            (other.status, removed(&core)),
            (1, false),
            "the name is wanted"
        );

        let yes = laz(&arguments, None, Some("media\n"));
        assert_eq!((yes.status, removed(&core)), (0, true), "{}", yes.errors);

        let core = removing(on_remove, json!({"on_remove": "delete"}));
        assert_eq!(core.laz(&["volume", "rm", "-y", "media"]).status, 0);
        assert!(removed(&core));
    }
}

#[test]
fn removing_goes_on_after_a_failure() {
    let core = StandIn::answering(|request| match request {
        Request::VolumeRemove {
            name, force: true, ..
        } if name.as_str() == "b" => Response::Failed(
            Error::new(ErrorKind::Busy, "volume b is in use")
                .cause("container web")
                .remedy("stop it"),
        ),
        _ => done(()),
    });
    let ran = core.laz(&["volume", "rm", "-fy", "a", "b", "c"]);
    assert_eq!((ran.status, ran.output.as_str()), (1, "a\nc\n"));
    assert_eq!(
        ran.errors,
        "laz: volume b is in use: container web; stop it\n"
    );
}

#[test]
fn attach_says_where_it_is_or_why_not_yet() {
    let core = StandIn::answering(|request| {
        let Request::Attach { url, read_only, .. } = request else {
            panic!("{request:?}")
        };
        let mut volume = volume("media", VolumePhase::Mounted);
        if *read_only {
            volume.reason = Some("nas does not answer".into());
        } else {
            volume.mountpoint = Some(format!("/mnt/{}", url.len()));
        }
        done(Attached::Volume(Box::new(volume)))
    });
    let ran = core.laz(&["attach", "nfs://nas/media"]);
    assert_eq!(
        (ran.status, ran.output.as_str()),
        (0, "media is mounted at /mnt/15\n")
    );
    let ran = core.laz(&["attach", "nfs://nas/media", "--read-only", "--name", "m"]);
    assert!(
        ran.output
            .contains("will be mounted when it can be: nas does not answer")
    );
}

#[test]
fn detach_asks_core() {
    let core = StandIn::answering(|_| done(()));
    assert_eq!(core.laz(&["detach", "media", "--lazy"]).output, "media\n");
    assert!(matches!(
        core.last_request(),
        Request::Detach { lazy: true, .. }
    ));
}

#[test]
fn kinds_and_their_options() {
    let core = StandIn::answering(|_| done([manifest(true)]));
    golden("kinds.txt", &core.laz(&["kinds"]).output);
    golden("kinds-nfs.txt", &core.laz(&["kinds", "nfs"]).output);
    let ran = core.laz(&["kinds", "zfs"]);
    assert_eq!(ran.status, 4);
    assert_eq!(
        ran.errors,
        "laz: no kind of storage is called zfs; known: nfs\n"
    );
    let core = StandIn::answering(|_| done(Vec::<Manifest>::new()));
    assert!(core.laz(&["kinds"]).output.contains("No kinds of storage"));
}

#[test]
fn logs_are_streamed_until_core_ends_them() {
    let core = StandIn::new(|request, stream| {
        assert!(matches!(
            request,
            Request::Logs {
                tail: Some(2),
                follow: true,
                ..
            }
        ));
        for line in ["one", "two\x1b[2J\n"] {
            frame::write(stream, &Response::Item(json!(line))).unwrap();
        }
        frame::write(stream, &done(())).unwrap();
    });
    let ran = core.laz(&["logs", "nas", "-f", "-n", "2"]);
    assert_eq!(
        (ran.status, ran.output.as_str()),
        (0, "one\ntwo\u{fffd}[2J\n")
    );
}

fn file(text: &str) -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("c.yml");
    std::fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (directory, path)
}

#[test]
fn a_cloud_config_is_checked_by_core() {
    let core = StandIn::answering(|request| match request {
        Request::ConfigCheck { text } | Request::ConfigSet { text } if text.contains("bad") => {
            done([Problem {
                source: "cloud-config".into(),
                line: Some(3),
                path: "a.b".into(),
                message: "unknown field `b`".into(),
            }])
        }
        _ => done(Vec::<Problem>::new()),
    });
    let (_keep, path) = file("bad");
    for verb in ["validate", "set"] {
        let ran = core.laz(&["config", verb, &path]);
        assert_eq!((ran.status, ran.errors.as_str()), (5, ""));
        assert_eq!(ran.output, format!("{path}:3: a.b: unknown field `b`\n"));
        let ran = core.laz(&["config", verb, "--json", &path]);
        let problems: Vec<Problem> = serde_json::from_str(&ran.output).unwrap();
        assert_eq!((ran.status, problems.len()), (5, 1));
    }
    let (_keep, path) = file("good");
    assert_eq!(
        core.laz(&["config", "validate", &path]).output,
        format!("{path}: ok\n")
    );
    assert!(
        core.laz(&["config", "set", &path])
            .output
            .contains(": set; ")
    );
    assert_eq!(core.laz(&["config", "set", "/nowhere/x.yml"]).status, 4);
}

#[test]
fn without_core_the_structure_is_checked_and_that_is_said() {
    let (_keep, path) = file("hostname: a\nlazarete: {}\n");
    let ran = laz(
        &[
            "--socket",
            "/nowhere/core.sock",
            "config",
            "validate",
            &path,
        ],
        None,
        None,
    );
    assert_eq!(ran.status, 5);
    assert!(
        ran.output.contains(&format!(
            "{path}:2: lazarete: unknown field `lazarete`; did you mean `lazarette`?"
        )),
        "{}",
        ran.output
    );
    assert!(
        ran.errors.contains("only the structure is checked"),
        "{}",
        ran.errors
    );

    let ran = laz(
        &["--socket", "/nowhere/core.sock", "config", "validate", "-"],
        None,
        Some("hostname: a\n"),
    );
    assert_eq!(
        (ran.status, ran.output.as_str()),
        (0, "standard input: ok as far as it was checked\n")
    );

    let ran = laz(
        &["--socket", "/nowhere/core.sock", "config", "schema"],
        None,
        None,
    );
    assert_eq!(ran.status, 0);
    assert!(
        serde_json::from_str::<Value>(&ran.output).unwrap()["properties"]["lazarette"].is_object()
    );
}

#[test]
fn a_core_that_is_not_there_is_told_once_with_what_to_do() {
    let ran = laz(&["--socket", "/nowhere/core.sock", "status"], None, None);
    assert_eq!((ran.status, ran.output.as_str()), (3, ""));
    assert_eq!(
        ran.errors,
        "laz: cannot reach core at /nowhere/core.sock: No such file or directory (os error 2); \
         is laz-core running? `laz doctor` looks further; --socket names another socket\n"
    );
}

#[test]
fn a_core_that_dies_in_the_middle_of_its_answer_is_told() {
    for part in [0, 2, 4, 20] {
        let core = StandIn::new(move |_, stream| {
            let whole = frame::encode(&done(status())).unwrap();
            stream.write_all(&whole[..part]).unwrap();
            stream.shutdown(std::net::Shutdown::Both).unwrap();
        });
        let ran = core.laz(&["status"]);
        assert_eq!(ran.status, 3, "after {part} bytes: {}", ran.errors);
        assert!(
            ran.errors.contains("went away before it had answered"),
            "{}",
            ran.errors
        );
        assert_eq!(ran.errors.lines().count(), 1, "{}", ran.errors);
    }
}

#[test]
fn bad_frames_are_told() {
    let oversize = u32::MAX.to_le_bytes().to_vec();
    let garbage = frame::encode(&"neither done nor failed").unwrap();
    let other_shape = frame::encode(&done(json!({"version": 1}))).unwrap();
    for bytes in [oversize, garbage, other_shape] {
        let core = StandIn::new(move |_, stream| stream.write_all(&bytes).unwrap());
        let ran = core.laz(&["status"]);
        assert_eq!(ran.status, 1, "{}", ran.errors);
        assert!(ran.errors.contains("does not understand"), "{}", ran.errors);
    }
}

#[test]
fn a_core_that_is_silent_or_trickles_is_not_waited_for_for_ever() {
    let silent = StandIn::new(|_, _| std::thread::sleep(Duration::from_secs(30)));
    let trickling = StandIn::new(|_, stream| {
        let whole = frame::encode(&done(status())).unwrap();
        for byte in whole {
            if stream.write_all(&[byte]).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(300));
        }
    });
    for core in [silent, trickling] {
        let started = Instant::now();
        let ran = core.laz(&["status", "--timeout", "1"]);
        assert_eq!(ran.status, 3, "{}", ran.errors);
        assert!(
            ran.errors.contains("did not answer within 1 s"),
            "{}",
            ran.errors
        );
        assert!(started.elapsed() < Duration::from_secs(15));
    }
}

#[test]
fn exit_statuses_follow_the_error() {
    for (kind, status) in [
        (ErrorKind::InvalidArgument, 5),
        (ErrorKind::Unsupported, 5),
        (ErrorKind::NotFound, 4),
        (ErrorKind::Busy, 1),
        (ErrorKind::Unreachable, 1),
        (ErrorKind::Timeout, 1),
    ] {
        let core = StandIn::answering(move |_| Response::Failed(Error::new(kind, "x")));
        let ran = core.laz(&["status"]);
        assert_eq!(
            (ran.status, ran.errors.as_str()),
            (status, "laz: x\n"),
            "{kind:?}"
        );
    }
    assert_eq!(laz(&["nonsense"], None, None).status, 2);
    assert_eq!(laz(&[], None, None).status, 2);
    assert_eq!(laz(&["--version"], None, None).status, 0);
}

#[test]
fn every_verb_and_flag_has_help() {
    fn walk(command: &clap::Command, seen: &mut usize) {
        assert!(
            command.get_about().is_some(),
            "`{}` has no help",
            command.get_name()
        );
        for argument in command.get_arguments() {
            *seen += 1;
            assert!(
                argument.get_help().is_some(),
                "`{}` of `{}` has no help",
                argument.get_id(),
                command.get_name()
            );
        }
        for verb in command.get_subcommands() {
            walk(verb, seen);
        }
    }
    let mut seen = 0;
    walk(
        &<laz::Arguments as clap::CommandFactory>::command(),
        &mut seen,
    );
    assert!(seen > 30, "{seen}");
    <laz::Arguments as clap::CommandFactory>::command().debug_assert();
    let help = laz(&["--help"], None, None);
    assert_eq!(help.status, 0);
    for part in [
        "Exit status:",
        "status",
        "doctor",
        "LAZARETTE_SOCKET",
        "/run/lazarette/core.sock",
    ] {
        assert!(
            help.output.contains(part),
            "{part} is not in\n{}",
            help.output
        );
    }
}

#[test]
fn completions_and_man_pages_are_made() {
    for shell in ["bash", "zsh", "fish"] {
        let ran = laz(&["completions", shell], None, None);
        assert!(ran.status == 0 && ran.output.contains("doctor"), "{shell}");
    }
    assert!(laz(&["man"], None, None).output.contains("Exit status"));
    let directory = tempfile::tempdir().unwrap();
    let ran = laz(
        &["man", "--directory", directory.path().to_str().unwrap()],
        None,
        None,
    );
    assert_eq!(ran.status, 0, "{}", ran.errors);
    let pages: Vec<_> = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    for page in ["laz.1", "laz-status.1", "laz-volume-create.1"] {
        assert!(
            pages.iter().any(|name| name == page),
            "{page} is not in {pages:?}"
        );
    }
}

#[test]
fn draining_needs_a_yes() {
    let core = StandIn::answering(|_| done(()));
    let ran = core.laz(&["drain"]);
    assert_eq!(ran.status, 1, "{}", ran.errors);
    assert!(core.requests.lock().unwrap().is_empty());
    assert_eq!(core.laz(&["drain", "--yes"]).status, 0);
    assert_eq!(core.last_request(), Request::Drain);
}
