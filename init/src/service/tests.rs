//! Services with shell scripts in place of engines.

use super::*;
use crate::console::fake::Screen;

struct Machine {
    root: tempfile::TempDir,
    layout: Layout,
    screen: Screen,
}

impl Machine {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::below(root.path());
        for path in [layout.own(), layout.logs(), layout.cgroup()] {
            fs::create_dir_all(path).unwrap();
        }
        Self {
            root,
            layout,
            screen: Screen::default(),
        }
    }

    fn start(&self, script: &str) -> Service {
        let spec = Spec {
            name: "test",
            program: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
            environment: vec![("ROOT", self.root.path().into())],
            view: None,
            mounted: None,
            stale: vec![self.root.path().join("stale")],
            alone: false,
        };
        Service::start(spec, &self.layout, &self.screen.console()).unwrap()
    }

    fn until(&self, what: &str, check: impl Fn() -> bool) {
        let end = Instant::now() + Duration::from_secs(20);
        while !check() {
            assert!(Instant::now() < end, "not {what}: {}", self.screen.text());
            thread::sleep(Duration::from_millis(10));
        }
    }
}

const LONG: Duration = Duration::from_secs(20);

#[test]
fn a_killed_program_is_started_again_and_its_output_is_kept() {
    let machine = Machine::new();
    fs::write(machine.root.path().join("stale"), "").unwrap();
    let service = machine.start("echo life; test -e $ROOT/stale || echo clean; exec sleep 100");
    machine.until("started", || service.status().starts == 1);
    machine.until("running", || service.shared.lock().child.is_some());
    let path = machine.layout.logs().join("test.log");
    let lives = || fs::read_to_string(&path).unwrap_or_default();
    // A life that is ended before it has said all it says shows nothing.
    machine.until("alive", || lives() == "life\nclean\n");
    let child = service.shared.lock().child.clone().unwrap();
    child.signal(9).unwrap();
    machine.until("started again", || service.status().starts == 2);
    machine.until("alive again", || lives() == "life\nclean\nlife\nclean\n");
    assert!(
        machine
            .screen
            .text()
            .contains("ended by signal 9; starting it again in 0.0 s")
    );
    let exit = service.stop(LONG).unwrap();
    assert_eq!(exit, Some(Exit::Signal(15)));
    machine.until("over", || service.shared.lock().over);
    assert_eq!(service.status().starts, 2);
    assert_eq!(lives(), "life\nclean\nlife\nclean\n");
}

#[test]
fn readiness_is_waited_for_and_ends_with_the_program() {
    let machine = Machine::new();
    let service = machine.start("exec sleep 100");
    let tell = |text: &str| {
        let path = service.shared.notify_path();
        let socket = std::os::unix::net::UnixDatagram::unbound().unwrap();
        socket.send_to(text.as_bytes(), path).unwrap();
    };
    machine.until("running", || service.shared.lock().child.is_some());
    tell("STATUS=mounting");
    machine.until("heard", || service.status().text == "mounting");
    let error = service.wait_ready(Duration::from_millis(50)).unwrap_err();
    assert!(error.to_string().contains("(mounting)"), "{error}");
    tell("READY=1\nSTATUS=all there");
    service.wait_ready(LONG).unwrap();
    let child = service.shared.lock().child.clone().unwrap();
    child.kill().unwrap();
    machine.until("gone", || service.status().starts == 2);
    assert!(!service.status().ready);
    service.stop(LONG).unwrap();
}

#[test]
fn a_program_that_keeps_ending_is_reported_before_the_limit_and_not_given_up() {
    let machine = Machine::new();
    let service = machine.start("exit 3");
    let error = service.wait_ready(Duration::from_secs(600)).unwrap_err();
    assert!(error.to_string().contains("ended 6 times"), "{error}");
    let starts = service.status().starts;
    machine.until("started again", || service.status().starts > starts);
    service.stop(LONG).unwrap();
}

#[test]
fn a_program_that_ignores_sigterm_is_killed_after_the_grace() {
    let machine = Machine::new();
    let service = machine.start("trap '' TERM; touch $ROOT/up; sleep 100 & wait; wait; sleep 100");
    machine.until("up", || machine.root.path().join("up").exists());
    let begin = Instant::now();
    let exit = service.stop(Duration::from_millis(300)).unwrap();
    assert_eq!(exit, Some(Exit::Signal(9)));
    assert!(begin.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_missing_view_is_waited_for_and_told_once() {
    let machine = Machine::new();
    let pin = machine.root.path().join("view");
    let spec = Spec {
        name: "test",
        program: "/bin/true".into(),
        arguments: vec![],
        environment: vec![],
        view: Some(pin),
        mounted: None,
        stale: vec![],
        alone: false,
    };
    let service = Service::start(spec, &machine.layout, &machine.screen.console()).unwrap();
    thread::sleep(VIEW_POLL * 4);
    assert_eq!(service.status().starts, 0);
    let told = machine
        .screen
        .text()
        .matches("waiting for the view")
        .count();
    assert_eq!(told, 1, "{}", machine.screen.text());
    assert_eq!(service.stop(LONG).unwrap(), None);
}

#[test]
fn what_an_earlier_manager_left_running_is_ended_first() {
    let machine = Machine::new();
    let left = Command::new("/bin/sleep")
        .arg("100")
        .spawn(ChildOutput::Null)
        .unwrap();
    earlier::remember(&machine.layout.own().join("test.pid"), left.pid()).unwrap();
    let service = machine.start("exec sleep 100");
    assert!(left.wait(Some(LONG)).unwrap().is_some());
    machine.until("started", || service.status().starts == 1);
    service.stop(LONG).unwrap();
}
