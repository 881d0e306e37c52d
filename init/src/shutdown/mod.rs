//! The way down: the reverse of the boot, in one budget.
//!
//! Users' containers, user Docker, volumes and contexts (by core), core, storage containers and
//! system Docker, every other process, the remaining mounts, the disks' caches, the machine.
//! Each step runs in a thread of its own, has a share of the budget, reports what it did, and is
//! left behind when its time is over.

pub mod budget;
pub mod drain;
pub mod processes;
pub mod unmount;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use lazarette_linux::command::Command;
use rustix::system::reboot;

use crate::console::Console;
use crate::error::{Error, chain};
use crate::layout::Layout;
use crate::service::Service;
use crate::signals::Stop;
use budget::{Budget, Share};
use unmount::within;

/// The budget of the whole way down.
pub const TOTAL: Duration = Duration::from_secs(30);
/// How much sooner than its step a program is killed, so that the step itself is done in time.
const SLACK: Duration = Duration::from_millis(500);

/// What there is to be taken down.
#[derive(Clone)]
pub struct Machine {
    /// Where everything is.
    pub layout: Layout,
    /// Where it is told.
    pub console: Console,
    /// System Docker, if it was started.
    pub system_docker: Option<Service>,
    /// core, if it was started.
    pub core: Option<Service>,
    /// User Docker, if it was started.
    pub user_docker: Option<Service>,
}

/// A step of the way down.
pub struct Step<M> {
    /// Its name on the console.
    pub name: &'static str,
    /// Its share of the budget.
    pub share: Share,
    /// What it does in the given time; it returns what it did.
    pub run: fn(&M, Duration) -> Result<String, Error>,
}

/// The steps, in order.
pub const STEPS: [Step<Machine>; 9] = [
    Step {
        name: "user containers",
        share: Share::seconds(2, 12),
        run: |machine, limit| {
            let socket = machine.layout.user_socket();
            stop_containers(machine, machine.user_docker.as_ref(), socket, limit)
        },
    },
    Step {
        name: "user Docker",
        share: Share::seconds(1, 5),
        run: |machine, limit| stop_service(machine.user_docker.as_ref(), limit),
    },
    Step {
        name: "volumes",
        share: Share::seconds(3, 14),
        run: |machine, limit| {
            if !machine
                .core
                .as_ref()
                .is_some_and(|core| core.status().ready)
            {
                return Ok("core is not running".into());
            }
            let socket = machine.layout.run().join("core.sock");
            drain::drain(&socket, limit.saturating_sub(SLACK))?;
            Ok("unmounted, contexts closed".into())
        },
    },
    Step {
        name: "core",
        share: Share::seconds(1, 5),
        run: |machine, limit| stop_service(machine.core.as_ref(), limit),
    },
    Step {
        name: "storage containers",
        share: Share::seconds(2, 8),
        run: |machine, limit| {
            let socket = machine.layout.system_socket();
            stop_containers(machine, machine.system_docker.as_ref(), socket, limit)
        },
    },
    Step {
        name: "system Docker",
        share: Share::seconds(1, 5),
        run: |machine, limit| stop_service(machine.system_docker.as_ref(), limit),
    },
    Step {
        name: "processes",
        share: Share::seconds(1, 3),
        run: |_, limit| {
            let left = processes::end_all(limit);
            let names: Vec<String> = left
                .iter()
                .map(|running| format!("{} ({})", running.name, running.pid))
                .collect();
            Ok(if names.is_empty() {
                "all ended".into()
            } else {
                format!("left: {}", names.join(", "))
            })
        },
    },
    Step {
        name: "unmount",
        share: Share::seconds(2, 8),
        run: |machine, limit| {
            machine.console.keep_nowhere();
            let report = unmount::unmount_all(limit.saturating_sub(SLACK));
            let report =
                report.map_err(|error| Error::file("read", "/proc/self/mountinfo", error))?;
            Ok(report.to_string())
        },
    },
    Step {
        name: "sync",
        share: Share::seconds(2, 10),
        run: |_, _| {
            rustix::fs::sync();
            Ok("disks are written".into())
        },
    },
];

/// Takes the machine down. Returns only if the kernel refuses to stop.
pub fn run(stop: Stop, machine: &Machine) {
    for service in [&machine.user_docker, &machine.core, &machine.system_docker]
        .into_iter()
        .flatten()
    {
        service.no_restart();
    }
    take_steps(&STEPS, machine, &machine.console, TOTAL);
    machine.console.line(format!("shutdown: {}", stop.word()));
    if let Err(error) = reboot(stop.command()) {
        machine
            .console
            .line(format!("shutdown: the kernel refuses: {error}"));
    }
}

