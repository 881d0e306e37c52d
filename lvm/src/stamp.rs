//! What is written on logical volumes, as LVM tags, so that after any crash it can be seen what
//! they are.
//!
//! | tag | on | meaning |
//! |---|---|---|
//! | `lazarette.UUID` | a volume | its identity |
//! | `lazarette.ready` | a volume | it has its file system, or its copy is complete |
//! | `lazarette.snapshot.UUID` | a snapshot | its identity |
//! | `lazarette.of.UUID` | a snapshot | the volume it is of |
//! | `lazarette.rollback.UUID` | a volume | it is being brought back to that snapshot |
//! | `lazarette.copied.N` | a volume | of its copy, so many MiB are done |

use lazarette_plugin::{SnapshotId, VolumeId};

use crate::report::Logical;
use crate::values::OUR_TAGS;

/// A volume that can be mounted.
pub(crate) const READY: &str = "lazarette.ready";
const SNAPSHOT: &str = "lazarette.snapshot.";
const OF: &str = "lazarette.of.";
const ROLLBACK: &str = "lazarette.rollback.";
const COPIED: &str = "lazarette.copied.";
/// Characters of a UUID.
const UUID: usize = 36;

/// The tag of a volume.
pub(crate) fn of_volume(id: VolumeId) -> String {
    format!("{OUR_TAGS}{id}")
}

/// The tag of a snapshot.
pub(crate) fn of_snapshot(id: SnapshotId) -> String {
    format!("{SNAPSHOT}{id}")
}

/// The tag that says of which volume a snapshot is.
pub(crate) fn origin(id: VolumeId) -> String {
    format!("{OF}{id}")
}

/// The tag of a volume that is brought back to a snapshot.
pub(crate) fn rollback(id: SnapshotId) -> String {
    format!("{ROLLBACK}{id}")
}

/// The tag that says how much of a copy is done.
pub(crate) fn copied(mebibytes: u64) -> String {
    format!("{COPIED}{mebibytes}")
}

/// How much of its copy is done, in MiB, and the tags that say so.
pub(crate) fn copied_of(logical: &Logical) -> (u64, Vec<String>) {
    let tags = logical.tags.iter().filter(|t| t.starts_with(COPIED));
    let done = tags
        .clone()
        .filter_map(|t| t[COPIED.len()..].parse().ok())
        .max();
    (done.unwrap_or(0), tags.cloned().collect())
}

/// The volume that a logical volume is.
pub(crate) fn volume(logical: &Logical) -> Option<VolumeId> {
    logical.tags.iter().find_map(|tag| {
        let text = tag.strip_prefix(OUR_TAGS)?;
        (text.len() == UUID).then_some(())?;
        from_text(text)
    })
}

/// The volume that a snapshot is of.
pub(crate) fn origin_of(logical: &Logical) -> Option<VolumeId> {
    let text = logical.tags.iter().find_map(|t| t.strip_prefix(OF))?;
    from_text(text)
}

/// The snapshot that a logical volume is.
pub(crate) fn snapshot(logical: &Logical) -> Option<SnapshotId> {
    let text = logical.tags.iter().find_map(|t| t.strip_prefix(SNAPSHOT))?;
    lazarette_plugin::serde_json::from_value(text.into()).ok()
}

/// Whether a rollback of it has begun and not ended.
pub(crate) fn is_rolled_back(logical: &Logical) -> bool {
    logical.tags.iter().any(|t| t.starts_with(ROLLBACK))
}

fn from_text(text: &str) -> Option<VolumeId> {
    lazarette_plugin::serde_json::from_value(text.into()).ok()
}

/// Whether a logical volume was made by us: by its name, as one that was taken over may have
/// tags of ours for a moment.
pub(crate) fn is_ours(logical: &Logical) -> bool {
    ["lz-", "lzs-", "lzh-", "lzc-"].iter().any(|prefix| {
        let rest = logical.name.strip_prefix(prefix);
        rest.is_some_and(|rest| rest.len() == UUID && from_text(rest).is_some())
    })
}

/// The name of the logical volume of a volume that is made.
pub(crate) fn name_of_volume(id: VolumeId) -> String {
    format!("lz-{id}")
}

/// The name of a snapshot's logical volume.
pub(crate) fn name_of_snapshot(id: SnapshotId) -> String {
    format!("lzs-{id}")
}

/// The name of what takes a volume's place after a rollback, or is copied from for a clone.
pub(crate) fn name_of_helper(id: VolumeId) -> String {
    format!("lzh-{id}")
}

/// The name of what holds a volume's cache.
pub(crate) fn name_of_cache(id: VolumeId) -> String {
    format!("lzc-{id}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report;

    fn tagged(tags: &str) -> Logical {
        let row = format!(
            r#"{{"report":[{{"lv":[{{"lv_name":"a","lv_uuid":"u","lv_dm_path":"/dev/mapper/f-a","lv_size":"4194304",
            "lv_tags":"{tags}","pool_lv":"","origin":"","lv_layout":"linear","lv_role":"public","data_percent":"",
            "metadata_percent":"","sync_percent":"","lv_health_status":"","lv_active":"1","lv_device_open":"0",
            "lv_suspended":"0","lv_merging":"0","lv_snapshot_invalid":"0","lv_permissions":"writeable","cache_mode":"","cache_dirty_blocks":""}}]}}]}}"#
        );
        report::logicals(&row).unwrap().remove(0)
    }

    #[test]
    fn a_tag_tells_what_it_is_on() {
        let id = VolumeId::random();
        let snapshot = SnapshotId::random();
        let on_volume = tagged(&format!("fast,{READY},{}", of_volume(id)));
        assert_eq!(volume(&on_volume), Some(id));
        assert_eq!(origin_of(&on_volume), None);
        let tags = [of_snapshot(snapshot), origin(id)].join(",");
        let on_snapshot = tagged(&tags);
        assert_eq!(volume(&on_snapshot), None, "a snapshot is no volume");
        assert_eq!(origin_of(&on_snapshot), Some(id));
        assert!(on_snapshot.has_tag(&of_snapshot(snapshot)));
        assert_eq!(volume(&tagged("lazarette.ready,lazarette.nonsense")), None);
    }

    #[test]
    fn of_a_copy_the_furthest_tag_counts() {
        let (done, tags) = copied_of(&tagged("lazarette.copied.64,lazarette.copied.128,x"));
        assert_eq!((done, tags.len()), (128, 2));
        assert_eq!(copied_of(&tagged("")).0, 0);
    }
}
