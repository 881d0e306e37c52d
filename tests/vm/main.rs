//! Lazarette as an operating system, on real parts: our init as PID 1, two Docker engines, a kernel
//! NFS server, all in a virtual machine.
//!
//! Each test has a machine of its own: as a rule one that was booted once and is restored, so that
//! nothing needs to be cleaned up; those about booting and powering off boot. A name that begins
//! with `case_NN` shows acceptance case NN: a pain of the users of other solutions.

mod boot;
mod check;
mod disks;
mod gluster;
mod guest;
mod input;
mod kills;
mod lab;
mod lvm;
mod nfs;
mod power;
mod server;
mod signatures;
mod volumes;
mod zfs;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use lazarette_tests::lab::Lab;
use lazarette_tests::vm::{Options, Saved};
use libtest_mimic::{Arguments, Completion, Failed, Trial};

use guest::Guest;

/// A test: its name and what it does.
#[derive(Clone, Copy)]
enum Case {
    /// In a machine that was restored: booted, with test servers and both engines answering.
    Restored(&'static str, fn(&Guest) -> Result<()>),
    /// One that boots its own.
    Boots(&'static str, fn(&Lab) -> Result<()>),
}

/// Names functions after themselves.
macro_rules! cases {
    ($way:ident: $($name:ident),* $(,)?) => { &[$($crate::Case::$way(stringify!($name), $name)),*] };
}
use cases;

/// Those that take longest come first: a short one is waited for at the end.
const SUITES: &[&[Case]] = &[
    power::BOOTS,
    boot::BOOTS,
    disks::BOOTS,
    zfs::BOOTS,
    lab::BOOTS,
    check::RESTORED,
    zfs::RESTORED,
    kills::RESTORED,
    lvm::RESTORED,
    gluster::RESTORED,
    server::RESTORED,
    nfs::RESTORED,
    volumes::RESTORED,
    boot::RESTORED,
    lab::RESTORED,
    input::RESTORED,
    signatures::RESTORED,
];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let lab = Lab::from_env().map_err(|error| format!("{error:#}"));
    let cases = SUITES.iter().copied().flatten();
    let trials = cases.map(|case| trial(*case, lab.clone())).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial(case: Case, lab: Result<Lab, String>) -> Trial {
    let (Case::Restored(name, _) | Case::Boots(name, _)) = case;
    Trial::ignorable_test(name, move || {
        let lab = match &lab {
            Ok(lab) => lab,
            Err(why) => return Ok(Completion::ignored_with(format!("skipped: {why}"))),
        };
        let began = Instant::now();
        let result = match case {
            Case::Restored(_, run) => restored(lab, run),
            Case::Boots(_, run) => run(lab),
        };
        // Passed or not: a log is to show where the time goes.
        println!("{name}: {:.0} s", began.elapsed().as_secs_f64());
        match result {
            Ok(()) => Ok(Completion::Completed),
            Err(error) => {
                let why = format!("{error:#}");
                // At once, in short: the list of failures comes after the last test. `cargo xtask test`
                // repeats this line at its end.
                println!("FAILED {name}: {}", in_short(&why));
                Err(Failed::from(why))
            }
        }
    })
}

/// The beginning, which says what was done, and the end, which says what was wrong: without the
/// machine's logs, which come after that.
fn in_short(why: &str) -> String {
    const LINES: usize = 4;
    let said = why.lines().take_while(|line| !line.starts_with("--- "));
    let mut said: Vec<&str> = said.collect();
    if said.len() > 2 * LINES {
        said.splice(LINES..said.len() - LINES, ["…"]);
    }
    said.join(" | ")
}

fn restored(lab: &Lab, run: fn(&Guest) -> Result<()>) -> Result<()> {
    let machine = Saved::ensure(lab, &Options::default())?.restore()?;
    Guest::with(machine, run).map(drop)
}
