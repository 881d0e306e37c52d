//! What LVM's reports say: `--reportformat json`, where every value is a text.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use lazarette_plugin::serde_json::{self, Value};
use lazarette_plugin::{Error, Result, quoted};

/// A volume group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    pub(crate) name: String,
    pub(crate) uuid: String,
    pub(crate) size: u64,
    pub(crate) free: u64,
    pub(crate) extent: u64,
    pub(crate) missing: u64,
    pub(crate) exported: bool,
    /// `none` unless other machines may use it at the same time (sanlock, dlm).
    pub(crate) lock_type: String,
    pub(crate) system_id: String,
}

impl Group {
    pub(crate) const COLUMNS: &str = "vg_name,vg_uuid,vg_size,vg_free,vg_extent_size,\
        vg_missing_pv_count,vg_exported,vg_lock_type,vg_systemid";

    /// `bytes` rounded up to what the volume group gives out.
    pub(crate) fn rounded(&self, bytes: u64) -> u64 {
        bytes
            .div_ceil(self.extent.max(1))
            .saturating_mul(self.extent.max(1))
    }
}

/// A physical volume: a device of a volume group, or one that has none yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Physical {
    /// Its path; `[unknown]` if it is missing.
    pub(crate) name: String,
    pub(crate) uuid: String,
    /// The volume group; empty if it has none.
    pub(crate) group: String,
    pub(crate) group_uuid: String,
    pub(crate) size: u64,
    pub(crate) missing: bool,
    /// Whether another device says to be the same.
    pub(crate) duplicate: bool,
    /// Whether a volume group uses it, even one that cannot be seen.
    pub(crate) in_use: bool,
}

impl Physical {
    pub(crate) const COLUMNS: &str = "pv_name,pv_uuid,vg_name,vg_uuid,pv_size,\
        pv_missing,pv_duplicate,pv_in_use";
}

/// A logical volume.
#[derive(Debug, Clone, PartialEq)]
pub struct Logical {
    /// Its name, in brackets if it is a part of another one.
    pub(crate) name: String,
    pub(crate) uuid: String,
    /// Its node below `/dev/mapper`.
    pub(crate) node: PathBuf,
    pub(crate) size: u64,
    pub(crate) tags: Vec<String>,
    /// Its thin pool; empty if it has none.
    pub(crate) pool: String,
    /// What it is a snapshot of; empty if it is none.
    pub(crate) origin: String,
    /// Words such as `linear`, `thin`, `pool`, `raid1`, `cache`.
    pub(crate) layout: Vec<String>,
    /// Words such as `public`, `private`, `snapshot`, `thicksnapshot`.
    pub(crate) role: Vec<String>,
    /// Per cent of a pool, a thin volume or a thick snapshot in use.
    pub(crate) data: Option<f64>,
    /// Per cent of a pool's metadata in use.
    pub(crate) metadata: Option<f64>,
    /// Per cent of a raid in step.
    pub(crate) sync: Option<f64>,
    /// `partial`, `refresh needed`, `mismatches exist`, … ; empty if all is well.
    pub(crate) health: String,
    pub(crate) active: bool,
    pub(crate) open: bool,
    pub(crate) merging: bool,
    /// A thick snapshot that ran full.
    pub(crate) invalid: bool,
    pub(crate) writable: bool,
    /// `writethrough`, `writeback`; empty if it has no cache.
    pub(crate) cache_mode: String,
    /// Blocks of its cache that are not written back yet; 0 if that is not known.
    pub(crate) dirty: u64,
}

impl Logical {
    pub(crate) const COLUMNS: &str = "lv_name,lv_uuid,lv_dm_path,lv_size,lv_tags,pool_lv,origin,\
        lv_layout,lv_role,data_percent,metadata_percent,sync_percent,lv_health_status,lv_active,\
        lv_device_open,lv_merging,lv_snapshot_invalid,lv_permissions,\
        cache_mode,cache_dirty_blocks";

    pub(crate) fn has_tag(&self, tag: &str) -> bool {
        self.tags.iter().any(|t| t == tag)
    }

    pub(crate) fn is_thin(&self) -> bool {
        self.has_layout("thin") && !self.has_layout("pool")
    }

    pub(crate) fn is_pool(&self) -> bool {
        self.has_layout("thin") && self.has_layout("pool")
    }

    pub(crate) fn is_thick_snapshot(&self) -> bool {
        self.role.iter().any(|r| r == "thicksnapshot")
    }

    /// Whether it is for people, not a part of another one.
    pub(crate) fn is_public(&self) -> bool {
        self.role.iter().any(|r| r == "public") && !self.name.starts_with('[')
    }

    /// Whether a cache is before it. Its own part is its `origin` then.
    pub(crate) fn is_cached(&self) -> bool {
        self.has_layout("cache") && self.is_public()
    }

    /// Whether it can do without a device.
    pub(crate) fn is_redundant(&self) -> bool {
        self.has_layout("raid") || self.has_layout("mirror")
    }

    fn has_layout(&self, word: &str) -> bool {
        self.layout.iter().any(|l| l == word)
    }
}

/// The volume groups of a report.
///
/// # Errors
/// `Internal` if it is no report, or lacks a column.
pub fn groups(json: &str) -> Result<Vec<Group>> {
    rows(json, "vg")?.iter().map(group).collect()
}

fn group(row: &Row) -> Result<Group> {
    Ok(Group {
        name: row.text("vg_name")?,
        uuid: row.text("vg_uuid")?,
        size: row.number("vg_size")?,
        free: row.number("vg_free")?,
        extent: row.number("vg_extent_size")?,
        missing: row.number("vg_missing_pv_count")?,
        exported: row.flag("vg_exported")?,
        lock_type: row.text("vg_lock_type")?,
        system_id: row.text("vg_systemid")?,
    })
}

