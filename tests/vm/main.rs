//! The OS in virtual machines: our init as PID 1, two engines, a kernel NFS server.
//!
//! Each case gets a machine of its own, restored from one that was booted once, with fresh disks;
//! [`boots`] has those that need a boot. Cases that show an acceptance case (a pain of users of
//! other solutions) carry its number.

mod boots;
mod faults;
mod kills;
mod lab;
mod nfs;
mod os;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use lazarette_tests::lab::Lab;
use lazarette_tests::vm::{Machine, Options, Saved};
use libtest_mimic::{Arguments, Completion, Failed, Trial};

/// A case on a restored machine.
type Case = (&'static str, fn(&Machine) -> Result<()>);

/// A case that boots machines itself.
type Boot = (&'static str, fn(&Lab) -> Result<()>);

/// Names cases after their functions.
macro_rules! cases {
    ($kind:ty: $($name:ident),* $(,)?) => {
        pub(crate) const CASES: &[$kind] = &[$((concat!(module_path!(), "::", stringify!($name)), $name)),*];
    };
}
pub(crate) use cases;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let lab = Lab::from_env().map_err(|error| format!("{error:#}"));
    // Made once, by whoever comes first; not at all if only boots are asked for.
    let saved = Arc::new(std::sync::OnceLock::new());
    let mut trials = Vec::new();
    for &(name, case) in [
        lab::CASES,
        os::CASES,
        nfs::CASES,
        faults::CASES,
        kills::CASES,
    ]
    .into_iter()
    .flatten()
    {
        let (lab, saved) = (lab.clone(), saved.clone());
        trials.push(trial(name, move || {
            let Ok(lab) = &lab else { return skipped(&lab) };
            let saved = saved.get_or_init(|| {
                Saved::ensure(lab, &Options::default()).map_err(|error| format!("{error:#}"))
            });
            let saved = saved.as_ref().map_err(Failed::from)?;
            let machine = saved.restore().map_err(failed)?;
            case(&machine).map_err(|error| explained(&machine, &error))?;
            Ok(Completion::Completed)
        }));
    }
    for &(name, case) in boots::CASES {
        let lab = lab.clone();
        trials.push(trial(name, move || {
            let Ok(lab) = &lab else { return skipped(&lab) };
            case(lab).map_err(failed)?;
            Ok(Completion::Completed)
        }));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial(name: &str, run: impl FnOnce() -> Result<Completion, Failed> + Send + 'static) -> Trial {
    let name = name.strip_prefix("vm::").unwrap_or(name);
    Trial::ignorable_test(name, run)
}

fn skipped(lab: &Result<Lab, String>) -> Result<Completion, Failed> {
    let why = lab.as_ref().err().cloned().unwrap_or_default();
    Ok(Completion::ignored_with(format!("skipped: {why}")))
}

fn failed(error: anyhow::Error) -> Failed {
    Failed::from(format!("{error:#}"))
}

/// A failure with what the machine can say about it.
fn explained(machine: &Machine, error: &anyhow::Error) -> Failed {
    let said = machine.run(
        "laz status; tail -n 15 /var/log/lazarette/core.log; \
         system-docker logs --tail 15 laz-context-nas",
    );
    let said = match said {
        Ok(output) => format!("{}{}", output.stdout, output.stderr),
        Err(error) => format!(
            "the machine does not answer: {error:#}\n{}",
            machine.console()
        ),
    };
    Failed::from(format!("{error:#}\n--- the machine says\n{said}"))
}
