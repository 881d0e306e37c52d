//! The volume API byte by byte, as odd and broken clients send it. Needs no root.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::memory::{Memory, Served};

struct Fixture {
    memory: Memory,
    socket: PathBuf,
    served: Served,
    _directory: TempDir,
}

impl Fixture {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("plugins/test.sock");
        let memory = Memory::new(directory.path().join("volumes"));
        let served = Served::start("test", &socket, memory.clone());
        Self {
            memory,
            socket,
            served,
            _directory: directory,
        }
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.socket).unwrap();
        let limit = Some(Duration::from_secs(20));
        stream.set_read_timeout(limit).unwrap();
        stream
    }

    /// Everything that comes back for `bytes` until the server closes the connection.
    fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        // The server may answer and close before it has read everything.
        let _ = stream.write_all(bytes);
        let mut reply = Vec::new();
        let _ = stream.read_to_end(&mut reply);
        String::from_utf8(reply).unwrap()
    }

    /// A request as dockerd sends it; the status and the reply, if there is one.
    fn post(&self, endpoint: &str, body: &str) -> Option<(u16, Value)> {
        let length = body.len();
        let reply = self.raw(
            format!(
                "POST /{endpoint} HTTP/1.1\r\nHost: \r\nAccept: application/vnd.docker.plugins.v1.2+json\r\n\
                 Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            )
            .as_bytes(),
        );
        parse(&reply)
    }

    fn ok(&self, endpoint: &str, body: &str) -> Value {
        let (status, reply) = self.post(endpoint, body).expect("a reply");
        assert_eq!(
            (status, &reply["Err"]),
            (200, &json!("")),
            "{endpoint}: {reply}"
        );
        reply
    }

    fn error(&self, endpoint: &str, body: &str) -> String {
        let (_, reply) = self.post(endpoint, body).expect("a reply");
        let text = reply["Err"].as_str().unwrap().to_owned();
        assert!(!text.is_empty(), "{endpoint} went well: {reply}");
        text
    }
}

/// The status and the JSON of a whole reply; none if nothing came at all.
fn parse(reply: &str) -> Option<(u16, Value)> {
    if reply.is_empty() {
        return None;
    }
    let (head, body) = reply.split_once("\r\n\r\n").expect("a whole head");
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let head = head.to_ascii_lowercase();
    if status == 200 {
        let media_type = "content-type: application/vnd.docker.plugins.v1.1+json";
        assert!(head.contains(media_type), "{head}");
    }
    let length = format!("content-length: {}", body.len());
    assert!(
        head.contains(&length),
        "{head} is not of {} bytes",
        body.len()
    );
    Some((status, serde_json::from_str(body).expect("JSON")))
}

