//! A stand-in for core: a thread that listens on a Unix socket and speaks (or breaks) the frames.

use std::ffi::OsString;
use std::io::{self, Cursor, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use lazarette_core::control::{
    ContextPhase, ContextStatus, EngineStatus, Origin, Problem, Request, Response, Status,
    VolumePhase, VolumeStatus,
};
use lazarette_core::{ContextName, HealthState, Kind, VolumeId, VolumeName, frame};
use serde_json::json;

/// A stand-in core and the requests it got.
pub(crate) struct StandIn {
    directory: tempfile::TempDir,
    pub(crate) requests: Arc<Mutex<Vec<Request>>>,
}

impl StandIn {
    /// Runs `script` for each request.
    pub(crate) fn new(script: impl Fn(&Request, &mut UnixStream) + Send + 'static) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("core.sock")).unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                while let Ok(Some(request)) = frame::read::<Request>(&mut stream) {
                    seen.lock().unwrap().push(request.clone());
                    script(&request, &mut stream);
                }
            }
        });
        Self {
            directory,
            requests,
        }
    }

    /// Answers every request with what `answer` makes of it.
    pub(crate) fn answering(answer: impl Fn(&Request) -> Response + Send + 'static) -> Self {
        Self::new(move |request, stream| {
            // laz may be gone already.
            let _ = frame::write(stream, &answer(request));
        })
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("core.sock")
    }

    pub(crate) fn laz(&self, arguments: &[&str]) -> Ran {
        let socket = self.socket();
        let mut all = vec!["--socket", socket.to_str().unwrap()];
        all.extend(arguments);
        laz(&all, None, None)
    }

    pub(crate) fn last_request(&self) -> Request {
        self.requests.lock().unwrap().last().cloned().unwrap()
    }
}

/// What one command line did.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) status: u8,
    pub(crate) output: String,
    pub(crate) errors: String,
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Shared {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Runs laz in this process; `answers` is what a person types, none: nobody is there.
pub(crate) fn laz(arguments: &[&str], width: Option<u16>, answers: Option<&str>) -> Ran {
    let (output, errors) = (Shared::default(), Shared::default());
    let mut terminal = laz::Terminal::from_parts(
        Box::new(output.clone()),
        Box::new(errors.clone()),
        Box::new(Cursor::new(
            answers.unwrap_or_default().to_owned().into_bytes(),
        )),
        width,
        false,
        answers.is_some(),
    );
    let all = std::iter::once("laz").chain(arguments.iter().copied());
    let status = laz::run(all.map(OsString::from), &mut terminal);
    Ran {
        status,
        output: output.text(),
        errors: errors.text(),
    }
}

/// Compares `actual` with the file `tests/golden/NAME`; `UPDATE_GOLDEN=1` writes the file.
pub(crate) fn golden(name: &str, actual: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, actual).unwrap();
        return;
    }
    let mut wanted = String::new();
    std::fs::File::open(&path)
        .unwrap()
        .read_to_string(&mut wanted)
        .unwrap();
    assert!(
        wanted == actual,
        "{name} differs; wanted:\n{wanted}\ngot:\n{actual}"
    );
}

pub(crate) fn context(name: &str, phase: ContextPhase, health: HealthState) -> ContextStatus {
    ContextStatus {
        name: ContextName::new(name).unwrap(),
        kind: Kind::new("nfs").unwrap(),
        phase,
        health,
        reason: None,
        retry_in_seconds: None,
        declared: true,
        container: Some("0123456789abcdef".into()),
        abandoned: 0,
        crashes: 0,
        attached: false,
        capacity: None,
        activities: vec![],
    }
}

pub(crate) fn volume(name: &str, phase: VolumePhase) -> VolumeStatus {
    VolumeStatus {
        name: VolumeName::new(name).unwrap(),
        id: VolumeId(uuid::Uuid::nil()),
        context: ContextName::new("nas").unwrap(),
        kind: Kind::new("nfs").unwrap(),
        options: json!({"export": "/srv/media"}),
        phase,
        health: HealthState::Healthy,
        reason: None,
        retry_in_seconds: None,
        mountpoint: None,
        source: None,
        read_only: false,
        required: false,
        origin: Origin::Declared,
        used_by: vec![],
        created_at: "2026-01-02T03:04:05Z".into(),
        size: None,
        new_size: None,
        snapshots: vec![],
    }
}

pub(crate) fn status() -> Status {
    let mut away = context("office", ContextPhase::Waiting, HealthState::Unreachable);
    away.reason = Some("office.example does not answer: connection timed out".into());
    away.retry_in_seconds = Some(75);
    away.container = None;
    away.abandoned = 2;
    let mut media = volume("media", VolumePhase::Mounted);
    media.mountpoint = Some("/mnt/nas/media".into());
    media.used_by = vec!["jellyfin".into(), "backup".into()];
    let mut db = volume("db", VolumePhase::Waiting);
    db.required = true;
    db.context = ContextName::new("office").unwrap();
    db.reason =
        Some("mount.nfs4: access denied by server while mounting office.example:/db".into());
    db.retry_in_seconds = Some(5);
    let mut old = volume("old", VolumePhase::Idle);
    old.read_only = true;
    old.origin = Origin::Created;
    old.reason = Some("the server went away at 12:00".into());
    let engine = |name: &str, version: Option<&str>| EngineStatus {
        name: name.into(),
        reachable: version.is_some(),
        version: version.map(Into::into),
        reason: version.is_none().then(|| "connection refused".into()),
    };
    Status {
        version: "0.1.0".into(),
        uptime_seconds: 7_384,
        ready: false,
        contexts: vec![
            context("nas", ContextPhase::Ready, HealthState::Healthy),
            away,
        ],
        volumes: vec![db, media, old],
        engines: vec![engine("system", Some("26.1.5")), engine("user", None)],
        problems: vec![Problem {
            source: "/run/lazarette/config/50-operator.yml".into(),
            line: Some(7),
            path: "lazarette.storage.contexts.lab.servr".into(),
            message: "unknown field `servr`; did you mean `server`?".into(),
        }],
    }
}
