//! An SSH server of the world on a loopback address, with an account's key.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Context, Result};

use super::eventually;
use super::process::{self, limited, succeeded};
use super::programs::in_path;

/// Its address.
pub const ADDRESS: &str = "127.1.1.2";
/// Its port.
pub const PORT: u16 = 2022;
/// Where core looks for the secrets of contexts.
const SECRETS: &str = "/etc/lazarette/secrets";

/// The server.
pub struct Sshd {
    base: PathBuf,
    child: Option<Child>,
}

/// What this machine lacks for one, if anything.
pub fn missing() -> Option<String> {
    let programs = ["sshfs", "ssh", "ssh-keygen", "sshd"];
    let absent = programs.iter().find(|name| in_path(name).is_none());
    let why = absent.map(|name| format!("needs {name} (Debian packages sshfs, openssh-server)"));
    let fuse = || (!Path::new("/dev/fuse").exists()).then(|| "needs /dev/fuse".to_owned());
    why.or_else(fuse)
}

impl Sshd {
    /// One below `base`, not started; `/etc/lazarette` is a private one from here on.
    ///
    /// # Errors
    /// When its keys cannot be made.
    pub fn new(base: &Path) -> Result<Self> {
        let base = base.join("sshd");
        fs::create_dir_all(base.join("files"))?;
        fs::create_dir_all("/etc/lazarette")?;
        let flags = rustix::mount::MountFlags::NOSUID | rustix::mount::MountFlags::NODEV;
        rustix::mount::mount("tmpfs", "/etc/lazarette", "tmpfs", flags, Some(c"mode=755"))?;
        // The server's own directory, which it insists on.
        fs::create_dir_all("/run/sshd")?;
        for key in ["host", "user"] {
            let made = limited(60, "ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-C", key, "-f"])
                .arg(base.join(key))
                .output()?;
            succeeded("ssh-keygen", &made)?;
        }
        fs::copy(base.join("user.pub"), base.join("authorized"))?;
        let config = format!(
            "ListenAddress {ADDRESS}:{PORT}\nHostKey {0}/host\nAuthorizedKeysFile {0}/authorized\n\
             PidFile none\nUsePAM no\nStrictModes no\nPermitRootLogin prohibit-password\n\
             PasswordAuthentication no\nSubsystem sftp internal-sftp\n",
            base.display()
        );
        fs::write(base.join("config"), config)?;
        Ok(Self { base, child: None })
    }

    /// Starts it and waits until it listens.
    ///
    /// # Errors
    /// When it does not.
    pub fn start(&mut self) -> Result<()> {
        let path = in_path("sshd").context("no sshd")?;
        let mut command = Command::new(path);
        command
            .arg("-D")
            .arg("-e")
            .arg("-f")
            .arg(self.base.join("config"));
        self.child = Some(process::daemon(command, &self.base.join("log"))?);
        let listens = || Ok(std::net::TcpStream::connect((ADDRESS, PORT)).is_ok());
        eventually("sshd listens", Duration::from_secs(20), listens)
            .map(drop)
            .with_context(|| fs::read_to_string(self.base.join("log")).unwrap_or_default())
    }

    /// Ends it and the connections that it serves.
    ///
    /// # Errors
    /// When it does not run.
    pub fn stop(&mut self) -> Result<()> {
        let mut child = self.child.take().context("sshd does not run")?;
        for session in process::children(i32::try_from(child.id())?)? {
            // One may end by itself meanwhile.
            let _ = process::signal(session, rustix::process::Signal::KILL);
        }
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Where the files are that volumes lie in.
    pub fn files(&self) -> PathBuf {
        self.base.join("files")
    }

    /// Gives `context` its secrets: the account's key, and who the server is.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn trust(&self, context: &str) -> Result<()> {
        let secrets = Path::new(SECRETS).join(context);
        fs::create_dir_all(&secrets)?;
        fs::copy(self.base.join("user"), secrets.join("key"))?;
        let host = fs::read_to_string(self.base.join("host.pub"))?;
        let known = format!("[{ADDRESS}]:{PORT} {host}");
        Ok(fs::write(secrets.join("known_hosts"), known)?)
    }
}
