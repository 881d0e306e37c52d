//! What users say, and what sshfs is told.

use std::path::Path;

use lazarette_plugin::values::{Number, ServerName, Subdirectory, without_null};
use lazarette_plugin::{Error, ErrorKind, JsonSchema, OptionText, Result, checked_text, quoted};
use serde::{Deserialize, Serialize};

/// Where the context's secrets are.
const SECRETS: &str = "/run/secrets";

/// Options of a context.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = without_null)]
pub struct Config {
    /// The SSH server.
    pub server: ServerName,
    /// The account there.
    pub user: Word,
    /// Its port, 22 if not given.
    pub port: Option<Number<1, 65535>>,
    /// The directory of the server in which volumes lie; none: the account's home.
    #[serde(default)]
    pub path: String,
    /// Whose all files are for those who use them here; on the server they are the account's.
    pub uid: Option<Number<0, 2_147_483_647>>,
    /// The group that all files have here.
    pub gid: Option<Number<0, 2_147_483_647>>,
    /// Directories below `path` that are mounted without further ado.
    #[serde(default)]
    pub volumes: Vec<Subdirectory>,
}

/// Options of a volume.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(transform = without_null)]
pub struct Options {
    /// The directory below the context's `path`, made if need be; none: all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<Subdirectory>,
    /// What becomes of the directory when the volume is removed.
    #[schemars(extend("x-lazarette-deletes" = "path"))]
    pub on_remove: OnRemove,
}

/// What becomes of a directory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnRemove {
    /// It stays.
    #[default]
    Keep,
    /// It is deleted with all that is in it.
    Delete,
}

checked_text!(
    /// An account: letters, digits, `_`, `.` and `-`.
    Word, check_word, "^[A-Za-z0-9_][A-Za-z0-9_.-]*$"
);

fn check_word(text: &str) -> Result<String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    if (1..=64).contains(&text.len()) && !text.starts_with(['-', '.']) && text.bytes().all(plain) {
        return Ok(text.to_owned());
    }
    let error = Error::invalid(format!("user {}", quoted(text)));
    Err(error.remedy("use letters, digits, '_', '.' and '-'"))
}

impl Config {
    /// Refuses what the schema cannot, and secrets that are not there.
    pub(crate) fn check(&self) -> Result<()> {
        OptionText::new(&self.path)?;
        for secret in ["key", "known_hosts"] {
            std::fs::metadata(Path::new(SECRETS).join(secret)).map_err(|e| {
                Error::new(ErrorKind::NotFound, format!("the secret {secret}"))
                    .cause(e)
                    .remedy(format!("make /etc/lazarette/secrets/CONTEXT/{secret}"))
            })?;
        }
        Ok(())
    }

    pub(crate) fn port(&self) -> u16 {
        let port = self.port.as_ref().map(|port| port.0);
        port.and_then(|port| port.try_into().ok()).unwrap_or(22)
    }

    /// What is mounted.
    pub(crate) fn source(&self) -> String {
        format!("{}@{}:{}", self.user, self.server.in_source(), self.path)
    }

    /// What sshfs is told: to stay in the foreground, to connect again by itself, to ask nobody
    /// anything, and to fail what waits for a server that is silent for 15 s.
    pub(crate) fn arguments(&self, place: &Path) -> Vec<String> {
        let mut options = format!(
            "IdentityFile={SECRETS}/key,UserKnownHostsFile={SECRETS}/known_hosts,\
             GlobalKnownHostsFile=/dev/null,IdentitiesOnly=yes,StrictHostKeyChecking=yes,\
             BatchMode=yes,ConnectTimeout=10,ServerAliveInterval=5,ServerAliveCountMax=3,\
             reconnect,allow_other,default_permissions,nosuid,nodev"
        );
        for (name, id) in [("uid", &self.uid), ("gid", &self.gid)] {
            if let Some(id) = id {
                options.push_str(&format!(",{name}={id}"));
            }
        }
        let port = self.port().to_string();
        let fixed = ["-f", "-F", "/dev/null", "-p", &port, "-o", &options];
        let mut all = fixed.map(str::to_owned).to_vec();
        all.extend([self.source(), place.display().to_string()]);
        all
    }

    /// The error in what sshfs said before it ended.
    pub(crate) fn explain(&self, said: &str) -> Error {
        use ErrorKind::{NotFound, PermissionDenied, Unreachable};
        let known = [
            (
                "Host key verification failed",
                PermissionDenied,
                "see whether it is your server, and put what ssh-keyscan says of it into the secret known_hosts",
            ),
            (
                "Permission denied",
                PermissionDenied,
                "give the account the public key of the secret key",
            ),
            ("No such file", NotFound, "make the path on the server"),
        ];
        let found = known.iter().find(|(words, ..)| said.contains(words));
        let otherwise = &("", Unreachable, "check the server's name, port and network");
        let (_, kind, remedy) = found.unwrap_or(otherwise);
        let last = said.lines().rfind(|line| !line.trim().is_empty());
        Error::new(*kind, format!("cannot mount {}", self.source()))
            .cause(last.unwrap_or("sshfs ended without a word"))
            .remedy(*remedy)
    }
}