#[test]
fn the_whole_protocol_answers_in_dockers_shapes() {
    let it = Fixture::new();
    assert_eq!(
        it.ok("Plugin.Activate", "")["Implements"],
        json!(["VolumeDriver"])
    );
    assert_eq!(
        it.ok("VolumeDriver.Capabilities", "{}")["Capabilities"],
        json!({"Scope": "global"})
    );
    it.ok(
        "VolumeDriver.Create",
        "{\"Name\":\"media\",\"Opts\":{\"server\":\"nas\"}}\n",
    );
    it.ok("VolumeDriver.Create", r#"{"Name":"plain","Opts":null}"#);
    it.ok("VolumeDriver.Create", r#"{"Name":"plain"}"#);
    let volume = &it.ok("VolumeDriver.Get", r#"{"Name":"media"}"#)["Volume"];
    assert_eq!(
        volume,
        &json!({"Name": "media", "Mountpoint": "", "CreatedAt": "2026-11-23T13:10:29Z",
                "Status": {"options": {"server": "nas"}}})
    );
    let listed = it.ok("VolumeDriver.List", "{}");
    assert_eq!(listed["Volumes"].as_array().unwrap().len(), 2);
    assert_eq!(
        it.ok("VolumeDriver.Path", r#"{"Name":"media"}"#)["Mountpoint"],
        json!("")
    );
    let mounted = it.ok(
        "VolumeDriver.Mount",
        r#"{"Name":"media","ID":"abc","Extra":[1]}"#,
    );
    assert!(
        mounted["Mountpoint"]
            .as_str()
            .unwrap()
            .ends_with("volumes/media")
    );
    it.ok("VolumeDriver.Mount", r#"{"Name":"media"}"#);
    assert_eq!(it.memory.uses("media"), 2);
    it.ok("VolumeDriver.Unmount", r#"{"Name":"media","ID":"abc"}"#);
    it.ok(
        "VolumeDriver.Unmount",
        r#"{"Name":"media","ID":"never seen"}"#,
    );
    it.ok("VolumeDriver.Remove", r#"{"Name":"plain"}"#);
    assert!(
        it.error("VolumeDriver.Remove", r#"{"Name":"plain"}"#)
            .contains("plain")
    );
}

#[test]
fn case_16_options_that_differ_are_an_error_that_says_what_differs() {
    let it = Fixture::new();
    it.ok(
        "VolumeDriver.Create",
        r#"{"Name":"media","Opts":{"server":"nas"}}"#,
    );
    it.ok(
        "VolumeDriver.Create",
        r#"{"Name":"media","Opts":{"server":"nas"}}"#,
    );
    let text = it.error(
        "VolumeDriver.Create",
        r#"{"Name":"media","Opts":{"server":"other"}}"#,
    );
    assert!(text.contains("another server than other"), "{text}");
}

#[test]
fn any_host_header_and_none_is_accepted() {
    let it = Fixture::new();
    for host in [
        "Host: \r\n",
        "Host: plugin.moby.localhost\r\n",
        "Host: %2Frun%2Fdocker%2Fplugins%2Ftest.sock\r\n",
        "",
    ] {
        let reply = it.raw(
            format!("POST /Plugin.Activate HTTP/1.1\r\n{host}Content-Length: 0\r\nConnection: close\r\n\r\n").as_bytes(),
        );
        let (status, reply) = parse(&reply).unwrap_or_else(|| panic!("a reply to {host:?}"));
        assert_eq!(
            (status, &reply["Implements"]),
            (200, &json!(["VolumeDriver"])),
            "{host:?}"
        );
    }
}

#[test]
fn a_request_repeated_without_its_body_gets_a_clean_error_and_get_none_at_all() {
    let it = Fixture::new();
    it.ok("VolumeDriver.Create", r#"{"Name":"media"}"#);
    for call in ["Create", "Remove", "Mount", "Unmount", "Path"] {
        let text = it.error(&format!("VolumeDriver.{call}"), "");
        assert!(
            text.contains("connection") && text.contains("try again"),
            "{text}"
        );
    }
    assert_eq!(
        it.post("VolumeDriver.Get", ""),
        None,
        "dockerd would forget the volume"
    );
    assert_eq!(it.memory.calls("").len(), 1, "nothing of it reached core");
}

#[test]
fn only_an_unknown_volume_is_told_to_dockerd_as_unknown() {
    let it = Fixture::new();
    it.ok("VolumeDriver.Create", r#"{"Name":"media"}"#);
    assert!(
        it.error("VolumeDriver.Get", r#"{"Name":"nothing"}"#)
            .contains("nothing")
    );
    assert!(
        it.error("VolumeDriver.Get", r#"{"Name":"../x"}"#)
            .contains("volume name")
    );
    it.memory.state().broken = true;
    assert_eq!(it.post("VolumeDriver.Get", r#"{"Name":"media"}"#), None);
    assert_eq!(it.post("VolumeDriver.Get", r#"{"Name":"#), None);
    for call in ["List", "Path", "Mount", "Unmount", "Remove", "Create"] {
        let text = it.error(&format!("VolumeDriver.{call}"), r#"{"Name":"media"}"#);
        assert!(text.contains("cannot be read"), "{call}: {text}");
    }
}

#[test]
fn bad_names_and_bad_json_are_refused_before_core_sees_them() {
    let it = Fixture::new();
    for name in ["", "a/b", "..", "-x", "a,b", "a\\nb", "a b", "\\u0000"] {
        let text = it.error("VolumeDriver.Create", &format!(r#"{{"Name":"{name}"}}"#));
        assert!(text.contains("volume name"), "{name:?}: {text}");
    }
    let long = "x".repeat(129);
    it.error("VolumeDriver.Create", &format!(r#"{{"Name":"{long}"}}"#));
    for body in [
        "{",
        "[]",
        "null",
        "\u{1}",
        r#"{"Name":{}}"#,
        r#"{"Name":"a","Opts":[1]}"#,
    ] {
        it.error("VolumeDriver.Create", body);
    }
    assert!(it.memory.calls("").is_empty());
}

#[test]
fn what_is_not_the_protocol_is_answered_as_such() {
    let it = Fixture::new();
    assert_eq!(it.post("VolumeDriver.Fly", "{}").unwrap().0, 404);
    let reply = it.raw(b"GET /VolumeDriver.List HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_eq!(parse(&reply).unwrap().0, 405);
    // Not HTTP at all: whatever comes back, the server lives.
    it.raw(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n");
    it.ok("Plugin.Activate", "");
}

#[test]
fn a_body_larger_than_one_mebibyte_is_refused() {
    let it = Fixture::new();
    let fits = format!(
        r#"{{"Name":"media","Opts":{{"a":"{}"}}}}"#,
        "x".repeat(1_000_000)
    );
    it.ok("VolumeDriver.Create", &fits);
    let over = format!(
        r#"{{"Name":"other","Opts":{{"a":"{}"}}}}"#,
        "x".repeat(1 << 20)
    );
    let (status, reply) = it.post("VolumeDriver.Create", &over).unwrap();
    assert_eq!(status, 413);
    assert!(reply["Err"].as_str().unwrap().contains("1 MiB"));
    assert_eq!(it.memory.calls("create").len(), 1);
}

#[test]
fn a_body_in_chunks_and_two_calls_on_one_connection() {
    let it = Fixture::new();
    let reply = it.raw(
        b"POST /VolumeDriver.Create HTTP/1.1\r\nHost: \r\nTransfer-Encoding: chunked\r\n\r\n\
          8\r\n{\"Name\":\r\n8\r\n\"media\"}\r\n0\r\n\r\n\
          POST /VolumeDriver.List HTTP/1.1\r\nHost: \r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}",
    );
    assert_eq!(reply.matches("HTTP/1.1 200 OK").count(), 2, "{reply}");
    assert!(reply.contains(r#""Volumes":[{"Name":"media""#), "{reply}");
}

#[test]
fn a_call_goes_on_when_dockerd_hangs_up() {
    let it = Fixture::new();
    it.memory.state().delay = Duration::from_millis(300);
    let body = r#"{"Name":"media"}"#;
    let mut stream = it.connect();
    let length = body.len();
    write!(
        stream,
        "POST /VolumeDriver.Create HTTP/1.1\r\nHost: \r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    std::thread::sleep(Duration::from_millis(100));
    stream.shutdown(Shutdown::Both).unwrap();
    drop(stream);
    assert!(
        it.memory.calls("create").is_empty(),
        "hung up in the middle of the call"
    );
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(it.memory.calls("create"), ["create media"]);
}

#[test]
fn a_stop_lets_calls_end_and_takes_the_socket_away_first() {
    let it = Fixture::new();
    it.memory.state().delay = Duration::from_millis(500);
    let mut busy = it.connect();
    let _idle = it.connect();
    let body = r#"{"Name":"media"}"#;
    let length = body.len();
    write!(
        busy,
        "POST /VolumeDriver.Create HTTP/1.1\r\nHost: \r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    std::thread::sleep(Duration::from_millis(100));
    let started = Instant::now();
    it.served.stop();
    let elapsed = started.elapsed();
    assert!(
        elapsed < Duration::from_secs(8),
        "an idle connection held it up: {elapsed:?}"
    );
    assert!(!it.socket.exists());
    let mut reply = String::new();
    busy.read_to_string(&mut reply).unwrap();
    assert_eq!(parse(&reply), Some((200, json!({"Err": ""}))));
}

#[test]
fn a_hundred_creates_at_once_are_all_there() {
    let it = Fixture::new();
    it.memory.state().delay = Duration::from_millis(200);
    let started = Instant::now();
    std::thread::scope(|scope| {
        for n in 0..100 {
            let it = &it;
            scope.spawn(move || it.ok("VolumeDriver.Create", &format!(r#"{{"Name":"v{n}"}}"#)));
        }
    });
    assert!(
        started.elapsed() < Duration::from_secs(15),
        "one after the other"
    );
    assert_eq!(it.memory.state().volumes.len(), 100);
}

#[test]
fn the_peer_must_be_root_or_core_itself() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    if !super::dockerd::is_root() {
        println!("skipped: needs root to act as another user");
        return;
    }
    let it = Fixture::new();
    // Open every other door, so that only the check of the peer is left.
    let mut path = it.socket.clone();
    while path.starts_with(it.socket.parent().unwrap().parent().unwrap()) {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)).unwrap();
        path.pop();
    }
    let curl = |uid: u32| {
        let mut curl = std::process::Command::new("curl");
        curl.args(["-sS", "-X", "POST", "--max-time", "5", "--unix-socket"]);
        curl.arg(&it.socket).arg("http://x/Plugin.Activate");
        curl.uid(uid).gid(uid).output()
    };
    let Ok(root) = curl(0) else {
        println!("skipped: needs curl");
        return;
    };
    assert!(
        String::from_utf8_lossy(&root.stdout).contains("VolumeDriver"),
        "{root:?}"
    );
    let nobody = curl(65_534).unwrap();
    assert!(
        !nobody.status.success() && nobody.stdout.is_empty(),
        "{nobody:?}"
    );
}
