//! Taking a mount away: umount, by force if its server keeps that waiting, and (only if told) lazily,
//! each step with a limit.

use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;
use rustix::mount::UnmountFlags;

use super::TargetRoot;
use super::session::unmount_child;
use crate::beneath;
use crate::mount::{MountError, system};

/// How many mounts on top of each other are taken away.
const LAYERS: usize = 64;

/// A step of the ladder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rung {
    /// `umount2` without flags.
    Plain,
    /// With `MNT_FORCE`, and only when the plain one did not come back in time: requests that wait
    /// for a dead server fail. This hits every mount of the same file system instance, so a mount
    /// that is merely in use is never unmounted by force.
    Force,
    /// With `MNT_DETACH`: it disappears from the view at once, and lives on for those who use it.
    Lazy,
}

/// How far to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rungs {
    /// The last step to try.
    pub last: Rung,
    /// How long each step may take.
    pub limit: Duration,
}

impl Default for Rungs {
    /// Up to [`Rung::Force`], five seconds each.
    fn default() -> Self {
        Self {
            last: Rung::Force,
            limit: Duration::from_secs(5),
        }
    }
}

impl Rungs {
    /// Up to `last`, five seconds each.
    pub fn up_to(last: Rung) -> Self {
        Self {
            last,
            ..Self::default()
        }
    }
}

/// What detaching came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detached {
    /// It is gone; this step did it.
    Detached(Rung),
    /// Nothing was mounted there.
    NotMounted,
}

impl TargetRoot {
    /// Takes away what is mounted at `relative`, all layers of it, and removes the directory.
    ///
    /// Each step runs in a thread of its own that is left behind if it hangs (see
    /// [`stuck_threads`](crate::namespace::stuck_threads)). What is mounted is named by its parent
    /// directory, on a tmpfs of ours, and not looked into, so a dead server does not stop this.
    ///
    /// # Errors
    /// [`MountError::Busy`] when it is in use, [`MountError::Stuck`] when its server does not answer,
    /// both after the last step in `rungs`.
    pub fn detach(&self, relative: &Path, rungs: Rungs) -> Result<Detached, MountError> {
        let path = self.path().join(relative);
        let mut done = Detached::NotMounted;
        for _ in 0..LAYERS {
            if !self.is_mounted(relative)? {
                self.remove(relative)?;
                return Ok(done);
            }
            let rung = self.climb(relative, rungs)?;
            done = match (done, rung) {
                (done, None) => done,
                (Detached::Detached(before), Some(rung)) => Detached::Detached(rung.max(before)),
                (Detached::NotMounted, Some(rung)) => Detached::Detached(rung),
            };
        }
        Err(MountError::Busy(path))
    }

    /// Takes away the topmost mount; `None` when it was gone already.
    fn climb(&self, relative: &Path, rungs: Rungs) -> Result<Option<Rung>, MountError> {
        let path = self.path().join(relative);
        let mut stuck = false;
        for rung in [Rung::Plain, Rung::Force, Rung::Lazy] {
            if rung > rungs.last {
                break;
            }
            // Others may use the same file system: their I/O would fail.
            if rung == Rung::Force && !stuck {
                continue;
            }
            match self.step(relative, rung, rungs.limit)? {
                Some(Ok(())) => return Ok(Some(rung)),
                Some(Err(Errno::INVAL | Errno::NOENT)) if !self.is_mounted(relative)? => {
                    return Ok(None);
                }
                Some(Err(Errno::BUSY)) => {}
                Some(Err(error)) => return Err(system(&path, "unmounting")(error)),
                // The kernel takes the mount out of the tree before it talks to the server.
                None if !self.is_mounted(relative)? => return Ok(Some(rung)),
                None => stuck = true,
            }
        }
        Err(if stuck {
            MountError::Stuck { target: path }
        } else {
            MountError::Busy(path)
        })
    }

    /// One `umount2`; `None` when it did not come back in time.
    fn step(
        &self,
        relative: &Path,
        rung: Rung,
        limit: Duration,
    ) -> Result<Option<Result<(), Errno>>, MountError> {
        let flags = match rung {
            Rung::Plain => UnmountFlags::empty(),
            Rung::Force => UnmountFlags::FORCE,
            Rung::Lazy => UnmountFlags::DETACH,
        };
        let path = self.path().join(relative);
        let (parent, name) = beneath::open_parent(self.fd(), relative)
            .map_err(system(&path, "opening the parent of the target"))?;
        let name: &OsStr = name.as_os_str();
        let name = name.to_owned();
        let work = move |_: &_| unmount_child(&parent, &name, flags);
        match self.view().namespace().enter_for(limit, work) {
            Ok(result) => Ok(Some(result)),
            Err(error) if error.is_timeout() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}
