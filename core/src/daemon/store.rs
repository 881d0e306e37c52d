//! What core keeps across its own death: volumes, the contexts made for them, the mount
//! identities that hold them, plugins' signatures, which versions of plugins were removed. One redb
//! database, every write synced before it is answered.
//!
//! What can be observed (mounts, containers) or read again (the cloud-config) is not kept.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::control::Origin;
use crate::error::{Error, ErrorKind, Result};
use crate::name::{ContextName, Kind, VolumeName};
use crate::planner::{ContextEntry, Pending, Place, Snapshots, VolumeEntry, World};
use crate::volume::{CloneSource, SnapshotId, VolumeId};

const VOLUMES: TableDefinition<&str, &[u8]> = TableDefinition::new("volumes");
const CONTEXTS: TableDefinition<&str, &[u8]> = TableDefinition::new("contexts");
const LEFT: TableDefinition<&str, &[u8]> = TableDefinition::new("snapshots_left");
const SIGNATURES: TableDefinition<&str, &[u8]> = TableDefinition::new("signatures");
const REMOVED: TableDefinition<&str, &[u8]> = TableDefinition::new("removed_plugins");
const ABOUT: TableDefinition<&str, &[u8]> = TableDefinition::new("about");

/// The layout of the records; a database with a larger number was written by a newer core.
const LAYOUT: u32 = 1;

/// How much of the database is kept in memory.
const CACHE_BYTES: usize = 256 << 10;

/// The database.
pub struct Store {
    database: Database,
    path: PathBuf,
    written: Image,
}

/// The records as they are in the database.
#[derive(Default, PartialEq)]
struct Image {
    volumes: BTreeMap<VolumeName, Vec<u8>>,
    contexts: BTreeMap<ContextName, Vec<u8>>,
    left: BTreeMap<String, Vec<u8>>,
    signatures: BTreeMap<String, Vec<u8>>,
    removed: BTreeMap<String, Vec<u8>>,
}

/// A volume as it is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct VolumeRecord {
    id: VolumeId,
    context: ContextName,
    options: Value,
    origin: Origin,
    #[serde(default)]
    read_only: bool,
    #[serde(default)]
    required: bool,
    place: Place,
    created_at: String,
    wanted: bool,
    #[serde(default)]
    forced: bool,
    made: bool,
    #[serde(default)]
    holds: BTreeMap<String, u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source: Option<CloneSource>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    snapshots: Snapshots,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rollback: Option<Pending<SnapshotId>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    resize: Option<Pending<Value>>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    dead: bool,
}

/// A context as it is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct ContextRecord {
    kind: Kind,
    config: Value,
    declared: bool,
    #[serde(default)]
    attached: bool,
    #[serde(default)]
    since: u64,
}

impl Store {
    /// Opens the database in `directory`, or makes it.
    ///
    /// # Errors
    /// `Internal` naming the file: not readable, damaged, or written by a newer core.
    pub fn open(directory: &Path) -> Result<Self> {
        let path = directory.join("core.redb");
        let fail = |e: &dyn std::error::Error| failure(&path, "open", e);
        std::fs::create_dir_all(directory).map_err(|e| fail(&e))?;
        let database = redb::Builder::new()
            .set_cache_size(CACHE_BYTES)
            .create(&path)
            .map_err(|e| fail(&e))?;
        let store = Self {
            database,
            path,
            written: Image::default(),
        };
        store.check_layout()?;
        Ok(store)
    }

    fn check_layout(&self) -> Result<()> {
        let fail = |e: &dyn std::error::Error| failure(&self.path, "read", e);
        let write = self.database.begin_write().map_err(|e| fail(&e))?;
        {
            let mut about = write.open_table(ABOUT).map_err(|e| fail(&e))?;
            write.open_table(VOLUMES).map_err(|e| fail(&e))?;
            write.open_table(CONTEXTS).map_err(|e| fail(&e))?;
            write.open_table(LEFT).map_err(|e| fail(&e))?;
            write.open_table(SIGNATURES).map_err(|e| fail(&e))?;
            write.open_table(REMOVED).map_err(|e| fail(&e))?;
            let found = about
                .get("layout")
                .map_err(|e| fail(&e))?
                .and_then(|v| Some(u32::from_le_bytes(v.value().try_into().ok()?)));
            match found {
                Some(newer) if newer > LAYOUT => {
                    return Err(Error::internal(format!(
                        "{}: its layout is {newer}, this core knows {LAYOUT} and older",
                        self.path.display()
                    ))
                    .remedy("start the newer core again, or move the file away to begin anew"));
                }
                _ => about
                    .insert("layout", &LAYOUT.to_le_bytes()[..])
                    .map_err(|e| fail(&e))?,
            };
        }
        write.commit().map_err(|e| fail(&e))
    }

