//! One interface by netlink: up, addresses, routes. What is there already stays.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

use rtnetlink::{Handle, LinkUnspec, RouteMessageBuilder};
use tokio::time::{Instant, sleep};

use crate::error::Error;

/// `ARPHRD_ETHER` of `linux/if_arp.h`.
const ETHERNET: &str = "1";

/// An interface as `/sys/class/net` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// The kernel's number for it.
    pub index: u32,
    /// Its hardware address, as text.
    pub mac: String,
}

/// An address with the length of its prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    /// The address.
    pub address: IpAddr,
    /// How many of its first bits name the network.
    pub length: u8,
}

impl Prefix {
    /// Reads `192.0.2.7/24`.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, length) = text.split_once('/')?;
        let address: IpAddr = address.parse().ok()?;
        let length: u8 = length.parse().ok()?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        (length <= longest).then_some(Self { address, length })
    }
}

impl std::fmt::Display for Prefix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

/// The interface called `name`, if it is there.
pub fn find(class: &Path, name: &str) -> Option<Interface> {
    let directory = class.join(name);
    Some(Interface {
        name: name.into(),
        index: read(&directory, "ifindex")?.parse().ok()?,
        mac: read(&directory, "address")?,
    })
}

/// The first Ethernet interface, by number, that has a device behind it (no bridge, no tunnel).
pub fn first_ethernet(class: &Path) -> Option<Interface> {
    fs::read_dir(class)
        .ok()?
        .flatten()
        .filter(|entry| {
            let directory = entry.path();
            directory.join("device").exists()
                && read(&directory, "type").is_some_and(|kind| kind == ETHERNET)
        })
        .filter_map(|entry| find(class, entry.file_name().to_str()?))
        .min_by_key(|interface| interface.index)
}

/// Waits until the interface has a carrier, for at most `limit`.
pub async fn carrier(class: &Path, name: &str, limit: Duration) {
    let end = Instant::now() + limit;
    while read(&class.join(name), "carrier").as_deref() != Some("1") && Instant::now() < end {
        sleep(Duration::from_millis(50)).await;
    }
}

fn read(directory: &Path, file: &str) -> Option<String> {
    let text = fs::read_to_string(directory.join(file)).ok()?;
    Some(text.trim().to_owned())
}

/// Sets interfaces up through a netlink connection.
#[derive(Clone)]
pub struct Netlink {
    handle: Handle,
}

impl Netlink {
    /// Opens a connection, served by a task of the current runtime.
    ///
    /// # Errors
    /// When the kernel refuses a netlink socket.
    pub fn open() -> std::io::Result<Self> {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    /// Brings the interface up, with an MTU if one is given.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn up(&self, interface: &Interface, mtu: Option<u32>) -> Result<(), Error> {
        let mut message = LinkUnspec::new_with_index(interface.index);
        if let Some(mtu) = mtu {
            message = message.mtu(mtu);
        }
        let result = self.handle.link().set(message.up().build()).execute().await;
        result.map_err(|error| failed(interface, "cannot be brought up".into(), error))
    }

    /// Gives the interface an address; it may have it already.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn add_address(&self, interface: &Interface, prefix: Prefix) -> Result<(), Error> {
        let request = self
            .handle
            .address()
            .add(interface.index, prefix.address, prefix.length)
            .replace();
        let result = request.execute().await;
        result.map_err(|error| failed(interface, format!("cannot get address {prefix}"), error))
    }

    /// Takes an address away; it may be gone already.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn remove_address(&self, interface: &Interface, prefix: Prefix) -> Result<(), Error> {
        use futures_util::TryStreamExt;
        let mut present = self
            .handle
            .address()
            .get()
            .set_link_index_filter(interface.index)
            .set_address_filter(prefix.address)
            .execute();
        let action = || format!("cannot lose address {prefix}");
        while let Some(message) = present
            .try_next()
            .await
            .map_err(|error| failed(interface, action(), error))?
        {
            if message.header.prefix_len == prefix.length {
                let result = self.handle.address().del(message).execute().await;
                result.map_err(|error| failed(interface, action(), error))?;
            }
        }
        Ok(())
    }

    /// Makes `gateway` the default route. `on_link`: it is reached although no prefix says so.
    ///
    /// # Errors
    /// When the kernel refuses: it cannot reach the gateway, as a rule.
    pub async fn default_route(
        &self,
        interface: &Interface,
        gateway: IpAddr,
        on_link: bool,
    ) -> Result<(), Error> {
        let action = || format!("cannot have the default route over {gateway}");
        let unspecified: IpAddr = match gateway {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
        };
        self.route(
            interface,
            Prefix {
                address: unspecified,
                length: 0,
            },
            gateway,
            on_link,
        )
        .await
        .map_err(|error| failed(interface, action(), error))
    }

    /// Adds a route to `destination` over `gateway`.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn add_route(
        &self,
        interface: &Interface,
        destination: Prefix,
        gateway: IpAddr,
    ) -> Result<(), Error> {
        self.route(interface, destination, gateway, false)
            .await
            .map_err(|error| {
                let action = format!("cannot have a route to {destination} over {gateway}");
                failed(interface, action, error)
            })
    }

    async fn route(
        &self,
        interface: &Interface,
        destination: Prefix,
        gateway: IpAddr,
        on_link: bool,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let mut builder = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(destination.address, destination.length)?
            .output_interface(interface.index);
        // A gateway of 0.0.0.0 in a DHCP route means: on the link itself.
        if !gateway.is_unspecified() {
            builder = builder.gateway(gateway)?;
        }
        if on_link {
            builder = builder.onlink();
        }
        let request = self.handle.route().add(builder.build()).replace();
        Ok(request.execute().await?)
    }
}

fn failed(
    interface: &Interface,
    action: String,
    error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> Error {
    Error::Network {
        interface: interface.name.clone(),
        action,
        source: error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_read_and_nonsense_is_not() {
        let prefix = Prefix::parse("192.0.2.7/24").unwrap();
        assert_eq!(prefix.to_string(), "192.0.2.7/24");
        assert!(Prefix::parse("2001:db8::7/64").is_some());
        for text in [
            "192.0.2.7",
            "192.0.2.7/33",
            "192.0.2/24",
            "x/24",
            "::1/129",
            "1.2.3.4/",
        ] {
            assert_eq!(Prefix::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_first_ethernet_interface_has_a_device_and_the_lowest_number() {
        let class = tempfile::tempdir().unwrap();
        for (name, kind, index, device) in [
            ("lo", "772", 1, false),
            ("br0", "1", 2, false),
            ("eth1", "1", 4, true),
            ("eth0", "1", 3, true),
            ("ib0", "32", 2, true),
        ] {
            let directory = class.path().join(name);
            fs::create_dir(&directory).unwrap();
            fs::write(directory.join("type"), format!("{kind}\n")).unwrap();
            fs::write(directory.join("ifindex"), format!("{index}\n")).unwrap();
            fs::write(directory.join("address"), "02:00:00:00:00:01\n").unwrap();
            if device {
                fs::create_dir(directory.join("device")).unwrap();
            }
        }
        assert_eq!(first_ethernet(class.path()).unwrap().name, "eth0");
        assert_eq!(find(class.path(), "br0").unwrap().index, 2);
        assert_eq!(find(class.path(), "eth9"), None);
    }
}
