//! Healing, in the view and in running containers.

use std::io::{BufRead, BufReader};
use std::path::Path;

use lazarette_linux::command::{Child, ChildOutput, Command};
use lazarette_linux::mount::{DetachedMount, Expected, MountError, MountOptions};
use lazarette_linux::namespace::MountNamespace;
use lazarette_linux::process::{Process, ProcessError};
use lazarette_linux::view::{Attachment, Rungs, Way, replace_in_process};

use crate::fixture::{Fixture, namespace, tmpfs};

const PLAIN: MountOptions = MountOptions {
    read_only: false,
    no_exec: false,
};

/// A mount that holds one file `name` with the text `text`.
fn with_name(fixture: &Fixture, text: &str) -> DetachedMount {
    fixture.in_plugin(|_| {
        crate::fixture::mount_tmpfs(&fixture.source);
        std::fs::write(fixture.source.join("name"), format!("{text}\n")).unwrap();
        lazarette_linux::mount::clone_tree_verified(&fixture.source, &tmpfs()).unwrap()
    })
}

/// A process in `namespace` that prints what it reads at `path`, over and over.
fn reader(
    namespace: &MountNamespace,
    path: &Path,
) -> (Child, impl Iterator<Item = String> + use<>) {
    let script = "while :; do read -r line < \"$0\" || line=error; echo \"$line\"; done";
    let mut child = Command::new("/bin/sh")
        .args(["-c", script])
        .arg(path)
        .in_namespace(namespace)
        .unwrap()
        .spawn(ChildOutput::Pipe)
        .unwrap();
    let output = std::fs::File::from(child.take_output().unwrap());
    (child, BufReader::new(output).lines().map(Result::unwrap))
}

/// Reads lines until one is `wanted`, and at most 100,000; every line has to be one of `allowed`.
fn read_until(lines: &mut impl Iterator<Item = String>, wanted: &str, allowed: &[&str]) {
    for line in lines.take(100_000) {
        assert!(allowed.contains(&line.as_str()), "read {line:?}");
        if line == wanted {
            return;
        }
    }
    panic!("{wanted} was never read");
}

#[test]
fn in_the_view_a_mount_is_replaced_without_a_gap() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let target = Path::new("nas/a");
    let replaced = fixture
        .root
        .replace(target, with_name(&fixture, "old"), &tmpfs(), PLAIN);
    assert_eq!(replaced.unwrap().way, Way::Attached);
    let path = fixture.target("nas/a/name");
    let (child, mut lines) = reader(fixture.view.namespace(), &path);
    read_until(&mut lines, "old", &["old"]);
    for round in 0..20 {
        let name = format!("new{round}");
        let mount = with_name(&fixture, &name);
        let replaced = fixture
            .root
            .replace(target, mount, &tmpfs(), PLAIN)
            .unwrap();
        assert_eq!(replaced.way, Way::Beneath);
        assert!(replaced.facts.no_suid && replaced.facts.no_dev && replaced.facts.private);
        let before = if round == 0 {
            "old".to_owned()
        } else {
            format!("new{}", round - 1)
        };
        read_until(&mut lines, &name, &[&before, &name]);
        assert_eq!(fixture.rows("nas").len(), 1);
    }
    child.kill().unwrap();
    child.wait(None).unwrap();
    fixture.root.detach(target, Rungs::default()).unwrap();
    fixture.assert_clean();
}

#[test]
fn a_wrong_replacement_leaves_the_old_mount() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let target = Path::new("a");
    fixture
        .root
        .attach(target, with_name(&fixture, "old"), &tmpfs(), PLAIN)
        .unwrap();
    let wrong = Expected::types(["nfs4"]);
    let error = fixture
        .root
        .replace(target, with_name(&fixture, "new"), &wrong, PLAIN);
    assert!(
        matches!(error, Err(MountError::WrongFileSystem { .. })),
        "{error:?}"
    );
    assert_eq!(fixture.read("a/name").unwrap(), "old\n");
    assert_eq!(fixture.rows("").len(), 2);
}

#[test]
fn a_busy_old_mount_is_replaced_too_and_lives_on_for_its_users() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let target = Path::new("a");
    fixture
        .root
        .attach(target, with_name(&fixture, "old"), &tmpfs(), PLAIN)
        .unwrap();
    let open = fixture.in_view(|_| std::fs::File::open(fixture.target("a/name")).unwrap());
    let replaced = fixture
        .root
        .replace(target, with_name(&fixture, "new"), &tmpfs(), PLAIN);
    assert_eq!(replaced.unwrap().way, Way::Beneath);
    assert_eq!(fixture.read("a/name").unwrap(), "new\n");
    assert_eq!(std::io::read_to_string(open).unwrap(), "old\n");
    assert_eq!(fixture.rows("a").len(), 1);
}

