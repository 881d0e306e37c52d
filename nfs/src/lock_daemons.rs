//! rpcbind and rpc.statd: without them NFS 3 has no locks that other machines see.
//!
//! The kernel finds them by the network namespace. If rpcbind there knows an rpc.statd already
//! (the host's, or another context's), that one is used. Otherwise they are started here; they put
//! themselves into the background and live on when the plugin host dies.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::thread;
use std::time::{Duration, Instant};

use lazarette_plugin::command::Command;
use lazarette_plugin::{Error, ErrorKind, Result};

use crate::programs::Programs;

/// The RPC program of rpc.statd.
const STATD: u32 = 100_024;
/// How long a question to rpcbind may take.
const ASKING: Duration = Duration::from_secs(2);
/// How long a daemon may take to start.
const STARTING: Duration = Duration::from_secs(10);
/// rpc.statd's directory.
const STATE: &str = "/var/lib/nfs";

/// One start at a time.
static STARTS: Mutex<()> = Mutex::new(());

/// Makes sure that locks of NFS 3 work, within about twice `limit`.
///
/// # Errors
/// `Internal` saying which daemon did not start, and why.
pub(crate) fn ensure(programs: &Programs, limit: Duration) -> Result<()> {
    let rpcbind = SocketAddr::from((Ipv4Addr::LOCALHOST, 111));
    let _one = STARTS.lock().unwrap_or_else(PoisonError::into_inner);
    if matches!(port_of(rpcbind, STATD), Ok(Some(_))) {
        return Ok(());
    }
    let limit = limit.min(STARTING);
    if port_of(rpcbind, STATD).is_err() {
        start("rpcbind", Command::new(&programs.rpcbind), limit)?;
        until("rpcbind", limit, || port_of(rpcbind, STATD).is_ok())?;
    }
    prepare_state(Path::new(STATE))?;
    start(
        "rpc.statd",
        Command::new(&programs.statd).arg("--no-notify"),
        limit,
    )?;
    until("rpc.statd", limit, || {
        matches!(port_of(rpcbind, STATD), Ok(Some(_)))
    })
}

fn start(name: &str, command: Command, limit: Duration) -> Result<()> {
    command.deadline(limit).run().map(drop).map_err(|e| {
        Error::internal(format!("{name} does not start, which locks of NFS 3 need"))
            .caused_by(&e)
            .remedy("set nolock if no other machine uses the files, or use NFS 4")
    })
}

