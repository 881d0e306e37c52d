//! A machine for laz-init: PID 1 of new PID, mount, network, UTS, IPC and cgroup namespaces, with
//! shell scripts in place of the engines and core.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);
static COUNT: AtomicU32 = AtomicU32::new(0);

/// Why these tests cannot run here, if they cannot.
pub(crate) fn missing() -> Option<String> {
    let id = Command::new("id").arg("-u").output().unwrap();
    if id.stdout != b"0\n" {
        return Some("needs root".into());
    }
    let programs = ["unshare", "nsenter", "perl", "ip"];
    let lacking = programs.iter().find(|name| {
        !["/usr/bin", "/usr/sbin", "/sbin", "/bin"]
            .iter()
            .any(|directory| Path::new(directory).join(name).exists())
    });
    if let Some(name) = lacking {
        return Some(format!("needs {name}"));
    }
    let namespaces = Command::new("unshare")
        .args(["-fpmnuiC", "--mount-proc", "true"])
        .output()
        .unwrap();
    (!namespaces.status.success()).then(|| "needs new namespaces".into())
}

/// What a machine boots with.
#[derive(Default)]
pub(crate) struct Recipe {
    /// The kernel command line.
    pub(crate) command_line: &'static str,
    /// The image's cloud-config.
    pub(crate) config: &'static str,
    /// Programs beside or in place of the usual ones: name and script.
    pub(crate) programs: Vec<(&'static str, &'static str)>,
    /// Usual programs that are left out.
    pub(crate) without: Vec<&'static str>,
    /// Files in the directory that the scripts look at.
    pub(crate) flags: Vec<&'static str>,
    /// What is done in the new root before init begins.
    pub(crate) before: &'static str,
}

/// A running machine.
pub(crate) struct Machine {
    out: tempfile::TempDir,
    cgroup: String,
    process: Child,
    pid1: u32,
}

impl Machine {
    /// Boots a machine.
    pub(crate) fn boot(recipe: &Recipe) -> Self {
        let out = tempfile::Builder::new()
            .prefix("laz-init-")
            .tempdir()
            .unwrap();
        let number = COUNT.fetch_add(1, Ordering::SeqCst);
        let cgroup = format!("laz-init-test-{}-{number}", std::process::id());
        let at = |name: &str| out.path().join(name);
        for directory in ["programs", "image", "root"] {
            fs::create_dir(at(directory)).unwrap();
        }
        let usual = [
            ("dockerd", include_str!("engine.sh")),
            ("laz-core", include_str!("core.sh")),
            (
                "modprobe",
                "#!/bin/sh\necho \"modprobe $1\" >> /out/events\n",
            ),
            ("docker", include_str!("docker.sh")),
        ];
        for (name, script) in usual.iter().chain(&recipe.programs) {
            if !recipe.without.contains(name) {
                let path = at("programs").join(name);
                fs::write(&path, script).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            }
        }
        for flag in &recipe.flags {
            fs::write(at(flag), "").unwrap();
        }
        fs::write(at("image/50-test.yml"), recipe.config).unwrap();
        fs::write(at("cmdline"), recipe.command_line).unwrap();
        fs::write(at("cgroup"), &cgroup).unwrap();
        fs::write(at("enter.sh"), include_str!("enter.sh")).unwrap();
        if !recipe.before.is_empty() {
            fs::write(at("before.sh"), recipe.before).unwrap();
        }
        let console = fs::File::create(at("console")).unwrap();
        let process = Command::new("unshare")
            .args(["-fpmnui", "--kill-child", "/bin/sh"])
            .arg(at("enter.sh"))
            .arg(at("root"))
            .arg(out.path())
            .arg(env!("CARGO_BIN_EXE_laz-init"))
            .stdin(Stdio::null())
            .process_group(0)
            .stdout(console.try_clone().unwrap())
            .stderr(console)
            .spawn()
            .unwrap();
        let mut machine = Self {
            out,
            cgroup,
            process,
            pid1: 0,
        };
        machine.until("PID 1", |machine| machine.find_pid1().is_some());
        machine.pid1 = machine.find_pid1().unwrap();
        machine
    }

