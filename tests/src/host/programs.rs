//! Where the programs under test are.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Names the directory of the built programs; without it, it is that of the suite itself.
pub const BIN_DIR: &str = "LAZARETTE_BIN_DIR";

/// The programs under test.
#[derive(Debug, Clone)]
pub struct Programs {
    /// `laz-core`.
    pub core: PathBuf,
    /// `laz`.
    pub laz: PathBuf,
    /// `laz-plugin-host`.
    pub plugin_host: PathBuf,
    /// The plugin of the kind `hello`.
    pub hello: PathBuf,
    /// The plugin of the kind `gluster`.
    pub gluster: PathBuf,
    /// The plugin of the kind `sshfs`.
    pub sshfs: PathBuf,
    /// The plugin that breaks the contract in a way of one's choice.
    pub misbehaving: PathBuf,
}

impl Programs {
    /// Finds them.
    ///
    /// # Errors
    /// When one has not been built; the message says how.
    pub fn find() -> Result<Self> {
        let directory = directory()?;
        let program = |name: &str| {
            let path = directory.join(name);
            if !path.is_file() {
                bail!(
                    "{} has not been built: cargo build -p lazarette-core -p laz-plugin-host \
                     -p lazarette-hello -p lazarette-gluster -p lazarette-sshfs \
                     -p lazarette-misbehaving -p laz",
                    path.display()
                );
            }
            Ok(path)
        };
        Ok(Self {
            core: program("laz-core")?,
            laz: program("laz")?,
            plugin_host: program("laz-plugin-host")?,
            hello: program("liblazarette_hello.so")?,
            gluster: program("liblazarette_gluster.so")?,
            sshfs: program("liblazarette_sshfs.so")?,
            misbehaving: program("liblazarette_misbehaving.so")?,
        })
    }
}

/// A test's program lies in `target/PROFILE/deps`, the others above that.
fn directory() -> Result<PathBuf> {
    if let Some(directory) = std::env::var_os(BIN_DIR) {
        return Ok(directory.into());
    }
    let suite = std::env::current_exe()?;
    let directory = suite.parent().and_then(Path::parent);
    directory
        .map(Into::into)
        .context("the suite lies in no target directory")
}

/// The first program of that name in the PATH.
pub fn in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|d| d.join(program))
        .find(|p| p.is_file())
}

/// A busybox that runs without any library.
pub fn static_busybox() -> Option<PathBuf> {
    let path = in_path("busybox")?;
    libraries(&path).ok()?.is_empty().then_some(path)
}

/// The shared libraries that `program` needs, the dynamic loader among them.
///
/// # Errors
/// When `ldd` cannot be run, or misses a library.
pub fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd")
        .arg(program)
        .env("LC_ALL", "C")
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    if let Some(line) = text.lines().find(|l| l.contains("not found")) {
        bail!("{}: {}", program.display(), line.trim());
    }
    let paths = text.split_whitespace().filter(|word| word.starts_with('/'));
    Ok(paths.map(PathBuf::from).collect())
}
