//! The view: the mount namespace in which users' containers find their storage, and the only way to
//! put a mount there.
//!
//! ```no_run
//! use std::path::Path;
//! use lazarette_linux::mount::{DetachedMount, Expected, MountOptions};
//! use lazarette_linux::namespace::MountNamespace;
//! use lazarette_linux::view::{Rungs, Sharing, View};
//! /// Takes the mount that a plugin host has sent.
//! fn place(mount: DetachedMount) -> Result<(), Box<dyn std::error::Error>> {
//!     let namespace = MountNamespace::create_pinned(Path::new("/run/lazarette/view/mnt"))?;
//!     let view = View::open(namespace, Path::new("/run/lazarette/staging"))?;
//!     let targets = view.target_root(Path::new("/mnt"), Sharing::Shared)?;
//!     let expected = Expected::types(["nfs", "nfs4"]);
//!     targets.attach(Path::new("nas/media"), mount, &expected, MountOptions::default())?;
//!     targets.detach(Path::new("nas/media"), Rungs::default())?;
//!     Ok(())
//! }
//! ```
//!
//! - A [`TargetRoot`] is a tmpfs of ours that is read-only in the view. A directory is on it only
//!   while something is mounted there, so nothing can be written under a missing mount.
//! - Attaching goes through a private staging directory: the mount is made nosuid, nodev and private
//!   first, then looked at where nobody else sees it, and only then moved to its target, by
//!   descriptors on both sides.
//! - Nothing here makes a path system call at or below a volume, with one exception that has a time
//!   limit ([`TargetRoot::replace`] enters the mount it replaces): a dead server cannot stop it.

mod container;
mod detach;
mod replace;
mod session;
mod target_root;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, move_mount,
};

pub use container::{CheckedMount, replace_in_process};
pub use detach::{Detached, Rung, Rungs};
pub(crate) use replace::BENEATH;
pub use replace::{Replaced, Way};
pub use session::{Attached, Attachment, Session};
pub use target_root::{Missing, Prepared, Sharing, TargetRoot};

use crate::beneath;
use crate::mount::{DetachedMount, Expected, Lookup, MountError, MountFacts, MountOptions, system};
use crate::mountinfo::{MountRow, MountTable};
use crate::namespace::{Inside, MountNamespace, OURS, Resident};

/// How long work that cannot block may take at most; passing it means that the kernel hangs.
pub(crate) const LIMIT: Duration = Duration::from_secs(10);

/// The view: a mount namespace with a staging directory, and a thread that stays in it.
#[derive(Debug, Clone)]
pub struct View {
    pub(crate) resident: Arc<Resident<Result<Session, String>>>,
}

impl View {
    /// Makes `namespace` a view: mounts a private tmpfs of mode 0700 at `staging` (made if need be)
    /// in it, unless that is there from before, and takes away what an earlier process left in it.
    ///
    /// # Errors
    /// When the namespace cannot be entered, or `staging` cannot be made or mounted.
    pub fn open(namespace: MountNamespace, staging: &Path) -> Result<Self, MountError> {
        Self::open_by(namespace, staging, Lookup::Auto)
    }

    /// [`View::open`] with a chosen way to look mounts up.
    ///
    /// # Errors
    /// As [`View::open`].
    pub fn open_by(
        namespace: MountNamespace,
        staging: &Path,
        lookup: Lookup,
    ) -> Result<Self, MountError> {
        namespace.enter(|inside| session::prepare_staging(inside, staging))??;
        let staging = staging.to_owned();
        let setup = move |inside| {
            // Told by text: every later job reports it, and errors are not clonable.
            Session::new(inside, &staging, lookup).map_err(|error| error.to_string())
        };
        let view = Self {
            resident: Arc::new(Resident::new(namespace, setup)),
        };
        view.run(|_| Ok(()))?;
        Ok(view)
    }

    /// The namespace.
    pub fn namespace(&self) -> &MountNamespace {
        self.resident.namespace()
    }