    fn find_pid1(&self) -> Option<u32> {
        let pid = self.process.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok();
        if let Some(text) = children {
            return text.split_whitespace().next()?.parse().ok();
        }
        // Without CONFIG_PROC_CHILDREN.
        let output = Command::new("ps")
            .args(["-o", "pid=", "--ppid", &pid.to_string()])
            .output()
            .ok()?;
        String::from_utf8(output.stdout).ok()?.trim().parse().ok()
    }

    /// A file that the machine and the test share.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.out.path().join(name)
    }

    /// What the console shows.
    pub(crate) fn console(&self) -> String {
        fs::read_to_string(self.path("console")).unwrap_or_default()
    }

    /// What the stand-ins noted, line by line.
    pub(crate) fn events(&self) -> Vec<String> {
        fs::read_to_string(self.path("events"))
            .unwrap_or_default()
            .lines()
            .map(ToOwned::to_owned)
            .collect()
    }

    /// The events that begin with `prefix`.
    pub(crate) fn events_of(&self, prefix: &str) -> Vec<String> {
        let mut events = self.events();
        events.retain(|event| event.starts_with(prefix));
        events
    }

    /// Waits until `check` holds.
    pub(crate) fn until(&self, what: &str, check: impl Fn(&Self) -> bool) {
        let end = Instant::now() + LIMIT;
        while !check(self) {
            assert!(
                Instant::now() < end,
                "{what}: not within {LIMIT:?}\n-- console\n{}-- events\n{}\n-- logs\n{}",
                self.console(),
                self.events().join("\n"),
                self.logs()
            );
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// What the services wrote.
    fn logs(&self) -> String {
        let output = Command::new("nsenter")
            .args(["-t", &self.pid1.to_string(), "-m", "-r", "/bin/sh", "-c"])
            .arg("tail -n 50 /var/log/lazarette/*-docker.log /var/log/lazarette/core.log")
            .output();
        output.map_or_else(
            |error| error.to_string(),
            |output| String::from_utf8_lossy(&output.stdout).into_owned(),
        )
    }

    /// Waits for a text on the console.
    pub(crate) fn until_console(&self, text: &str) {
        self.until(text, |machine| machine.console().contains(text));
    }

    /// Runs a shell script inside and returns what it prints.
    pub(crate) fn run(&self, script: &str) -> String {
        let output = self.try_run(script);
        assert!(
            output.status.success(),
            "{script}: {}\n{}",
            String::from_utf8_lossy(&output.stderr),
            self.console()
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a shell script inside, which the end of the machine may cut short.
    pub(crate) fn try_run(&self, script: &str) -> Output {
        Command::new("nsenter")
            .args([
                "-t",
                &self.pid1.to_string(),
                "-m",
                "-p",
                "-n",
                "-u",
                "-i",
                "-C",
                "-r",
            ])
            .args(["/bin/sh", "-c", script])
            .output()
            .unwrap()
    }

    /// The number, inside, of the process that last started as `who`.
    pub(crate) fn pid_of(&self, who: &str) -> String {
        let starts = self.events_of(&format!("{who} starts"));
        let last = starts.last().expect("it was started");
        last.split(' ').nth(2).unwrap().to_owned()
    }

    /// Waits for the end of the machine and returns the signal that ended PID 1: the kernel's word
    /// for what was asked of it (SIGHUP: restart, SIGINT: off or halt).
    pub(crate) fn ended(&mut self, limit: Duration) -> i32 {
        let end = Instant::now() + limit;
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                // unshare ends itself by the signal that ended its child.
                return status.signal().unwrap_or_else(|| {
                    panic!("PID 1 ended by itself: {status}\n{}", self.console())
                });
            }
            assert!(Instant::now() < end, "still up\n{}", self.console());
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // --kill-child takes PID 1, and so the whole namespace, with it.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let clean = "mount -t cgroup2 cgroup2 /mnt && cd /mnt && \
             n=0; while [ -d \"$1\" ] && [ $n -lt 50 ]; do \
             find \"$1\" -depth -type d -exec rmdir {} + 2>/dev/null; sleep 0.05; n=$((n+1)); done";
        let _ = Command::new("unshare")
            .args(["-m", "/bin/sh", "-c", clean, "clean", &self.cgroup])
            .status();
    }
}
