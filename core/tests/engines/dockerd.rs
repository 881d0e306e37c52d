//! A dockerd of one's own: nothing outside of a temporary directory and a mount namespace.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Waits until `condition` holds.
pub(crate) fn eventually(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

pub(crate) struct Dockerd {
    directory: TempDir,
    process: Option<Child>,
}

impl Dockerd {
    /// A running one with the image `busybox`; none, with the reason printed, where it cannot be.
    pub(crate) fn start() -> Option<Self> {
        if let Some(why) = missing() {
            println!("skipped: {why}");
            return None;
        }
        let mut docker = Self {
            directory: tempfile::Builder::new()
                .prefix("laz-engines-")
                .tempdir()
                .unwrap(),
            process: None,
        };
        fs::create_dir(docker.plugins()).unwrap();
        fs::write(docker.path("daemon.json"), "{}").unwrap();
        docker.run();
        docker.import("busybox", &[], None);
        Some(docker)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path("docker.sock")
    }

    /// What this dockerd sees as /run/docker/plugins.
    pub(crate) fn plugins(&self) -> PathBuf {
        self.path("plugins")
    }

    pub(crate) fn pid(&self) -> i32 {
        self.process.as_ref().unwrap().id().try_into().unwrap()
    }

    /// Starts (again) and waits until it answers.
    pub(crate) fn run(&mut self) {
        let root = self.directory.path().display();
        let script = format!(
            "set -e; mkdir -p /run/docker/plugins; mount --bind {root}/plugins /run/docker/plugins
             exec dockerd --config-file {root}/daemon.json --data-root {root}/data --exec-root {root}/exec \
               --pidfile {root}/pid -H unix://{root}/docker.sock --bridge=none --iptables=false \
               --ip6tables=false --storage-driver=vfs --exec-opt native.cgroupdriver=cgroupfs \
               --shutdown-timeout 1"
        );
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.path("log"))
            .unwrap();
        let process = Command::new("unshare")
            .args(["-m", "--propagation", "private", "sh", "-c", &script])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.process = Some(process);
        let log = self.path("log");
        eventually("dockerd answers", Duration::from_secs(60), || {
            let ended = self.process.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "{}", fs::read_to_string(&log).unwrap());
            self.docker(&["version"]).status.success()
        });
    }

    /// kill -9. Its containerd dies with it; the containers and their shims live on.
    pub(crate) fn kill(&mut self) {
        let mut process = self.process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
        let pid_file = self.path("exec/containerd/containerd.pid");
        let containerd = fs::read_to_string(&pid_file).unwrap();
        eventually("containerd ends", Duration::from_secs(10), || {
            let stat = fs::read_to_string(format!("/proc/{}/stat", containerd.trim()));
            stat.map_or(true, |stat| stat.contains(") Z "))
        });
        // Where nobody reaps it, dockerd would wait for the dead one to answer.
        fs::remove_file(pid_file).unwrap();
    }

    /// `docker ARGUMENTS` on this dockerd.
    pub(crate) fn docker(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command
            .arg("-H")
            .arg(format!("unix://{}", self.socket().display()))
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    /// The same, which must succeed; its output.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let output = self.docker(arguments);
        assert!(output.status.success(), "docker {arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// The same, which must fail; what it says.
    pub(crate) fn fails(&self, arguments: &[&str]) -> String {
        let output = self.docker(arguments);
        assert!(!output.status.success(), "docker {arguments:?}: {output:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    /// Makes an image of a static busybox, with labels and with `program` as /bin/laz-plugin-host.
    /// Its identity.
    pub(crate) fn import(
        &self,
        tag: &str,
        labels: &[(&str, &str)],
        program: Option<&str>,
    ) -> String {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let root = tempfile::tempdir_in(self.directory.path()).unwrap();
        let bin = root.path().join("bin");
        fs::create_dir(&bin).unwrap();
        fs::copy(busybox().unwrap(), bin.join("busybox")).unwrap();
        for applet in [
            "sh", "cat", "sleep", "touch", "true", "mount", "grep", "id", "stat", "kill",
        ] {
            symlink("busybox", bin.join(applet)).unwrap();
        }
        if let Some(program) = program {
            let path = bin.join("laz-plugin-host");
            fs::write(&path, program).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let archive = Command::new("tar")
            .arg("-C")
            .arg(root.path())
            .args(["-c", "."])
            .output();
        let mut import = vec!["import".to_owned()];
        for (name, value) in labels {
            import.extend(["--change".into(), format!("LABEL {name}='{value}'")]);
        }
        if program.is_some() {
            let entry = r#"ENTRYPOINT ["/bin/laz-plugin-host"]"#;
            import.extend(["--change".into(), entry.into()]);
        }
        import.extend(["-".into(), tag.into()]);
        let import: Vec<_> = import.iter().map(String::as_str).collect();
        let mut child = self.command(&import);
        child.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = child.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(&archive.unwrap().stdout).unwrap();
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        self.end();
        self.kill_leftovers();
    }
}

impl Dockerd {
    fn end(&mut self) {
        let Some(mut process) = self.process.take() else {
            return;
        };
        let containers = self.docker(&["ps", "-aq"]).stdout;
        let containers = String::from_utf8_lossy(&containers);
        let mut remove = vec!["rm", "-f"];
        remove.extend(containers.split_whitespace());
        if remove.len() > 2 {
            self.docker(&remove);
        }
        let pid = rustix::process::Pid::from_child(&process);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        for _ in 0..100 {
            if matches!(process.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        println!("dockerd {} did not end by itself", process.id());
        let _ = process.kill();
        let _ = process.wait();
    }

    /// Kills what a killed dockerd has left: shims that name our directory, and their children.
    fn kill_leftovers(&self) {
        use rustix::process::{Pid, Signal, kill_process};
        let ours = self.directory.path().to_string_lossy().into_owned();
        let mut parents = Vec::new();
        let mut shims = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok())
            else {
                continue;
            };
            let read = |file: &str| fs::read_to_string(entry.path().join(file)).unwrap_or_default();
            if read("cmdline").contains(&ours) {
                shims.push(pid);
            }
            let stat = read("stat");
            let parent = stat
                .rsplit(')')
                .next()
                .and_then(|rest| rest.split(' ').nth(2)?.parse().ok());
            parents.push((pid, parent.unwrap_or(0)));
        }
        let children = parents.iter().filter(|(_, parent)| shims.contains(parent));
        for &pid in children.map(|(pid, _)| pid).chain(&shims) {
            println!("process {pid} of this dockerd was left over");
            if let Some(pid) = Pid::from_raw(pid) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }
}

fn missing() -> Option<String> {
    if !is_root() {
        return Some("needs root to run a dockerd".into());
    }
    for program in ["dockerd", "docker", "unshare", "tar"] {
        if in_path(program).is_none() {
            return Some(format!("needs {program} in the PATH"));
        }
    }
    if busybox().is_none() {
        return Some("needs a static busybox in the PATH (Debian package busybox-static)".into());
    }
    None
}

/// A busybox that runs without any library.
fn busybox() -> Option<PathBuf> {
    let path = in_path("busybox")?;
    let ldd = Command::new("ldd").arg(&path).output().ok()?;
    let said = [ldd.stdout, ldd.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let is_static = said.contains("not a dynamic") || said.contains("statically linked");
    is_static.then_some(path)
}

fn in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").ok()?;
    let found = path
        .split(':')
        .map(|directory| Path::new(directory).join(program));
    found.into_iter().find(|path| path.is_file())
}
