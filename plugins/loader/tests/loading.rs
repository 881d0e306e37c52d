//! What the loader refuses, and that it refuses with a sentence instead of dying.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use lazarette_core::context::{Level, Sink};
use lazarette_core::message::Method;
use lazarette_core::{ErrorKind, VolumeId};
use lazarette_loader::{LoadError, Plugin, Refusal};
use serde_json::json;

/// Builds the C fixture with `defines` into `directory`.
fn build(directory: &Path, name: &str, defines: &[&str]) -> PathBuf {
    let library = directory.join(format!("{name}.so"));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/plugin.c");
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&library)
        .arg(source)
        .args(defines)
        .output()
        .expect("cc is installed");
    assert!(
        built.status.success(),
        "{}",
        String::from_utf8_lossy(&built.stderr)
    );
    fs::set_permissions(&library, fs::Permissions::from_mode(0o755)).unwrap();
    library
}

/// The refusal of `library`, whose sentence names the file and ends with a remedy.
fn refusal(library: &Path) -> Refusal {
    let error: LoadError = match Plugin::load(library) {
        Ok(_) => panic!("{} was loaded", library.display()),
        Err(error) => error,
    };
    let text = error.to_string();
    assert!(text.contains(library.to_str().unwrap()), "{text}");
    assert!(text.contains("; "), "no remedy: {text}");
    assert!(
        !text.contains('\n') && !text.contains("/proc/self/fd"),
        "{text}"
    );
    error.refusal
}

fn refusal_of_bytes(directory: &Path, bytes: &[u8]) -> Refusal {
    let path = directory.join("crafted.so");
    let _ = fs::remove_file(&path);
    fs::write(&path, bytes).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    refusal(&path)
}

#[test]
fn a_library_cut_anywhere_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let whole = fs::read(build(directory.path(), "whole", &[])).unwrap();
    let mut refused = 0;
    for length in (0..whole.len()).step_by(97) {
        refusal_of_bytes(directory.path(), &whole[..length]);
        refused += 1;
    }
    assert!(refused > 100, "only {refused} lengths tried");
}

/// What fuzzing does at length (fuzz/fuzz_targets/plugin_file.rs): no bytes make the checks panic.
#[test]
fn a_library_in_any_state_is_examined_without_harm() {
    let directory = tempfile::tempdir().unwrap();
    let whole = fs::read(build(directory.path(), "whole", &[])).unwrap();
    lazarette_loader::examine(&whole).unwrap();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut refused = 0;
    for _ in 0..3_000 {
        let mut bytes = whole.clone();
        for _ in 0..4 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let at = (state >> 33) as usize % bytes.len();
            bytes[at] = (state >> 24) as u8;
        }
        refused += usize::from(lazarette_loader::examine(&bytes).is_err());
    }
    assert!(refused > 0);
}

#[test]
fn garbage_and_other_machines_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let whole = fs::read(build(directory.path(), "whole", &[])).unwrap();
    let with = |changes: &[(usize, u8)]| {
        let mut bytes = whole.clone();
        for (at, value) in changes {
            bytes[*at] = *value;
        }
        refusal_of_bytes(directory.path(), &bytes)
    };
    assert!(matches!(
        refusal_of_bytes(directory.path(), &[7; 9999]),
        Refusal::NotALibrary(_)
    ));
    assert!(matches!(
        refusal_of_bytes(directory.path(), b"#!/bin/sh\n"),
        Refusal::NotALibrary(_)
    ));
    // Byte 4 is the class, 5 the byte order, 16 the type, 18 the machine.
    assert!(matches!(with(&[(4, 1)]), Refusal::Machine { .. }));
    assert!(matches!(with(&[(5, 2)]), Refusal::Machine { .. }));
    assert!(matches!(
        with(&[(18, 0x28), (19, 0)]),
        Refusal::Machine { .. }
    ));
    assert!(matches!(with(&[(16, 1)]), Refusal::NotALibrary(_)));
    // No byte of the headers may crash the checks; the rest of the file is the author's business.
    for at in 0..64 {
        let mut bytes = whole.clone();
        bytes[at] ^= 0xff;
        let path = directory.path().join("flipped.so");
        fs::write(&path, &bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        if let Err(error) = Plugin::load(&path) {
            assert!(error.to_string().contains("flipped.so"));
        }
        fs::remove_file(&path).unwrap();
    }
}

