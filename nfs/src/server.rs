//! Is the server there? Asked with a limit, before anything that cannot be stopped is tried.

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use lazarette_plugin::{Error, ErrorKind, Result};

use crate::options::Options;
use crate::values::{ServerName, Transport, Version};

/// The port of NFS.
const NFS: u16 = 2049;
/// The port of rpcbind.
const RPCBIND: u16 = 111;
/// Look-ups that may be under way at once: the system's resolver cannot be stopped.
const MOST_LOOKUPS: usize = 8;

static LOOKUPS: AtomicUsize = AtomicUsize::new(0);

/// The TCP ports of which one must answer before a mount is tried; none if that says nothing.
pub(crate) fn ports(options: &Options) -> Vec<u16> {
    if options.transport().is_some_and(|t| !t.is_tcp()) {
        return Vec::new();
    }
    let only_3 = options.versions() == [Version::V3];
    match options.port.map(|p| u16::try_from(p.0).unwrap_or(NFS)) {
        Some(0) => vec![RPCBIND],
        Some(port) => vec![port],
        None if only_3 => vec![NFS, RPCBIND],
        None => vec![NFS],
    }
}

/// Looks the server up and connects to one of `ports`, within `limit` altogether.
///
/// # Errors
/// `Unreachable` with the reason.
pub(crate) fn probe(server: &ServerName, options: &Options, limit: Duration) -> Result<()> {
    let end = Instant::now() + limit;
    let wanted = ports(options);
    if wanted.is_empty() {
        return Ok(());
    }
    let addresses = resolve(server, options.transport(), limit)?;
    let mut last = io::Error::from(io::ErrorKind::TimedOut);
    for port in wanted {
        for address in &addresses {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            match TcpStream::connect_timeout(&SocketAddr::new(address.ip(), port), left) {
                Ok(_) => return Ok(()),
                Err(error) => last = error,
            }
        }
    }
    Err(
        Error::new(ErrorKind::Unreachable, format!("{server} does not answer"))
            .cause(plain(&last))
            .remedy("check the server and the network; it is tried again by itself"),
    )
}

fn plain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::TimedOut => "the connection timed out".into(),
        io::ErrorKind::ConnectionRefused => "the connection was refused".into(),
        _ => error.to_string(),
    }
}

/// The server's addresses, by the system's resolver.
fn resolve(
    server: &ServerName,
    transport: Option<Transport>,
    limit: Duration,
) -> Result<Vec<SocketAddr>> {
    let failed = |cause: &str| {
        Error::new(ErrorKind::Unreachable, format!("cannot look {server} up"))
            .cause(cause)
            .remedy(
                "check the server's name and this host's name server; it is tried again by itself",
            )
    };
    if LOOKUPS.fetch_add(1, Ordering::SeqCst) >= MOST_LOOKUPS {
        LOOKUPS.fetch_sub(1, Ordering::SeqCst);
        return Err(failed(
            "too many look-ups are under way: the name server does not answer",
        ));
    }
    let (sender, receiver) = mpsc::channel();
    let name = server.as_str().to_owned();
    let started = thread::Builder::new()
        .name("resolve".into())
        .spawn(move || {
            let found = (name.as_str(), NFS).to_socket_addrs().map(Vec::from_iter);
            LOOKUPS.fetch_sub(1, Ordering::SeqCst);
            // Nobody waits any more: fine.
            let _ = sender.send(found);
        });
    if let Err(error) = started {
        LOOKUPS.fetch_sub(1, Ordering::SeqCst);
        return Err(failed(&error.to_string()));
    }
    let family = |address: &SocketAddr| match transport {
        Some(Transport::Tcp6) => address.is_ipv6(),
        Some(Transport::Tcp) => address.is_ipv4(),
        _ => true,
    };
    match receiver.recv_timeout(limit) {
        Ok(Ok(found)) => {
            let usable: Vec<_> = found.into_iter().filter(family).collect();
            if usable.is_empty() {
                return Err(failed(
                    "it has no address of the family that proto asks for",
                ));
            }
            Ok(usable)
        }
        Ok(Err(error)) => Err(failed(&error.to_string())),
        Err(_) => Err(failed("the name server does not answer")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::net::TcpListener;

    fn options(value: serde_json::Value) -> Options {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn which_port_is_asked() {
        assert_eq!(ports(&options(json!({}))), [2049]);
        assert_eq!(ports(&options(json!({"port": 4000}))), [4000]);
        assert_eq!(ports(&options(json!({"vers": 3}))), [2049, 111]);
        assert_eq!(ports(&options(json!({"vers": 3, "port": 0}))), [111]);
        assert!(ports(&options(json!({"udp": true}))).is_empty());
        assert!(ports(&options(json!({"rdma": true}))).is_empty());
    }

    #[test]
    fn a_server_that_listens_is_there_and_one_that_does_not_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let there = ServerName::new("127.0.0.1").unwrap();
        let at = options(json!({"port": port}));
        probe(&there, &at, Duration::from_secs(5)).unwrap();
        drop(listener);
        let error = probe(&there, &at, Duration::from_secs(5)).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unreachable);
        assert!(error.to_string().contains("refused"), "{error}");
    }

    #[test]
    fn a_name_that_is_not_known_is_unreachable_not_wrong() {
        let began = Instant::now();
        let server = ServerName::new("nosuch.invalid").unwrap();
        let error = probe(&server, &Options::default(), Duration::from_secs(3)).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unreachable);
        assert!(error.kind.is_transient());
        assert!(
            error.message.contains("nosuch.invalid") && error.cause.is_some(),
            "{error}"
        );
        assert!(began.elapsed() < Duration::from_secs(9));
    }

    #[test]
    fn a_family_that_the_server_lacks_is_said() {
        let server = ServerName::new("127.0.0.1").unwrap();
        let six = options(json!({"proto": "tcp6"}));
        let error = probe(&server, &six, Duration::from_secs(3)).unwrap_err();
        assert!(error.to_string().contains("family"), "{error}");
    }
}
