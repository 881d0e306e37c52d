//! The options of mount.glusterfs(8), by their names there, and the client's arguments that they
//! become.

use std::collections::BTreeMap;

use lazarette_plugin::values::{Flag, Number, without_null};
use lazarette_plugin::{Error, JsonSchema, OptionText, Result, quoted};
use serde::Deserialize;

/// A time in seconds.
pub type Seconds = Number<0, 86_400>;
/// A count.
pub type Count = Number<0, 16_777_216>;

/// Options of the mount, as in mount.glusterfs(8). What is not given is the client's own choice.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(transform = without_null)]
pub struct Options {
    /// POSIX access control lists.
    pub acl: Option<Flag>,
    /// SELinux labels.
    pub selinux: Option<Flag>,
    /// Inode numbers of 32 bits, for old programs.
    pub enable_ino32: Option<Flag>,
    /// All of a user's groups, also more than 32.
    pub resolve_gids: Option<Flag>,
    /// The root of trusted clients stays root where the volume squashes it.
    pub no_root_squash: Option<Flag>,
    /// One pool of threads for all translators.
    pub global_threading: Option<Flag>,
    /// Whether the description of the volume is checked strictly.
    pub volfile_check: Option<Flag>,
    /// Accounts of the client's memory.
    pub mem_accounting: Option<Flag>,
    /// Access times are not written.
    pub noatime: Option<Flag>,
    /// Programs on the volume cannot be run.
    pub noexec: Option<Flag>,
    /// Files are kept in the cache when they are opened anew.
    pub fopen_keep_cache: Option<Flag>,
    /// The kernel gathers writes.
    pub kernel_writeback_cache: Option<Flag>,
    /// Directories are read together with what is in them.
    pub use_readdirp: Option<Flag>,
    /// Whether the kernel drops what it has cached by itself when attributes change.
    pub auto_invalidation: Option<Flag>,
    /// A history of requests for whoever looks for a fault.
    pub event_history: Option<Flag>,
    /// Whether the page cache is bypassed.
    pub direct_io_mode: Option<DirectIo>,
    /// For so long the kernel keeps attributes.
    pub attribute_timeout: Option<Seconds>,
    /// For so long the kernel keeps names.
    pub entry_timeout: Option<Seconds>,
    /// For so long the kernel remembers that a name is not there.
    pub negative_timeout: Option<Seconds>,
    /// For so long the client keeps a user's groups.
    pub gid_timeout: Option<Seconds>,
    /// So many inodes the client keeps; 0: all.
    pub lru_limit: Option<Count>,
    /// So many hash buckets it keeps them in; a power of two.
    pub inode_table_size: Option<Count>,
    /// So many invalidations may be under way.
    pub invalidate_limit: Option<Count>,
    /// So many requests wait in the background.
    pub background_qlen: Option<Count>,
    /// From so many on the kernel holds back.
    pub congestion_threshold: Option<Count>,
    /// So many threads read requests.
    pub reader_thread_count: Option<Number<1, 64>>,
    /// Bricks further away, in milliseconds, are written to later.
    pub halo_max_latency: Option<Count>,
    /// Most bricks of a replica set that are written to at once.
    pub halo_max_replicas: Option<Count>,
    /// Fewest bricks of a replica set that are written to at once.
    pub halo_min_replicas: Option<Count>,
    /// Any option of a translator: `{"*replicate*.data-self-heal": "off"}`.
    pub xlator_option: BTreeMap<String, String>,
}

/// Whether the page cache is bypassed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum DirectIo {
    /// Always.
    Enable,
    /// Never.
    Disable,
    /// As the program that opens a file asks for.
    Auto,
}

impl Options {
    /// Checks what no single field shows.
    ///
    /// # Errors
    /// `InvalidArgument` naming the translator's option that is wrong.
    pub fn check(&self) -> Result<()> {
        for (name, value) in &self.xlator_option {
            let bad = |why: &str| {
                Error::invalid(format!("xlator-option {}: {why}", quoted(name)))
                    .remedy("give it as TRANSLATOR.OPTION: \"*replicate*.data-self-heal\"")
            };
            let plain = |c: char| c.is_ascii_alphanumeric() || "*_.-".contains(c);
            if name.starts_with(['-', '.']) || !name.chars().all(plain) {
                return Err(bad("not the name of a translator's option"));
            }
            match name.rsplit_once('.') {
                Some((translator, option)) if !translator.is_empty() && !option.is_empty() => {}
                _ => return Err(bad("does not name a translator")),
            }
            if name.len() > 128 {
                return Err(bad("is longer than 128 characters"));
            }
            OptionText::new(value).map_err(|e| bad(&e.message))?;
            // They name files and programs of the client's own container.
            if name.contains("ssl") || name.contains("volfile") || name.contains("log-file") {
                return Err(bad("names a file of the storage container"));
            }
        }
        Ok(())
    }

