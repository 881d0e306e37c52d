//! Healing: a new mount in the place of a dead one, without a moment in which nothing is mounted.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, UnmountFlags, move_mount};

use super::session::{BY_FD, unmount_child};
use super::{CheckedMount, TargetRoot};
use crate::beneath;
use crate::mount::{
    DetachedMount, Expected, Lookup, MountError, MountFacts, MountOptions, facts_of, make_private,
    system,
};
use crate::mountinfo::Device;
use crate::namespace::{Inside, MountNamespace, NamespaceError};

/// `MOVE_MOUNT_BENEATH`, Linux 6.5; rustix does not name it yet.
pub(crate) const BENEATH: MoveMountFlags = MoveMountFlags::from_bits_retain(0x200);
/// How long entering the mount that is to be replaced may take.
const LIMIT: Duration = Duration::from_secs(3);

/// How a mount came into the place of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Beneath the old one, which was then taken away: there always was a mount.
    Beneath,
    /// After the old one was taken away; for a moment nothing was mounted. For kernels before 6.5,
    /// and when the old one's server does not even answer to being entered.
    Swapped,
    /// Nothing was mounted there.
    Attached,
}

/// A mount that took the place of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replaced {
    /// How.
    pub way: Way,
    /// What is mounted now.
    pub facts: MountFacts,
}

impl TargetRoot {
    /// Puts `mount` in the place of what is mounted at `relative`. Processes that look the path up
    /// again find the new mount; files they have open stay on the old one.
    ///
    /// # Errors
    /// As [`TargetRoot::attach`], but for [`MountError::Occupied`].
    pub fn replace(
        &self,
        relative: &Path,
        mount: DetachedMount,
        expected: &Expected,
        options: MountOptions,
    ) -> Result<Replaced, MountError> {
        beneath::check_relative(relative)?;
        let path = self.path().join(relative);
        if !self.is_mounted(relative)? {
            let attachment = self.attach(relative, mount, expected, options)?;
            return Ok(Replaced {
                way: Way::Attached,
                facts: attachment.facts().clone(),
            });
        }
        let mount = self.view().check(mount, expected, options)?;
        let (parent, name) = beneath::open_parent(self.fd(), relative)
            .map_err(system(&path, "opening the parent of the target"))?;
        let job = Arc::new(Replacement {
            mount: mount.into_detached(),
            parent: Some(parent),
            name: name.to_owned(),
            replaces: None,
            abandoned: Mutex::new(false),
        });
        let facts = match job.run_in(self.view().namespace(), &path) {
            Ok(facts) => {
                return Ok(Replaced {
                    way: Way::Beneath,
                    facts,
                });
            }
            Err(error) if may_swap(&error) => self.swap(relative, &path, job)?,
            Err(error) => return Err(error),
        };
        Ok(Replaced {
            way: Way::Swapped,
            facts,
        })
    }

    /// Takes the old mount away and attaches the new one. A directory of ours stays read-only in
    /// between.
    fn swap(
        &self,
        relative: &Path,
        path: &Path,
        job: Arc<Replacement>,
    ) -> Result<MountFacts, MountError> {
        let (root, relative, path) = (self.clone(), relative.to_owned(), path.to_owned());
        self.view().run(move |session| {
            let parent = job.parent.as_ref().expect("the parent was opened before");
            unmount_child(parent, job.name.as_os_str(), UnmountFlags::DETACH)
                .map_err(system(&path, "taking the old mount away"))?;
            let target = root
                .open_target(&relative)
                .map_err(system(&path, "opening the target"))?;
            move_mount(&job.mount, "", &target, "", BY_FD)
                .map_err(system(&path, "moving the mount to its target"))?;
            make_private(&job.mount).map_err(system(&path, "making the mount private"))?;
            session
                .facts(&job.mount)
                .map_err(system(&path, "looking up the mount in its place"))
        })
    }
}

/// Whether the old mount can still be swapped after `MOVE_MOUNT_BENEATH` did not come about.
fn may_swap(error: &MountError) -> bool {
    match error {
        MountError::Stuck { .. } => true,
        MountError::System { source, .. } => {
            // Unknown flag (before 6.5), or an old mount that cannot even be opened.
            matches!(
                source.raw_os_error(),
                Some(libc::EINVAL | libc::ESTALE | libc::EIO | libc::ENOTCONN | libc::EACCES)
            )
        }
        _ => false,
    }
}