/// The physical volumes of a report.
///
/// # Errors
/// `Internal` if it is no report, or lacks a column.
pub fn physicals(json: &str) -> Result<Vec<Physical>> {
    let physical = |row: &Row| {
        Ok(Physical {
            name: row.text("pv_name")?,
            uuid: row.text("pv_uuid")?,
            group: row.text("vg_name")?,
            group_uuid: row.text("vg_uuid")?,
            size: row.number("pv_size")?,
            missing: row.flag("pv_missing")?,
            duplicate: row.flag("pv_duplicate")?,
            in_use: row.flag("pv_in_use")?,
        })
    };
    rows(json, "pv")?.iter().map(physical).collect()
}

/// The logical volumes of a report.
///
/// # Errors
/// `Internal` if it is no report, or lacks a column.
pub fn logicals(json: &str) -> Result<Vec<Logical>> {
    once(&rows(json, "lv")?)
}

/// The logical volumes of the volume group with that UUID, and itself, of a report that has the
/// group's columns with each logical volume. `None` if there is no logical volume of it.
///
/// # Errors
/// `Internal` if it is no report, or lacks a column.
pub fn whole(json: &str, uuid: &str) -> Result<Option<(Group, Vec<Logical>)>> {
    let mut rows = rows(json, "lv")?.into_iter().peekable();
    let Some(first) = rows.peek() else {
        return Ok(None);
    };
    // All of them are of the group whose name was asked for, which may be another one's now.
    let group = group(first)?;
    if group.uuid != uuid {
        return Ok(None);
    }
    let rows: Vec<Row> = rows.collect();
    Ok(Some((group, once(&rows)?)))
}

/// Each logical volume once: lvs(8) has a row for each segment of it.
fn once(rows: &[Row]) -> Result<Vec<Logical>> {
    let mut all: Vec<Logical> = rows.iter().map(logical).collect::<Result<_>>()?;
    let mut seen = BTreeSet::new();
    all.retain(|l| seen.insert(l.uuid.clone()));
    Ok(all)
}

fn logical(row: &Row) -> Result<Logical> {
    Ok(Logical {
        name: row.text("lv_name")?,
        uuid: row.text("lv_uuid")?,
        node: row.text("lv_dm_path")?.into(),
        size: row.number("lv_size")?,
        tags: row.words("lv_tags")?,
        pool: row.text("pool_lv")?,
        origin: row.text("origin")?,
        layout: row.words("lv_layout")?,
        role: row.words("lv_role")?,
        data: row.percent("data_percent")?,
        metadata: row.percent("metadata_percent")?,
        sync: row.percent("sync_percent")?,
        health: row.text("lv_health_status")?,
        active: row.flag("lv_active")?,
        open: row.flag("lv_device_open")?,
        merging: row.flag("lv_merging")?,
        invalid: row.flag("lv_snapshot_invalid")?,
        // Unknown of what is not active.
        writable: !row.text("lv_permissions")?.starts_with("read-only"),
        cache_mode: row.text("cache_mode")?,
        dirty: row.number("cache_dirty_blocks")?,
    })
}

/// A row of a report.
struct Row(BTreeMap<String, Value>);

impl Row {
    fn text(&self, column: &str) -> Result<String> {
        match self.0.get(column) {
            Some(Value::String(text)) => Ok(text.trim().to_owned()),
            Some(Value::Number(number)) => Ok(number.to_string()),
            _ => Err(strange(&format!("a row has no {column}"))),
        }
    }

    fn words(&self, column: &str) -> Result<Vec<String>> {
        let text = self.text(column)?;
        let words = text.split(',').filter(|w| !w.is_empty());
        Ok(words.map(str::to_owned).collect())
    }

    fn number(&self, column: &str) -> Result<u64> {
        let text = self.text(column)?;
        // A missing device has no size, and what has no cache no blocks of it.
        if text.is_empty() {
            return Ok(0);
        }
        text.parse()
            .map_err(|_| strange(&format!("{column} is {}", quoted(&text))))
    }

    fn percent(&self, column: &str) -> Result<Option<f64>> {
        let text = self.text(column)?;
        if text.is_empty() {
            return Ok(None);
        }
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Some(number)),
            _ => Err(strange(&format!("{column} is {}", quoted(&text)))),
        }
    }

    /// Reports are `--binary`: 1 for yes, 0 for no, -1 for unknown.
    fn flag(&self, column: &str) -> Result<bool> {
        Ok(self.text(column)? == "1")
    }
}

fn rows(json: &str, name: &str) -> Result<Vec<Row>> {
    let value: Value = serde_json::from_str(json)
        .map_err(|e| strange(&format!("it is not JSON ({e}): {}", quoted(json))))?;
    let Some(reports) = value.get("report").and_then(Value::as_array) else {
        return Err(strange("it has no `report`"));
    };
    let mut rows = Vec::new();
    for row in reports
        .iter()
        .filter_map(|r| r.get(name)?.as_array())
        .flatten()
    {
        let Some(row) = row.as_object() else {
            return Err(strange("a row is no object"));
        };
        rows.push(Row(row.clone().into_iter().collect()));
    }
    Ok(rows)
}

fn strange(why: &str) -> Error {
    Error::internal("LVM's report cannot be understood")
        .cause(why)
        .remedy("look at laz logs CONTEXT; another version of LVM in the image?")
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
