//! Two contexts that claim what only one may have.

use serde_json::Value;

use super::World;
use super::world::{ContextEntry, ContextStage};
use crate::error::{Error, ErrorKind};
use crate::name::{ContextName, Kind};

impl World {
    /// Why a context of `kind` with the options `config` cannot be beside those that are there:
    /// another one has what only one may have.
    pub fn refusal(&self, kind: &Kind, config: &Value) -> Option<Error> {
        let option = self.exclusive(kind)?;
        let claimed = config.get(option)?;
        let mut others = self.contexts.iter().filter(|(_, c)| c.kind == *kind);
        let (holder, _) = others.find(|(_, c)| claims(c, option, claimed))?;
        Some(refused(option, claimed, holder))
    }

    /// Why the context `name` cannot come up: one that was there before has what only one may have.
    pub fn rival(&self, name: &ContextName, context: &ContextEntry) -> Option<Error> {
        let option = self.exclusive(&context.kind)?;
        let claimed = context.config.get(option)?;
        let first = |(other, c): &(&ContextName, &ContextEntry)| {
            *other != name
                && c.kind == context.kind
                && claims(c, option, claimed)
                && (c.since, *other) < (context.since, name)
        };
        let (holder, _) = self.contexts.iter().find(first)?;
        Some(refused(option, claimed, holder))
    }

    fn exclusive(&self, kind: &Kind) -> Option<&str> {
        self.kinds.get(kind)?.manifest.exclusive.as_deref()
    }
}

/// Whether it has, or is to have, the thing: until it is opened anew it has what it was opened with.
fn claims(context: &ContextEntry, option: &str, claimed: &Value) -> bool {
    let opened = (context.stage == ContextStage::Open)
        .then_some(context.opened_with.as_ref())
        .flatten();
    [Some(&context.config), opened]
        .into_iter()
        .flatten()
        .any(|config| config.get(option) == Some(claimed))
}

fn refused(option: &str, claimed: &Value, holder: &ContextName) -> Error {
    let text = claimed
        .as_str()
        .map_or_else(|| claimed.to_string(), ToOwned::to_owned);
    Error::new(
        ErrorKind::AlreadyExists,
        format!(
            "{} \"{text}\" belongs to context \"{holder}\"",
            option.replace('_', " ")
        ),
    )
    .cause("only one context at a time can have it")
    .remedy(format!(
        "use context \"{holder}\", or take that one away first"
    ))
}
