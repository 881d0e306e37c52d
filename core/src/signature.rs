//! Signatures of plugins: what their author signs, whose signatures count, and what one is worth.
//!
//! What is signed is a short text, the [`statement`], which names the image by its identity. That is
//! the hash of the image's configuration, which holds the hashes of all its layers: so the signature
//! is of all that runs. docs/decisions/0015-what-is-signed-is-the-images-identity.md says why.

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use minisign_verify::{PublicKey, Signature};

use crate::error::{Error, ErrorKind};
use crate::name::Kind;

/// What the file with the statement is called: the archive's name and this.
pub const STATEMENT_SUFFIX: &str = ".statement";
/// What minisign appends to the name of what it signs.
pub const SIGNATURE_SUFFIX: &str = ".minisig";
/// The largest file that is taken for a signature, in bytes. Those of minisign have about 300.
pub const LARGEST_SIGNATURE: usize = 4096;

/// The length of a public key of minisign in base64: two bytes of algorithm, eight of identity, 32.
const KEY_LENGTH: usize = 56;
/// How a secret key of minisign begins.
const SECRET: &str = "RWRTY0I";

/// What the author of a plugin signs. No two images have the same, whatever is in `version`: the kind
/// is on a line of its own, and the image's identity is the last one.
pub fn statement(kind: &Kind, version: &str, image: &str) -> String {
    format!("lazarette plugin 1\nkind: {kind}\nversion: {version}\nimage: {image}\n")
}

/// The identity of a key, as minisign prints it: 16 hexadecimal digits. It is no proof of anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId(u64);

impl KeyId {
    /// That of a key or of a signature in base64: both have it behind two bytes of algorithm.
    fn of(text: &str) -> Option<Self> {
        let bytes = BASE64_STANDARD.decode(text.trim()).ok()?;
        let id = bytes.get(2..10)?.try_into().ok()?;
        Some(Self(u64::from_le_bytes(id)))
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016X}", self.0)
    }
}

/// A public key whose signatures count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedKey {
    id: KeyId,
    key: PublicKey,
}

impl TrustedKey {
    /// The key in `text`, as it is in the second line of a `minisign.pub`.
    ///
    /// # Errors
    /// A sentence that does not repeat the text: it may be a secret key by mistake.
    pub fn parse(text: &str) -> Result<Self, String> {
        const WANTED: &str =
            "give the second line of minisign.pub, 56 characters that begin with RW";
        if text.starts_with(SECRET) || text.len() > 2 * KEY_LENGTH {
            return Err(format!(
                "is no public key; if it is a secret one, replace it, for it is known now; {WANTED}"
            ));
        }
        let parsed = PublicKey::from_base64(text).ok().zip(KeyId::of(text));
        match parsed {
            Some((key, id)) => Ok(Self { id, key }),
            None if text.lines().count() > 1 => {
                Err(format!("is more than one line of a file; {WANTED}"))
            }
            None => Err(format!("is no public key of minisign; {WANTED}")),
        }
    }

    /// Its identity.
    pub fn id(&self) -> KeyId {
        self.id
    }
}

/// What the cloud-config says of signatures.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// Whether a plugin without a signature that counts may not serve.
    pub required: bool,
    /// Whose signatures count.
    pub keys: Vec<TrustedKey>,
}

/// What is wrong with a plugin's signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wrong {
    /// There is none.
    Missing,
    /// It is no signature.
    Unreadable,
    /// It is one of those that minisign made before it hashed what it signs.
    Legacy,
    /// It is by a key that is not among those that count.
    UnknownKey(KeyId),
    /// It is of something else, or was changed.
    Mismatch(KeyId),
}

impl Policy {
    /// Whose signature of `statement` this is.
    ///
    /// # Errors
    /// Why it does not count.
    pub fn verify(&self, statement: &str, signature: &str) -> Result<KeyId, Wrong> {
        let id = key_of(signature)?;
        let decoded = Signature::decode(signature).map_err(|_| Wrong::Unreadable)?;
        let mut keys = self.keys.iter().filter(|key| key.id == id).peekable();
        if keys.peek().is_none() {
            return Err(Wrong::UnknownKey(id));
        }
        let verifies = |key: &TrustedKey| key.key.verify(statement.as_bytes(), &decoded, false);
        match keys.any(|key| verifies(key).is_ok()) {
            true => Ok(id),
            false => Err(Wrong::Mismatch(id)),
        }
    }
}

/// The key that a signature says it is by, which anybody can write.
///
/// # Errors
/// [`Wrong::Unreadable`] or [`Wrong::Legacy`].
pub fn key_of(signature: &str) -> Result<KeyId, Wrong> {
    if signature.len() > LARGEST_SIGNATURE {
        return Err(Wrong::Unreadable);
    }
    Signature::decode(signature).map_err(|_| Wrong::Unreadable)?;
    let line = signature.lines().nth(1).unwrap_or_default();
    let bytes = BASE64_STANDARD
        .decode(line)
        .map_err(|_| Wrong::Unreadable)?;
    // `Ed` is a signature of the text itself; it could be taken for one of a text with that hash.
    if bytes.starts_with(b"Ed") {
        return Err(Wrong::Legacy);
    }
    KeyId::of(line).ok_or(Wrong::Unreadable)
}

impl Wrong {
    /// The refusal of the plugin `kind` with this image, in one sentence.
    pub fn error(&self, kind: &Kind, image: &str) -> Error {
        let digits = image.strip_prefix("sha256:").unwrap_or(image);
        let short = digits.get(..12).unwrap_or(digits);
        let what = format!("plugin \"{kind}\" (image {short})");
        let (cause, remedy) = match self {
            Self::Missing => (
                "it is not signed, and lazarette.plugins.require_signature asks for that".into(),
                "install it again with its author's signature: laz plugin install --signature FILE",
            ),
            Self::Unreadable => (
                "its signature is none of minisign's".into(),
                "give the file that minisign -S has written (….statement.minisig)",
            ),
            Self::Legacy => (
                "its signature is of minisign's old form, which is not taken".into(),
                "have it signed by minisign 0.10 or newer, without -l",
            ),
            Self::UnknownKey(key) => (
                format!("it is signed by key {key}, which is not in lazarette.plugins.keys"),
                "add its author's public key there, if you trust it",
            ),
            Self::Mismatch(key) => (
                format!("its signature by key {key} is of something else, or was changed"),
                "give the signature of this image's statement, which laz plugin pack has written",
            ),
        };
        Error::new(ErrorKind::PermissionDenied, what)
            .cause(cause)
            .remedy(remedy)
    }
}

#[cfg(test)]
#[path = "signature_tests.rs"]
mod tests;
