//! Is a server there? Asked with a limit, before a client is started that would wait longer.

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use lazarette_plugin::values::ServerName;
use lazarette_plugin::{Error, ErrorKind};

use crate::client::PORT;
use crate::config::{Config, Transport};

/// Questions that may be under way at once: the system's resolver cannot be stopped.
const MOST: usize = 32;

static UNDER_WAY: AtomicUsize = AtomicUsize::new(0);

/// A server, and why it does not answer if it does not.
pub(crate) type Answer = (ServerName, Option<String>);

/// Asks all servers of `config` side by side, for at most `limit`.
pub(crate) fn ask(config: &Config, limit: Duration) -> Vec<Answer> {
    let port = config
        .port
        .and_then(|p| u16::try_from(p.0).ok())
        .unwrap_or(PORT);
    let end = Instant::now() + limit;
    let questions: Vec<_> = config
        .servers
        .all()
        .iter()
        .map(|server| {
            (
                server.clone(),
                question(server, port, config.transport, limit),
            )
        })
        .collect();
    questions
        .into_iter()
        .map(|(server, answer)| {
            let left = end.saturating_duration_since(Instant::now());
            let why = match answer.map(|receiver| receiver.recv_timeout(left)) {
                Ok(Ok(Ok(()))) => None,
                Ok(Ok(Err(why))) | Err(why) => Some(why),
                Ok(Err(_)) => Some("no answer in time".to_owned()),
            };
            (server, why)
        })
        .collect()
}

/// `Unreachable` with every server's reason, if none of them answers.
///
/// # Errors
/// Just that.
pub(crate) fn one_of(answers: &[Answer], what: &str) -> Result<(), Error> {
    if answers.iter().any(|(_, why)| why.is_none()) {
        return Ok(());
    }
    let reasons: Vec<String> = answers
        .iter()
        .filter_map(|(server, why)| Some(format!("{server}: {}", why.as_ref()?)))
        .collect();
    Err(Error::new(
        ErrorKind::Unreachable,
        format!("cannot mount {what}: no server answers"),
    )
    .cause(reasons.join("; "))
    .remedy("check the servers and the network; it is tried again by itself"))
}

fn question(
    server: &ServerName,
    port: u16,
    transport: Option<Transport>,
    limit: Duration,
) -> Result<mpsc::Receiver<Result<(), String>>, String> {
    if UNDER_WAY.fetch_add(1, Ordering::SeqCst) >= MOST {
        UNDER_WAY.fetch_sub(1, Ordering::SeqCst);
        return Err("too many questions are under way: the name server does not answer".into());
    }
    let (sender, receiver) = mpsc::channel();
    let name = server.as_str().to_owned();
    let started = thread::Builder::new().name("ask".into()).spawn(move || {
        let found = connect(&name, port, transport, limit);
        UNDER_WAY.fetch_sub(1, Ordering::SeqCst);
        // Nobody waits any more: fine.
        let _ = sender.send(found);
    });
    match started {
        Ok(_) => Ok(receiver),
        Err(error) => {
            UNDER_WAY.fetch_sub(1, Ordering::SeqCst);
            Err(error.to_string())
        }
    }
}

fn connect(
    name: &str,
    port: u16,
    transport: Option<Transport>,
    limit: Duration,
) -> Result<(), String> {
    let end = Instant::now() + limit;
    let family = |address: &SocketAddr| match transport {
        Some(Transport::Tcp6) => address.is_ipv6(),
        Some(Transport::Tcp) => address.is_ipv4(),
        None => true,
    };
    let found = (name, port)
        .to_socket_addrs()
        .map_err(|e| format!("cannot be looked up: {e}"))?;
    let mut last = "it has no address of the transport's family".to_owned();
    for address in found.filter(family) {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        match TcpStream::connect_timeout(&address, left) {
            Ok(_) => return Ok(()),
            Err(error) => last = plain(&error),
        }
    }
    Err(last)
}

fn plain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::TimedOut => "the connection timed out".into(),
        io::ErrorKind::ConnectionRefused => "the connection was refused".into(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::net::TcpListener;

    #[test]
    fn one_server_that_answers_is_enough_and_the_others_reasons_are_told() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let config: Config = serde_json::from_value(
            json!({"servers": "nosuch.invalid,127.0.0.1", "volume": "gv0", "port": port}),
        )
        .unwrap();
        let began = Instant::now();
        let answers = ask(&config, Duration::from_secs(3));
        assert!(
            answers[0].1.as_ref().unwrap().contains("looked up"),
            "{answers:?}"
        );
        assert_eq!(answers[1].1, None);
        one_of(&answers, "g:gv0").unwrap();
        drop(listener);
        let answers = ask(&config, Duration::from_secs(3));
        let error = one_of(&answers, "g:gv0").unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unreachable);
        let text = error.to_string();
        assert!(
            text.contains("nosuch.invalid") && text.contains("refused"),
            "{text}"
        );
        assert!(began.elapsed() < Duration::from_secs(15));
    }
}
