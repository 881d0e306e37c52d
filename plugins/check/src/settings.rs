//! What the author says about the storage to check with: a JSON file.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

/// The file of `--config`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The context's options, as in the cloud-config.
    pub context: Value,
    /// The options of the volumes that are made.
    pub volume: Value,
    /// The options of a volume that exists, for a kind that makes none.
    pub existing: Option<Value>,
    /// The size that volumes are grown to, for a kind that resizes.
    pub larger: Option<String>,
    /// Whether what is written is still there after an unmount and a mount.
    pub keeps_data: bool,
    /// How long a call may take.
    pub deadline_s: u64,
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

    /// How long a call may take.
    pub fn deadline(&self) -> Duration {
        Duration::from_secs(self.deadline_s.clamp(1, 600))
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
}
