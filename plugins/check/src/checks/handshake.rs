//! The beginning of a connection, and peers that do not keep to the protocol.

use std::time::Duration;

use lazarette_core::frame;
use lazarette_core::message::{Method, PROTOCOL, ToPlugin, Version};

use super::{Found, Named, failed};
use crate::kit::{HELLO_LIMIT, Kit};
use crate::report::Verdict;
use crate::wire::Wire;

/// How long a plugin may take to close a connection.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);

pub(super) const CHECKS: &[Named] = &[
    Named::before(
        "handshake.hello",
        "it says hello first, with version 1 of the wire",
        hello,
    ),
    Named::before(
        "handshake.instance",
        "a connection finds the same instance, after a restart another one",
        instance,
    ),
    Named::before(
        "handshake.version",
        "another major version is told its own, and the connection closed",
        version,
    ),
    Named::before(
        "handshake.before-open",
        "calls before `open` are refused with the kind `plugin`, not obeyed",
        before_open,
    ),
    Named::open(
        "handshake.garbage",
        "whoever sends what is no message is disconnected, and nobody else",
        garbage,
    ),
    Named::open(
        "handshake.reconnect",
        "the context is still open on the next connection",
        reconnect,
    ),
];

fn hello(kit: &mut Kit) -> Found {
    let greeting = kit.connect()?;
    if greeting.instance.is_empty() {
        return failed("`instance` is empty; use another text after each start");
    }
    if greeting.open {
        return failed("it says that a context is open though none was ever opened");
    }
    Ok(Verdict::Passed)
}

fn instance(kit: &mut Kit) -> Found {
    let first = kit.connect()?.instance;
    let second = kit.connect()?.instance;
    if first != second {
        return failed("`instance` changes although it was not started again");
    }
    kit.kill()?;
    let third = kit.connect()?.instance;
    if third == first {
        return failed(
            "`instance` is the same after a restart: core would not see that it was one",
        );
    }
    Ok(Verdict::Passed)
}

fn version(kit: &mut Kit) -> Found {
    kit.disconnect();
    let mut wire = Wire::silent(kit.subject.socket())?;
    let other = Version {
        major: PROTOCOL.major + 1,
        minor: 0,
    };
    let greeting = wire.hello(other, HELLO_LIMIT)?;
    if greeting.protocol.major != PROTOCOL.major {
        return failed("its hello says the version that it was told, not its own");
    }
    if !wire.is_closed(CLOSE_LIMIT) {
        return failed("it goes on talking to a peer of another major version");
    }
    kit.connect()?;
    Ok(Verdict::Passed)
}

fn before_open(kit: &mut Kit) -> Found {
    kit.subject.kill()?;
    kit.disconnect();
    kit.settle(false)?;
    let deadline = kit.deadline();
    let wire = kit.wire()?;
    let id = wire.begin(Method::List, deadline)?;
    match wire.end(id, deadline)?.result {
        Err(error) if error.kind == lazarette_core::ErrorKind::Plugin => Ok(Verdict::Passed),
        Err(error) => failed(format!(
            "`list` before `open` fails with the kind {:?}",
            error.kind
        )),
        Ok(_) => failed("`list` before `open` succeeds"),
    }
}

fn garbage(kit: &mut Kit) -> Found {
    let oversize = u32::MAX.to_le_bytes();
    let cases: [(&str, &[u8]); 4] = [
        ("a frame of 4 GiB", &oversize),
        ("what is no JSON", b"\x03\0\0\0{\"a"),
        ("JSON without a type", b"\x02\0\0\0{}"),
        ("an empty frame", b"\0\0\0\0"),
    ];
    for (what, bytes) in cases {
        kit.disconnect();
        let mut wire = Wire::silent(kit.subject.socket())?;
        wire.hello(PROTOCOL, HELLO_LIMIT)?;
        wire.send_bytes(bytes);
        if !wire.is_closed(CLOSE_LIMIT) {
            return failed(format!("after {what} it does not close the connection"));
        }
        drop(wire);
        kit.settle(true)?;
    }
    kit.disconnect();
    let mut wire = Wire::silent(kit.subject.socket())?;
    let call = ToPlugin::Cancel { id: 1 };
    wire.send_bytes(&frame::encode(&call)?);
    if !wire.is_closed(CLOSE_LIMIT) {
        return failed("it serves a peer that did not say hello");
    }
    drop(wire);
    kit.settle(true)?;
    Ok(Verdict::Passed)
}

fn reconnect(kit: &mut Kit) -> Found {
    let greeting = kit.connect()?;
    if !greeting.open {
        return failed("`open` in its hello is false although the context is open");
    }
    kit.done(Method::Health)?;
    Ok(Verdict::Passed)
}
