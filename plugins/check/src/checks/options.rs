//! Options that nobody should be able to smuggle in: the schema or the plugin refuses them.

use lazarette_core::ErrorKind;
use lazarette_core::message::Method;
use serde_json::{Value, json};

use super::{Found, Named, failed, needs};
use crate::kit::Kit;
use crate::report::Verdict;
use crate::settings::named;
use crate::subject::Failed;

pub(super) const CHECKS: &[Named] = &[
    Named::open(
        "options.open-again",
        "`open` with the same options does nothing and answers null",
        open_again,
    ),
    Named::open(
        "options.hostile-volume",
        "volume options with commas, NULs, paths and flags in them are refused, or taken literally",
        hostile_volume,
    ),
    Named::open(
        "options.hostile-context",
        "context options with commas, NULs, paths and flags in them do not kill it",
        hostile_context,
    ),
];

/// What may never reach a mount option, an argument or a path as it is.
const HOSTILE: &[&str] = &[
    "a,suid,dev",
    "-o suid",
    "--help",
    "a\u{0}b",
    "a\nb",
    "../../../../etc",
    "/etc/../etc/passwd",
    "$(reboot)",
    "a;b",
    "%n%s",
    "\u{202e}a",
    "",
];

/// How many hostile options are tried in a check.
const MOST: usize = 32;

fn open_again(kit: &mut Kit) -> Found {
    let config = kit.settings.context.clone();
    kit.silent(Method::Open {
        config: config.clone(),
    })?;
    kit.silent(Method::Open { config })?;
    kit.done(Method::Health)?;
    Ok(Verdict::Passed)
}

/// `options` with each of its text options (of `schema`) made hostile in turn, where the schema
/// lets it through, and one with an overlong text.
fn variants(schema: &Value, options: &Value) -> Result<Vec<(String, Value)>, Failed> {
    let validator = jsonschema::draft202012::new(schema)
        .map_err(|e| Failed::new(format!("a schema cannot be used: {e}")))?;
    let long = "x".repeat(70_000);
    let mut found = Vec::new();
    let properties = schema.get("properties").and_then(Value::as_object);
    // Text by text, so that the first few reach every option.
    for text in HOSTILE.iter().copied().chain([long.as_str()]) {
        for (name, _) in properties.into_iter().flatten() {
            for value in [json!(text), json!([text])] {
                let mut changed = options.clone();
                changed[name.as_str()] = value;
                if validator.is_valid(&changed) {
                    let shown: String = text.chars().take(24).collect();
                    found.push((format!("`{name}` = {shown:?}"), changed));
                }
            }
        }
    }
    Ok(found)
}

/// A refusal that tells core not to try again by itself, or an honest failure.
fn is_honest(kind: ErrorKind) -> bool {
    !matches!(
        kind,
        ErrorKind::Internal | ErrorKind::Plugin | ErrorKind::Timeout
    )
}

fn hostile_volume(kit: &mut Kit) -> Found {
    needs!(kit, Create);
    let schema = kit.manifest()?.volume_schema.clone();
    // One that is taken literally costs a volume, with real storage seconds.
    let all = variants(&schema, &kit.settings.volume.clone())?;
    for (what, options) in all.into_iter().take(MOST) {
        let mut volume = kit.fresh();
        volume.options = named(&options, volume.id);
        let create = Method::Create {
            volume: volume.clone(),
        };
        match kit.try_call(create)?.result {
            Ok(_) => {
                // Taken literally, so it must be possible to take it away by the same words.
                kit.done(Method::Unmount { id: volume.id })?;
                kit.done(Method::Remove {
                    volume: volume.clone(),
                })?;
            }
            Err(error) if is_honest(error.kind) => {}
            Err(error) => {
                return failed(format!(
                    "{what} is refused as if it were not the caller's fault: {error}"
                ));
            }
        }
        kit.forget(volume.id);
        let left = kit.facts()?.named(&volume.id.to_string());
        if let Some(left) = left.first() {
            return failed(format!("{what} was refused or removed, but {left} is left"));
        }
    }
    Ok(Verdict::Passed)
}

fn hostile_context(kit: &mut Kit) -> Found {
    let schema = kit.manifest()?.context_schema.clone();
    let pid = kit.subject.pid();
    // Opening may take its time when a name leads nowhere: a sample will do.
    for (what, config) in variants(&schema, &kit.settings.context.clone())?
        .into_iter()
        .take(MOST)
    {
        let opened = kit.try_call(Method::Open { config });
        if opened.is_err() || kit.subject.pid() != pid {
            let why = opened
                .err()
                .map(|failed| failed.to_string())
                .unwrap_or_default();
            return failed(format!("{what} kills it or breaks it: {why}"));
        }
    }
    kit.open()?;
    kit.done(Method::Health)?;
    Ok(Verdict::Passed)
}
