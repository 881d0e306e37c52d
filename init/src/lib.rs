//! PID 1 of the Lazarette OS.
//!
//! Two processes share the work. PID 1 itself ([`pid1`]) only starts the *manager*, reaps orphans
//! and passes signals on: it parses nothing, so nothing that comes from outside can make it fail,
//! and if the manager dies it starts another one. The manager ([`manager`]) brings the machine up
//! through a named list of phases ([`boot::PHASES`]), keeps the engines and core alive
//! ([`service`]) and takes everything down in reverse ([`shutdown`]).
//!
//! | module | what it is |
//! |---|---|
//! | [`pid1`] | the process that must never end |
//! | [`manager`] | the process that does the work |
//! | [`phase`], [`record`] | running phases one after the other; what they did, in `boot.json` |
//! | [`boot`] | the phases themselves, in order |
//! | [`early`] | the table of early mounts |
//! | [`hostid`] | the machine's ID, for ZFS |
//! | [`modules`] | kernel modules: those we need, those that devices ask for |
//! | [`cmdline`], [`config_disk`], [`sources`] | where the cloud-config comes from |
//! | [`network`] | addresses, routes, DHCP, `/etc/hosts`, `/etc/resolv.conf` |
//! | [`service`] | one supervised program: notify socket, log, cgroup, restarts |
//! | [`devices`] | stable names of devices: udev, in a container of system Docker's |
//! | [`engines`] | how system Docker, core and user Docker are started |
//! | [`runcmd`], [`emergency`] | the operator's commands; a shell on the console |
//! | [`shutdown`] | the way down, in one budget |
//! | [`signals`], [`client`] | which signal means what; sending it |
//! | [`console`] | lines with elapsed times |
//! | [`layout`] | every path, in one place |
//!
//! `docs/boot.md` is the same from the operator's side.

#![forbid(unsafe_code)]

pub mod boot;
pub mod client;
pub mod cmdline;
pub mod config_disk;
pub mod console;
pub mod devices;
pub mod early;
pub mod emergency;
pub mod engines;
pub mod error;
pub mod hostid;
pub mod layout;
pub mod manager;
pub mod modules;
pub mod network;
pub mod phase;
pub mod pid1;
pub mod record;
pub mod runcmd;
pub mod service;
pub mod shutdown;
pub mod signals;
pub mod sources;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use signals::Stop;

/// The argument by which PID 1 starts the manager.
pub const MANAGER: &str = "manager";

/// What `laz-init --help` prints.
pub const USAGE: &str = "\
Usage: laz-init poweroff|reboot|halt   ask PID 1 to stop the machine; also by
                                       links to it with these names
       laz-init                        as PID 1: bring the machine up

Signals to PID 1: SIGUSR2 and SIGPWR power off, SIGUSR1 halts, SIGTERM and SIGINT
(ctrl-alt-del) reboot; the poweroff, reboot and halt of busybox send the same.
";

/// What the program was started as, decided from its arguments and its process ID.
pub fn run(arguments: Vec<OsString>) -> ExitCode {
    // Called `poweroff`, `reboot` or `halt` (by a link), it is that.
    let called = arguments.first().map(Path::new).and_then(Path::file_name);
    let called = called.and_then(|name| name.to_str());
    let word = arguments.get(1).and_then(|word| word.to_str());
    let word = called
        .filter(|name| Stop::from_word(name).is_some())
        .or(word);
    let is_pid1 = std::process::id() == 1;
    match (is_pid1, word) {
        // The kernel passes on arguments that it does not know; PID 1 listens to none.
        (true, _) => pid1::run(&arguments),
        (false, Some(MANAGER)) if client::parent_is_pid1() => manager::run(),
        (false, Some("--help" | "-h")) => {
            print!("{USAGE}");
            ExitCode::SUCCESS
        }
        (false, Some("--version")) => {
            println!("laz-init {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        (false, Some(word)) => match Stop::from_word(word) {
            Some(stop) => client::ask(stop),
            None => misused(),
        },
        (false, None) => misused(),
    }
}

fn misused() -> ExitCode {
    eprint!("laz-init: not PID 1, and no word that it knows\n{USAGE}");
    ExitCode::from(2)
}
