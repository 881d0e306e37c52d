//! Files as block devices (feature `loop`), for tests and for the example plugin.

use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use loopdev::LoopControl;

/// How often attaching is tried: between finding a free device and taking it, others may be faster.
const TRIES: u32 = 50;

/// A loop device with a file attached. Dropping it detaches nothing: call [`LoopDevice::detach`].
#[derive(Debug)]
pub struct LoopDevice {
    device: loopdev::LoopDevice,
    path: PathBuf,
    file: PathBuf,
}

/// A loop device that could not be attached or detached.
#[derive(Debug, thiserror::Error)]
#[error("{file:?}: {action} failed; loop devices need root and /dev/loop-control")]
pub struct LoopError {
    /// The backing file.
    pub file: PathBuf,
    /// What was tried.
    pub action: &'static str,
    /// Why it failed.
    #[source]
    pub source: io::Error,
}

impl LoopDevice {
    /// Attaches `file` to a free device.
    ///
    /// # Errors
    /// When there is no such file, no right, or no device became free.
    pub fn attach(file: &Path) -> Result<Self, LoopError> {
        let fail = |action| {
            move |source| LoopError {
                file: file.to_owned(),
                action,
                source,
            }
        };
        let control = LoopControl::open().map_err(fail("opening /dev/loop-control"))?;
        let mut attempt = 1;
        loop {
            let device = control
                .next_free()
                .map_err(fail("finding a free loop device"))?;
            match device.attach_file(file) {
                Ok(()) => {
                    let path = device.path().ok_or_else(|| {
                        fail("naming the loop device")(io::ErrorKind::NotFound.into())
                    })?;
                    return Ok(Self {
                        device,
                        path,
                        file: file.to_owned(),
                    });
                }
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) && attempt < TRIES => {
                    attempt += 1;
                    thread::sleep(Duration::from_millis(10));
                }
                Err(error) => return Err(fail("attaching to a loop device")(error)),
            }
        }
    }

    /// The device's path, such as `/dev/loop3`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Detaches the file, once nothing uses the device any more.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn detach(self) -> Result<(), LoopError> {
        self.device.detach().map_err(|source| LoopError {
            file: self.file,
            action: "detaching from its loop device",
            source,
        })
    }
}
