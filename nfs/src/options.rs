//! All options of nfs(5), each with a type, and the words they become.
//!
//! Nothing that reaches the mount program is free text: a value has passed its type in
//! [`crate::values`] before, and the words are put together here only. What core does itself
//! (retrying, going to the background) and what it forces (`nosuid`, `nodev`, read-only) is not
//! offered; [`refused`] says why.

use lazarette_plugin::serde_json::{Map, Value};
use lazarette_plugin::{Error, JsonSchema, Result, serde_json};
use serde::{Deserialize, Serialize};

use crate::values::{
    Address, Flag, LocalLock, LookupCache, Number, Security, ServerName, Transport,
    TransportSecurity, Version, Versions, WriteMode, without_null,
};

/// Defines [`Options`] and the words of its simple fields.
macro_rules! options {
    (
        flags { $($(#[$flag_doc:meta])* $flag:ident / $not:ident),+ $(,)? }
        values { $($(#[$value_doc:meta])* $value:ident: $type:ty),+ $(,)? }
        versions { $($(#[$other_doc:meta])* $other:ident: $other_type:ty),+ $(,)? }
    ) => {
        /// Options of NFS mounts, named and meant as in nfs(5).
        #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        #[serde(default, deny_unknown_fields)]
        #[schemars(transform = without_null)]
        pub struct Options {
            $(
                $(#[$flag_doc])*
                #[serde(skip_serializing_if = "Option::is_none")]
                pub $flag: Option<Flag>,
                #[doc = concat!("The opposite of `", stringify!($flag), "`.")]
                #[serde(skip_serializing_if = "Option::is_none")]
                pub $not: Option<Flag>,
            )+
            $(
                $(#[$value_doc])*
                #[serde(skip_serializing_if = "Option::is_none")]
                pub $value: Option<$type>,
            )+
            $(
                $(#[$other_doc])*
                #[serde(skip_serializing_if = "Option::is_none")]
                pub $other: Option<$other_type>,
            )+
        }

        /// Options that say the same thing in two ways: setting one forgets the other.
        const PAIRS: &[&[&str]] = &[$(&[stringify!($flag), stringify!($not)]),+];

        /// Every option.
        pub(crate) const NAMES: &[&str] = &[
            $(stringify!($flag), stringify!($not),)+
            $(stringify!($value),)+
            $(stringify!($other),)+
        ];

        impl Options {
            /// The words of all but the version and transport, each with the option it comes from.
            fn plain_words(&self) -> Vec<(&'static str, String)> {
                let mut words = Vec::new();
                $(
                    let on = self.$flag.map(|f| f.0).or(self.$not.map(|f| !f.0));
                    if let Some(on) = on {
                        let word = if on { stringify!($flag) } else { stringify!($not) };
                        words.push((stringify!($flag), word.to_owned()));
                    }
                )+
                $(
                    if let Some(value) = &self.$value {
                        words.push((stringify!($value), format!("{}={value}", stringify!($value))));
                    }
                )+
                words
            }
        }
    };
}

options! {
    flags {
        /// Wait for a server that is away for as long as it takes (the default). Its opposite,
        /// `soft`, gives programs an I/O error instead, and may lose data.
        hard / soft,
        /// Serve what is cached when the server cannot be asked whether it changed.
        softreval / nosoftreval,
        /// No effect since Linux 2.6.25.
        intr / nointr,
        /// Cache file attributes (the default).
        ac / noac,
        /// Close-to-open consistency (the default).
        cto / nocto,
        /// NFS 3 access control lists.
        acl / noacl,
        /// Locks that other machines see (NFS 3; the default). Its opposite keeps them local.
        lock / nolock,
        /// Read directories together with attributes.
        rdirplus / nordirplus,
        /// Share caches between mounts of one export (the default).
        sharecache / nosharecache,
        /// Use a port below 1024 (the default).
        resvport / noresvport,
        /// Cache files on a local disk (needs cachefilesd).
        fsc / nofsc,
        /// Identify as able to follow migrated state (NFS 4.0).
        migration / nomigration,
        /// Look for more addresses of the server (NFS 4.1 and newer).
        trunkdiscovery / notrunkdiscovery,
        /// Align writes to pages.
        alignwrite / noalignwrite,
    }
    values {
        /// Tenths of a second until a request is repeated.
        timeo: Number<1, 36_000>,
        /// Repetitions before further recovery.
        retrans: Number<0, 10_000>,
        /// Bytes per read: a multiple of 1024.
        rsize: Number<1024, 1_048_576, 1024>,
        /// Bytes per write: a multiple of 1024.
        wsize: Number<1024, 1_048_576, 1024>,
        /// Seconds for which a file's attributes are cached at least.
        acregmin: Number<0, 86_400>,
        /// Seconds for which a file's attributes are cached at most.
        acregmax: Number<0, 86_400>,
        /// Seconds for which a directory's attributes are cached at least.
        acdirmin: Number<0, 86_400>,
        /// Seconds for which a directory's attributes are cached at most.
        acdirmax: Number<0, 86_400>,
        /// Sets all four of `acregmin`, `acregmax`, `acdirmin`, `acdirmax`.
        actimeo: Number<0, 86_400>,
        /// What is cached of directory entries.
        lookupcache: LookupCache,
        /// TCP connections to the server.
        nconnect: Number<1, 16>,
        /// Connections to different addresses of the server (NFS 4.1 and newer).
        max_connect: Number<1, 16>,
        /// Security flavours, with `:` between them; `krb5*` need what docs/nfs.md says.
        sec: Security,
        /// RPC with TLS (Linux 6.5 and newer; needs tlshd on the host).
        xprtsec: TransportSecurity,
        /// When writes are sent.
        write: WriteMode,
        /// The server's NFS port; 0: ask its rpcbind.
        port: Number<0, 65_535>,
        /// The port of the server's mountd (NFS 3).
        mountport: Number<0, 65_535>,
        /// The transport to the server's mountd (NFS 3).
        mountproto: Transport,
        /// The version of the server's mountd (NFS 3).
        mountvers: Number<1, 3>,
        /// The host of the server's mountd (NFS 3).
        mounthost: ServerName,
        /// The longest name of a file (NFS 3).
        namlen: Number<1, 255>,
        /// Which locks stay on this machine (NFS 3).
        local_lock: LocalLock,
        /// The address for the server's callbacks (NFS 4.0).
        clientaddr: Address,
    }
    versions {
        /// The version of the protocol. Without it, 4.2, 4.1, 4.0 and 3 are tried in this order.
        vers: Versions,
        /// The same as `vers`.
        nfsvers: Versions,
        /// The part behind the dot, with `vers: 4`.
        minorversion: Number<0, 2>,
        /// The transport; TCP unless told otherwise.
        proto: Transport,
        /// The same as `proto: tcp`.
        tcp: Flag,
        /// The same as `proto: udp`.
        udp: Flag,
        /// The same as `proto: rdma`.
        rdma: Flag,
        /// Like `soft`, with an error that says that it timed out.
        softerr: Flag,
    }
}

/// Options of one meaning beyond [`PAIRS`]: setting any of them in a volume forgets the context's.
const GROUPS: &[&[&str]] = &[
    &["hard", "soft", "softerr"],
    &["vers", "nfsvers", "minorversion"],
    &["proto", "tcp", "udp", "rdma"],
];

/// Options that only NFS 3 knows.
const ONLY_3: &[&str] = &[
    "lock",
    "acl",
    "mountport",
    "mountproto",
    "mountvers",
    "mounthost",
    "namlen",
    "local_lock",
];

/// Options that only NFS 4 knows.
const ONLY_4: &[&str] = &["clientaddr", "migration", "max_connect", "trunkdiscovery"];

/// Why an option of nfs(5) or mount(8) is not offered, if `name` is one.
pub fn refused(name: &str) -> Option<&'static str> {
    match name {
        "retry" | "bg" | "fg" => Some("mounts are repeated with growing pauses by laz-core itself"),
        "sloppy" => Some("unknown options are never ignored"),
        "nosuid" | "suid" | "nodev" | "dev" => Some("nosuid and nodev are always set"),
        "ro" | "rw" => Some("read-only is said of the volume or export: read_only: true"),
        "remount" | "bind" | "_netdev" | "nofail" | "auto" | "noauto" | "user" | "users"
        | "defaults" => Some("it belongs to fstab; leave it out"),
        "addr" | "mountaddr" => Some("the server's address is found out"),
        _ => None,
    }
}

impl Options {
    /// These options as defaults for `over`.
    #[must_use]
    pub fn overlaid_by(&self, over: &Self) -> Self {
        let mut result = to_map(self);
        let over = to_map(over);
        for group in PAIRS.iter().chain(GROUPS) {
            if group.iter().any(|name| over.contains_key(*name)) {
                for name in *group {
                    result.remove(*name);
                }
            }
        }
        result.extend(over);
        serde_json::from_value(Value::Object(result)).expect("both were options before")
    }

    /// Checks what no single field shows.
    ///
    /// # Errors
    /// `InvalidArgument` naming the options that do not go together, and why.
    pub fn check(&self) -> Result<()> {
        let given = to_map(self);
        let on = |name: &str| given.get(name).is_some_and(|v| *v != Value::Bool(false));
        for pair in PAIRS {
            let both: Vec<_> = pair.iter().filter_map(|n| given.get(*n)).collect();
            if both.len() == 2 && both[0] == both[1] {
                return Err(contradiction(
                    pair[0],
                    pair[1],
                    "each is the other's opposite",
                ));
            }
        }
        for (one, other, why) in CONFLICTS {
            if on(one) && on(other) {
                return Err(contradiction(one, other, why));
            }
        }
        if self.minorversion.is_some() && self.asked() != Some(Versions::Newest4) {
            return Err(Error::invalid("minorversion without vers: 4")
                .remedy("write the whole version: vers: \"4.1\""));
        }
        self.check_transport()?;
        self.check_version(&given)
    }

    fn check_transport(&self) -> Result<()> {
        let udp = self.transport().is_some_and(Transport::is_udp);
        if udp && self.versions().iter().all(|v| v.is_4()) {
            return Err(contradiction("udp", "vers: 4", "NFS 4 needs TCP or RDMA"));
        }
        if udp && self.nconnect.is_some() {
            return Err(contradiction("udp", "nconnect", "UDP has no connections"));
        }
        if self.xprtsec.is_some_and(|x| x != TransportSecurity::None)
            && self.transport().is_some_and(|t| !t.is_tcp())
        {
            return Err(contradiction("xprtsec", "proto", "TLS needs TCP"));
        }
        Ok(())
    }

    fn check_version(&self, given: &Map<String, Value>) -> Result<()> {
        let versions = self.versions();
        let names = |only: &[&'static str]| {
            only.iter()
                .copied()
                .find(|n| given.contains_key(*n) || given.contains_key(&format!("no{n}")))
        };
        if let Some(name) = names(ONLY_3)
            && versions.iter().all(|v| v.is_4())
        {
            return Err(
                contradiction(name, "vers: 4", "it is an option of NFS 3 only")
                    .remedy("leave it out: NFS 4 has locks, lists and mounting built in"),
            );
        }
        match names(ONLY_4) {
            Some(name) if versions == [Version::V3] => Err(contradiction(
                name,
                "vers: 3",
                "it is an option of NFS 4 only",
            )),
            _ => Ok(()),
        }
    }

    fn asked(&self) -> Option<Versions> {
        self.vers.or(self.nfsvers)
    }

    /// The versions to try, in this order.
    pub fn versions(&self) -> Vec<Version> {
        let minor = match self.minorversion {
            Some(Number(0)) => Some(Version::V40),
            Some(Number(1)) => Some(Version::V41),
            Some(_) => Some(Version::V42),
            None => None,
        };
        match (self.asked(), minor) {
            (Some(Versions::One(version)), _) => vec![version],
            (_, Some(version)) => vec![version],
            (Some(Versions::Newest4), None) => Version::NEWEST_FIRST[..3].to_vec(),
            (None, None) if self.transport().is_some_and(Transport::is_udp) => vec![Version::V3],
            (None, None) => Version::NEWEST_FIRST.to_vec(),
        }
    }

    /// The transport, if one is asked for.
    pub fn transport(&self) -> Option<Transport> {
        let is = |flag: Option<Flag>| flag == Some(Flag(true));
        self.proto
            .or_else(|| is(self.tcp).then_some(Transport::Tcp))
            .or_else(|| is(self.udp).then_some(Transport::Udp))
            .or_else(|| is(self.rdma).then_some(Transport::Rdma))
    }

    /// Whether a mount of NFS 3 with these options needs rpcbind and rpc.statd here.
    pub fn needs_lock_daemons(&self) -> bool {
        let nolock = self.nolock == Some(Flag(true)) || self.lock == Some(Flag(false));
        !nolock && self.local_lock != Some(LocalLock::All)
    }

    /// Whether Kerberos is needed.
    pub fn needs_kerberos(&self) -> bool {
        self.sec.as_ref().is_some_and(Security::needs_kerberos)
    }

    /// The option string of a mount with `version`: `vers=4.2,hard,…`.
    pub fn words(&self, version: Version, read_only: bool) -> String {
        let foreign = if version.is_4() { ONLY_3 } else { ONLY_4 };
        let mut words = vec![format!("vers={version}")];
        if let Some(transport) = self.transport() {
            words.push(format!("proto={transport}"));
        }
        // A mount of NFS 3 is hard by default, too: said, so that nobody has to know.
        if self.softerr == Some(Flag(true)) {
            words.push("softerr".into());
        } else if self.hard.is_none() && self.soft.is_none() {
            words.push("hard".into());
        }
        words.extend(
            self.plain_words()
                .into_iter()
                .filter(|(name, _)| !foreign.contains(name))
                .map(|(_, word)| word),
        );
        words.extend(["nosuid".into(), "nodev".into(), "retry=0".into()]);
        if read_only {
            words.push("ro".into());
        }
        words.join(",")
    }
}

const CONFLICTS: &[(&str, &str, &str)] = &[
    ("soft", "softerr", "they are two kinds of one thing"),
    ("hard", "softerr", "a hard mount never times out"),
    ("vers", "nfsvers", "they are the same option"),
    ("proto", "tcp", "they are the same option"),
    ("proto", "udp", "they are the same option"),
    ("proto", "rdma", "they are the same option"),
    ("tcp", "udp", "a mount has one transport"),
    ("tcp", "rdma", "a mount has one transport"),
    ("udp", "rdma", "a mount has one transport"),
    ("actimeo", "acregmin", "actimeo sets it"),
    ("actimeo", "acregmax", "actimeo sets it"),
    ("actimeo", "acdirmin", "actimeo sets it"),
    ("actimeo", "acdirmax", "actimeo sets it"),
    ("noac", "actimeo", "noac caches no attributes"),
    ("noac", "acregmin", "noac caches no attributes"),
    ("noac", "acregmax", "noac caches no attributes"),
    ("noac", "acdirmin", "noac caches no attributes"),
    ("noac", "acdirmax", "noac caches no attributes"),
    ("nolock", "local_lock", "nolock keeps all locks local"),
];

fn contradiction(one: &str, other: &str, why: &str) -> Error {
    Error::invalid(format!("{one} and {other} do not go together")).cause(why)
}

fn to_map(options: &Options) -> Map<String, Value> {
    match serde_json::to_value(options) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

#[cfg(test)]
#[path = "options_tests.rs"]
mod tests;
