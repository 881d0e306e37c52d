//! The shape of answers, and calls that make no sense.

use std::collections::BTreeSet;
use std::time::Duration;

use lazarette_core::frame;
use lazarette_core::manifest::ActionOn;
use lazarette_core::message::Method;
use lazarette_core::{ErrorKind, Health, HealthState, ListedVolume};
use serde_json::{Value, json};

use super::{Found, Named, failed};
use crate::kit::{Kit, shaped};
use crate::report::Verdict;
use crate::subject::Failed;

pub(super) const CHECKS: &[Named] = &[
    Named::open(
        "calls.health",
        "`health` answers what a health report is",
        health,
    ),
    Named::open(
        "calls.list",
        "`list` answers volumes with names of their own and valid options",
        list,
    ),
    Named::open(
        "calls.close",
        "`close` may be repeated; `open` opens again",
        close,
    ),
    Named::open(
        "calls.nonsense",
        "parameters that make no sense are refused, and it serves on",
        nonsense,
    ),
    Named::open(
        "calls.unknown-method",
        "a method that it does not know is answered with the kind `unsupported`, and it serves on",
        unknown_method,
    ),
    Named::open(
        "calls.action",
        "an action that it has not is refused",
        action,
    ),
];

fn health(kit: &mut Kit) -> Found {
    let value = kit.done(Method::Health)?;
    let health: Health = shaped("health", value)?;
    let states = health.volumes.iter().map(|volume| volume.state);
    if states
        .chain([health.state])
        .any(|s| s == HealthState::Unknown)
    {
        return failed("`health` answers a state that this version does not know");
    }
    if let Some(capacity) = health.capacity
        && capacity.used > capacity.total
    {
        return failed("more of its capacity is used than there is");
    }
    Ok(Verdict::Passed)
}

fn list(kit: &mut Kit) -> Found {
    let value = kit.done(Method::List)?;
    let volumes: Vec<ListedVolume> = shaped("list", value)?;
    let schema = kit.manifest()?.volume_schema.clone();
    let validator = jsonschema::draft202012::new(&schema)
        .map_err(|e| Failed::new(format!("volume_schema cannot be used: {e}")))?;
    let mut names = BTreeSet::new();
    for volume in &volumes {
        let name = &volume.name;
        if let Err(error) = lazarette_core::VolumeName::new(name.as_str()) {
            return failed(format!("`list` names a volume {name:?}: {error}"));
        }
        if !names.insert(name) {
            return failed(format!("`list` names two volumes {name:?}"));
        }
        if let Err(error) = validator.validate(&volume.options) {
            return failed(format!(
                "the options that `list` gives {name:?} break its own schema: {error}"
            ));
        }
    }
    Ok(Verdict::Passed)
}

fn close(kit: &mut Kit) -> Found {
    kit.silent(Method::Close)?;
    // The second finds no open context: both answers are right.
    let deadline = kit.deadline();
    let wire = kit.wire()?;
    let id = wire.begin(Method::Close, deadline)?;
    let second = wire.end(id, deadline)?.result;
    if let Err(error) = second
        && error.kind != lazarette_core::ErrorKind::Plugin
    {
        return failed(format!("a second `close` fails: {error}"));
    }
    kit.open()?;
    kit.done(Method::Health)?;
    Ok(Verdict::Passed)
}

/// How long the answer to what makes no sense may take.
const ANSWERS: Duration = Duration::from_secs(15);

/// The frame of a call that no version of ours would make.
fn call_of(request: &Value) -> Result<Vec<u8>, Failed> {
    let mut call = request.clone();
    call["type"] = json!("call");
    call["id"] = json!(1_000_000);
    call["deadline_ms"] = json!(5000);
    Ok(frame::encode(&call)?)
}

fn unknown_method(kit: &mut Kit) -> Found {
    for request in [
        json!({"method": "frobnicate"}),
        json!({"method": "frobnicate", "params": {"volume": 7}}),
    ] {
        let bytes = call_of(&request)?;
        match kit.wire()?.nonsense(&bytes, ANSWERS)? {
            Some(error) if error.kind == ErrorKind::Unsupported => {}
            Some(error) => {
                return failed(format!(
                    "an unknown method fails with the kind {:?} ({error})",
                    error.kind
                ));
            }
            None => {
                return failed("after an unknown method it closes the connection");
            }
        }
        kit.done(Method::Health)?;
    }
    Ok(Verdict::Passed)
}

fn nonsense(kit: &mut Kit) -> Found {
    let requests = [
        json!({"method": "create"}),
        json!({"method": "create", "params": {"volume": {"id": "../../etc", "options": {}}}}),
        json!({"method": "create", "params": {"volume": {"id": 7, "options": []}}}),
        json!({"method": "mount", "params": "x"}),
        json!({"method": "unmount", "params": {"id": "/"}}),
    ];
    for request in requests {
        kit.settle(true)?;
        let bytes = call_of(&request)?;
        // Either way out is right: an error, or the end of the connection.
        let answer = kit.wire()?.nonsense(&bytes, ANSWERS);
        kit.disconnect();
        if let Err(why) = answer {
            return failed(format!("{request}: {why}"));
        }
        kit.settle(true)
            .map_err(|failed| Failed::new(format!("after {request}: {failed}")))?;
    }
    Ok(Verdict::Passed)
}

fn action(kit: &mut Kit) -> Found {
    let wrong = |volume| Method::Act {
        action: "no-such-action".into(),
        volume,
        parameters: json!({}),
    };
    kit.refused(wrong(None), "for an action that there is not")?;
    let nobody = kit.nobody();
    kit.refused(
        wrong(Some(nobody.clone())),
        "for an action that there is not",
    )?;
    let actions = kit.manifest()?.actions.clone();
    for action in actions
        .iter()
        .filter(|action| action.on == ActionOn::Volume)
    {
        let unknown = Method::Act {
            action: action.name.clone(),
            volume: Some(nobody.clone()),
            parameters: json!({"no-such-parameter": true}),
        };
        // It may fail or do nothing; it must not break.
        kit.try_call(unknown)?;
    }
    Ok(Verdict::Passed)
}