/// Placing a mount beneath the one at the top of a path, and taking that one away.
pub(super) struct Replacement {
    pub(super) mount: DetachedMount,
    /// The directory that holds `name`; `None`: `name` is an absolute path of the namespace.
    pub(super) parent: Option<OwnedFd>,
    pub(super) name: std::path::PathBuf,
    /// The device of what is to be replaced, if that is known.
    pub(super) replaces: Option<Device>,
    /// Set when nobody waits any more: a late thread must not touch what has been mounted since.
    pub(super) abandoned: Mutex<bool>,
}

impl Replacement {
    /// Does it in an expendable thread inside `namespace`.
    pub(super) fn run_in(
        self: &Arc<Self>,
        namespace: &MountNamespace,
        path: &Path,
    ) -> Result<MountFacts, MountError> {
        let (job, shown) = (Arc::clone(self), path.to_owned());
        match namespace.enter_for(LIMIT, move |inside| job.run(inside, &shown)) {
            Ok(result) => result,
            Err(error) => {
                // From here on the thread, should it ever go on, does nothing.
                *self
                    .abandoned
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner) = true;
                Err(give_up(error, path))
            }
        }
    }

    fn run(&self, inside: &Inside, path: &Path) -> Result<MountFacts, MountError> {
        let (parent, name) = self
            .open_parent()
            .map_err(system(path, "opening the parent of the target"))?;
        // The one system call here that may ask the old mount's server.
        let top = beneath::open_mounted(&parent, name)
            .map_err(system(path, "entering the mount to be replaced"))?;
        let abandoned = self
            .abandoned
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if *abandoned {
            return Err(MountError::Stuck {
                target: path.to_owned(),
            });
        }
        let look = |fd: &dyn std::os::fd::AsFd| {
            facts_of(fd.as_fd(), Lookup::Auto, || inside.mount_table())
                .map_err(system(path, "looking up the mount"))
        };
        let old = look(&top)?;
        if self.replaces.is_some_and(|device| device != old.device) || old.target != path {
            return Err(MountError::Occupied {
                target: path.to_owned(),
                by: format!("another mount of type {}", old.fs_type.to_string_lossy()),
            });
        }
        move_mount(&self.mount, "", &top, "", BY_FD | BENEATH)
            .map_err(system(path, "moving the new mount beneath the old one"))?;
        drop(top);
        make_private(&self.mount).map_err(system(path, "making the mount private"))?;
        match unmount_child(&parent, name.as_os_str(), UnmountFlags::empty()) {
            Err(Errno::BUSY) => unmount_child(&parent, name.as_os_str(), UnmountFlags::DETACH),
            result => result,
        }
        .map_err(system(path, "taking the old mount away"))?;
        look(&self.mount)
    }

    fn open_parent(&self) -> rustix::io::Result<(OwnedFd, &Path)> {
        let name = self.name.file_name().map(Path::new).ok_or(Errno::INVAL)?;
        match &self.parent {
            Some(parent) => Ok((rustix::io::fcntl_dupfd_cloexec(parent, 3)?, name)),
            None => {
                let parent = self.name.parent().ok_or(Errno::INVAL)?;
                Ok((beneath::open_absolute(parent)?, name))
            }
        }
    }
}

fn give_up(error: NamespaceError, path: &Path) -> MountError {
    if error.is_timeout() {
        return MountError::Stuck {
            target: path.to_owned(),
        };
    }
    error.into()
}

/// Replaces the mount at `target` in the namespace of a running container; see
/// [`super::replace_in_process`].
pub(super) fn replace_in(
    namespace: &MountNamespace,
    target: &Path,
    mount: CheckedMount,
    replaces: Option<Device>,
) -> Result<Replaced, MountError> {
    let job = Arc::new(Replacement {
        mount: mount.into_detached(),
        parent: None,
        name: target.to_owned(),
        replaces,
        abandoned: Mutex::new(false),
    });
    let facts = job.run_in(namespace, target)?;
    Ok(Replaced {
        way: Way::Beneath,
        facts,
    })
}
