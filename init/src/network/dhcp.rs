//! One DHCP lease: asked for, applied, renewed, and taken back when it runs out.
//!
//! The protocol is mozim's (RFC 2131 with its timers); what a lease means for the machine is ours.

use std::net::IpAddr;
use std::time::Duration;

use mozim::{DhcpV4Client, DhcpV4Config, DhcpV4Lease, DhcpV4State};
use tokio::time::sleep;

use super::Shared;
use super::files::Names;
use super::interface::{self, Interface, Prefix};
use crate::error::{Error, chain};

/// How long a carrier is waited for before the first question.
const CARRIER: Duration = Duration::from_secs(5);
/// The pause after a failure of the client itself.
const AGAIN: Duration = Duration::from_secs(5);

/// Keeps a lease on `interface`, for ever.
pub(super) async fn keep(shared: Shared, interface: Interface) {
    interface::carrier(&shared.class(), &interface.name, CARRIER).await;
    let mut told = String::new();
    loop {
        if let Err(error) = lease_loop(&shared, &interface).await {
            let text = chain(&error);
            if text != told {
                shared.say(format!("{text}; trying again"));
                told = text;
            }
        }
        sleep(AGAIN).await;
    }
}

async fn lease_loop(shared: &Shared, interface: &Interface) -> Result<(), Error> {
    let failed = |action: &str, error: mozim::DhcpError| Error::Network {
        interface: interface.name.clone(),
        action: action.into(),
        source: error.into(),
    };
    let mut config = DhcpV4Config::new(&interface.name);
    config.set_iface_index(interface.index);
    config
        .set_iface_mac(&interface.mac)
        .map_err(|error| failed("has no Ethernet address", error))?;
    config.use_mac_as_client_id();
    if let Some(hostname) = &shared.hostname {
        config.set_host_name(hostname);
    }
    let mut client = DhcpV4Client::init(config, None)
        .await
        .map_err(|error| failed("cannot ask for a lease", error))?;
    let mut held: Option<DhcpV4Lease> = None;
    loop {
        let state = client.run().await;
        match state {
            Ok(DhcpV4State::Done(lease)) => {
                if held.as_ref().is_none_or(|held| !is_same(held, &lease)) {
                    if let Some(old) = held.take() {
                        take_back(shared, interface, &old).await;
                    }
                    apply(shared, interface, &lease).await;
                }
                held = Some(*lease);
            }
            Ok(DhcpV4State::InitReboot) => {
                if let Some(old) = held.take() {
                    shared.say(format!("{}: the lease has run out", interface.name));
                    take_back(shared, interface, &old).await;
                }
            }
            Ok(_) => {}
            Err(error) => {
                if let Some(old) = held.take() {
                    take_back(shared, interface, &old).await;
                }
                return Err(failed("DHCP failed", error));
            }
        }
    }
}

/// Whether both give the machine the same.
fn is_same(one: &DhcpV4Lease, other: &DhcpV4Lease) -> bool {
    one.yiaddr == other.yiaddr
        && one.subnet_mask == other.subnet_mask
        && one.gateways == other.gateways
        && one.classless_routes == other.classless_routes
        && one.mtu == other.mtu
        && names(one) == names(other)
}

fn prefix(lease: &DhcpV4Lease) -> Prefix {
    Prefix {
        address: lease.yiaddr.into(),
        length: lease.prefix_length(),
    }
}

fn names(lease: &DhcpV4Lease) -> Names {
    let servers = lease.dns_srvs.iter().flatten();
    let mut search = lease.domain_search.clone().unwrap_or_default();
    search.extend(lease.domain_name.clone());
    Names {
        servers: servers.map(|server| IpAddr::V4(*server)).collect(),
        search,
    }
}

async fn apply(shared: &Shared, interface: &Interface, lease: &DhcpV4Lease) {
    let mut failures = Vec::new();
    let mut tell = |result: Result<(), Error>| {
        if let Err(error) = result {
            failures.push(chain(&error));
        }
    };
    let netlink = &shared.netlink;
    if let Some(mtu) = lease.mtu.filter(|mtu| *mtu >= 576) {
        tell(netlink.up(interface, Some(mtu.into())).await);
    }
    let prefix = prefix(lease);
    tell(netlink.add_address(interface, prefix).await);
    let mut over = String::new();
    if let Some(routes) = &lease.classless_routes {
        for route in routes {
            let destination = Prefix {
                address: route.destination.into(),
                length: route.prefix_length,
            };
            tell(
                netlink
                    .add_route(interface, destination, route.router.into())
                    .await,
            );
        }
    } else if let Some(gateway) = lease.gateways.iter().flatten().next() {
        let on_link = prefix.length == 32;
        tell(
            netlink
                .default_route(interface, (*gateway).into(), on_link)
                .await,
        );
        over = format!(", over {gateway}");
    }
    tell(shared.resolve(&interface.name, Some(names(lease))));
    shared.say(format!(
        "{}: {prefix}{over}, leased by {} for {} s",
        interface.name, lease.srv_id, lease.lease_time_sec
    ));
    for failure in failures {
        shared.say(failure);
    }
}

async fn take_back(shared: &Shared, interface: &Interface, lease: &DhcpV4Lease) {
    for result in [
        shared
            .netlink
            .remove_address(interface, prefix(lease))
            .await,
        shared.resolve(&interface.name, None),
    ] {
        if let Err(error) = result {
            shared.say(chain(&error));
        }
    }
}
