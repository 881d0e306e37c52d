//! Asking core to unmount the volumes and to close the contexts. SIGTERM would not do: it leaves
//! both as they are, for core's next life.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use lazarette_core::control::{Request, Response};
use lazarette_core::frame;

use crate::error::Error;

/// Asks the core that listens on `socket`, and waits for it for at most `limit`.
///
/// # Errors
/// When core cannot be reached, does not answer in time, or could not close everything.
pub fn drain(socket: &Path, limit: Duration) -> Result<(), Error> {
    let failed = |action| move |source: io::Error| Error::file(action, socket, source);
    let mut stream = UnixStream::connect(socket).map_err(failed("connect to"))?;
    // Zero would mean: for ever.
    let limit = limit.max(Duration::from_millis(1));
    stream
        .set_read_timeout(Some(limit))
        .and_then(|()| stream.set_write_timeout(Some(limit)))
        .and_then(|()| frame::write(&mut stream, &Request::Drain))
        .map_err(failed("ask core on"))?;
    loop {
        let answer = frame::read(&mut stream).map_err(failed("get an answer of core on"))?;
        match answer {
            Some(Response::Item(_)) => {}
            Some(Response::Done(_)) => return Ok(()),
            Some(Response::Failed(error)) => return Err(Error::Core(error)),
            None => {
                let ended = io::ErrorKind::UnexpectedEof.into();
                return Err(failed("get an answer of core on")(ended));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;
    use std::thread;

    fn answered_by(
        answers: Vec<Response>,
        limit: Duration,
    ) -> (Option<Request>, Result<(), Error>) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("core.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let core = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let request = frame::read(&mut stream).unwrap();
            let silent = answers.is_empty();
            for answer in answers {
                frame::write(&mut stream, &answer).unwrap();
            }
            if silent {
                thread::sleep(Duration::from_millis(500));
            }
            request
        });
        let result = drain(&path, limit);
        (core.join().unwrap(), result)
    }

    #[test]
    fn core_is_asked_and_its_answer_awaited() {
        let answers = vec![Response::Item("nas".into()), Response::Done(().into())];
        let (request, result) = answered_by(answers, Duration::from_secs(5));
        assert_eq!(request, Some(Request::Drain));
        result.unwrap();
    }

    #[test]
    fn a_core_that_is_silent_leaves_or_fails_is_an_error() {
        let (_, late) = answered_by(vec![], Duration::from_millis(50));
        assert!(matches!(late, Err(Error::File { .. })), "{late:?}");
        let item = vec![Response::Item("nas".into())];
        let (_, left) = answered_by(item, Duration::from_secs(5));
        assert!(matches!(left, Err(Error::File { .. })), "{left:?}");
        let error = lazarette_core::Error::internal("nas is busy");
        let (_, failed) = answered_by(vec![Response::Failed(error)], Duration::from_secs(5));
        let text = crate::error::chain(&failed.unwrap_err());
        assert!(text.contains("nas is busy"), "{text}");
    }
}
