//! Control groups: without them no container is held to its limits.

use std::fs;
use std::path::Path;

use super::{Finding, State};

/// The controllers behind the limits of storage containers.
const CONTROLLERS: [&str; 2] = ["memory", "pids"];

/// Looks at the control groups that are mounted at `root`.
pub(super) fn look(root: &Path) -> Finding {
    let what = "control groups";
    if let Ok(controllers) = fs::read_to_string(root.join("cgroup.controllers")) {
        let has = |name: &&str| controllers.split_whitespace().any(|c| c == *name);
        let lacking: Vec<&str> = CONTROLLERS.into_iter().filter(|c| !has(c)).collect();
        return if lacking.is_empty() {
            Finding::new(what, State::Ok, "version 2")
        } else {
            let lacking = lacking.join(", ");
            Finding::new(
                what,
                State::Optional,
                format!(
                    "version 2 without {lacking}, so storage containers are not held to that limit; \
                     boot with cgroup_enable={lacking}"
                ),
            )
        };
    }
    if CONTROLLERS.iter().any(|name| root.join(name).is_dir()) {
        return Finding::new(
            what,
            State::Optional,
            "version 1, which newer engines give up; boot with systemd.unified_cgroup_hierarchy=1 \
             for version 2",
        );
    }
    Finding::new(
        what,
        State::Missing,
        format!(
            "for the engines; none are mounted: mount -t cgroup2 none {}",
            root.display()
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_version_is_told_from_none() {
        let root = tempfile::tempdir().unwrap();
        let found = |state| {
            let finding = look(root.path());
            assert_eq!(finding.state, state, "{finding:?}");
            finding.remark
        };
        assert!(found(State::Missing).contains("mount -t cgroup2"));
        fs::create_dir(root.path().join("memory")).unwrap();
        assert!(found(State::Optional).contains("version 1"));
        let controllers = root.path().join("cgroup.controllers");
        fs::write(&controllers, "cpuset cpu io pids\n").unwrap();
        assert!(found(State::Optional).contains("without memory,"));
        fs::write(&controllers, "cpuset cpu io memory pids\n").unwrap();
        assert_eq!(found(State::Ok), "version 2");
    }
}