#[test]
fn a_descriptor_that_is_not_ours_is_refused_before_it_is_used() {
    let directory = tempfile::tempdir().unwrap();
    let of = |name: &str, defines: &[&str]| refusal(&build(directory.path(), name, defines));
    assert!(matches!(of("nothing", &["-DNOTHING"]), Refusal::NoSymbol));
    assert!(matches!(of("tiny", &["-DTINY"]), Refusal::Size { .. }));
    assert!(matches!(
        of("magic", &["-DMAGIC=\"LAZARETX\""]),
        Refusal::Magic
    ));
    assert!(matches!(
        of("small", &["-DSIZE=40"]),
        Refusal::Size { size: 40, .. }
    ));
    assert!(matches!(
        of("large", &["-DSIZE=4096"]),
        Refusal::Size { size: 4096, .. }
    ));
    assert!(matches!(
        of("kind", &["-DKIND=\"\""]),
        Refusal::Descriptor(_)
    ));
    match of("major", &["-DMAJOR=2", "-DMINOR=7"]) {
        Refusal::Version { major, minor } => assert_eq!((major, minor), (2, 7)),
        other => panic!("{other}"),
    }
    match of("linker", &["-DMISSING_LIBRARY"]) {
        Refusal::Linker(text) => assert!(text.contains("symbol_that_nobody_has"), "{text}"),
        other => panic!("{other}"),
    }
}

#[test]
fn a_function_that_is_null_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["describe", "create", "call", "destroy", "free"] {
        let define = format!("-D{}=0", name.to_uppercase());
        match refusal(&build(directory.path(), name, &[&define])) {
            Refusal::Descriptor(text) => assert!(text.contains(&format!("`{name}`")), "{text}"),
            other => panic!("{name}: {other}"),
        }
    }
}

#[test]
fn a_newer_minor_version_is_loaded_for_what_is_known_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let plugin = Plugin::load(&build(directory.path(), "newer", &["-DNEWER"])).unwrap();
    assert_eq!(plugin.kind(), "crafted");
    let found = plugin.scan().unwrap();
    assert_eq!((found.len(), found[0].name.as_str()), (1, "/dev/x"));
}

/// A descriptor whose size ends inside of a field does not have that field.
#[test]
fn half_a_pointer_is_none() {
    let directory = tempfile::tempdir().unwrap();
    for size in ["89", "92", "95"] {
        let define = format!("-DSIZE={size}");
        let library = build(directory.path(), size, &["-DMINOR=1", "-DHALF", &define]);
        let plugin = Plugin::load(&library).unwrap();
        assert_eq!(plugin.scan().unwrap_err().kind, ErrorKind::Unsupported);
    }
}

/// Set for the copy of this test that loads what kills it.
const VICTIM: &str = "LAZARETTE_TEST_VICTIM";

/// Loading runs a library's constructors, so it happens in a process that may die; what is refused
/// before that has run nothing.
#[test]
fn a_constructor_that_crashes_kills_the_process_that_loads_it_and_none_that_refuses_it() {
    if let Some(library) = std::env::var_os(VICTIM) {
        let _ = Plugin::load(Path::new(&library));
        unreachable!("the constructor aborts");
    }
    use std::os::unix::process::ExitStatusExt;
    let directory = tempfile::tempdir().unwrap();
    let library = build(directory.path(), "crashes", &["-DCRASHES"]);
    let name = std::thread::current().name().unwrap().to_owned();
    let mut victim = Command::new(std::env::current_exe().unwrap());
    victim.args(["--exact", &name]).env(VICTIM, &library);
    let ended = victim.output().unwrap().status;
    assert_eq!(
        ended.signal(),
        Some(rustix::process::Signal::ABORT.as_raw())
    );
    // The same library is refused for its mode, and for a missing symbol: we are alive to say so.
    fs::set_permissions(&library, fs::Permissions::from_mode(0o757)).unwrap();
    assert!(matches!(refusal(&library), Refusal::Writable { .. }));
    let nothing = build(directory.path(), "nothing", &["-DCRASHES", "-DNOTHING"]);
    assert!(matches!(refusal(&nothing), Refusal::NoSymbol));
}

