//! Work inside the view's thread: staging, verifying, attaching.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, UnmountFlags, move_mount, unmount};

use super::container::CheckedMount;
use super::target_root::{Prepared, TargetRoot};
use super::{find_ours, mount_tmpfs};
use crate::beneath;
use crate::mount::{
    DetachedMount, Expected, Lookup, MountError, MountFacts, MountOptions, constrain, facts_of,
    make_private, system,
};
use crate::mountinfo::{MountRow, MountTable};
use crate::namespace::Inside;

/// Both ends of a move are named by descriptors.
pub(super) const BY_FD: MoveMountFlags =
    MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH.union(MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH);

/// A mount in the view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    /// What is mounted, and where.
    pub facts: MountFacts,
}

/// What attaching came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attachment {
    /// It is mounted now.
    Attached(Attached),
    /// The same part of the same file system was mounted there already, with the same options; the
    /// mount that was handed in has been dropped.
    AlreadyAttached(Attached),
}

impl Attachment {
    /// The mount, whichever way it came there.
    pub fn facts(&self) -> &MountFacts {
        match self {
            Self::Attached(attached) | Self::AlreadyAttached(attached) => &attached.facts,
        }
    }
}

/// Makes sure that a tmpfs of ours is mounted at `staging`, and takes away the mounts that a process
/// which died in the middle of a hand-off left below it.
pub(super) fn prepare_staging(inside: &Inside, staging: &Path) -> Result<(), MountError> {
    let Some(root) = find_ours(inside, staging)? else {
        return mount_tmpfs(staging, "0700", false);
    };
    let directory = beneath::open_absolute(staging)
        .map_err(system(staging, "opening the staging directory"))?;
    let table = inside
        .mount_table()
        .map_err(system(staging, "reading the mount table"))?;
    for row in &table.rows {
        if row.parent != root.table_id || row.target == staging {
            continue;
        }
        if let Some(name) = row.target.file_name() {
            clear(&directory, name)
                .map_err(system(&row.target, "taking away an unfinished hand-off"))?;
            // Left-over directories do no harm.
            let _ = rustix::fs::unlinkat(&directory, name, rustix::fs::AtFlags::REMOVEDIR);
        }
    }
    Ok(())
}

