//! Every path that init uses, in one place.

use std::path::{Path, PathBuf};

/// Where programs are looked for, in order.
pub const PROGRAM_DIRECTORIES: [&str; 6] = [
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
];

/// The paths of the OS. [`Layout::default`] is the machine's; tests use [`Layout::below`].
#[derive(Debug, Clone)]
pub struct Layout {
    /// `/`, or a directory that stands for it.
    pub root: PathBuf,
}

impl Default for Layout {
    fn default() -> Self {
        Self::below("/")
    }
}

impl Layout {
    /// The layout below a directory that stands for `/`.
    pub fn below(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// An absolute path of the machine, below the root.
    pub fn at(&self, absolute: &str) -> PathBuf {
        self.root.join(absolute.trim_start_matches('/'))
    }

    /// The run directory that core, init and `laz` share.
    pub fn run(&self) -> PathBuf {
        self.at("/run/lazarette")
    }

    /// What init keeps for itself: PID files, notify sockets. Mode 0700.
    pub fn own(&self) -> PathBuf {
        self.at("/run/lazarette/init")
    }

    /// core's state directory; the operator's configuration is in its `conf`.
    pub fn state(&self) -> PathBuf {
        self.at("/var/lib/lazarette")
    }

    /// The sources of the cloud-config as core reads them.
    pub fn config(&self) -> PathBuf {
        self.at("/run/lazarette/config")
    }

    /// The machine-readable record of the boot.
    pub fn record(&self) -> PathBuf {
        self.at("/run/lazarette/boot.json")
    }

    /// Where logs are written.
    pub fn logs(&self) -> PathBuf {
        self.at("/var/log/lazarette")
    }

    /// The pinned mount namespace in which user Docker runs; made by core.
    pub fn view(&self) -> PathBuf {
        self.at("/run/lazarette/view/mnt")
    }

    /// System Docker's socket.
    pub fn system_socket(&self) -> PathBuf {
        self.at("/run/system-docker.sock")
    }

    /// User Docker's socket.
    pub fn user_socket(&self) -> PathBuf {
        self.at("/run/docker.sock")
    }

    /// The cgroup below which each service has its own.
    pub fn cgroup(&self) -> PathBuf {
        self.at("/sys/fs/cgroup/lazarette")
    }

    /// The first program called `name` in [`PROGRAM_DIRECTORIES`].
    pub fn program(&self, name: &str) -> Option<PathBuf> {
        PROGRAM_DIRECTORIES
            .iter()
            .map(|directory| self.at(directory).join(name))
            .find(|path| is_program(path))
    }
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata()
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}
