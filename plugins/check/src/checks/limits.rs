//! Deadlines, cancellation, and how much a plugin says.

use std::time::{Duration, Instant};

use lazarette_core::ErrorKind;
use lazarette_core::message::{Method, ToPlugin};

use super::{Found, Named, failed, needs};
use crate::kit::{GRACE, Kit};
use crate::report::Verdict;

pub(super) const CHECKS: &[Named] = &[
    Named::open(
        "limits.deadline",
        "a call ends soon after its deadline, and can be made again",
        deadline,
    ),
    Named::open(
        "limits.cancel",
        "a call that is taken back is answered once, and can be made again",
        cancel,
    ),
    Named::open(
        "limits.quiet",
        "it does not flood core with log lines and progress",
        quiet,
    ),
];

/// How an operation that was cut short may end.
fn is_cut(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Timeout | ErrorKind::Cancelled | ErrorKind::Busy | ErrorKind::Unreachable
    )
}

fn deadline(kit: &mut Kit) -> Found {
    let volume = kit.made()?;
    let calls = [
        Method::Health,
        Method::List,
        Method::Mount {
            volume: volume.clone(),
            read_only: false,
        },
    ];
    for call in calls {
        let name = call.name();
        let began = Instant::now();
        let short = Duration::from_millis(1);
        let id = kit.wire()?.begin(call.clone(), short)?;
        let reply = kit.wire()?.end(id, GRACE)?;
        let took = began.elapsed();
        if took > GRACE {
            return failed(format!(
                "{name} with 1 ms of time takes {:.1} s",
                took.as_secs_f64()
            ));
        }
        if let Err(error) = reply.result
            && !is_cut(error.kind)
        {
            return failed(format!(
                "{name} with 1 ms of time fails with the kind {:?}: {error}",
                error.kind
            ));
        }
        let again = kit.try_call(call)?;
        if let Err(error) = again.result {
            return failed(format!("{name} after one that was cut short: {error}"));
        }
    }
    Ok(Verdict::Passed)
}

fn cancel(kit: &mut Kit) -> Found {
    needs!(kit, Create);
    let volume = kit.fresh();
    let create = Method::Create {
        volume: volume.clone(),
    };
    let id = kit.begin(create.clone())?;
    kit.wire()?.send(&ToPlugin::Cancel { id })?;
    let reply = kit.finish(id)?;
    if let Err(error) = reply.result
        && !is_cut(error.kind)
    {
        return failed(format!(
            "create that was taken back fails with the kind {:?}: {error}",
            error.kind
        ));
    }
    // One that has ended, and one that never was: nothing happens.
    kit.wire()?.send(&ToPlugin::Cancel { id })?;
    kit.wire()?.send(&ToPlugin::Cancel { id: u64::MAX })?;
    kit.done(create)?;
    kit.mount(&volume)?;
    kit.remove(&volume)?;
    match kit.facts()?.named(&volume.id.to_string()).first() {
        None => Ok(Verdict::Passed),
        Some(left) => failed(format!("after a call that was taken back, {left} is left")),
    }
}

fn quiet(kit: &mut Kit) -> Found {
    const MOST: usize = 400;
    let before = kit.wire()?.chatter;
    for _ in 0..4 {
        kit.done(Method::Health)?;
        kit.done(Method::List)?;
    }
    let volume = kit.made()?;
    kit.mount(&volume)?;
    kit.remove(&volume)?;
    let said = kit.wire()?.chatter - before;
    if said > MOST {
        return failed(format!(
            "it sends {said} log lines and reports of progress for a dozen calls"
        ));
    }
    Ok(Verdict::Passed)
}
