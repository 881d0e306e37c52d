//! A "storage container" (a mount namespace in which a plugin would mount), a view, a target root.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use lazarette_linux::mount::{DetachedMount, Expected, Lookup, MountError, clone_tree_verified};
use lazarette_linux::mountinfo::MountRow;
use lazarette_linux::namespace::{Inside, MountNamespace, NamespaceError};
use lazarette_linux::view::{Sharing, TargetRoot, View};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};

pub(crate) struct Fixture {
    /// Where all paths lie. The same in every namespace.
    pub(crate) directory: PathBuf,
    /// Where the plugin mounts.
    pub(crate) source: PathBuf,
    pub(crate) plugin: MountNamespace,
    pub(crate) view: View,
    pub(crate) root: TargetRoot,
    _directory: tempfile::TempDir,
}

pub(crate) fn is_root() -> bool {
    if rustix::process::geteuid().is_root() {
        return true;
    }
    println!("skipped: needs root");
    false
}

pub(crate) fn namespace() -> MountNamespace {
    MountNamespace::create(|_| Ok::<_, NamespaceError>(())).unwrap()
}

impl Fixture {
    pub(crate) fn new() -> Option<Self> {
        Self::with(Sharing::Shared, Lookup::Auto)
    }

    pub(crate) fn with(sharing: Sharing, lookup: Lookup) -> Option<Self> {
        if !is_root() {
            return None;
        }
        let temporary = tempfile::tempdir().unwrap();
        let directory = temporary.path().canonicalize().unwrap();
        let source = directory.join("source");
        std::fs::create_dir(&source).unwrap();
        let view = View::open_by(namespace(), &directory.join("staging"), lookup).unwrap();
        let root = view.target_root(&directory.join("mnt"), sharing).unwrap();
        Some(Self {
            source,
            plugin: namespace(),
            view,
            root,
            directory,
            _directory: temporary,
        })
    }

    /// Runs `work` in the storage container.
    pub(crate) fn in_plugin<T: Send>(&self, work: impl FnOnce(&Inside) -> T + Send) -> T {
        self.plugin.enter(work).unwrap()
    }

    /// Runs `work` in the view.
    pub(crate) fn in_view<T: Send>(&self, work: impl FnOnce(&Inside) -> T + Send) -> T {
        self.view.namespace().enter(work).unwrap()
    }

    /// Mounts a new tmpfs in the storage container with a file `name` in it that holds `name`.
    pub(crate) fn tmpfs(&self, name: &str) -> DetachedMount {
        self.in_plugin(|_| {
            mount_tmpfs(&self.source);
            std::fs::write(self.source.join(name), name).unwrap();
            clone_tree_verified(&self.source, &tmpfs()).unwrap()
        })
    }

    /// The path of a target in the view.
    pub(crate) fn target(&self, relative: &str) -> PathBuf {
        self.root.path().join(relative)
    }

    /// The mounts in the view at or below `relative`.
    pub(crate) fn rows(&self, relative: &str) -> Vec<MountRow> {
        let table = self.view.mount_table().unwrap();
        table.below(&self.target(relative)).cloned().collect()
    }

    /// Reads a file below a target, in the view.
    pub(crate) fn read(&self, relative: &str) -> std::io::Result<String> {
        self.in_view(|_| std::fs::read_to_string(self.target(relative)))
    }

    /// Nothing is mounted or left below the target root, nor in the staging directory.
    pub(crate) fn assert_clean(&self) {
        let table = self.view.mount_table().unwrap();
        let left: Vec<_> = table
            .rows
            .iter()
            .filter(|row| row.target.starts_with(&self.directory))
            .filter(|row| row.source != OsStr::new("lazarette"))
            .collect();
        assert_eq!(left, Vec::<&MountRow>::new(), "mounts are left over");
        let names = self.in_view(|_| names(self.root.path()));
        assert_eq!(names, Vec::<String>::new(), "directories are left over");
    }
}

pub(crate) fn tmpfs() -> Expected {
    Expected::types(["tmpfs"])
}

pub(crate) fn mount_tmpfs(path: &Path) {
    mount("plugin", path, "tmpfs", MountFlags::empty(), c"size=4m").unwrap();
}

pub(crate) fn share(path: &Path) {
    mount_change(path, MountPropagationFlags::SHARED).unwrap();
}

pub(crate) fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

pub(crate) fn errno<T: std::fmt::Debug>(result: std::io::Result<T>) -> i32 {
    result.unwrap_err().raw_os_error().unwrap()
}

pub(crate) fn system_errno(error: &MountError) -> i32 {
    match error {
        MountError::System { source, .. } => source.raw_os_error().unwrap(),
        other => panic!("not a refusal of the kernel: {other}"),
    }
}