fn until(name: &str, limit: Duration, ready: impl Fn() -> bool) -> Result<()> {
    let end = Instant::now() + limit;
    while !ready() {
        if Instant::now() >= end {
            return Err(Error::new(
                ErrorKind::Internal,
                format!("{name} was started but does not answer, which locks of NFS 3 need"),
            )
            .cause(format!("not within {} s", limit.as_secs()))
            .remedy("set nolock if no other machine uses the files, or use NFS 4"));
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Makes rpc.statd's directories, owned by its user: it gives up root for the owner of `sm` (up to
/// nfs-utils 2.6: of `state` itself). Before, as root without a right over others' files, it writes
/// to `state`: so that is writable for root's group.
fn prepare_state(state: &Path) -> Result<()> {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let owner = user_of(&passwd, "statd");
    let (current, backup) = (state.join("sm"), state.join("sm.bak"));
    let prepare = || {
        fs::create_dir_all(&current)?;
        fs::create_dir_all(&backup)?;
        let Some((uid, gid)) = owner else {
            return Ok(());
        };
        if fs::metadata(state)?.uid() != uid {
            fs::set_permissions(state, fs::Permissions::from_mode(0o775))?;
            chown(&current, Some(uid), Some(gid))?;
            chown(&backup, Some(uid), Some(gid))?;
            chown(state, Some(uid), Some(0))?;
        }
        Ok(())
    };
    prepare().map_err(|e: io::Error| {
        Error::internal(format!("cannot prepare {} for rpc.statd", state.display())).cause(e)
    })
}

/// The user and group of `name` in an /etc/passwd.
fn user_of(passwd: &str, name: &str) -> Option<(u32, u32)> {
    let line = passwd.lines().find(|l| l.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// The UDP port that rpcbind at `rpcbind` knows for `program`; none if it does not know it.
///
/// An error means that no rpcbind answers. (RFC 1833, port mapper version 2, GETPORT, over TCP.)
fn port_of(rpcbind: SocketAddr, program: u32) -> io::Result<Option<u16>> {
    const PORT_MAPPER: u32 = 100_000;
    const GETPORT: u32 = 3;
    const UDP: u32 = 17;
    const XID: u32 = 0x4c61_7a61;
    /// A reply is 28 bytes; whatever says more is no port mapper.
    const LONGEST: usize = 1024;
    // xid, call, RPC version 2, program, version, procedure, no credentials, no verifier,
    // then what is looked for: program, version, protocol, 0.
    let words = [
        XID,
        0,
        2,
        PORT_MAPPER,
        2,
        GETPORT,
        0,
        0,
        0,
        0,
        program,
        1,
        UDP,
        0,
    ];
    let body: Vec<u8> = words.iter().flat_map(|w| w.to_be_bytes()).collect();
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    let mut stream = TcpStream::connect_timeout(&rpcbind, ASKING)?;
    stream.set_read_timeout(Some(ASKING))?;
    stream.set_write_timeout(Some(ASKING))?;
    // The highest bit marks the last fragment of a record.
    stream.write_all(&(length | 1 << 31).to_be_bytes())?;
    stream.write_all(&body)?;
    let mut header = [0; 4];
    stream.read_exact(&mut header)?;
    let length = (u32::from_be_bytes(header) & !(1 << 31)) as usize;
    if length > LONGEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut reply = vec![0; length];
    stream.read_exact(&mut reply)?;
    parse_port(&reply, XID).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// The port in a GETPORT reply, with 0 for none; nothing if it is not an accepted reply to `xid`.
fn parse_port(reply: &[u8], xid: u32) -> Option<Option<u16>> {
    let words: Vec<u32> = reply
        .chunks_exact(4)
        .map(|c| u32::from_be_bytes([c[0], c[1], c[2], c[3]]))
        .collect();
    match words[..] {
        // xid, reply, accepted, empty verifier, success, port.
        [x, 1, 0, _, 0, 0, port] if x == xid => {
            let port = u16::try_from(port).ok()?;
            Some((port != 0).then_some(port))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn reply(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|w| w.to_be_bytes()).collect()
    }

    #[test]
    fn a_reply_says_a_port_or_none() {
        assert_eq!(
            parse_port(&reply(&[7, 1, 0, 0, 0, 0, 4000]), 7),
            Some(Some(4000))
        );
        assert_eq!(parse_port(&reply(&[7, 1, 0, 0, 0, 0, 0]), 7), Some(None));
        for bad in [
            &[8, 1, 0, 0, 0, 0, 4000][..],
            &[7, 0, 0, 0, 0, 0, 4000],
            &[7, 1, 1, 0, 0, 0, 4000],
            &[7, 1, 0, 0, 0, 1, 4000],
            &[7, 1, 0, 0, 0, 0, 70_000],
            &[7, 1, 0, 0, 0, 0],
            &[],
        ] {
            assert_eq!(parse_port(&reply(bad), 7), None, "{bad:?}");
        }
    }

    #[test]
    fn rpcbind_is_asked_in_its_own_language() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut call = [0; 60];
            stream.read_exact(&mut call).unwrap();
            assert_eq!(call[..4], (56_u32 | 1 << 31).to_be_bytes());
            let mut xid = [0; 4];
            xid.copy_from_slice(&call[4..8]);
            let body = reply(&[u32::from_be_bytes(xid), 1, 0, 0, 0, 0, 662]);
            stream.write_all(&(28_u32 | 1 << 31).to_be_bytes()).unwrap();
            stream.write_all(&body).unwrap();
        });
        assert_eq!(port_of(address, STATD).unwrap(), Some(662));
        server.join().unwrap();
        assert!(port_of(address, STATD).is_err(), "nobody listens any more");
    }

    #[test]
    fn a_user_is_found_by_its_whole_name() {
        let passwd = "root:x:0:0::/root:/bin/sh\nxstatd:x:1:1::/:/bin/sh\nstatd:x:106:65534::/var/lib/nfs:/usr/sbin/nologin\n";
        assert_eq!(user_of(passwd, "statd"), Some((106, 65_534)));
        assert_eq!(user_of(passwd, "stat"), None);
        assert_eq!(user_of("statd:x\n", "statd"), None);
    }
}
