//! Running phases one after the other: each is timed, reported and recorded; one that fails or
//! panics does not keep the rest from running.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::console::{Console, uptime};
use crate::error::{Error, chain};
use crate::record::{BootRecord, PhaseRecord, State};

/// What a phase did, if it did not fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It did its work.
    Done,
    /// It did its work and has something to say.
    Noted(String),
    /// There was nothing to do, and why.
    Skipped(String),
}

/// A step of the boot.
pub struct Phase<C> {
    /// Its name on the console and in the record.
    pub name: &'static str,
    /// What it does.
    pub run: fn(&mut C) -> Result<Outcome, Error>,
}

/// Runs `phases` in order until `stopping` says that the machine goes down.
pub fn run_all<C>(
    phases: &[Phase<C>],
    context: &mut C,
    console: &Console,
    record: &mut BootRecord,
    stopping: &dyn Fn() -> bool,
) {
    for phase in phases {
        if stopping() {
            console.line("boot: given up, the machine is being stopped");
            return;
        }
        let start = uptime().as_secs_f64();
        record.phases.push(PhaseRecord {
            name: phase.name.into(),
            state: State::Running,
            start,
            seconds: 0.0,
            message: None,
        });
        save(record, console);
        let (state, message) = run_one(phase, context);
        console.line(report(phase.name, state, message.as_deref()));
        if let Some(last) = record.phases.last_mut() {
            last.state = state;
            last.seconds = uptime().as_secs_f64() - start;
            last.message = message;
        }
        save(record, console);
    }
    record.end = Some(uptime().as_secs_f64());
    save(record, console);
}

fn run_one<C>(phase: &Phase<C>, context: &mut C) -> (State, Option<String>) {
    // A phase leaves its context valid at every step: what it sets, it sets at its end.
    let result = catch_unwind(AssertUnwindSafe(|| (phase.run)(context)));
    match result {
        Ok(Ok(Outcome::Done)) => (State::Done, None),
        Ok(Ok(Outcome::Noted(note))) => (State::Done, Some(note)),
        Ok(Ok(Outcome::Skipped(why))) => (State::Skipped, Some(why)),
        Ok(Err(error)) => (State::Failed, Some(chain(&error))),
        Err(panic) => (
            State::Failed,
            Some(format!("internal error: {}", panic_text(&*panic))),
        ),
    }
}

fn report(name: &str, state: State, message: Option<&str>) -> String {
    let message = message.unwrap_or_default();
    match state {
        State::Running | State::Done if message.is_empty() => format!("{name}: done"),
        State::Running | State::Done => format!("{name}: done: {message}"),
        State::Skipped => format!("{name}: skipped: {message}"),
        State::Failed => format!("{name}: FAILED: {message}"),
    }
}

fn save(record: &BootRecord, console: &Console) {
    if let Err(error) = record.save() {
        console.line(format!("boot record: {}", chain(&error)));
    }
}

/// What a panic said.
pub fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without a message")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::fake::Screen;

    const PHASES: [Phase<Vec<&'static str>>; 5] = [
        Phase {
            name: "one",
            run: |ran| {
                ran.push("one");
                Ok(Outcome::Done)
            },
        },
        Phase {
            name: "two",
            run: |_| {
                Err(Error::Late {
                    what: "nothing happened".into(),
                    seconds: 3,
                })
            },
        },
        Phase {
            name: "three",
            run: |_| panic!("out of luck"),
        },
        Phase {
            name: "four",
            run: |_| Ok(Outcome::Skipped("not wanted".into())),
        },
        Phase {
            name: "five",
            run: |ran| {
                ran.push("five");
                Ok(Outcome::Noted("all well".into()))
            },
        },
    ];

    fn run(stopping: &dyn Fn() -> bool) -> (Vec<&'static str>, String, BootRecord) {
        let screen = Screen::default();
        let mut ran = Vec::new();
        let mut record = BootRecord::default();
        run_all(&PHASES, &mut ran, &screen.console(), &mut record, stopping);
        (ran, screen.text(), record)
    }

    #[test]
    fn a_failed_and_a_panicking_phase_are_reported_and_the_rest_goes_on() {
        let (ran, text, record) = run(&|| false);
        assert_eq!(ran, ["one", "five"]);
        for line in [
            "] one: done\n",
            "] two: FAILED: nothing happened within 3 s\n",
            "] three: FAILED: internal error: out of luck\n",
            "] four: skipped: not wanted\n",
            "] five: done: all well\n",
        ] {
            assert!(text.contains(line), "{line:?} is not in {text}");
        }
        let states: Vec<State> = record.phases.iter().map(|phase| phase.state).collect();
        assert_eq!(
            states,
            [
                State::Done,
                State::Failed,
                State::Failed,
                State::Skipped,
                State::Done
            ]
        );
        assert!(record.end.is_some());
    }

    #[test]
    fn nothing_more_is_begun_once_the_machine_is_being_stopped() {
        let (ran, text, record) = run(&|| true);
        assert!(ran.is_empty());
        assert!(text.contains("given up"));
        assert!(record.phases.is_empty() && record.end.is_none());
    }
}
