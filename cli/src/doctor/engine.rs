//! Asking a Docker engine for its version, without a client library.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::{Finding, State, packages};

/// How long an engine may take for each read and write.
const LIMIT: Duration = Duration::from_secs(5);
/// The longest answer that is looked at, in bytes.
const LONGEST: u64 = 1 << 16;

/// The version of the engine that listens on `socket`.
///
/// # Errors
/// Those of the socket, and `InvalidData` if no engine answers there.
fn version(socket: &Path) -> io::Result<String> {
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

/// The oldest that the hand-off is tried with: year and month, as Docker counted them then.
const OLDEST: (u32, u32) = (20, 10);

/// What is to be thought of the engine that listens on `socket`; `option` names another one.
pub(super) fn look(name: &str, socket: &Path, option: &str) -> Finding {
    match version(socket) {
        Ok(version) => judge(name, &version),
        Err(error) => Finding::new(
            name,
            State::Missing,
            format!(
                "{}: {error}; start it (Debian has it in {}), or name its socket with {option}",
                socket.display(),
                packages::DOCKER
            ),
        ),
    }
}

fn judge(name: &str, version: &str) -> Finding {
    // One that is not counted so was built by somebody who knows what it is.
    if numbers(version).is_none_or(|found| found >= OLDEST) {
        return Finding::new(name, State::Ok, format!("version {version}"));
    }
    let (year, month) = OLDEST;
    Finding::new(
        name,
        State::Missing,
        format!(
            "version {version}; {year}.{month} or newer is needed (Debian: {})",
            packages::DOCKER
        ),
    )
}

/// The first two numbers of `20.10.24+dfsg1`.
fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
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
    use super::{State, judge, parse};

    #[test]
    fn an_old_engine_is_missing_and_says_where_a_newer_one_is() {
        for good in ["20.10.24+dfsg1", "26.1.5", "100.0", "dev", "20"] {
            assert_eq!(judge("x", good).state, State::Ok, "{good}");
        }
        for old in ["19.03.15", "20.9.1", "1.13.1-rc1"] {
            let finding = judge("x", old);
            assert_eq!(finding.state, State::Missing, "{old}");
            assert!(finding.remark.contains("docker.io"), "{finding:?}");
        }
    }

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
