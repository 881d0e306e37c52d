//! A plugin for tests that breaks the contract in one way of one's choice, and keeps it in all
//! others: what the conformance kit and the host's containment are tried with.
//!
//! It is written on the ABI alone, without the SDK, because the SDK would not let it. The variable
//! `LAZARETTE_MISBEHAVE` names the way, or the context's option `behaviour`; none, and it is a
//! decent plugin whose volumes are file systems in memory; with `on-a-disk` it is as decent, and they
//! are ext4 on loop devices. `describe` knows the variable only.
//!
//! | module | what it is |
//! |---|---|
//! | `manifest` | what it says of itself, and lies in it |
//! | `greedy` | what takes more than there is |
//! | `tools` | what is still at work when the plugin host has died |
//! | `volumes` | the volumes, and what goes wrong with them |
//! | `reply` | answers and errors as JSON |

mod greedy;
mod manifest;
mod reply;
mod tools;
mod volumes;

use std::time::Duration;

use lazarette_abi::export::{HostHandle, Plugin, Reply, Version, descriptor};
use lazarette_abi::{CallInfo, Descriptor};
use serde_json::{Value, json};

use reply::{error, ok};
use volumes::{Request, Volumes};

/// The variable that names the behaviour.
const VARIABLE: &str = "LAZARETTE_MISBEHAVE";

/// An open context.
struct Misbehaving {
    host: HostHandle,
    behaviour: String,
    fault_file: Option<String>,
    volumes: Volumes,
}

struct Own;

impl Version for Own {
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
}

/// The behaviour that the environment names.
fn from_environment() -> String {
    std::env::var(VARIABLE).unwrap_or_default()
}

impl Plugin for Misbehaving {
    const KIND: &'static str = "misbehaving";

    fn describe(version: &str) -> Reply {
        ok(&manifest::manifest(version, &from_environment()))
    }

    fn open(host: HostHandle, config: &[u8]) -> Result<Self, Vec<u8>> {
        let config: Value = serde_json::from_slice(config).unwrap_or_default();
        let text = |name: &str| config.get(name).and_then(Value::as_str).map(str::to_owned);
        let behaviour = text("behaviour").unwrap_or_else(from_environment);
        if behaviour == "dies-of-commas" && text("label").is_some_and(|label| label.contains(',')) {
            std::process::abort();
        }
        if behaviour == "dies-when-opened" {
            std::process::abort();
        }
        let volumes = Volumes::open(host.mounts().into(), behaviour.clone())?;
        Ok(Self {
            host,
            behaviour,
            fault_file: text("fault_file"),
            volumes,
        })
    }

    fn scan() -> Reply {
        ok(&json!([]))
    }

    fn call(&self, call: CallInfo, method: &str, request: &[u8]) -> Reply {
        self.disturb(&call, method)?;
        let request = Request::parse(request);
        match method {
            "health" => self.health(),
            "list" => self.list(),
            "close" => self.close(),
            "act" => self.act(),
            _ => self.volumes.call(method, &request),
        }
    }

    fn panicked(method: &str, panic: &str) -> Vec<u8> {
        reply::text("plugin", &format!("panicked in {method}: {panic}"))
    }
}

impl Misbehaving {
    fn is(&self, behaviour: &str) -> bool {
        self.behaviour == behaviour
    }

    /// What goes wrong with a call whatever it asks for.
    fn disturb(&self, call: &CallInfo, method: &str) -> Result<(), Vec<u8>> {
        match self.behaviour.as_str() {
            "panics" if method == "create" => panic!("as it was told to"),
            "aborts" if method == "create" => std::process::abort(),
            "exits" if method == "create" => std::process::exit(0),
            "segfaults" if method == "create" => greedy::segfault(),
            "dies-of-health" if method == "health" => std::process::abort(),
            "eats-memory" if method == "create" => greedy::memory(),
            "forks" if method == "create" => {
                let refused = greedy::processes();
                return Err(reply::text("no_space", &refused));
            }
            behaviour if behaviour.starts_with("has-a") && method == "create" => {
                tools::start(behaviour);
            }
            "hangs-in-health" if method == "health" => loop {
                std::thread::park();
            },
            "floods" if method == "health" => {
                let line = format!("\x1b[2J{}", "flood ".repeat(10_000));
                for _ in 0..1500 {
                    self.host.log(lazarette_abi::LOG_INFO, &line);
                }
            }
            "hangs" if method == "mount" => loop {
                std::thread::park();
            },
            "chatty" => {
                for line in 0..1000 {
                    self.host
                        .log(lazarette_abi::LOG_INFO, &format!("line {line}"));
                }
            }
            "short-of-time" if call.deadline_ms < 50 => {
                return Err(reply::text("internal", "there is too little time"));
            }
            "not-cancelled" if method == "create" => {
                for _ in 0..40 {
                    if self.host.cancelled(call.id) {
                        return Err(reply::text("internal", "somebody took it back"));
                    }
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
            "progress" => self.host.progress(call.id, "far", Some(7.0)),
            _ => {}
        }
        Ok(())
    }

    fn health(&self) -> Reply {
        if self.is("one-at-a-time") {
            self.volumes.wait();
        }
        let away = self
            .fault_file
            .as_ref()
            .is_some_and(|file| std::path::Path::new(file).exists());
        match self.behaviour.as_str() {
            "not-json" => Ok(b"{\"state\": healthy}".to_vec()),
            "no-utf8" => Ok(vec![b'"', 0xff, b'"']),
            "wrong-shape" => ok(&json!("splendid")),
            "unknown-field" => {
                ok(&json!({"state": "healthy", "capasity": {"total": 2, "used": 1}}))
            }
            "overfull" => ok(&json!({"state": "healthy", "capacity": {"total": 1, "used": 2}})),
            "always-healthy" => ok(&json!({"state": "healthy"})),
            _ if away => ok(&json!({"state": "unreachable", "reason": "the test took it away"})),
            _ => ok(&json!({"state": "healthy"})),
        }
    }

    fn list(&self) -> Reply {
        let named = |name: &str| json!({"name": name, "options": {}, "declared": false});
        match self.behaviour.as_str() {
            "oversize" => ok(&json!("x".repeat(2 << 20))),
            "climbing-names" => ok(&json!([named("../etc")])),
            "twins" => ok(&json!([named("one"), named("one")])),
            _ => ok(&json!([])),
        }
    }

    fn close(&self) -> Reply {
        match self.behaviour.as_str() {
            "dies-at-the-end" => std::process::abort(),
            "talkative-close" => ok(&json!("goodbye")),
            _ => {
                self.volumes.close();
                ok(&Value::Null)
            }
        }
    }

    fn act(&self) -> Reply {
        if self.is("any-action") {
            return ok(&json!("did it"));
        }
        error("unsupported", "misbehaving volumes have no such action")
    }
}

/// The descriptor that the plugin host reads.
// SAFETY: nothing else in the library exports this name, and the host looks it up in it alone.
#[unsafe(no_mangle)]
pub static LAZARETTE_PLUGIN_V1: Descriptor = descriptor::<Misbehaving, Own>();
