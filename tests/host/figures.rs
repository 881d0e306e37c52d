//! What it costs. Printed; the bounds are wide, because these are builds for debugging as a rule.

use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lazarette_core::control::{ContextPhase, Request};
use lazarette_core::frame;
use lazarette_tests::host::core::{CONTROL, status};
use lazarette_tests::host::process::{self, resident_kib};
use lazarette_tests::host::{World, eventually};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::docker_volumes::call;
use crate::{Case, figures};

pub(crate) const CASES: &[Case] = &crate::cases![
    figures::memory_and_times,
    figures::status_beside_dead_storage,
];

/// How many contexts are dead while the status is asked for, if not [`FEW`].
const DEAD: &str = "LAZARETTE_DEAD_CONTEXTS";
/// A quarter of what the goal speaks of and the bench takes: each has a container of its own.
const FEW: usize = 16;
/// How often each is asked for.
const LOOKS: usize = 100;
/// How often each program is run.
const RUNS: usize = 25;
/// Between two looks, so that together they last longer than core lets pass between asking the
/// plugins how they are, and see what that costs.
const PAUSE: Duration = Duration::from_millis(30);
/// The goal for an answer is 100 ms, which the bench looks at; on a busy machine any one may last
/// much longer, and so does starting a program.
const MEDIAN_MS: f64 = 250.0;
const MEDIAN_OF_PROGRAMS_MS: f64 = 1000.0;

/// `cargo xtask bench` reads the line that begins with `memory:`; KiB resident.
fn memory_and_times(world: &mut World) -> Result<()> {
    let core = resident_kib(world.core.pid()?)?;
    let serve = world.plugin_host("scratch")?;
    let supervise = world.system.first_process("laz-context-scratch")?;
    let (host, supervise) = (resident_kib(serve)?, resident_kib(supervise)?);
    let figures = json!({"core": core, "serve": host, "supervise": supervise});
    println!("\nmemory: {figures}");
    println!(
        "first start to READY=1: {} ms",
        world.first_ready.as_millis()
    );
    ensure!(core < 64 << 10, "core has {core} KiB");
    ensure!(host < 16 << 10, "the plugin host has {host} KiB");
    ensure!(supervise < 8 << 10, "its supervisor has {supervise} KiB");
    Ok(())
}

/// `cargo xtask bench` reads the line that begins with `status:`.
fn status_beside_dead_storage(world: &mut World) -> Result<()> {
    let dead: usize = match std::env::var(DEAD) {
        Ok(number) => number.parse().context(DEAD)?,
        Err(_) => FEW,
    };
    let before = looks(world)?;
    let contexts: String = (0..dead)
        .map(|number| format!("      dead{number}: {{kind: hello, volumes: [one]}}\n"))
        .collect();
    world.set_config(&format!(
        "#cloud-config\nlazarette:\n  storage:\n    contexts:\n{contexts}"
    ))?;
    let all = |wanted: &dyn Fn(&str) -> Result<bool>| {
        (0..dead).try_fold(true, |so_far, number| {
            Ok::<_, anyhow::Error>(so_far && wanted(&format!("dead{number}"))?)
        })
    };
    let patience = Duration::from_secs(60 + 15 * dead as u64);
    eventually("they are open and mounted", patience, || {
        all(&|name| {
            let open = world.context(name)?.phase == ContextPhase::Ready;
            let volume = world.volume(&format!("{name}.one"))?;
            Ok(open && volume.is_some_and(|volume| volume.mountpoint.is_some()))
        })
    })?;
    let mut stopped = Vec::new();
    let shown = (|| {
        for number in 0..dead {
            let host = world.plugin_host(&format!("dead{number}"))?;
            process::signal(host, Signal::STOP)?;
            stopped.push(host);
        }
        // So that core has asked them and waits for answers.
        std::thread::sleep(Duration::from_secs(5));
        looks(world)
    })();
    for host in stopped {
        process::signal(host, Signal::CONT)?;
    }
    let beside = shown?;
    let figures = json!({"dead": dead, "before": before.figures(), "beside": beside.figures()});
    println!("\nstatus: {figures}");
    for (what, times) in beside.times {
        let limit = match what {
            "core" | "list" => MEDIAN_MS,
            _ => MEDIAN_OF_PROGRAMS_MS,
        };
        let median = times.at(50);
        ensure!(median <= limit, "{what}: {median} ms is the median");
    }
    world.set_config("#cloud-config\n{}\n")?;
    eventually("they are gone", patience, || {
        Ok(status()?
            .contexts
            .iter()
            .all(|c| !c.name.as_str().starts_with("dead")))
    })?;
    world.becomes_clean()
}

/// How long what is asked for took, by the names that the bench knows.
struct Looks {
    times: [(&'static str, Times); 4],
    /// What one answer of core costs its thread, in ms: other programs do not show in that.
    work: f64,
}

impl Looks {
    /// Median and 99th percentile of each, in ms, and core's work.
    fn figures(&self) -> Value {
        let mut figures = json!({"work": self.work});
        for (what, times) in &self.times {
            figures[*what] = json!([times.at(50), times.at(99)]);
        }
        figures
    }
}

/// Times in ms, sorted.
struct Times(Vec<f64>);

impl Times {
    fn of(count: usize, mut look: impl FnMut() -> Result<()>) -> Result<Self> {
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            let started = Instant::now();
            look()?;
            times.push(started.elapsed().as_secs_f64() * 1e3);
            std::thread::sleep(PAUSE);
        }
        times.sort_by(f64::total_cmp);
        Ok(Self(times))
    }

    fn at(&self, percent: usize) -> f64 {
        self.0[(self.0.len() * percent / 100).min(self.0.len() - 1)]
    }
}

/// Asks for everything, over and over.
fn looks(world: &World) -> Result<Looks> {
    let core = world.core.pid()?;
    let before = process::running_ms(core)?;
    let answers = Times::of(LOOKS, || answered().map(drop))?;
    let work = (process::running_ms(core)? - before) / LOOKS as f64;
    let times = [
        ("core", answers),
        ("list", Times::of(LOOKS, || call("List", "{}").map(drop))?),
        ("laz", Times::of(RUNS, || world.laz(&["status"]).map(drop))?),
        (
            "docker",
            Times::of(RUNS, || world.user.ok(&["volume", "ls", "-q"]).map(drop))?,
        ),
    ];
    Ok(Looks { times, work })
}

/// Core's status, taken in and not looked at: the suite, as a rule built for debugging, is slow.
fn answered() -> Result<Vec<u8>> {
    let mut stream = UnixStream::connect(CONTROL)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    frame::write(&mut stream, &Request::Status)?;
    let mut header = [0; frame::HEADER];
    stream.read_exact(&mut header)?;
    let mut body = vec![0; frame::body_length(header)?];
    stream.read_exact(&mut body)?;
    Ok(body)
}
