//! What `laz-core` is told when it is started.

use std::path::PathBuf;

use clap::Parser;

/// The daemon that hands storage to Docker: reads the cloud-config, runs one container per
/// storage context on the system Docker, and places their mounts in the view of user Docker.
#[derive(Debug, Clone, Parser)]
#[command(name = "laz-core", version)]
pub struct Settings {
    /// The directory with the sources of the cloud-config, merged in the order of their names.
    #[arg(long, value_name = "DIR", default_value = "/run/lazarette/config")]
    pub config: PathBuf,

    /// The file in that directory that is the operator's own; `laz config set` replaces it.
    #[arg(long, value_name = "NAME", default_value = "30-cloud-config.yml")]
    pub operator_source: String,

    /// Where the operator's own cloud-config is kept for the next boot.
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/var/lib/lazarette/conf/cloud-config.yml"
    )]
    pub operator_config: PathBuf,

    /// The directory of the database.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/lazarette")]
    pub state: PathBuf,

    /// The directory of sockets and of what lives as long as the machine is up.
    #[arg(long, value_name = "DIR", default_value = "/run/lazarette")]
    pub run: PathBuf,

    /// The socket of the system Docker, on which storage containers run.
    #[arg(long, value_name = "SOCKET", default_value = "/run/system-docker.sock")]
    pub system_docker: PathBuf,

    /// The socket of the user Docker, which is only looked at.
    #[arg(long, value_name = "SOCKET", default_value = "/run/docker.sock")]
    pub user_docker: PathBuf,

    /// The directory in which user Docker looks for volume plugins.
    #[arg(long, value_name = "DIR", default_value = "/run/docker/plugins")]
    pub plugin_sockets: PathBuf,

    /// The file with the identities of the images that are part of the OS, one a line: their plugins
    /// need no signature. Nobody but root may be able to write it.
    #[arg(
        long,
        value_name = "FILE",
        default_value = crate::built_in::PATH
    )]
    pub built_in_images: PathBuf,

    /// Say READY=1 to $NOTIFY_SOCKET once required volumes are mounted, or their time is up.
    #[arg(long)]
    pub notify: bool,
}

impl Settings {
    /// The control socket.
    pub fn control_socket(&self) -> PathBuf {
        self.run.join("core.sock")
    }

    /// The directory shared with the container of `context`.
    pub fn context_directory(&self, context: &str) -> PathBuf {
        self.run.join("contexts").join(context)
    }

    /// Where the view's mount namespace is pinned.
    pub fn view_pin(&self) -> PathBuf {
        self.run.join("view").join("mnt")
    }
}

/// How long things may take before they are given up.
pub mod limits {
    use std::time::Duration;

    /// How long after core's start a request waits for the images on system Docker to be read.
    pub const KINDS: Duration = Duration::from_secs(15);
    /// Making and starting a storage container.
    pub const START: Duration = Duration::from_secs(60);
    /// How long a storage container may take to close its context when it is stopped.
    pub const GRACE: Duration = Duration::from_secs(10);
    /// Reaching a plugin host, from the start of its container.
    pub const LINK: Duration = Duration::from_secs(30);
    /// Opening or closing a context.
    pub const OPEN: Duration = Duration::from_secs(60);
    /// Making or removing a volume; below Docker's 60 s for a remove.
    pub const CHANGE: Duration = Duration::from_secs(45);
    /// Cloning a volume, bringing it back to a snapshot, giving it another size: data may have to
    /// be copied or moved.
    pub const LONG_CHANGE: Duration = Duration::from_secs(1_800);
    /// How long a request waits for one of these.
    pub const LONG_CHANGE_WAIT: Duration = Duration::from_secs(1_860);
    /// One of a kind's own actions.
    pub const ACT: Duration = Duration::from_secs(24 * 60 * 60);
    /// Looking for storage that no context has.
    pub const SCAN: Duration = Duration::from_secs(60);
    /// Building kernel modules.
    pub const BUILD: Duration = Duration::from_secs(3_600);
    /// Mounting a volume in its container.
    pub const MOUNT: Duration = Duration::from_secs(45);
    /// Placing or taking away a mount in the view.
    pub const VIEW: Duration = Duration::from_secs(20);
    /// A plugin's health report.
    pub const HEALTH: Duration = Duration::from_secs(3);
    /// How long `docker volume create` waits for its context and its volume; Docker hangs up after 120 s.
    pub const CREATE_WAIT: Duration = Duration::from_secs(100);
    /// How long a create waits for a volume of that name to go first: with `CREATE_WAIT` it stays
    /// below the time after which Docker hangs up.
    pub const NAME_WAIT: Duration = Duration::from_secs(15);
    /// How long a container's start waits for a mount that may still come.
    pub const MOUNT_WAIT: Duration = Duration::from_secs(25);
    /// The same in the first minutes of a boot, when networks and servers come up.
    pub const MOUNT_WAIT_AT_BOOT: Duration = Duration::from_secs(100);
    /// How long a boot lasts in that sense.
    pub const BOOT: Duration = Duration::from_secs(180);
    /// How long a remove or unmount waits; Docker hangs up after 60 s.
    pub const REMOVE_WAIT: Duration = Duration::from_secs(50);
    /// How long unmounting and closing everything may take when the machine goes down.
    pub const DRAIN: Duration = Duration::from_secs(20);
    /// How long the boot waits for required volumes if the cloud-config does not say.
    pub const REQUIRED_WAIT: Duration = Duration::from_secs(90);
}
