//! From what a plugin says that it mounted to a descriptor of a checked copy of it.

use std::path::{Component, Path};

use lazarette_core::{Error, ErrorKind, Mounted, Result};
use lazarette_linux::mount::{DetachedMount, Expected, MountRoot};
use serde_json::Value;

/// A detached copy of the mount that `reply` describes, which must lie below `mounts`.
///
/// After a failed mount a plugin may name a plain directory of this container; cloning that would
/// hand out the container's own file system. So it must be the root of a mount of the type that the
/// plugin says, and the copy is made through the descriptor by which that was checked.
pub(crate) fn clone(reply: &Value, mounts: &Path) -> Result<DetachedMount> {
    let mounted: Mounted = serde_json::from_value(reply.clone())
        .map_err(|e| broken("its reply to mount is not one").cause(e))?;
    let below = mounted
        .path
        .strip_prefix(mounts)
        .is_ok_and(|rest| rest.components().all(|c| matches!(c, Component::Normal(_))));
    if !below || mounted.path == mounts {
        return Err(broken(&format!(
            "{} is not below {}",
            mounted.path.display(),
            mounts.display()
        )));
    }
    let refused = |e: &dyn std::error::Error| {
        Error::new(
            ErrorKind::Plugin,
            format!("{} cannot be handed on", mounted.path.display()),
        )
        .caused_by(e)
    };
    let root = MountRoot::open(&mounted.path, &Expected::types([mounted.fs_type.as_str()]))
        .map_err(|e| refused(&e))?;
    match &mounted.subdirectory {
        None => root.clone_tree(),
        Some(below) => root.clone_subtree(below),
    }
    .map_err(|e| refused(&e))
}

fn broken(how: &str) -> Error {
    Error::new(
        ErrorKind::Plugin,
        format!("the plugin broke its contract: {how}"),
    )
    .remedy("update the plugin or report this to its author")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_that_are_not_below_the_mounts_are_refused_unseen() {
        for path in [
            "/",
            "/etc",
            "/mnt",
            "/mnt/..",
            "/mnt/../etc",
            "mnt/a",
            "/mntx/a",
        ] {
            let reply = json!({"path": path, "fs_type": "ext4", "source": "x"});
            let error = clone(&reply, Path::new("/mnt")).unwrap_err();
            assert!(error.message.contains("not below /mnt"), "{path}: {error}");
        }
        let error = clone(&json!({"path": 1}), Path::new("/mnt")).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Plugin);
    }

    #[test]
    fn a_plain_directory_is_not_handed_on() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("volume");
        std::fs::create_dir(&path).unwrap();
        let reply = json!({"path": path, "fs_type": "tmpfs", "source": "x"});
        let error = clone(&reply, directory.path()).unwrap_err();
        assert!(error.message.contains("cannot be handed on"), "{error}");
    }
}
