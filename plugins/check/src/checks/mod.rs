//! The checks, in the order in which they run: what costs the plugin least comes first.

mod calls;
mod capabilities;
mod closing;
mod concurrency;
mod copies;
mod handshake;
mod health;
mod kills;
mod leftovers;
mod limits;
mod manifest;
mod mounts;
mod options;
mod volumes;

use crate::kit::Kit;
use crate::report::Verdict;
use crate::subject::Failed;

pub(crate) use leftovers::Rounds;

/// What a check finds.
pub(crate) type Found = Result<Verdict, Failed>;

/// A check: its name, what it demands, and how it looks.
pub struct Named {
    /// `group.what`.
    pub id: &'static str,
    /// What the contract demands.
    pub demands: &'static str,
    /// Whether the context has to be open before.
    pub(crate) needs_open: bool,
    pub(crate) run: fn(&mut Kit) -> Found,
}

impl Named {
    const fn open(id: &'static str, demands: &'static str, run: fn(&mut Kit) -> Found) -> Self {
        Self {
            id,
            demands,
            needs_open: true,
            run,
        }
    }

    const fn before(id: &'static str, demands: &'static str, run: fn(&mut Kit) -> Found) -> Self {
        Self {
            id,
            demands,
            needs_open: false,
            run,
        }
    }
}

const GROUPS: &[&[Named]] = &[
    handshake::CHECKS,
    manifest::CHECKS,
    options::CHECKS,
    calls::CHECKS,
    volumes::CHECKS,
    mounts::CHECKS,
    capabilities::CHECKS,
    copies::CHECKS,
    concurrency::CHECKS,
    limits::CHECKS,
    leftovers::CHECKS,
    health::CHECKS,
    kills::CHECKS,
    closing::CHECKS,
];

/// All checks, in their order.
pub fn all() -> impl Iterator<Item = &'static Named> {
    GROUPS.iter().flat_map(|group| group.iter())
}

fn skipped(why: impl Into<String>) -> Found {
    Ok(Verdict::Skipped(why.into()))
}

fn failed<T>(why: impl Into<String>) -> Result<T, Failed> {
    Err(Failed::new(why))
}

/// Skips the rest of a check unless the plugin offers a capability.
macro_rules! needs {
    ($kit:ident, $capability:ident) => {
        if !$kit.offers(lazarette_core::manifest::Capability::$capability) {
            return $crate::checks::skipped(concat!(
                "the manifest does not offer `",
                stringify!($capability),
                "`"
            ));
        }
    };
}
use needs;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_say_their_group() {
        let mut names: Vec<_> = all().map(|check| check.id).collect();
        assert!(names.iter().all(|name| name.split('.').count() == 2));
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