    /// The mount table of the view.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn mount_table(&self) -> Result<MountTable, MountError> {
        self.run(Session::table)
    }

    /// The target root at `path` in the view, made if it is not there; found again if it is, also
    /// by another process than the one that made it. The directory `path` is made if need be.
    ///
    /// # Errors
    /// When `path` cannot be made or mounted on.
    pub fn target_root(&self, path: &Path, sharing: Sharing) -> Result<TargetRoot, MountError> {
        let root = TargetRoot::open(self, path, sharing, Missing::Make)?;
        Ok(root.expect("a missing target root is made"))
    }

    /// The target root at `path` in the view, with what `missing` says where there is none; none if
    /// it is left so.
    ///
    /// # Errors
    /// As [`View::target_root`]; [`MountError::BadPath`] when one would cover something
    /// ([`Missing::MakeOnEmpty`]).
    pub fn target_root_if(
        &self,
        path: &Path,
        sharing: Sharing,
        missing: Missing,
    ) -> Result<Option<TargetRoot>, MountError> {
        TargetRoot::open(self, path, sharing, missing)
    }

    /// Looks at `mount` in the staging directory and gives it back as one that may be placed in a
    /// running container by [`replace_in_process`].
    ///
    /// # Errors
    /// When it is not as `expected`.
    pub fn check(
        &self,
        mount: DetachedMount,
        expected: &Expected,
        options: MountOptions,
    ) -> Result<CheckedMount, MountError> {
        let expected = expected.clone();
        self.run(move |session| session.check(mount, &expected, options))
    }

    /// Runs `work` in the thread that stays in the view: several hand-offs for one hop between
    /// threads. `work` must not block on a storage server.
    ///
    /// # Errors
    /// Those of `work`; [`MountError::Namespace`] when it takes longer than ten seconds.
    pub fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Session) -> Result<T, MountError> + Send + 'static,
    ) -> Result<T, MountError> {
        let run = move |session: &Result<Session, String>| match session {
            Ok(session) => work(session),
            Err(reason) => Err(MountError::System {
                path: PathBuf::from("staging directory"),
                action: "opening it",
                hint: "",
                source: std::io::Error::other(reason.clone()),
            }),
        };
        self.resident.run(LIMIT, run)?
    }
}

/// Where in the mount table of a view its target roots are, also those that another process has made.
pub fn target_roots(table: &MountTable) -> impl Iterator<Item = &Path> {
    // Other tmpfs of ours are writable for us.
    let ours = |row: &&MountRow| is_ours(row) && row.has_option("ro");
    table
        .rows
        .iter()
        .filter(ours)
        .map(|row| row.target.as_path())
}

/// Mounts a new tmpfs of ours on the directory at `path` (made if need be) in the namespace of this
/// thread, and returns nothing: it is found again by the mount table, as by any later process.
fn mount_tmpfs(path: &Path, mode: &str, read_only: bool) -> Result<(), MountError> {
    let refused = |action| system::<rustix::io::Errno>(path, action);
    make_directory(path)?;
    let target = beneath::open_absolute(path).map_err(refused("opening the directory"))?;
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).map_err(refused("fsopen tmpfs"))?;
    for (key, value) in [("source", OURS), ("mode", mode), ("size", "1m")] {
        fsconfig_set_string(&context, key, value).map_err(refused("configuring a tmpfs"))?;
    }
    fsconfig_create(&context).map_err(refused("making a tmpfs"))?;
    let mut attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    if read_only {
        attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY;
    }
    let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
        .map_err(refused("mounting a tmpfs"))?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(&mount, "", &target, "", flags).map_err(refused("mounting a tmpfs"))?;
    crate::mount::make_private(&mount).map_err(system(path, "making the tmpfs private"))
}

fn make_directory(path: &Path) -> Result<(), MountError> {
    match beneath::open_absolute(path) {
        Err(rustix::io::Errno::NOENT) => {}
        Ok(_) => return Ok(()),
        Err(error) => return Err(system(path, "opening the directory")(error)),
    }
    let relative = path.strip_prefix("/").unwrap_or(path);
    beneath::check_relative(relative)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open("/", flags, Mode::empty())
        .map_err(system(path, "opening the root directory"))?;
    beneath::make_all(&root, relative).map_err(system(path, "making the directory"))
}

/// The topmost mount at `path`, if it is a tmpfs of ours.
fn find_ours(inside: &Inside, path: &Path) -> Result<Option<MountFacts>, MountError> {
    let table = inside
        .mount_table()
        .map_err(system(path, "reading the mount table"))?;
    let row = table.top_at(path);
    Ok(row.filter(|row| is_ours(row)).map(MountFacts::of_row))
}

fn is_ours(row: &MountRow) -> bool {
    row.source == OURS && row.fs_type == "tmpfs" && row.root == Path::new("/")
}
