//! Asking a Docker engine for its version, without a client library.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

/// How long an engine may take for each read and write.
const LIMIT: Duration = Duration::from_secs(5);
/// The longest answer that is looked at, in bytes.
const LONGEST: u64 = 1 << 16;

/// The version of the engine that listens on `socket`.
///
/// # Errors
/// Those of the socket, and `InvalidData` if no engine answers there.
pub(super) fn version(socket: &Path) -> io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    stream.write_all(b"GET /version HTTP/1.0\r\nHost: docker\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(LONGEST).read_to_string(&mut answer)?;
    parse(&answer).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "what answers there is no Docker engine",
        )
    })
}

fn parse(answer: &str) -> Option<String> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.lines().next()?.split_whitespace().nth(1)?;
    let body: Value = serde_json::from_str(body)
        .ok()
        .filter(|_| status == "200")?;
    body.get("Version")?.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn only_an_engines_answer_counts() {
        let answer =
            "HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{\"Version\":\"20.10.24\"}\n";
        assert_eq!(parse(answer).as_deref(), Some("20.10.24"));
        for bad in [
            "",
            "HTTP/1.0 404 Not Found\r\n\r\n{\"Version\":\"1\"}",
            "HTTP/1.0 200 OK\r\n\r\nhello",
            "x",
        ] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }
}