/// The kernel refuses to put anything beneath a shared directory that is bound onto itself.
#[test]
fn what_nothing_fits_beneath_is_swapped() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let target = Path::new("a");
    fixture.root.prepare(target).unwrap();
    let path = fixture.target("a");
    fixture.in_view(|_| rustix::mount::mount_bind(&path, &path).unwrap());
    let replaced = fixture
        .root
        .replace(target, with_name(&fixture, "new"), &tmpfs(), PLAIN)
        .unwrap();
    assert_eq!(replaced.way, Way::Swapped);
    assert!(replaced.facts.no_suid && replaced.facts.no_dev && replaced.facts.private);
    assert_eq!(replaced.facts.target, path);
    assert_eq!(fixture.read("a/name").unwrap(), "new\n");
    assert_eq!(fixture.rows("a").len(), 1);
    fixture.root.detach(target, Rungs::default()).unwrap();
    fixture.assert_clean();
}

/// A container has its own namespace and its own copy of the mount, at its own place.
#[test]
fn a_running_container_is_healed_in_place() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let target = Path::new("a");
    let attachment = fixture
        .root
        .attach(target, with_name(&fixture, "old"), &tmpfs(), PLAIN);
    let Attachment::Attached(old) = attachment.unwrap() else {
        panic!("not attached");
    };
    let data = fixture.directory.join("data");
    std::fs::create_dir(&data).unwrap();
    let container = fixture.in_view(|_| {
        let container = namespace();
        container
            .enter(|_| rustix::mount::mount_bind(fixture.target("a"), &data).unwrap())
            .unwrap();
        container
    });
    let (child, mut lines) = reader(&container, &data.join("name"));
    read_until(&mut lines, "old", &["old"]);
    let process = Process::open(child.pid()).unwrap();
    let check = |text| {
        let mount = with_name(&fixture, text);
        fixture.view.check(mount, &tmpfs(), PLAIN).unwrap()
    };

    let nothing_there = replace_in_process(&process, &fixture.directory, check("new"), None);
    assert!(nothing_there.is_err(), "{nothing_there:?}");
    let new = check("new");
    let replaced = replace_in_process(&process, &data, new, Some(old.facts.device)).unwrap();
    assert_eq!(replaced.way, Way::Beneath);
    assert_eq!(replaced.facts.target, data);
    read_until(&mut lines, "new", &["old", "new"]);
    // The dead one is no longer there, so nothing is replaced.
    let again = replace_in_process(&process, &data, check("newer"), Some(old.facts.device));
    assert!(
        matches!(again, Err(MountError::Occupied { .. })),
        "{again:?}"
    );
    let table = container.mount_table().unwrap();
    assert_eq!(table.below(&data).count(), 1);
    assert!(table.top_at(&data).unwrap().has_option("nosuid"));
    child.kill().unwrap();
    child.wait(None).unwrap();
}

#[test]
fn an_ended_process_is_never_entered_even_if_its_number_is_back() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let child = Command::new("/bin/sleep")
        .arg("1000")
        .spawn(ChildOutput::Null)
        .unwrap();
    let process = Process::open(child.pid()).unwrap();
    assert!(MountNamespace::of_process(&process).is_ok());
    let (pid, start) = (process.pid(), process.start_time());
    child.kill().unwrap();
    child.wait(None).unwrap();
    assert!(!process.is_alive());
    assert!(matches!(
        Process::open_known(pid, start),
        Err(ProcessError::Gone { .. })
    ));
    // Bring the number back: the next process gets the one after the last.
    let last = Path::new("/proc/sys/kernel/ns_last_pid");
    let mut back = None;
    for _ in 0..50 {
        if std::fs::write(last, (pid - 1).to_string()).is_err() {
            println!("skipped in part: {} cannot be written", last.display());
            return;
        }
        let child = Command::new("/bin/sleep")
            .arg("1000")
            .spawn(ChildOutput::Null)
            .unwrap();
        if child.pid() == pid {
            back = Some(child);
            break;
        }
        child.kill().unwrap();
        child.wait(None).unwrap();
    }
    let Some(back) = back else {
        println!("skipped in part: the number did not come back");
        return;
    };
    let error = MountNamespace::of_process(&process).unwrap_err();
    assert_eq!(error.source.raw_os_error(), Some(libc::ESRCH), "{error}");
    let mount = with_name(&fixture, "new");
    let mount = fixture.view.check(mount, &tmpfs(), PLAIN).unwrap();
    assert!(replace_in_process(&process, Path::new("/proc"), mount, None).is_err());
    // Same second, same number: told apart by the tick, unless both were started within one.
    let known = Process::open_known(pid, start);
    assert!(known.is_err() || Process::open(pid).unwrap().start_time() == start);
    back.kill().unwrap();
    back.wait(None).unwrap();
}
