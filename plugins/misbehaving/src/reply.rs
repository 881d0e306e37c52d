//! Answers and errors as JSON.

use lazarette_abi::export::Reply;
use serde_json::{Value, json};

/// A value.
pub(crate) fn ok(value: &Value) -> Reply {
    Ok(value.to_string().into_bytes())
}

/// An error.
pub(crate) fn error(kind: &str, message: &str) -> Reply {
    Err(text(kind, message))
}

/// An error's JSON.
pub(crate) fn text(kind: &str, message: &str) -> Vec<u8> {
    json!({"kind": kind, "message": message})
        .to_string()
        .into_bytes()
}

/// What the system refused.
pub(crate) fn refused(what: &str, why: impl std::fmt::Display) -> Vec<u8> {
    text("internal", &format!("{what}: {why}"))
}
