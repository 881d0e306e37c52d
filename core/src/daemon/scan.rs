//! `laz scan`: each kind looks for storage that no context has, in a container of its own.

use std::path::PathBuf;

use futures_util::future::join_all;
use serde_json::Value;

use super::admission::Candidate;
use super::settings::limits;
use super::steps::Hands;
use super::supervisor::Supervisor;
use super::system_engine::{ContainerSpec, OneShot};
use crate::control::Scanned;
use crate::error::{Error, ErrorKind, Result};
use crate::manifest::Capability;
use crate::message::Outcome;
use crate::name::{ContextName, Kind};
use crate::planner::KindEntry;
use crate::volume::Found;

impl Supervisor {
    /// The kinds of `kinds` that can look; of none, all that can.
    ///
    /// # Errors
    /// `NotFound` for one that no image serves, `Unsupported` for one that cannot look.
    pub fn scanners(&self, kinds: &[Kind]) -> Result<Vec<(Kind, KindEntry)>> {
        let can = |entry: &KindEntry| entry.manifest.capabilities.contains(&Capability::Scan);
        let all = self.world.kinds.iter();
        if kinds.is_empty() {
            let able = all.filter(|(_, entry)| can(entry));
            return Ok(able.map(|(k, e)| (k.clone(), e.clone())).collect());
        }
        let chosen = kinds.iter().map(|kind| {
            let manifest = self.manifest(kind)?;
            match self.world.kinds.get(kind) {
                Some(entry) if can(entry) => Ok((kind.clone(), entry.clone())),
                _ => Err(self.unsupported(manifest, Capability::Scan, "be looked for")),
            }
        });
        chosen.collect()
    }
}

impl Hands {
    /// Has each of `kinds` look. One that cannot says why, beside what the others have found.
    pub async fn scan(&self, kinds: Vec<(Kind, KindEntry)>) -> Vec<Scanned> {
        join_all(kinds.into_iter().map(|(kind, entry)| async move {
            let (found, error) = match self.scan_one(&kind, entry).await {
                Ok(found) => (found, None),
                Err(error) => (Vec::new(), Some(error)),
            };
            Scanned { kind, found, error }
        }))
        .await
    }

    async fn scan_one(&self, kind: &Kind, entry: KindEntry) -> Result<Vec<Found>> {
        self.admission.judge(Candidate {
            kind,
            version: &entry.manifest.version,
            image: &entry.image,
        })?;
        self.provide_modules(&entry.manifest.privileges, &|_| ())
            .await?;
        let mut privileges = entry.manifest.privileges;
        // Secrets belong to contexts.
        privileges.secrets = false;
        let spec = ContainerSpec {
            context: ContextName::new(kind.as_str())?,
            image_id: entry.image,
            privileges,
            run_directory: self.scan_directory(kind),
            grace: limits::GRACE,
        };
        spec.make_host_directories()?;
        let ended = self
            .system
            .run_once(OneShot::scan(kind.as_str(), &spec), limits::SCAN);
        let ended = ended.await;
        // Empty but for what a plugin host may have left there.
        let _ = std::fs::remove_dir_all(&spec.run_directory);
        let ended = ended?;
        if ended.status != 0 {
            let what = format!(
                "looking for {kind} storage failed with status {}",
                ended.status
            );
            return Err(Error::new(ErrorKind::Plugin, what).cause(ended.last_lines));
        }
        found(kind, &ended.output)
    }

    fn scan_directory(&self, kind: &Kind) -> PathBuf {
        self.settings.run.join("scan").join(kind.as_str())
    }
}

/// What `laz-plugin-host scan` has printed.
fn found(kind: &Kind, output: &str) -> Result<Vec<Found>> {
    let odd = |why: String| {
        let what = format!("what the {kind} plugin says of a look is not understood");
        Error::new(ErrorKind::Plugin, what).cause(why)
    };
    // A tool in the container may print, too; the answer comes last.
    let line = output.lines().rfind(|line| !line.trim().is_empty());
    let line = line.ok_or_else(|| odd("it says nothing".into()))?;
    match serde_json::from_str::<Outcome>(line) {
        Ok(Outcome::Ok(value)) => serde_json::from_value::<Vec<Found>>(if value.is_null() {
            Value::Array(vec![])
        } else {
            value
        })
        .map_err(|e| odd(e.to_string())),
        Ok(Outcome::Error(error)) => Err(error),
        Err(error) => Err(odd(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_is_the_answer() {
        let kind = Kind::new("fake").unwrap();
        let pool = r#"{"ok":[{"what":"pool","name":"tank"}]}"#;
        let seen = found(&kind, &format!("noise\n{pool}\n\n")).unwrap();
        assert_eq!((seen.len(), seen[0].name.as_str()), (1, "tank"));
        assert!(found(&kind, r#"{"ok":[]}"#).unwrap().is_empty());
        let error = r#"{"error":{"kind":"busy","message":"in use"}}"#;
        assert_eq!(found(&kind, error).unwrap_err().kind, ErrorKind::Busy);
        for odd in ["", "\n", "pool", r#"{"ok":[{"what":1}]}"#] {
            assert_eq!(
                found(&kind, odd).unwrap_err().kind,
                ErrorKind::Plugin,
                "{odd}"
            );
        }
    }
}