    /// Puts what was kept into `world`. Holds from before a reboot are left out: nothing they
    /// held is mounted any more.
    ///
    /// # Errors
    /// `Internal` if a record cannot be read.
    pub fn load(&mut self, world: &mut World, boot_id: &str) -> Result<()> {
        let same_boot = self.exchange_boot_id(boot_id)?;
        let fail = |e: &dyn std::error::Error| failure(&self.path, "read", e);
        let read = self.database.begin_read().map_err(|e| fail(&e))?;
        let contexts = read.open_table(CONTEXTS).map_err(|e| fail(&e))?;
        for row in contexts.iter().map_err(|e| fail(&e))? {
            let (name, bytes) = row.map_err(|e| fail(&e))?;
            let name = ContextName::new(name.value())?;
            let record: ContextRecord =
                serde_json::from_slice(bytes.value()).map_err(|e| fail(&e))?;
            self.written
                .contexts
                .insert(name.clone(), bytes.value().to_vec());
            let mut context = ContextEntry::new(record.kind, record.config, record.declared);
            context.attached = record.attached;
            context.since = record.since;
            context.unsure = true;
            world.contexts.insert(name, context);
        }
        let volumes = read.open_table(VOLUMES).map_err(|e| fail(&e))?;
        for row in volumes.iter().map_err(|e| fail(&e))? {
            let (name, bytes) = row.map_err(|e| fail(&e))?;
            let name = VolumeName::new(name.value())?;
            let record: VolumeRecord =
                serde_json::from_slice(bytes.value()).map_err(|e| fail(&e))?;
            self.written
                .volumes
                .insert(name.clone(), bytes.value().to_vec());
            let mut volume = record.into_entry();
            if !same_boot {
                volume.holds.clear();
            }
            volume.undo_what_nobody_was_told();
            world.volumes.insert(name, volume);
        }
        let left = read.open_table(LEFT).map_err(|e| fail(&e))?;
        for row in left.iter().map_err(|e| fail(&e))? {
            let (id, bytes) = row.map_err(|e| fail(&e))?;
            let (id, bytes) = (id.value(), bytes.value());
            let volume = VolumeId(id.parse().map_err(|e| fail(&e))?);
            let snapshots = serde_json::from_slice(bytes).map_err(|e| fail(&e))?;
            self.written.left.insert(id.to_owned(), bytes.to_vec());
            world.left.insert(volume, snapshots);
        }
        let signatures = read.open_table(SIGNATURES).map_err(|e| fail(&e))?;
        for row in signatures.iter().map_err(|e| fail(&e))? {
            let (image, bytes) = row.map_err(|e| fail(&e))?;
            let (image, bytes) = (image.value().to_owned(), bytes.value().to_vec());
            // What is no text is no signature either: it is judged as such.
            let signature = String::from_utf8_lossy(&bytes).into_owned();
            world.signatures.insert(image.clone(), signature);
            self.written.signatures.insert(image, bytes);
        }
        let removed = read.open_table(REMOVED).map_err(|e| fail(&e))?;
        for row in removed.iter().map_err(|e| fail(&e))? {
            let (kind, bytes) = row.map_err(|e| fail(&e))?;
            let (kind, bytes) = (kind.value().to_owned(), bytes.value().to_vec());
            let version = String::from_utf8_lossy(&bytes).into_owned();
            world.removed.insert(Kind::new(&kind)?, version);
            self.written.removed.insert(kind, bytes);
        }
        Ok(())
    }

    fn exchange_boot_id(&self, boot_id: &str) -> Result<bool> {
        let fail = |e: &dyn std::error::Error| failure(&self.path, "write", e);
        let write = self.database.begin_write().map_err(|e| fail(&e))?;
        let same = {
            let mut about = write.open_table(ABOUT).map_err(|e| fail(&e))?;
            let before = about
                .insert("boot_id", boot_id.as_bytes())
                .map_err(|e| fail(&e))?;
            before.is_some_and(|b| b.value() == boot_id.as_bytes())
        };
        write.commit().map_err(|e| fail(&e))?;
        Ok(same)
    }

