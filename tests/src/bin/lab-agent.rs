//! The lab's agent in the machine: runs what the harness sends over a virtio serial port.
//!
//! It is started before init, so that the harness can look into a machine whose init failed.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use lazarette_tests::protocol::{Frame, Job, Kind, MAX_PAYLOAD, PORT};

/// Where scripts find laz, docker (user Docker), system-docker and nas.
const PATH: &str =
    "/usr/lib/lazarette/lab/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

type Port = Arc<Mutex<File>>;

/// A running job: its standard input and its process group.
struct Running {
    stdin: Sender<Vec<u8>>,
    group: u32,
}

type Jobs = Arc<Mutex<HashMap<u32, Running>>>;

fn main() -> io::Result<()> {
    let path = wait_for_port();
    let reader = OpenOptions::new().read(true).write(true).open(path)?;
    // A virtio port can be opened once only, so both directions share one open file.
    let port = Arc::new(Mutex::new(reader.try_clone()?));
    let mut reader = Patient(reader);
    let jobs = Jobs::default();
    loop {
        match Frame::read(&mut reader) {
            Ok(frame) => handle(frame, &port, &jobs),
            Err(error) => {
                eprintln!("lab-agent: {error}");
                thread::sleep(Duration::from_millis(100));
            }
        }
    }
}

/// Finds the port's device node by its name, as udev would.
fn wait_for_port() -> PathBuf {
    loop {
        let ports = fs::read_dir("/sys/class/virtio-ports")
            .into_iter()
            .flatten();
        for entry in ports.flatten() {
            let name = fs::read_to_string(entry.path().join("name")).unwrap_or_default();
            if name.trim_end() == PORT {
                return PathBuf::from("/dev").join(entry.file_name());
            }
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// A port whose other side may not be connected: end of file there means "nobody yet".
struct Patient(File);

impl Read for Patient {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read(buffer)? {
                0 => thread::sleep(Duration::from_millis(20)),
                count => return Ok(count),
            }
        }
    }
}

fn send(port: &Port, job: u32, kind: Kind, payload: &[u8]) {
    let frame = Frame {
        job,
        kind,
        payload: payload.to_vec(),
    };
    let mut file = port.lock().unwrap_or_else(|broken| broken.into_inner());
    if let Err(error) = frame.write(&mut *file) {
        eprintln!("lab-agent: {error}");
    }
}

fn handle(frame: Frame, port: &Port, jobs: &Jobs) {
    let mut running = jobs.lock().unwrap_or_else(|broken| broken.into_inner());
    match frame.kind {
        Kind::Ping => send(port, frame.job, Kind::Pong, &frame.payload),
        Kind::Run => match start(frame.job, &frame.payload, port, jobs) {
            Ok(job) => {
                running.insert(frame.job, job);
            }
            Err(error) => send(
                port,
                frame.job,
                Kind::Exit,
                format!("127 {error}").as_bytes(),
            ),
        },
        Kind::Stdin => {
            if let Some(job) = running.get(&frame.job) {
                // A program that no longer reads is no error of ours.
                let _ = job.stdin.send(frame.payload);
            }
        }
        Kind::Kill => {
            if let Some(job) = running.get(&frame.job) {
                let group = format!("-{}", job.group);
                let _ = Command::new("/usr/bin/kill")
                    .args(["-KILL", "--", &group])
                    .status();
            }
        }
        Kind::Pong | Kind::Stdout | Kind::Stderr | Kind::Exit => {}
    }
}

fn start(number: u32, payload: &[u8], port: &Port, jobs: &Jobs) -> io::Result<Running> {
    let job: Job = serde_json::from_slice(payload)?;
    let (program, arguments) = job
        .argv
        .split_first()
        .ok_or_else(|| io::Error::other("no program given"))?;
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", PATH)
        .env("HOME", "/root")
        .env("LC_ALL", "C.UTF-8")
        .env("TERM", "xterm")
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| io::Error::other(format!("{program}: {error}")))?;
    let group = child.id();
    let (stdin, bytes) = channel::<Vec<u8>>();
    if let Some(mut pipe) = child.stdin.take() {
        thread::spawn(move || {
            for chunk in bytes {
                if chunk.is_empty() || pipe.write_all(&chunk).is_err() {
                    break;
                }
            }
        });
    }
    let outputs = [
        child
            .stdout
            .take()
            .map(|pipe| forward(number, Kind::Stdout, pipe, port)),
        child
            .stderr
            .take()
            .map(|pipe| forward(number, Kind::Stderr, pipe, port)),
    ];
    let (port, jobs) = (port.clone(), jobs.clone());
    thread::spawn(move || {
        let text = match child.wait() {
            Ok(status) => status
                .code()
                .unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
                .to_string(),
            Err(error) => format!("127 {error}"),
        };
        outputs.into_iter().flatten().for_each(Forwarder::finish);
        send(&port, number, Kind::Exit, text.as_bytes());
        jobs.lock()
            .unwrap_or_else(|broken| broken.into_inner())
            .remove(&number);
    });
    Ok(Running { stdin, group })
}

/// A thread that sends what a program writes.
struct Forwarder {
    thread: JoinHandle<()>,
    sent: Arc<AtomicUsize>,
}

impl Forwarder {
    /// Waits until all is sent. A daemon that the program left behind may hold the pipe for ever,
    /// so the wait ends when nothing has come for a while.
    fn finish(self) {
        let mut seen = usize::MAX;
        while !self.thread.is_finished() {
            let sent = self.sent.load(Ordering::Relaxed);
            if sent == seen {
                return;
            }
            seen = sent;
            for _ in 0..50 {
                thread::sleep(Duration::from_millis(10));
                if self.thread.is_finished() {
                    return;
                }
            }
        }
    }
}

fn forward(job: u32, kind: Kind, mut pipe: impl Read + Send + 'static, port: &Port) -> Forwarder {
    let port = port.clone();
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = sent.clone();
    let thread = thread::spawn(move || {
        let mut buffer = vec![0; MAX_PAYLOAD];
        while let Ok(count @ 1..) = pipe.read(&mut buffer) {
            send(&port, job, kind, &buffer[..count]);
            counter.fetch_add(count, Ordering::Relaxed);
        }
    });
    Forwarder { thread, sent }
}
