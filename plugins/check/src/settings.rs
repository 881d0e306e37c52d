//! What the author says about the storage to check with: a JSON file.

use std::path::PathBuf;
use std::time::Duration;

use lazarette_core::VolumeId;
use serde::Deserialize;
use serde_json::{Value, json};

/// The file of `--config`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The context's options, as in the cloud-config.
    pub context: Value,
    /// The options of the volumes that are made; `{id}` in a text stands for the volume's identity.
    pub volume: Value,
    /// The options of a volume that exists, for a kind that makes none.
    pub existing: Option<Value>,
    /// The size that volumes are grown to, for a kind that resizes.
    pub larger: Option<String>,
    /// Whether what is written is still there after an unmount and a mount.
    pub keeps_data: bool,
    /// How long a call may take.
    pub deadline_s: u64,
    /// When the plugin is killed in each step: in per cent of the time that the step takes.
    pub kill_points: Vec<u32>,
    /// The host's directory that the plugin's container has as `/run/secrets`, if it asks for one.
    pub secrets: Option<PathBuf>,
    /// How to break the storage and mend it again, for the check of `health`.
    pub fault: Option<Fault>,
}

/// Programs with their arguments, absolute paths, run on this machine.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Makes the storage go away.
    #[serde(rename = "break")]
    pub break_it: Vec<String>,
    /// Brings it back.
    pub mend: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            context: json!({}),
            volume: json!({}),
            existing: None,
            larger: None,
            keeps_data: true,
            deadline_s: 30,
            kill_points: vec![0, 40, 90],
            secrets: None,
            fault: None,
        }
    }
}

impl Settings {
    /// Reads the text of the file.
    ///
    /// # Errors
    /// A sentence that says where the text is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|e| e.to_string())
    }

    /// The options of the volume `id`.
    pub fn volume_of(&self, id: VolumeId) -> Value {
        named(&self.volume, id)
    }

    /// How long a call may take.
    pub fn deadline(&self) -> Duration {
        Duration::from_secs(self.deadline_s.clamp(1, 600))
    }
}

/// `options` with the identity in place of each `{id}`.
pub(crate) fn named(options: &Value, id: VolumeId) -> Value {
    match options {
        Value::String(text) => Value::String(text.replace("{id}", &id.to_string())),
        Value::Array(all) => all.iter().map(|one| named(one, id)).collect(),
        Value::Object(all) => {
            let pairs = all.iter().map(|(name, one)| (name.clone(), named(one, id)));
            Value::Object(pairs.collect())
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_left_out_has_a_default_and_what_is_unknown_is_an_error() {
        let read = Settings::parse(r#"{"volume": {"size": "64M"}, "keeps_data": false}"#).unwrap();
        assert_eq!(read.context, json!({}));
        assert!(!read.keeps_data && read.deadline() == Duration::from_secs(30));
        let wrong = Settings::parse(r#"{"volumes": {}}"#).unwrap_err();
        assert!(wrong.contains("volumes"), "{wrong}");
    }

    #[test]
    fn each_volume_has_its_own_directory_where_options_name_one() {
        let text = r#"{"volume": {"path": "check/{id}", "tags": ["{id}", "x"], "uid": 7}}"#;
        let settings = Settings::parse(text).unwrap();
        let id = VolumeId::random();
        let wanted = json!({"path": format!("check/{id}"), "tags": [id, "x"], "uid": 7});
        assert_eq!(settings.volume_of(id), wanted);
        assert_ne!(settings.volume_of(VolumeId::random()), wanted);
    }
}