    /// Writes what of `world` differs from what is kept, synced to the disk, in one transaction.
    ///
    /// # Errors
    /// `NoSpace` or `Internal` naming the file; nothing has been written then.
    pub fn save(&mut self, world: &World) -> Result<()> {
        let new = Image::of(world)?;
        if new == self.written {
            return Ok(());
        }
        self.write(&new)?;
        self.written = new;
        Ok(())
    }

    fn write(&self, new: &Image) -> Result<()> {
        let fail = |e: &dyn std::error::Error| failure(&self.path, "write", e);
        let mut write = self.database.begin_write().map_err(|e| fail(&e))?;
        write
            .set_durability(Durability::Immediate)
            .map_err(|e| fail(&e))?;
        {
            let mut table = write.open_table(VOLUMES).map_err(|e| fail(&e))?;
            exchange(&mut table, &self.written.volumes, &new.volumes).map_err(|e| fail(&e))?;
            let mut table = write.open_table(CONTEXTS).map_err(|e| fail(&e))?;
            exchange(&mut table, &self.written.contexts, &new.contexts).map_err(|e| fail(&e))?;
            let mut table = write.open_table(LEFT).map_err(|e| fail(&e))?;
            exchange(&mut table, &self.written.left, &new.left).map_err(|e| fail(&e))?;
            let mut table = write.open_table(SIGNATURES).map_err(|e| fail(&e))?;
            exchange(&mut table, &self.written.signatures, &new.signatures)
                .map_err(|e| fail(&e))?;
            let mut table = write.open_table(REMOVED).map_err(|e| fail(&e))?;
            exchange(&mut table, &self.written.removed, &new.removed).map_err(|e| fail(&e))?;
        }
        write.commit().map_err(|e| fail(&e))
    }
}

fn exchange<K: AsRef<str> + Ord>(
    table: &mut redb::Table<'_, &'static str, &'static [u8]>,
    old: &BTreeMap<K, Vec<u8>>,
    new: &BTreeMap<K, Vec<u8>>,
) -> std::result::Result<(), redb::StorageError> {
    for (name, bytes) in new
        .iter()
        .filter(|(name, bytes)| old.get(*name) != Some(bytes))
    {
        table.insert(name.as_ref(), bytes.as_slice())?;
    }
    for name in old.keys().filter(|name| !new.contains_key(*name)) {
        table.remove(name.as_ref())?;
    }
    Ok(())
}

impl Image {
    fn of(world: &World) -> Result<Self> {
        let mut image = Self::default();
        for (name, volume) in &world.volumes {
            image
                .volumes
                .insert(name.clone(), json(&VolumeRecord::from_entry(volume))?);
        }
        for (name, c) in &world.contexts {
            let record = ContextRecord {
                kind: c.kind.clone(),
                config: c.config.clone(),
                declared: c.declared,
                attached: c.attached,
                since: c.since,
            };
            image.contexts.insert(name.clone(), json(&record)?);
        }
        for (id, snapshots) in &world.left {
            image.left.insert(id.to_string(), json(snapshots)?);
        }
        let signatures = world.signatures.iter();
        image.signatures = signatures
            .map(|(image, signature)| (image.clone(), signature.clone().into_bytes()))
            .collect();
        let removed = world.removed.iter();
        image.removed = removed
            .map(|(kind, version)| (kind.to_string(), version.clone().into_bytes()))
            .collect();
        Ok(image)
    }
}

fn json<T: Serialize>(record: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(record).map_err(|e| Error::internal("a record that is not JSON").cause(e))
}

impl VolumeRecord {
    fn from_entry(v: &VolumeEntry) -> Self {
        Self {
            id: v.id,
            context: v.context.clone(),
            options: v.options.clone(),
            origin: v.origin,
            read_only: v.read_only,
            required: v.required,
            place: v.place.clone(),
            created_at: v.created_at.clone(),
            wanted: v.wanted,
            forced: v.forced,
            made: v.made,
            holds: v.holds.clone(),
            source: v.source.clone(),
            snapshots: v.snapshots.clone(),
            rollback: v.rollback.clone(),
            resize: v.resize.clone(),
            dead: v.dead,
        }
    }

