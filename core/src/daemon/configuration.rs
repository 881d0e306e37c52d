//! The cloud-config in force: its sources, what is wrong with them, what they declare.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::settings::Settings;
use crate::cloud_config::{self, CloudConfig, Loaded, Source};
use crate::control::Problem;
use crate::error::{Error, Result};
use crate::manifest::Manifest;
use crate::name::{ContextName, Kind, VolumeName};
use crate::planner::{KindEntry, MNT, Place, VolumeEntry};
use crate::signature::Policy;

/// The cloud-config in force.
pub struct Configuration {
    directory: PathBuf,
    operator_source: String,
    operator_config: PathBuf,
    kinds: BTreeMap<Kind, Manifest>,
    loaded: Loaded,
    unreadable: Vec<Problem>,
}

impl Configuration {
    /// Reads the sources. What is wrong with them is among the [`problems`](Self::problems).
    pub fn read(settings: &Settings) -> Self {
        let empty = Loaded {
            config: CloudConfig::default(),
            problems: Vec::new(),
        };
        let mut configuration = Self {
            directory: settings.config.clone(),
            operator_source: settings.operator_source.clone(),
            operator_config: settings.operator_config.clone(),
            kinds: BTreeMap::new(),
            loaded: empty,
            unreadable: Vec::new(),
        };
        configuration.reload();
        configuration
    }

    /// Reads the sources again.
    pub fn reload(&mut self) {
        let (sources, unreadable) = cloud_config::read_directory(&self.directory);
        self.loaded = cloud_config::load(&sources, &self.kinds);
        self.unreadable = unreadable;
        for problem in self.problems() {
            tracing::warn!("{problem}");
        }
    }

    /// What is wrong with the configuration in force.
    pub fn problems(&self) -> Vec<Problem> {
        self.unreadable
            .iter()
            .chain(&self.loaded.problems)
            .cloned()
            .collect()
    }

    /// Checks everything again now that it is known what kinds there are and what options they have.
    pub fn check_kinds(&mut self, kinds: &BTreeMap<Kind, KindEntry>) {
        self.kinds = kinds
            .iter()
            .map(|(kind, entry)| (kind.clone(), entry.manifest.clone()))
            .collect();
        self.reload();
    }

    /// How long the boot waits for required volumes, if the cloud-config says.
    pub fn required_wait(&self) -> Option<Duration> {
        self.loaded
            .config
            .lazarette
            .docker
            .wait_seconds
            .map(Duration::from_secs)
    }

    /// Where in the view user Docker's own data is to be, if on a volume.
    pub fn data_root(&self) -> Option<String> {
        self.loaded.config.data_root()
    }

    /// What it says of plugins' signatures.
    pub fn signatures(&self) -> Policy {
        self.loaded.config.lazarette.plugins.policy()
    }

    /// The JSON schema of a cloud-config.
    pub fn schema(&self) -> Value {
        cloud_config::schema(&self.kinds)
    }

    /// What is wrong with `text` in the place of the operator's cloud-config: it may refer to what
    /// other sources declare, and is not blamed for what is wrong with them.
    pub fn check(&self, text: &str) -> Vec<Problem> {
        let place = self.directory.join(&self.operator_source);
        let place = place.display().to_string();
        let (mut sources, _) = cloud_config::read_directory(&self.directory);
        sources.retain(|source| source.name != place);
        let index = sources.partition_point(|source| source.name < place);
        sources.insert(index, Source::new("cloud-config", text));
        cloud_config::check_among(&sources, index, &self.kinds)
    }

    /// Makes `text` the operator's cloud-config, for now and for the next boot, if nothing is wrong with it.
    ///
    /// # Errors
    /// `Internal` if it cannot be written; the old one is in force then.
    pub fn set(&mut self, text: &str) -> Result<Vec<Problem>> {
        let problems = self.check(text);
        if problems.is_empty() {
            replace(&self.operator_config, text)?;
            replace(&self.directory.join(&self.operator_source), text)?;
            self.reload();
        }
        Ok(problems)
    }

    /// The declared contexts and volumes.
    pub fn declared(
        &self,
    ) -> (
        BTreeMap<ContextName, (Kind, Value)>,
        BTreeMap<VolumeName, VolumeEntry>,
    ) {
        let storage = &self.loaded.config.lazarette.storage;
        let data_root = self.data_root();
        let contexts = storage.contexts.iter();
        let contexts = contexts.map(|(name, c)| {
            (
                name.clone(),
                (c.kind.clone(), Value::Object(c.options.clone())),
            )
        });
        let volumes = storage.volumes.iter().map(|(name, declared)| {
            let options = Value::Object(declared.options.clone());
            let path = format!("{}/{name}", declared.context);
            let mut entry =
                VolumeEntry::declared(declared.context.clone(), options, path, declared.read_only);
            if let Some(mount) = &declared.mount {
                entry.place = place(mount, &storage.mount_roots);
            }
            let is_data_root = data_root == Some(entry.target());
            entry.required = declared.required || is_data_root;
            (name.clone(), entry)
        });
        (contexts.collect(), volumes.collect())
    }
}

/// The place at `mount`, which the checks of the configuration have found to lie below `/mnt` or one of
/// `roots`.
fn place(mount: &str, roots: &[String]) -> Place {
    let below = |root: &str| {
        let path = mount.strip_prefix(root)?.strip_prefix('/')?;
        Some(path.trim_matches('/').to_owned())
    };
    let elsewhere = roots.iter().find_map(|root| {
        let path = below(root)?;
        let root = root.clone();
        Some(Place::Below { root, path })
    });
    elsewhere.unwrap_or_else(|| Place::Mnt(below(MNT).unwrap_or_default()))
}

/// Replaces a file as a whole, synced, or not at all. It may hold secrets: 0600.
fn replace(path: &Path, text: &str) -> Result<()> {
    let write = || -> io::Result<()> {
        let directory = path.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(directory)?;
        let new = path.with_extension("new");
        match fs::remove_file(&new) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let mut file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        File::open(directory)?.sync_all()
    };
    write().map_err(|e| Error::internal(format!("cannot write {}", path.display())).cause(e))
}
