//! `/etc/hosts` and `/etc/resolv.conf`.
//!
//! Both are written in place: storage containers have them bind-mounted, and a file that is
//! replaced by another one is not seen there.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write;
use std::net::IpAddr;
use std::path::Path;

use crate::error::Error;

/// The text of `/etc/hosts`.
pub fn hosts(hostname: Option<&str>, further: &BTreeMap<String, IpAddr>) -> String {
    let mut text = String::from("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n");
    // Writing to a String cannot fail.
    if let Some(hostname) = hostname.filter(|name| !further.contains_key(*name)) {
        let _ = writeln!(text, "127.0.1.1 {hostname}");
    }
    for (name, address) in further {
        let _ = writeln!(text, "{address} {name}");
    }
    text
}

/// Name servers and search domains, from the configuration and from each interface's lease.
#[derive(Debug, Clone, Default)]
pub struct Resolver {
    /// Those of the configuration; they come first.
    pub fixed: Names,
    /// Those of leases, by interface.
    pub leased: BTreeMap<String, Names>,
}

/// Name servers and search domains.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// Name servers.
    pub servers: Vec<IpAddr>,
    /// Search domains.
    pub search: Vec<String>,
}

impl Resolver {
    /// The text of `/etc/resolv.conf`.
    pub fn text(&self) -> String {
        let mut servers: Vec<IpAddr> = Vec::new();
        let mut search: Vec<&str> = Vec::new();
        for names in std::iter::once(&self.fixed).chain(self.leased.values()) {
            for server in &names.servers {
                if !servers.contains(server) {
                    servers.push(*server);
                }
            }
            for domain in &names.search {
                if is_domain(domain) && !search.contains(&domain.as_str()) {
                    search.push(domain);
                }
            }
        }
        let mut text = String::new();
        if !search.is_empty() {
            let _ = writeln!(text, "search {}", search.join(" "));
        }
        for server in servers {
            let _ = writeln!(text, "nameserver {server}");
        }
        text
    }
}

/// What a DHCP server sends must not be able to add lines of its own.
fn is_domain(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 253
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
}

/// Replaces the content of a file, not the file.
///
/// # Errors
/// When it cannot be written.
pub fn write_in_place(path: &Path, text: &str) -> Result<(), Error> {
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        file.write_all(text.as_bytes())?;
        file.set_len(text.len() as u64)
    };
    write().map_err(|source| Error::file("write", path, source))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn hosts_holds_what_is_configured() {
        let further = BTreeMap::from([("nas.test".into(), "10.201.0.2".parse().unwrap())]);
        let text = hosts(Some("shed"), &further);
        assert!(
            text.ends_with("127.0.1.1 shed\n10.201.0.2 nas.test\n"),
            "{text}"
        );
        let own = BTreeMap::from([("shed".into(), "192.0.2.7".parse().unwrap())]);
        assert!(!hosts(Some("shed"), &own).contains("127.0.1.1"));
    }

    #[test]
    fn servers_are_listed_once_and_search_domains_cannot_smuggle_lines() {
        let names = |server: &str, domain: &str| Names {
            servers: vec![server.parse().unwrap()],
            search: vec![domain.into()],
        };
        let mut resolver = Resolver {
            fixed: names("192.0.2.1", "a.example"),
            leased: BTreeMap::new(),
        };
        resolver
            .leased
            .insert("eth0".into(), names("192.0.2.1", "b\nnameserver 6.6.6.6"));
        resolver
            .leased
            .insert("eth1".into(), names("2001:db8::1", "b.example"));
        assert_eq!(
            resolver.text(),
            "search a.example b.example\nnameserver 192.0.2.1\nnameserver 2001:db8::1\n"
        );
    }

    #[test]
    fn a_file_stays_the_same_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("resolv.conf");
        write_in_place(&path, "a long first text\n").unwrap();
        let inode = fs::metadata(&path).unwrap().ino();
        write_in_place(&path, "short\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "short\n");
        assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
    }
}