    /// The client's arguments.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let mut all = Vec::new();
        let plain = [
            ("acl", self.acl),
            ("selinux", self.selinux),
            ("resolve-gids", self.resolve_gids),
            ("volfile-check", self.volfile_check),
            ("mem-accounting", self.mem_accounting),
        ];
        all.extend(
            plain
                .iter()
                .filter(|(_, flag)| *flag == Some(Flag(true)))
                .map(|(name, _)| format!("--{name}")),
        );
        let switches = [
            ("enable-ino32", self.enable_ino32),
            ("no-root-squash", self.no_root_squash),
            ("global-threading", self.global_threading),
            ("fopen-keep-cache", self.fopen_keep_cache),
            ("kernel-writeback-cache", self.kernel_writeback_cache),
            ("use-readdirp", self.use_readdirp),
            ("auto-invalidation", self.auto_invalidation),
            ("event-history", self.event_history),
        ];
        for (name, flag) in switches {
            if let Some(Flag(on)) = flag {
                all.push(format!("--{name}={}", if on { "on" } else { "off" }));
            }
        }
        if let Some(mode) = self.direct_io_mode {
            let word = match mode {
                DirectIo::Enable => "on",
                DirectIo::Disable => "off",
                DirectIo::Auto => "auto",
            };
            all.push(format!("--direct-io-mode={word}"));
        }
        all.extend(
            self.numbers()
                .into_iter()
                .filter_map(|(name, n)| n.map(|n| format!("--{name}={n}"))),
        );
        all.extend(self.translators());
        all.push(format!("--fuse-mountopts={}", self.kernel_words()));
        all
    }

    fn numbers(&self) -> [(&'static str, Option<u32>); 10] {
        [
            ("attribute-timeout", self.attribute_timeout.map(|n| n.0)),
            ("entry-timeout", self.entry_timeout.map(|n| n.0)),
            ("negative-timeout", self.negative_timeout.map(|n| n.0)),
            ("gid-timeout", self.gid_timeout.map(|n| n.0)),
            ("lru-limit", self.lru_limit.map(|n| n.0)),
            ("inode-table-size", self.inode_table_size.map(|n| n.0)),
            ("invalidate-limit", self.invalidate_limit.map(|n| n.0)),
            ("background-qlen", self.background_qlen.map(|n| n.0)),
            (
                "congestion-threshold",
                self.congestion_threshold.map(|n| n.0),
            ),
            ("reader-thread-count", self.reader_thread_count.map(|n| n.0)),
        ]
    }

    fn translators(&self) -> Vec<String> {
        let halo = [
            ("halo-max-latency", self.halo_max_latency),
            ("halo-max-replicas", self.halo_max_replicas),
            ("halo-min-replicas", self.halo_min_replicas),
        ];
        let halo = halo
            .into_iter()
            .filter_map(|(name, n)| n.map(|n| format!("--xlator-option=*replicate*.{name}={n}")));
        let any = self
            .xlator_option
            .iter()
            .map(|(name, value)| format!("--xlator-option={name}={value}"));
        halo.chain(any).collect()
    }

    /// What the kernel is told. Nothing on a volume is a device or makes anybody another user.
    fn kernel_words(&self) -> String {
        let mut words = vec!["nosuid", "nodev"];
        if self.noatime == Some(Flag(true)) {
            words.push("noatime");
        }
        if self.noexec == Some(Flag(true)) {
            words.push("noexec");
        }
        words.join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn arguments(value: Value) -> Vec<String> {
        let options: Options = serde_json::from_value(value).unwrap();
        options.check().unwrap();
        options.arguments()
    }

    #[test]
    fn options_become_arguments() {
        assert_eq!(arguments(json!({})), ["--fuse-mountopts=nosuid,nodev"]);
        let all = arguments(json!({
            "acl": true, "selinux": "no", "direct-io-mode": "disable", "attribute-timeout": "5",
            "lru-limit": 0, "noatime": "", "use-readdirp": false, "halo-max-replicas": 2,
            "xlator-option": {"*replicate*.data-self-heal": "off"}
        }));
        assert_eq!(
            all,
            [
                "--acl",
                "--use-readdirp=off",
                "--direct-io-mode=off",
                "--attribute-timeout=5",
                "--lru-limit=0",
                "--xlator-option=*replicate*.halo-max-replicas=2",
                "--xlator-option=*replicate*.data-self-heal=off",
                "--fuse-mountopts=nosuid,nodev,noatime",
            ]
        );
    }

    #[test]
    fn what_is_no_option_is_refused() {
        for bad in [
            json!({"dump-fuse": "/etc/passwd"}),
            json!({"log-file": "/x"}),
            json!({"attribute-timeout": "1,suid"}),
            json!({"direct-io-mode": "on,suid"}),
            json!({"acl": "perhaps"}),
        ] {
            assert!(
                serde_json::from_value::<Options>(bad.clone()).is_err(),
                "{bad}"
            );
        }
    }

    #[test]
    fn a_translator_s_option_cannot_be_another_one() {
        for (name, value) in [
            ("data-self-heal", "off"),
            ("*replicate*.", "off"),
            (".option", "off"),
            ("--volfile=/x.y", "off"),
            ("a.b=c", "off"),
            ("a b.c", "off"),
            ("a.b", "on,suid"),
            ("a.b", "on\noff"),
            ("*-client-*.transport.socket.ssl-own-cert", "/etc/shadow"),
        ] {
            let options = Options {
                xlator_option: [(name.to_owned(), value.to_owned())].into(),
                ..Options::default()
            };
            assert!(options.check().is_err(), "{name} = {value}");
        }
    }
}