#[test]
fn files_that_others_may_change_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let library = build(directory.path(), "open", &[]);
    for mode in [0o775, 0o757, 0o777] {
        fs::set_permissions(&library, fs::Permissions::from_mode(mode)).unwrap();
        assert!(
            matches!(refusal(&library), Refusal::Writable { .. }),
            "{mode:o}"
        );
    }
    fs::set_permissions(&library, fs::Permissions::from_mode(0o755)).unwrap();
    let link = directory.path().join("link.so");
    std::os::unix::fs::symlink(&library, &link).unwrap();
    assert!(matches!(refusal(&link), Refusal::Unreadable(_)));
    assert!(matches!(refusal(directory.path()), Refusal::Unreadable(_)));
    assert!(matches!(
        refusal(&directory.path().join("absent.so")),
        Refusal::Unreadable(_)
    ));
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&library, Some(65_534), None).unwrap();
        assert!(matches!(refusal(&library), Refusal::Owner { uid: 65_534 }));
    } else {
        println!("skipped in part: another owner needs root");
    }
}

#[derive(Default)]
struct Lines(std::sync::Mutex<Vec<String>>);

impl Sink for Lines {
    fn log(&self, level: Level, message: &str) {
        self.0.lock().unwrap().push(format!("{level:?} {message}"));
    }
    fn progress(&self, id: u64, message: &str, share: Option<f32>) {
        self.0
            .lock()
            .unwrap()
            .push(format!("{id} {message} {share:?}"));
    }
    fn cancelled(&self, _: u64) -> bool {
        false
    }
    fn changed(&self) {}
}

#[test]
fn a_plugin_in_c_is_called_and_its_bad_replies_are_errors() {
    let directory = tempfile::tempdir().unwrap();
    let plugin = Plugin::load(&build(directory.path(), "good", &[])).unwrap();
    assert_eq!(plugin.describe().unwrap().kind.as_str(), "crafted");
    let lines = Arc::new(Lines::default());
    let mounts = Path::new("/mnt");
    let refused = plugin.open(lines.clone(), mounts, &json!({"please": "refuse"}));
    assert_eq!(refused.err().unwrap().kind, ErrorKind::InvalidArgument);
    let instance = plugin.open(lines.clone(), mounts, &json!({})).unwrap();
    let call = |method: &Method| instance.call(7, Duration::from_secs(1), method);
    assert_eq!(call(&Method::Health).unwrap(), json!({"state": "healthy"}));
    assert_eq!(
        *lines.0.lock().unwrap(),
        ["Info called", "7 called Some(0.5)"]
    );
    let volume = lazarette_core::volume::Volume {
        id: VolumeId::random(),
        options: json!({}),
    };
    let not_json = call(&Method::Create {
        volume: volume.clone(),
    })
    .unwrap_err();
    assert_eq!(not_json.error.kind, ErrorKind::Plugin);
    let no_error = call(&Method::Unmount { id: volume.id }).unwrap_err();
    assert_eq!(no_error.error.kind, ErrorKind::Plugin);
    let panicked = call(&Method::Remove { volume }).unwrap_err();
    assert!(panicked.poisoned && !no_error.poisoned);
    assert_eq!(call(&Method::Close).unwrap(), json!(null));
    // It is of version 1.0, which had no scan.
    assert_eq!(plugin.scan().unwrap_err().kind, ErrorKind::Unsupported);
}

#[test]
fn a_manifest_must_be_one_and_of_its_own_kind() {
    let directory = tempfile::tempdir().unwrap();
    let garbage =
        Plugin::load(&build(directory.path(), "garbage", &["-DGARBAGE_MANIFEST"])).unwrap();
    assert_eq!(garbage.describe().unwrap_err().kind, ErrorKind::Plugin);
}
