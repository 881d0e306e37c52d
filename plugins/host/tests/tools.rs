//! Programs that are at work when the plugin host is killed, and the plugin host that comes next.

#![allow(clippy::unwrap_used)]

mod harness;

use std::fs;
use std::time::{Duration, Instant};

use harness::{Core, Running, can_run, kill, misbehaving, volume, within};
use lazarette_core::message::{Method, ToPlugin};
use rustix::process::Signal;
use serde_json::json;

/// In less than this, the next plugin host has waited for nothing: it waits for ten seconds.
const NOT_WAITED: Duration = Duration::from_secs(8);

/// The descendant of `supervisor` that sleeps for `seconds`, if there is one; also of one that died.
fn sleeping(supervisor: u32, seconds: &str) -> Option<u32> {
    let line = format!("/bin/sleep\0{seconds}\0");
    children(supervisor).into_iter().find_map(|child| {
        let said = fs::read(format!("/proc/{child}/cmdline")).unwrap_or_default();
        (said == line.as_bytes())
            .then_some(child)
            .or_else(|| sleeping(child, seconds))
    })
}

/// Of all its threads.
fn children(process: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{process}/task"));
    let lists = threads
        .into_iter()
        .flatten()
        .flatten()
        .map(|thread| fs::read_to_string(thread.path().join("children")).unwrap_or_default());
    lists
        .collect::<String>()
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .collect()
}

/// A plugin host that was killed while a program was at work.
struct Killed {
    host: Running,
    tool: u32,
    at: Instant,
}

impl Killed {
    /// Whose program sleeps for `seconds`.
    fn with(behaviour: &str, seconds: &str) -> Self {
        let host = Running::start("supervise", misbehaving);
        let (mut core, _) = Core::connect(&host.socket);
        core.open(json!({"behaviour": behaviour})).unwrap();
        core.send(&ToPlugin::Call {
            id: 1000,
            deadline_ms: 60_000,
            method: Method::Create {
                volume: volume(json!({"size": "4M"})),
            },
        });
        let find = || sleeping(host.pid(), seconds);
        let tool = within(Duration::from_secs(5), find);
        kill(host.server(), Signal::KILL);
        assert!(core.is_closed());
        let at = Instant::now();
        Self { host, tool, at }
    }

    fn tool_runs(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.tool)).unwrap_or_default();
        !stat.is_empty() && !stat.contains(") Z ") && !stat.contains(") X ")
    }

    /// Waits for the plugin host that comes next; how long that took.
    fn successor(&self) -> Duration {
        within(Duration::from_secs(20), || {
            std::panic::catch_unwind(|| Core::connect(&self.host.socket)).ok()
        });
        self.at.elapsed()
    }
}

#[test]
fn a_tool_dies_with_its_plugin_host() {
    if !can_run() {
        return;
    }
    let killed = Killed::with("has-a-tool", "61");
    let took = killed.successor();
    assert!(!killed.tool_runs(), "{}", killed.host.log());
    assert!(took < NOT_WAITED, "{took:?}");
}

#[test]
fn the_next_plugin_host_waits_for_a_tool_that_must_not_be_cut_off() {
    if !can_run() {
        return;
    }
    let killed = Killed::with("has-a-tool-to-the-end", "3");
    assert!(killed.tool_runs(), "it was cut off");
    killed.successor();
    assert!(!killed.tool_runs(), "{}", killed.host.log());
    let log = killed.host.log();
    let said = format!("left at work: sleep ({})", killed.tool);
    assert_eq!(log.matches(&said).count(), 1, "{log}");
}

#[test]
fn it_does_not_wait_for_ever() {
    if !can_run() {
        return;
    }
    let killed = Killed::with("has-an-endless-tool", "62");
    let took = killed.successor();
    assert!(took >= Duration::from_secs(10), "{took:?}");
    assert!(killed.tool_runs(), "it was cut off");
    let log = killed.host.log();
    assert!(log.contains("it starts beside them"), "{log}");
    kill(killed.tool, Signal::KILL);
}

#[test]
fn a_daemon_lives_on_and_is_not_waited_for() {
    if !can_run() {
        return;
    }
    let killed = Killed::with("has-a-daemon", "63");
    let took = killed.successor();
    assert!(took < NOT_WAITED, "{took:?}");
    assert!(killed.tool_runs(), "it died with its plugin host");
    assert!(!killed.host.log().contains("left at work"));
    kill(killed.tool, Signal::KILL);
}