    fn into_entry(self) -> VolumeEntry {
        let mut entry =
            VolumeEntry::declared(self.context, self.options, String::new(), self.read_only);
        entry.id = self.id;
        entry.origin = self.origin;
        entry.required = self.required;
        entry.place = self.place;
        entry.created_at = self.created_at;
        entry.wanted = self.wanted;
        entry.forced = self.forced;
        entry.made = self.made;
        entry.holds = self.holds;
        entry.source = self.source;
        entry.snapshots = self.snapshots;
        entry.rollback = self.rollback;
        entry.resize = self.resize;
        entry.dead = self.dead;
        entry
    }
}

fn failure(path: &Path, verb: &str, error: &dyn std::error::Error) -> Error {
    let full = error.to_string().contains("No space left");
    let kind = if full {
        ErrorKind::NoSpace
    } else {
        ErrorKind::Internal
    };
    Error::new(
        kind,
        format!("cannot {verb} core's state in {}", path.display()),
    )
    .caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::SnapshotName;
    use crate::planner::{Retry, SnapshotEntry};
    use serde_json::json;

    fn world() -> World {
        let mut world = World::default();
        let context = ContextName::new("nas").unwrap();
        let entry = ContextEntry::new(Kind::new("fake").unwrap(), json!({"server": "a"}), false);
        world.contexts.insert(context.clone(), entry);
        let mut volume =
            VolumeEntry::declared(context, json!({"export": "/x"}), "nas/x".into(), true);
        volume.origin = Origin::Created;
        volume.place = Place::Docker;
        volume.made = true;
        volume.holds.insert("id".into(), 2);
        let mut taken = SnapshotEntry::new(SnapshotId::random(), "2026-01-02T03:04:05Z".into());
        let asked = taken.clone();
        taken.made = true;
        let name = |name| SnapshotName::new(name).unwrap();
        volume.snapshots = [(name("taken"), taken), (name("asked"), asked)].into();
        volume.resize = Some(Pending::new(json!("2G")));
        volume.dead = true;
        world
            .left
            .insert(VolumeId::random(), volume.snapshots.clone());
        world.volumes.insert(VolumeName::new("x").unwrap(), volume);
        world
            .signatures
            .insert("sha256:0".into(), "untrusted comment: x\n".into());
        world
            .removed
            .insert(Kind::new("shelves").unwrap(), "2.0.0".into());
        world
    }

    fn reload(directory: &Path, boot_id: &str) -> World {
        let mut world = World::default();
        Store::open(directory)
            .unwrap()
            .load(&mut world, boot_id)
            .unwrap();
        world
    }

    #[test]
    fn what_was_saved_is_there_after_a_restart_and_what_was_removed_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let mut store = Store::open(directory.path()).unwrap();
        let mut kept = World::default();
        store.load(&mut kept, "boot").unwrap();
        let mut before = world();
        store.save(&before).unwrap();
        drop(store);
        let after = reload(directory.path(), "boot");
        let name = VolumeName::new("x").unwrap();
        let loaded = &after.volumes[&name];
        let asked = SnapshotName::new("asked").unwrap();
        assert!(!loaded.snapshots[&asked].wanted, "nobody was told of it");
        let mut as_kept = loaded.clone();
        let undone = as_kept.snapshots.get_mut(&asked).unwrap();
        (undone.wanted, undone.retry) = (true, Retry::default());
        as_kept.resize.as_mut().unwrap().retry = Retry::default();
        assert_eq!(
            VolumeRecord::from_entry(&as_kept),
            VolumeRecord::from_entry(&before.volumes[&name])
        );
        assert_eq!(after.left, before.left);
        assert_eq!(after.signatures, before.signatures);
        assert_eq!(after.removed, before.removed);
        assert_eq!(
            after.contexts[&ContextName::new("nas").unwrap()].config,
            json!({"server": "a"})
        );

        let mut store = Store::open(directory.path()).unwrap();
        store.load(&mut World::default(), "boot").unwrap();
        before.volumes.clear();
        before.signatures.clear();
        before.removed.clear();
        store.save(&before).unwrap();
        drop(store);
        let after = reload(directory.path(), "boot");
        assert!(after.volumes.is_empty() && after.signatures.is_empty());
        assert!(after.removed.is_empty());
    }

    #[test]
    fn records_of_an_older_core_are_read() {
        let volume = json!({
            "id": uuid::Uuid::nil(), "context": "nas", "options": {}, "origin": "created",
            "place": "docker", "created_at": "", "wanted": true, "made": true
        });
        let record: VolumeRecord = serde_json::from_value(volume).unwrap();
        let entry = record.into_entry();
        assert!(entry.snapshots.is_empty() && entry.rollback.is_none() && entry.source.is_none());
        let context = json!({"kind": "nfs", "config": {}, "declared": true});
        let record: ContextRecord = serde_json::from_value(context).unwrap();
        assert!(!record.attached && record.since == 0);
    }

    /// The first core's database: the tables that it had, and its records byte for byte as they are
    /// in the fixture.
    fn first_database(directory: &Path) {
        let kept: Value =
            serde_json::from_str(include_str!("../../tests/state/first.json")).unwrap();
        let database = Database::create(directory.join("core.redb")).unwrap();
        let write = database.begin_write().unwrap();
        for (definition, name) in [(VOLUMES, "volumes"), (CONTEXTS, "contexts")] {
            let mut table = write.open_table(definition).unwrap();
            for (key, record) in kept[name].as_object().unwrap() {
                table
                    .insert(key.as_str(), record.to_string().as_bytes())
                    .unwrap();
            }
        }
        let mut about = write.open_table(ABOUT).unwrap();
        let boot_id = kept["boot_id"].as_str().unwrap();
        about.insert("layout", &1_u32.to_le_bytes()[..]).unwrap();
        about.insert("boot_id", boot_id.as_bytes()).unwrap();
        drop(about);
        write.commit().unwrap();
    }

    #[test]
    fn the_database_of_the_first_core_is_read_and_kept() {
        let directory = tempfile::tempdir().unwrap();
        first_database(directory.path());
        let boot = "3f0c0a52-9a51-4c7e-8d3b-0d5c6b7a8e90";
        let mut store = Store::open(directory.path()).unwrap();
        let mut world = World::default();
        store.load(&mut world, boot).unwrap();
        store.save(&world).unwrap();
        drop(store);
        for world in [&world, &reload(directory.path(), boot)] {
            let context = |name| &world.contexts[&ContextName::new(name).unwrap()];
            assert_eq!(context("nas").config["options"]["vers"], "4.2");
            assert!(context("nas").declared && !context("nfs-1f8b").declared);
            let volume = |name| &world.volumes[&VolumeName::new(name).unwrap()];
            let media = volume("media");
            assert_eq!(media.id.to_string(), "0d4e2c3a-7f65-5c1b-9e42-2b7a8c9d0e1f");
            assert_eq!(media.place, Place::Mnt("nas/media".into()));
            assert!(media.required && media.origin == Origin::Declared);
            let site = volume("site");
            assert_eq!(
                (site.place.clone(), site.origin),
                (Place::Docker, Origin::Created)
            );
            assert_eq!(site.options, json!({"export": "/site", "path": "www"}));
            assert_eq!(site.created_at, "2026-05-04T03:02:01Z");
            assert!(site.read_only && site.holds["7d1f"] == 2);
            assert!(site.snapshots.is_empty() && site.source.is_none());
            assert!(!volume("gone").wanted && volume("gone").forced);
            assert!(!volume("half").wanted, "nobody was told that it exists");
        }
    }

    #[test]
    fn a_reboot_lets_go_of_every_hold_and_an_unacknowledged_create_is_undone() {
        let directory = tempfile::tempdir().unwrap();
        let mut store = Store::open(directory.path()).unwrap();
        store.load(&mut World::default(), "first").unwrap();
        let mut world = world();
        let mut half = world.volumes.values().next().unwrap().clone();
        half.made = false;
        world.volumes.insert(VolumeName::new("half").unwrap(), half);
        store.save(&world).unwrap();
        drop(store);
        let after = reload(directory.path(), "second");
        assert!(
            after.volumes[&VolumeName::new("x").unwrap()]
                .holds
                .is_empty()
        );
        assert!(!after.volumes[&VolumeName::new("half").unwrap()].wanted);
    }

    #[test]
    fn a_database_of_a_newer_core_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let write = store.database.begin_write().unwrap();
        write
            .open_table(ABOUT)
            .unwrap()
            .insert("layout", &9u32.to_le_bytes()[..])
            .unwrap();
        write.commit().unwrap();
        drop(store);
        let error = Store::open(directory.path()).err().unwrap().to_string();
        assert!(
            error.contains("layout is 9") && error.contains("newer core"),
            "{error}"
        );
    }
}
