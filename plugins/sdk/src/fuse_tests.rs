use super::*;
use crate::{Level, Sink};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

#[derive(Default)]
struct Counting(std::sync::atomic::AtomicUsize);

impl Sink for Counting {
    fn log(&self, _: Level, _: &str) {}
    fn progress(&self, _: u64, _: &str, _: Option<f32>) {}
    fn cancelled(&self, _: u64) -> bool {
        false
    }
    fn changed(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn shell(script: &str) -> Command {
    Command::new("/bin/sh").args(["-c", script])
}

/// A call with `milliseconds` left.
fn call(milliseconds: u64) -> Call {
    let end = Instant::now() + Duration::from_millis(milliseconds);
    Call::new(1, end, Arc::new(Counting::default()))
}

#[test]
fn a_client_that_ends_without_a_mount_is_explained_and_leaves_nothing() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: needs root to write below /run");
        return;
    }
    let base = tempfile::tempdir().unwrap();
    let place = base.path().join(VolumeId::random().to_string());
    let client = shell("echo first; echo the server says no >&2; exit 1");
    let error = ensure(&call(20_000), client, &place, |said| {
        Error::internal("cannot mount").cause(said)
    });
    let text = error.unwrap_err().to_string();
    assert!(text.contains("the server says no"), "{text}");
    assert!(!place.exists());

    let error = ensure(&call(300), shell("sleep 60"), &place, |_| {
        Error::internal("it did not end by itself")
    });
    assert_eq!(error.unwrap_err().kind, ErrorKind::Timeout);
    assert!(!place.exists());
    fs::remove_file(log(&place).unwrap()).unwrap();
}

#[test]
fn a_storage_that_cannot_be_reached_is_told_and_core_is_called() {
    let base = tempfile::tempdir().unwrap();
    let sink = Arc::new(Counting::default());
    let host = Host::new(sink.clone(), base.path());
    let watch = Watch::start(&host, || Err("nobody is there".into())).unwrap();
    let end = Instant::now() + Duration::from_secs(20);
    while watch.health().state != HealthState::Unreachable {
        assert!(Instant::now() < end, "{:?}", watch.health());
        thread::sleep(STEP);
    }
    assert_eq!(watch.health().reason.as_deref(), Some("nobody is there"));
    while sink.0.load(Ordering::Relaxed) == 0 {
        assert!(Instant::now() < end, "core is not called");
        thread::sleep(STEP);
    }
}

#[test]
fn a_port_without_a_listener_is_not_reachable() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = ServerName::new("127.0.0.1").unwrap();
    reachable(&server, port).unwrap();
    drop(listener);
    let why = reachable(&server, port).unwrap_err();
    assert!(why.contains(&port.to_string()), "{why}");
}
