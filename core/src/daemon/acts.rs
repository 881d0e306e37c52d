//! The kinds' own actions: asked of the plugin beside the planner, for as long as they take.

use std::collections::BTreeMap;

use serde_json::Value;
use tokio::sync::mpsc::UnboundedSender;

use super::change_requests::known_snapshot;
use super::settings::limits;
use super::steps::{Hands, params};
use super::supervisor::Supervisor;
use crate::cloud_config::typed_options;
use crate::control::{ActTarget, Progress};
use crate::error::{Error, ErrorKind, Result};
use crate::manifest::{Action, ActionOn, Manifest};
use crate::message::Method;
use crate::name::{ContextName, SnapshotName, VolumeName, quoted};
use crate::planner::VolumeEntry;
use crate::volume::SnapshotId;

/// An action that was found good.
#[derive(Debug, Clone)]
pub struct Acting {
    context: ContextName,
    method: Method,
}

impl Supervisor {
    /// Checks an action as a whole before anything happens.
    ///
    /// # Errors
    /// `NotFound` or `Busy` for what it is to be done to; `Unsupported` naming the actions that
    /// there are; `InvalidArgument` for its parameters.
    pub fn acting(
        &self,
        on: &ActTarget,
        action: &str,
        parameters: &BTreeMap<String, String>,
    ) -> Result<Acting> {
        self.unless_draining()?;
        let (name, volume, done_to) = match on {
            ActTarget::Context(name) => (name.clone(), None, ActionOn::Context),
            ActTarget::Volume(name) => {
                let volume = self.volume(name)?;
                if !volume.wanted || !volume.made || volume.rollback.is_some() {
                    let what = format!("volume \"{name}\" is being made, changed or removed");
                    return Err(Error::new(ErrorKind::Busy, what).remedy("try again in a moment"));
                }
                let context = volume.context.clone();
                (context, Some(params(volume)), ActionOn::Volume)
            }
        };
        let context = self.context(&name)?;
        let action = known_action(self.manifest(&context.kind)?, action, done_to)?;
        let mut parameters = typed_options(parameters, &action.parameters).map_err(|e| Error {
            message: format!("parameters of {}", action.name),
            ..e
        })?;
        if let ActTarget::Volume(name) = on {
            identify_snapshots(
                &action.parameters,
                name,
                self.volume(name)?,
                &mut parameters,
            )?;
        }
        if !context.is_ready() {
            let error = Error::new(
                ErrorKind::Unreachable,
                format!("context \"{name}\" is not open"),
            );
            let reason = self.hopeless(&name).or(context.retry.error.clone());
            return Err(match reason {
                Some(reason) => error.cause(reason),
                None => error,
            }
            .remedy("see laz status"));
        }
        Ok(Acting {
            context: name,
            method: Method::Act {
                action: action.name.clone(),
                volume,
                parameters,
            },
        })
    }
}

/// Puts the identities of a volume's snapshots in the place of their names, in those parameters
/// that the schema says take a snapshot.
fn identify_snapshots(
    schema: &Value,
    name: &VolumeName,
    volume: &VolumeEntry,
    parameters: &mut Value,
) -> Result<()> {
    let fields = schema.get("properties").and_then(Value::as_object);
    for (field, _) in fields
        .into_iter()
        .flatten()
        .filter(|(_, s)| s.get("format").is_some_and(|f| f == SnapshotId::FORMAT))
    {
        let Some(value) = parameters.get_mut(field) else {
            continue;
        };
        let snapshot = SnapshotName::new(value.as_str().unwrap_or_default())?;
        let entry = known_snapshot(name, volume, &snapshot)?;
        if !entry.wanted || !entry.made {
            let what = format!("snapshot \"{snapshot}\" is being taken or removed");
            return Err(Error::new(ErrorKind::Busy, what).remedy("try again in a moment"));
        }
        *value = Value::String(entry.id.to_string());
    }
    Ok(())
}

fn known_action<'a>(manifest: &'a Manifest, name: &str, on: ActionOn) -> Result<&'a Action> {
    let here = || manifest.actions.iter().filter(|a| a.on == on);
    here().find(|a| a.name == name).ok_or_else(|| {
        let names: Vec<&str> = here().map(|a| a.name.as_str()).collect();
        let thing = match on {
            ActionOn::Context => "contexts",
            ActionOn::Volume => "volumes",
        };
        let what = format!("{} {thing} have no action {}", manifest.kind, quoted(name));
        Error::new(ErrorKind::Unsupported, what).remedy(match names.is_empty() {
            true => "they have none".to_owned(),
            false => format!("they have: {}", names.join(", ")),
        })
    })
}

impl Hands {
    /// Does an action; what its plugin says meanwhile goes to `progress`. Dropping the future
    /// takes the call back.
    ///
    /// # Errors
    /// The plugin's own; `Plugin` without a connection; `Timeout`.
    pub async fn act(&self, acting: Acting, progress: UnboundedSender<Progress>) -> Result<Value> {
        let link = self.link(&acting.context)?;
        link.watched(acting.method, limits::ACT, progress).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planner::SnapshotEntry;
    use serde_json::json;

    #[test]
    fn a_snapshot_is_named_by_its_user_and_identified_to_the_plugin() {
        let volume: VolumeName = "db".parse().unwrap();
        let tank = ContextName::new("tank").unwrap();
        let mut entry = VolumeEntry::declared(tank, json!({}), "tank/db".into(), false);
        let taken = SnapshotId::random();
        let mut snapshot = SnapshotEntry::new(taken, "2026-01-01T00:00:00Z".into());
        let schema = json!({"properties": {
            "snapshot": {"type": "string", "format": "snapshot"}, "file": {"type": "string"}
        }});
        let identify = |entry: &VolumeEntry, mut parameters: Value| {
            identify_snapshots(&schema, &volume, entry, &mut parameters).map(|()| parameters)
        };
        let asked = json!({"snapshot": "first", "file": "first"});
        let error = identify(&entry, asked.clone()).unwrap_err();
        assert!(
            error.to_string().contains("no snapshot \"first\""),
            "{error}"
        );
        entry
            .snapshots
            .insert("first".parse().unwrap(), snapshot.clone());
        let error = identify(&entry, asked.clone()).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Busy);
        snapshot.made = true;
        entry.snapshots.insert("first".parse().unwrap(), snapshot);
        let wanted = json!({"snapshot": taken.to_string(), "file": "first"});
        assert_eq!(identify(&entry, asked).unwrap(), wanted);
        assert_eq!(identify(&entry, json!({})).unwrap(), json!({}));
    }

    #[test]
    fn an_unknown_action_names_those_that_there_are() {
        let manifest: Manifest = serde_json::from_value(json!({
            "kind": "fake", "version": "1", "context_schema": {}, "volume_schema": {},
            "capabilities": [], "privileges": {},
            "actions": [
                {"name": "scrub", "summary": "s", "on": "context", "parameters": {}},
                {"name": "send", "summary": "s", "on": "volume", "parameters": {}}
            ]
        }))
        .unwrap();
        assert!(known_action(&manifest, "scrub", ActionOn::Context).is_ok());
        let error = known_action(&manifest, "send", ActionOn::Context).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unsupported);
        let error = error.to_string();
        assert!(error.contains("they have: scrub"), "{error}");
    }
}
