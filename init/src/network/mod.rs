//! The network: what can be set up at once is set up before the boot goes on; what has to be waited
//! for (an interface that is not there yet, a DHCP server) goes on in the background, for ever.

mod dhcp;
pub mod files;
pub mod interface;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use lazarette_core::cloud_config as config;
use tokio::task::LocalSet;
use tokio::time::sleep;

use crate::console::Console;
use crate::error::{Error, all, chain};
use crate::layout::Layout;
use crate::phase::{Outcome, panic_text};
use crate::service::spawn_thread;
use files::{Names, Resolver};
use interface::{Interface, Netlink, Prefix};

/// How long the boot waits for the first round.
const FIRST_ROUND: Duration = Duration::from_secs(5);
/// How often an interface that is not there is looked for.
const POLL: Duration = Duration::from_millis(250);

/// What the network thread works from.
struct Plan {
    layout: Layout,
    console: Console,
    hostname: Option<String>,
    network: config::Network,
}

/// What the tasks of the network thread share.
#[derive(Clone)]
struct Shared {
    netlink: Netlink,
    layout: Layout,
    console: Console,
    hostname: Option<String>,
    resolver: Rc<RefCell<Resolver>>,
}

impl Shared {
    fn say(&self, text: impl std::fmt::Display) {
        self.console.line(format!("network: {text}"));
    }

    fn class(&self) -> PathBuf {
        self.layout.at("/sys/class/net")
    }

    /// Takes in the names that an interface's lease brought (none: it has gone).
    fn resolve(&self, interface: &str, names: Option<Names>) -> Result<(), Error> {
        let text = {
            let mut resolver = self.resolver.borrow_mut();
            match names {
                Some(names) => resolver.leased.insert(interface.into(), names),
                None => resolver.leased.remove(interface),
            };
            resolver.text()
        };
        files::write_in_place(&self.layout.at("/etc/resolv.conf"), &text)
    }
}

/// Sets up the network as far as that needs no waiting, and leaves the rest to a thread.
///
/// # Errors
/// [`Error::Several`] with everything that failed; all the rest was done.
pub fn start(
    layout: &Layout,
    console: &Console,
    hostname: Option<&str>,
    network: &config::Network,
) -> Result<Outcome, Error> {
    let plan = Plan {
        layout: layout.clone(),
        console: console.clone(),
        hostname: hostname.map(ToOwned::to_owned),
        network: network.clone(),
    };
    let mut failures = Vec::new();
    if let Err(error) = write_files(&plan) {
        failures.push(chain(&error));
    }
    let (sender, receiver) = mpsc::channel();
    spawn_thread("network".into(), move || keep(&plan, &sender))?;
    let late = || Error::Late {
        what: "the interfaces are not set up; that goes on in the background:".into(),
        seconds: FIRST_ROUND.as_secs(),
    };
    let round = receiver.recv_timeout(FIRST_ROUND).map_err(|_| late())?;
    failures.extend(round.failures);
    all(failures)?;
    Ok(if round.notes.is_empty() {
        Outcome::Done
    } else {
        Outcome::Noted(round.notes.join(", "))
    })
}

fn write_files(plan: &Plan) -> Result<(), Error> {
    let hosts = files::hosts(plan.hostname.as_deref(), &plan.network.hosts);
    files::write_in_place(&plan.layout.at("/etc/hosts"), &hosts)?;
    let text = resolver(&plan.network).text();
    files::write_in_place(&plan.layout.at("/etc/resolv.conf"), &text)
}

fn resolver(network: &config::Network) -> Resolver {
    Resolver {
        fixed: Names {
            servers: network.nameservers.clone(),
            search: network.search.clone(),
        },
        leased: BTreeMap::new(),
    }
}

/// What the first round did.
#[derive(Default)]
struct Round {
    notes: Vec<String>,
    failures: Vec<String>,
}

/// Runs the network until the machine stops, whatever happens in it.
fn keep(plan: &Plan, first: &mpsc::Sender<Round>) {
    loop {
        let say = |text: &str| plan.console.line(format!("network: {text}"));
        match catch_unwind(AssertUnwindSafe(|| run(plan, first))) {
            Ok(Ok(())) => say("ended"),
            Ok(Err(error)) => say(&format!("no runtime: {error}")),
            Err(panic) => say(&format!("internal error: {}", panic_text(&*panic))),
        }
        thread::sleep(Duration::from_secs(10));
    }
}