/// Takes the steps in order, each within its share of `total`.
pub fn take_steps<M: Clone + Send + 'static>(
    steps: &[Step<M>],
    machine: &M,
    console: &Console,
    total: Duration,
) {
    let budget = Budget::new(total);
    let shares: Vec<Share> = steps.iter().map(|step| step.share).collect();
    for (index, step) in steps.iter().enumerate() {
        let limit = budget.allot(step.share, shares.get(index + 1..).unwrap_or_default());
        let begin = Instant::now();
        let (work, machine) = (step.run, machine.clone());
        // A step that panics drops its sender, which counts as not done.
        let result = within(limit, move || work(&machine, limit));
        let took = begin.elapsed().as_secs_f64();
        console.line(match result {
            Some(Ok(done)) => format!("shutdown: {}: {done} ({took:.1} s)", step.name),
            Some(Err(error)) => format!(
                "shutdown: {}: FAILED: {} ({took:.1} s)",
                step.name,
                chain(&error)
            ),
            None => format!(
                "shutdown: {}: FAILED: not done after {took:.1} s; going on",
                step.name
            ),
        });
    }
}

fn stop_service(service: Option<&Service>, limit: Duration) -> Result<String, Error> {
    let Some(service) = service else {
        return Ok("was not started".into());
    };
    // Dying from SIGKILL takes time as well.
    let grace = limit.saturating_sub(SLACK * 2);
    Ok(match service.stop(grace)? {
        Some(exit) => exit.to_string(),
        None => "was not running".into(),
    })
}

/// Stops all containers of an engine. The engine would not do it: it runs with `--live-restore`.
fn stop_containers(
    machine: &Machine,
    service: Option<&Service>,
    socket: PathBuf,
    limit: Duration,
) -> Result<String, Error> {
    if !service.is_some_and(|service| service.status().ready) {
        return Ok("the engine is not running".into());
    }
    let begin = Instant::now();
    let left = || limit.saturating_sub(SLACK).saturating_sub(begin.elapsed());
    let program = crate::engines::program(&machine.layout, "docker")?;
    let mut host = std::ffi::OsString::from("unix://");
    host.push(socket);
    let docker = || Command::new(&program).arg("--host").arg(&host);
    let list = docker().args(["ps", "--quiet"]).deadline(left()).run()?;
    let text = list.stdout_text();
    let ids: Vec<&str> = text.split_whitespace().collect();
    if ids.is_empty() {
        return Ok("none".into());
    }
    // The engine kills after its grace, and needs time for that.
    let grace = left().mul_f64(0.6).as_secs().max(1).to_string();
    docker()
        .args(["stop", "-t", &grace, "--"])
        .args(&ids)
        .deadline(left())
        .run()?;
    Ok(format!("{} stopped", ids.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::fake::Screen;
    use std::thread;

    #[test]
    fn a_step_that_hangs_or_panics_is_reported_and_left_behind() {
        let steps: [Step<()>; 4] = [
            Step {
                name: "hangs",
                share: Share::seconds(0, 1),
                run: |(), _| {
                    thread::sleep(Duration::from_secs(60));
                    Ok("too late".into())
                },
            },
            Step {
                name: "panics",
                share: Share::seconds(1, 10),
                run: |(), _| panic!("no luck"),
            },
            Step {
                name: "fails",
                share: Share::seconds(1, 10),
                run: |(), _| Err(crate::engines::no_program("docker")),
            },
            Step {
                name: "works",
                share: Share::seconds(1, 10),
                run: |(), limit| Ok(format!("in {} s", limit.as_secs())),
            },
        ];
        let screen = Screen::default();
        let begin = Instant::now();
        take_steps(&steps, &(), &screen.console(), Duration::from_secs(4));
        assert!(begin.elapsed() < Duration::from_secs(20));
        let text = screen.text();
        for line in [
            "hangs: FAILED: not done after 1.",
            "panics: FAILED: not done",
            "fails: FAILED: no program docker",
            "works: in ",
        ] {
            assert!(
                text.contains(&format!("shutdown: {line}")),
                "{line:?}: {text}"
            );
        }
    }

    #[test]
    fn the_least_shares_fit_into_the_budget() {
        let least: Duration = STEPS.iter().map(|step| step.share.least).sum();
        assert!(least <= TOTAL / 2, "{least:?}");
    }
}