/// Unmounts all that is mounted on `name` in `parent`.
fn clear(parent: &impl AsFd, name: &OsStr) -> Result<(), Errno> {
    loop {
        match unmount_child(parent, name, UnmountFlags::DETACH) {
            Ok(()) => {}
            // Not, or no longer, a mount point.
            Err(Errno::INVAL) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// Unmounts `name` in `parent` without asking what is mounted there: the last part of the path is
/// not looked into. The thread, whose working directory is its own, moves to `parent`.
pub(super) fn unmount_child(
    parent: &impl AsFd,
    name: &OsStr,
    flags: UnmountFlags,
) -> Result<(), Errno> {
    rustix::process::fchdir(parent)?;
    unmount(Path::new(name), flags | UnmountFlags::NOFOLLOW)
}

/// The state of the thread that stays in the view.
#[derive(Debug)]
pub struct Session {
    inside: Inside,
    staging: OwnedFd,
    /// Where mounts are looked at; its own for every thread, should an older one hang.
    name: String,
    incoming: OwnedFd,
    lookup: Lookup,
}

impl Session {
    pub(super) fn new(inside: Inside, staging: &Path, lookup: Lookup) -> Result<Self, MountError> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let failed = |action| system::<Errno>(staging, action);
        let directory =
            beneath::open_absolute(staging).map_err(failed("opening the staging directory"))?;
        let name = format!(
            "{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        match rustix::fs::mkdirat(&directory, &name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(failed("making a staging directory")(error)),
        }
        let incoming = beneath::open_directory(&directory, Path::new(&name))
            .map_err(failed("opening the staging directory"))?;
        Ok(Self {
            inside,
            staging: directory,
            name,
            incoming,
            lookup,
        })
    }

    pub(super) fn inside(&self) -> &Inside {
        &self.inside
    }

    /// The mount table of the view.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn table(&self) -> Result<MountTable, MountError> {
        self.inside
            .mount_table()
            .map_err(system(Path::new("/"), "reading the mount table"))
    }

    /// Attaches `mount` at `relative` below `root`, making the directory if need be: see
    /// [`TargetRoot::attach`].
    ///
    /// # Errors
    /// As [`TargetRoot::attach`].
    pub fn attach(
        &self,
        root: &TargetRoot,
        relative: &Path,
        mount: DetachedMount,
        expected: &Expected,
        options: MountOptions,
    ) -> Result<Attachment, MountError> {
        beneath::check_relative(relative)?;
        let path = root.path().join(relative);
        let staged = self.stage(&path, mount, expected, options)?;
        let (target, prepared) = match root.open_target(relative) {
            Ok(target) => (target, Prepared::AlreadyThere),
            Err(Errno::NOENT) => {
                let prepared = root.prepare(relative)?;
                let target = root
                    .open_target(relative)
                    .map_err(system(&path, "opening the target"))?;
                (target, prepared)
            }
            Err(Errno::XDEV) => return self.already(&path, &staged),
            Err(error) => return Err(system(&path, "opening the target")(error)),
        };
        let placed = Self::place(root, &path, staged, &target);
        if placed.is_err() && prepared == Prepared::Created {
            // Best effort: the first error is the one to report.
            let _ = root.remove_here(relative);
        }
        placed.map(|facts| Attachment::Attached(Attached { facts }))
    }

    /// Constrains `mount`, and attaches and checks it where nobody looks.
    pub(super) fn stage(
        &self,
        path: &Path,
        mount: DetachedMount,
        expected: &Expected,
        options: MountOptions,
    ) -> Result<Staged<'_>, MountError> {
        constrain(&mount, options).map_err(system(path, "setting nosuid and nodev"))?;
        move_mount(&mount, "", &self.incoming, "", BY_FD)
            .map_err(system(path, "attaching to the staging directory"))?;
        let mut staged = Staged {
            session: self,
            mount: Some(mount),
            facts: None,
        };
        let facts = self
            .facts(staged.fd())
            .map_err(system(path, "looking up the mount"))?;
        expected.check(path, &facts)?;
        staged.facts = Some(facts);
        Ok(staged)
    }

    /// Moves a staged mount to `target`, which was opened below `root`. Whatever is renamed there
    /// meanwhile, the directory stays on that tmpfs, and so does the mount.
    fn place(
        root: &TargetRoot,
        path: &Path,
        staged: Staged<'_>,
        target: &OwnedFd,
    ) -> Result<MountFacts, MountError> {
        move_mount(staged.fd(), "", target, "", BY_FD)
            .map_err(system(path, "moving the mount to its target"))?;
        let (mount, mut facts) = staged.into_placed();
        if root.is_shared() {
            // Placing it below a shared mount has made it shared.
            make_private(&mount).map_err(system(path, "making the mount private"))?;
        }
        path.clone_into(&mut facts.target);
        Ok(facts)
    }

    pub(super) fn facts(&self, mount: &impl AsFd) -> std::io::Result<MountFacts> {
        facts_of(mount, self.lookup, || self.inside.mount_table())
    }

    /// The target is taken: fine if by the same thing.
    fn already(&self, path: &Path, staged: &Staged<'_>) -> Result<Attachment, MountError> {
        let table = self.table()?;
        let Some(row) = table.top_at(path) else {
            return Err(MountError::BadPath {
                path: path.to_owned(),
                reason: "it lies inside another mount",
            });
        };
        let there = MountFacts::of_row(row);
        if staged.is_same(&there) {
            return Ok(Attachment::AlreadyAttached(Attached { facts: there }));
        }
        Err(MountError::Occupied {
            target: path.to_owned(),
            by: describe(row),
        })
    }

    pub(super) fn check(
        &self,
        mount: DetachedMount,
        expected: &Expected,
        options: MountOptions,
    ) -> Result<CheckedMount, MountError> {
        let path = Path::new("(received mount)");
        let staged = self.stage(path, mount, expected, options)?;
        let clone = DetachedMount::clone_tree(staged.fd())
            .map_err(system(path, "cloning the checked mount"))?;
        Ok(CheckedMount::new(clone, staged.known().clone()))
    }
}

/// `nfs4 (nas:/media)`.
fn describe(row: &MountRow) -> String {
    let fs_type = row.fs_type.to_string_lossy();
    let source = row.source.to_string_lossy();
    format!("{fs_type} ({})", source.escape_debug())
}

/// A mount in the staging directory; dropping it takes the mount away.
#[derive(Debug)]
pub(super) struct Staged<'a> {
    session: &'a Session,
    mount: Option<DetachedMount>,
    facts: Option<MountFacts>,
}

impl Staged<'_> {
    pub(super) fn fd(&self) -> &DetachedMount {
        self.mount
            .as_ref()
            .expect("a staged mount is there until it is placed")
    }

    pub(super) fn known(&self) -> &MountFacts {
        self.facts
            .as_ref()
            .expect("a staged mount is handed out after it was looked up")
    }

    /// Whether `there` shows the same part of the same file system in the same way.
    fn is_same(&self, there: &MountFacts) -> bool {
        let ours = self.known();
        ours.device == there.device
            && ours.root == there.root
            && ours.fs_type == there.fs_type
            && ours.read_only == there.read_only
            && there.no_suid
            && there.no_dev
    }

    /// It was moved out of the staging directory.
    pub(super) fn into_placed(mut self) -> (DetachedMount, MountFacts) {
        let mount = self.mount.take();
        let facts = self.facts.take();
        (
            mount.expect("a staged mount is there until it is placed"),
            facts.expect("a staged mount is handed out after it was looked up"),
        )
    }
}

impl Drop for Staged<'_> {
    fn drop(&mut self) {
        if self.mount.is_none() {
            return;
        }
        let name = PathBuf::from(&self.session.name);
        let gone = unmount_child(
            &self.session.staging,
            name.as_os_str(),
            UnmountFlags::DETACH,
        );
        if let Err(error) = gone {
            tracing::error!(%error, "a refused mount cannot be taken out of the staging directory");
        }
    }
}