fn run(plan: &Plan, first: &mpsc::Sender<Round>) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let tasks = LocalSet::new();
    tasks.block_on(&runtime, async {
        let shared = Shared {
            netlink: Netlink::open()?,
            layout: plan.layout.clone(),
            console: plan.console.clone(),
            hostname: plan.hostname.clone(),
            resolver: Rc::new(RefCell::new(resolver(&plan.network))),
        };
        let round = first_round(&shared, &plan.network).await;
        // The boot may have gone on without us; nobody listens then.
        let _ = first.send(round);
        std::future::pending::<()>().await;
        Ok(())
    })
}

async fn first_round(shared: &Shared, network: &config::Network) -> Round {
    let mut round = Round::default();
    let class = shared.class();
    match interface::find(&class, "lo") {
        Some(lo) => {
            if let Err(error) = shared.netlink.up(&lo, None).await {
                round.failures.push(chain(&error));
            }
        }
        None => round.failures.push("there is no interface lo".into()),
    }
    if network.interfaces.is_empty() {
        let found = interface::first_ethernet(&class);
        round.notes.push(match &found {
            Some(found) => format!("{}: asking for a lease", found.name),
            None => "no Ethernet interface yet".into(),
        });
        let shared = shared.clone();
        let _task = tokio::task::spawn_local(async move { any_by_dhcp(shared, found).await });
    }
    for (name, wanted) in &network.interfaces {
        if let Some(present) = interface::find(&class, name) {
            match set_up(shared, &present, wanted).await {
                Ok(note) => round.notes.push(note),
                Err(error) => round.failures.push(chain(&error)),
            }
        } else {
            round.notes.push(format!("{name}: not there yet"));
            let (shared, name, wanted) = (shared.clone(), name.clone(), wanted.clone());
            let _task = tokio::task::spawn_local(async move {
                let present = appearance(&shared.class(), &name).await;
                match set_up(&shared, &present, &wanted).await {
                    Ok(note) => shared.say(note),
                    Err(error) => shared.say(chain(&error)),
                }
            });
        }
    }
    round
}

async fn appearance(class: &Path, name: &str) -> Interface {
    loop {
        if let Some(found) = interface::find(class, name) {
            return found;
        }
        sleep(POLL).await;
    }
}

/// Without a configuration: DHCP on the first Ethernet interface, as soon as there is one.
async fn any_by_dhcp(shared: Shared, found: Option<Interface>) {
    let class = shared.class();
    let mut found = found;
    let interface = loop {
        if let Some(interface) = found {
            break interface;
        }
        sleep(POLL).await;
        found = interface::first_ethernet(&class);
    };
    if let Err(error) = shared.netlink.up(&interface, None).await {
        shared.say(chain(&error));
    }
    dhcp::keep(shared, interface).await;
}

/// Sets an interface up; a part that fails does not keep the others from being done.
async fn set_up(
    shared: &Shared,
    present: &Interface,
    wanted: &config::Interface,
) -> Result<String, Error> {
    let netlink = &shared.netlink;
    let mut failures = Vec::new();
    let mut given = Vec::new();
    if let Err(error) = netlink.up(present, wanted.mtu).await {
        failures.push(chain(&error));
    }
    for text in &wanted.addresses {
        let Some(prefix) = Prefix::parse(text) else {
            failures.push(format!(
                "{}: {text} is no address with prefix",
                present.name
            ));
            continue;
        };
        match netlink.add_address(present, prefix).await {
            Ok(()) => given.push(prefix.to_string()),
            Err(error) => failures.push(chain(&error)),
        }
    }
    if let Some(gateway) = wanted.gateway {
        match netlink.default_route(present, gateway, false).await {
            Ok(()) => given.push(format!("over {gateway}")),
            Err(error) => failures.push(chain(&error)),
        }
    }
    if wanted.dhcp {
        given.push("asking for a lease".into());
        let _task = tokio::task::spawn_local(dhcp::keep(shared.clone(), present.clone()));
    }
    all(failures)?;
    Ok(format!("{}: {}", present.name, given.join(", ")))
}
