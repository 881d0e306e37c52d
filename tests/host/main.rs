//! Core end to end on this machine: two real Docker engines, the plugin host, the kind `hello`.
//!
//! All tests share one world and run one after the other; each leaves it as it was. Those that show
//! one of the acceptance cases (the pains of users of other solutions) carry its number.

mod bricks;
mod built_in;
mod changes;
mod configuration;
mod containers;
mod declared;
mod docker_volumes;
mod engines;
mod figures;
mod gluster;
mod hanging;
mod kills;
mod lifecycle;
mod misbehaving;
mod operator;
mod plugins;
mod signatures;
mod sshfs;
mod whole_contexts;
mod wire_program;

use std::fmt::{self, Display, Formatter};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use lazarette_tests::host::World;
use lazarette_tests::host::enclosure::{self, Stage};
use libtest_mimic::{Arguments, Completion, Failed, Trial};

/// A test: its name and what it does.
type Case = (&'static str, fn(&mut World) -> Result<()>);

/// What the machine lacks for a test: an error that makes it count as skipped.
#[derive(Debug)]
struct Skipped(String);

impl Display for Skipped {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "skipped: {}", self.0)
    }
}

/// Names functions after themselves.
#[macro_export]
macro_rules! cases {
    ($($module:ident::$name:ident),* $(,)?) => { [$((stringify!($name), $module::$name as fn(&mut World) -> Result<()>)),*] };
}

fn all() -> Vec<Case> {
    [
        declared::CASES,
        docker_volumes::CASES,
        operator::CASES,
        changes::CASES,
        whole_contexts::CASES,
        configuration::CASES,
    ]
    .into_iter()
    .chain([
        hanging::CASES,
        kills::CASES,
        engines::CASES,
        lifecycle::CASES,
        figures::CASES,
        plugins::CASES,
        built_in::CASES,
        signatures::CASES,
        wire_program::CASES,
        misbehaving::CASES,
        sshfs::CASES,
        // Last: their server runs on.
        gluster::CASES,
        bricks::CASES,
    ])
    .flatten()
    .copied()
    .collect()
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // They share a world.
    arguments.test_threads = Some(1);
    let missing = enclosure::missing();
    if arguments.list || missing.is_some() {
        if let Some(why) = missing.filter(|_| !arguments.list) {
            println!("skipped: {why}");
        }
        let skipped = |(name, _): Case| Trial::test(name, || Ok(())).with_ignored_flag(true);
        let trials = all().into_iter().map(skipped).collect();
        return libtest_mimic::run(&arguments, trials).exit_code();
    }
    let base = match enclosure::enter() {
        Ok(Stage::Suite(base)) => base,
        Ok(Stage::Over(code)) => return code,
        Err(error) => {
            eprintln!("the suite cannot be enclosed: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let shared = Arc::new(Mutex::new(match World::start(base) {
        Ok(world) => world,
        Err(error) => {
            eprintln!("the world does not come up: {error:#}");
            return ExitCode::FAILURE;
        }
    }));
    let trial = |(name, case): Case| {
        let shared = Arc::clone(&shared);
        Trial::ignorable_test(name, move || {
            run(
                case,
                &mut shared.lock().unwrap_or_else(PoisonError::into_inner),
            )
        })
    };
    libtest_mimic::run(&arguments, all().into_iter().map(trial).collect()).exit_code()
}

/// Runs one test and clears up after it. What it leaves behind is a failure, too.
fn run(case: fn(&mut World) -> Result<()>, world: &mut World) -> Result<Completion, Failed> {
    let result = catch_unwind(AssertUnwindSafe(|| case(world)));
    let result = result.unwrap_or_else(|_| Err(anyhow::anyhow!("it panicked")));
    if let Err(error) = &result
        && let Some(skipped) = error.downcast_ref::<Skipped>()
    {
        return Ok(Completion::ignored_with(skipped.to_string()));
    }
    let failed = result
        .as_ref()
        .err()
        .map(|error| format!("{error:#}\ncore's last lines:\n{}", world.core.tail()));
    let cleared = match &result {
        Ok(()) => world
            .nothing_left()
            .and_then(|()| world.settled().map(drop)),
        Err(_) => Ok(()),
    };
    let cleared = cleared.map_err(|error| format!("after the test: {error:#}"));
    if (failed.is_some() || cleared.is_err())
        && let Err(error) = world.clear()
    {
        eprintln!("the world cannot be cleared: {error:#}");
    }
    match (failed, cleared) {
        (Some(message), _) | (None, Err(message)) => Err(message.into()),
        (None, Ok(())) => Ok(Completion::Completed),
    }
}
