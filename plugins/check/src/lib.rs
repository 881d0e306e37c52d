//! The conformance kit behind `laz plugin check`: it plays core to a plugin, asks it for everything
//! that core will ever ask, kills it on the way, and says where it breaks the contract.
//!
//! | module | what it is |
//! |---|---|
//! | [`settings`] | what the author says about the storage to check with |
//! | [`subject`] | the plugin as a process here, or in its container |
//! | `wire` | core's end of the wire, with a limit on every wait |
//! | `kit` | what checks are written with |
//! | `checks` | the checks |
//! | [`report`] | what came out, as JSON and JUnit XML |
//!
//! The kit sees a plugin as core does, over the wire alone, so it serves shared libraries (in the
//! plugin host) and programs in any language. It looks at mount tables, processes and descriptors
//! from outside.

#![forbid(unsafe_code)]

mod checks;
mod kit;
pub mod report;
pub mod settings;
pub mod subject;
mod wire;

use std::time::Instant;

pub use checks::{Named, all};
pub use report::{Report, Verdict};
pub use settings::Settings;
pub use subject::{Failed, Subject};

use kit::Kit;
use report::Checked;

/// So many checks in a row that cannot even begin end the run: nothing serves.
const MOST_BROKEN: usize = 3;

/// Runs the checks that `wanted` names (all if it names none) on `subject`, telling `heard` of each
/// as it ends.
pub fn check(
    subject: Box<dyn Subject>,
    settings: Settings,
    wanted: &[String],
    heard: &mut dyn FnMut(&Checked),
) -> Report {
    let mut report = Report::new(subject.name());
    let mut kit = Kit::new(subject, settings);
    let mut broken = 0;
    for check in all() {
        if !wanted.is_empty() && !wanted.iter().any(|name| is_wanted(check.id, name)) {
            continue;
        }
        let began = Instant::now();
        let verdict = if broken >= MOST_BROKEN {
            Verdict::Failed("not run: the plugin does not serve any more".into())
        } else {
            run(check, &mut kit, &mut broken)
        };
        let checked = Checked::new(check, verdict, began.elapsed());
        heard(&checked);
        report.checks.push(checked);
    }
    kit.end();
    report
}

/// Whether `name` means the check `id`: its whole name, or its group.
fn is_wanted(id: &str, name: &str) -> bool {
    id == name
        || id
            .strip_prefix(name)
            .is_some_and(|rest| rest.starts_with('.'))
}

fn run(check: &Named, kit: &mut Kit, broken: &mut usize) -> Verdict {
    if let Err(failed) = kit.settle(check.needs_open) {
        *broken += 1;
        kit.reset();
        return Verdict::Failed(format!("it cannot begin: {failed}"));
    }
    *broken = 0;
    let verdict = match (check.run)(kit) {
        Ok(verdict) => verdict,
        Err(failed) => Verdict::Failed(failed.to_string()),
    };
    if matches!(verdict, Verdict::Failed(_)) {
        kit.reset();
        return verdict;
    }
    match kit.tidy() {
        Ok(()) => verdict,
        Err(failed) => {
            kit.reset();
            Verdict::Failed(format!("afterwards: {failed}"))
        }
    }
}
