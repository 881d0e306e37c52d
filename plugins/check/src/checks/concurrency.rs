//! Calls side by side.

use std::time::Instant;

use lazarette_core::ErrorKind;
use lazarette_core::message::{Method, VolumeParams};
use serde_json::Value;

use super::{Found, Named, failed, needs};
use crate::kit::Kit;
use crate::report::Verdict;
use crate::subject::Failed;

pub(super) const CHECKS: &[Named] = &[
    Named::open(
        "concurrency.apart",
        "eight volumes can be made, mounted and removed at once",
        apart,
    ),
    Named::open(
        "concurrency.same",
        "the same `create` and `remove` several times at once leave one volume, then none",
        same,
    ),
    Named::open(
        "concurrency.health",
        "`health` answers within seconds while other calls run",
        health,
    ),
    Named::open(
        "concurrency.connection",
        "a connection that ends amid calls takes nothing with it",
        connection,
    ),
];

/// How many calls run at once.
const AT_ONCE: usize = 8;

/// Makes all calls at once, and returns their results in turn.
fn at_once(
    kit: &mut Kit,
    calls: Vec<Method>,
) -> Result<Vec<Result<Value, lazarette_core::Error>>, Failed> {
    let name = calls.first().map_or("", Method::name);
    let begun = calls
        .into_iter()
        .map(|call| kit.begin(call))
        .collect::<Result<Vec<_>, _>>();
    let ended = begun.and_then(|begun| {
        begun
            .into_iter()
            .map(|id| kit.finish(id))
            .collect::<Result<Vec<_>, _>>()
    });
    let ended = ended.map_err(|failed| {
        kit.disconnect();
        Failed::new(format!("{name} at once: {failed}"))
    })?;
    Ok(ended.into_iter().map(|reply| reply.result).collect())
}

fn all_well(results: &[Result<Value, lazarette_core::Error>], what: &str) -> Result<(), Failed> {
    let wrong = results.iter().find_map(|result| result.as_ref().err());
    match wrong {
        None => Ok(()),
        Some(error) => failed(format!("{what} at once: {error}")),
    }
}

fn apart(kit: &mut Kit) -> Found {
    needs!(kit, Create);
    let volumes: Vec<VolumeParams> = (0..AT_ONCE).map(|_| kit.fresh()).collect();
    let each =
        |call: fn(VolumeParams) -> Method| volumes.iter().cloned().map(call).collect::<Vec<_>>();
    let made = at_once(kit, each(|volume| Method::Create { volume }))?;
    all_well(&made, "create")?;
    if made
        .iter()
        .any(|made| made.as_ref().is_ok_and(|made| made != "created"))
    {
        return failed("create at once: a fresh volume is there already");
    }
    all_well(
        &at_once(
            kit,
            each(|volume| Method::Mount {
                volume,
                read_only: false,
            }),
        )?,
        "mount",
    )?;
    all_well(
        &at_once(kit, each(|volume| Method::Unmount { id: volume.id }))?,
        "unmount",
    )?;
    let removed = at_once(kit, each(|volume| Method::Remove { volume }))?;
    all_well(&removed, "remove")?;
    if removed
        .iter()
        .any(|removed| removed.as_ref().is_ok_and(|removed| removed != "removed"))
    {
        return failed("remove at once: a volume was gone already");
    }
    let facts = kit.facts()?;
    for volume in &volumes {
        if let Some(left) = facts.named(&volume.id.to_string()).first() {
            return failed(format!("after eight removals at once, {left} is left"));
        }
        kit.forget(volume.id);
    }
    Ok(Verdict::Passed)
}

fn same(kit: &mut Kit) -> Found {
    needs!(kit, Create);
    let volume = kit.fresh();
    let create = Method::Create {
        volume: volume.clone(),
    };
    let remove = Method::Remove {
        volume: volume.clone(),
    };
    for (call, once) in [(create, "created"), (remove.clone(), "removed")] {
        let results = at_once(kit, vec![call.clone(); 4])?;
        let wrong = results.iter().filter_map(|result| result.as_ref().err());
        // Busy is a fair answer to a second one: core comes again.
        if let Some(error) = wrong.clone().find(|error| error.kind != ErrorKind::Busy) {
            return failed(format!(
                "the same {} four times at once: {error}",
                call.name()
            ));
        }
        let did = results
            .iter()
            .filter(|result| result.as_ref().is_ok_and(|value| value == once))
            .count();
        if did != 1 {
            return failed(format!(
                "the same {} four times at once: {did} say \"{once}\", not one",
                call.name()
            ));
        }
    }
    kit.says(remove, "already_absent")?;
    match kit.facts()?.named(&volume.id.to_string()).first() {
        None => Ok(Verdict::Passed),
        Some(left) => failed(format!("after the same calls at once, {left} is left")),
    }
}

fn health(kit: &mut Kit) -> Found {
    needs!(kit, Create);
    let volumes: Vec<VolumeParams> = (0..AT_ONCE).map(|_| kit.fresh()).collect();
    let mut begun = Vec::new();
    for volume in &volumes {
        begun.push(kit.begin(Method::Create {
            volume: volume.clone(),
        })?);
    }
    let asked = Instant::now();
    let id = kit.begin(Method::Health)?;
    let health = kit.finish(id)?;
    let took = asked.elapsed();
    for id in begun {
        let made = kit.finish(id)?;
        made.result
            .map_err(|e| Failed::new(format!("create at once: {e}")))?;
    }
    health
        .result
        .map_err(|e| Failed::new(format!("health while other calls run: {e}")))?;
    if took > kit.deadline() / 3 {
        return failed(format!(
            "`health` takes {:.1} s while other calls run",
            took.as_secs_f64()
        ));
    }
    Ok(Verdict::Passed)
}

fn connection(kit: &mut Kit) -> Found {
    needs!(kit, Create);
    let volume = kit.fresh();
    let pid = kit.subject.pid();
    kit.begin(Method::Create {
        volume: volume.clone(),
    })?;
    kit.begin(Method::Health)?;
    kit.disconnect();
    kit.settle(true)?;
    if kit.subject.pid() != pid {
        return failed("it ended with the connection; core comes and goes");
    }
    kit.done(Method::Create {
        volume: volume.clone(),
    })?;
    kit.mount(&volume)?;
    kit.remove(&volume)?;
    match kit.facts()?.named(&volume.id.to_string()).first() {
        None => Ok(Verdict::Passed),
        Some(left) => failed(format!(
            "after a connection ended amid calls, {left} is left"
        )),
    }
}
