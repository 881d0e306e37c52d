//! What the client itself tells of its bricks, in the virtual directory `.meta` at the root of each
//! mount: no question to a server, and no right on one, is needed for it.
//!
//! ```text
//! .meta/graphs/active/volfile        the volume as the client was told it
//! .meta/graphs/active/NAME/private   the state of the translator NAME
//! ```

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Unless the volume says otherwise, in seconds.
const PING_TIMEOUT: u64 = 42;

/// A brick, as the client sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Brick {
    /// The translator that speaks to it.
    pub(crate) translator: String,
    /// Its server and its path there: `g1:/bricks/gv0`.
    pub(crate) place: String,
    /// For so long the client waits for an answer before it gives the brick up.
    pub(crate) patience: Duration,
}

/// Where a mount at `place` describes its volume.
pub(crate) fn description(place: &Path) -> PathBuf {
    place.join(".meta/graphs/active/volfile")
}

/// Where a mount at `place` tells how `brick` is.
pub(crate) fn state(place: &Path, brick: &Brick) -> PathBuf {
    let active = place.join(".meta/graphs/active");
    active.join(&brick.translator).join("private")
}

/// The bricks in the description of a volume.
pub(crate) fn bricks(description: &str) -> Vec<Brick> {
    let mut all = Vec::new();
    let mut volume = Translator::default();
    for line in description.lines() {
        let mut words = line.split_ascii_whitespace();
        match (words.next(), words.next(), words.next()) {
            // It becomes part of a path.
            (Some("volume"), Some(name), None) if is_plain(name) => {
                volume = Translator {
                    name: name.to_owned(),
                    ..Translator::default()
                };
            }
            (Some("type"), Some(kind), None) => volume.is_client = kind == "protocol/client",
            (Some("option"), Some("remote-host"), Some(host)) => volume.host = host.to_owned(),
            (Some("option"), Some("remote-subvolume"), Some(path)) => {
                path.clone_into(&mut volume.path)
            }
            (Some("option"), Some("ping-timeout"), Some(text)) => volume.ping = text.parse().ok(),
            (Some("end-volume"), None, None) => all.extend(std::mem::take(&mut volume).brick()),
            _ => {}
        }
    }
    all
}

/// A translator of a description, while it is read.
#[derive(Default)]
struct Translator {
    name: String,
    is_client: bool,
    host: String,
    path: String,
    ping: Option<u64>,
}

impl Translator {
    fn brick(self) -> Option<Brick> {
        (self.is_client && !self.name.is_empty()).then(|| Brick {
            translator: self.name,
            place: format!("{}:{}", self.host, self.path),
            patience: Duration::from_secs(self.ping.unwrap_or(PING_TIMEOUT)),
        })
    }
}

fn is_plain(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    name.len() <= 255 && !name.starts_with(['.', '-']) && name.chars().all(plain)
}

/// The bricks that are away, by their states as tail(1) shows several files: each after a line
/// `==> PATH <==`. A brick whose state is not in it is not known to be away.
pub(crate) fn away<'a>(bricks: &'a [Brick], states: &str) -> Vec<&'a Brick> {
    let mut gone = BTreeSet::new();
    let mut translator = "";
    for line in states.lines() {
        if let Some(path) = line
            .strip_prefix("==> ")
            .and_then(|l| l.strip_suffix(" <=="))
        {
            translator = path.rsplit('/').nth(1).unwrap_or_default();
        } else if line.trim() == "connected = 0" {
            gone.insert(translator);
        }
    }
    bricks
        .iter()
        .filter(|b| gone.contains(b.translator.as_str()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn places(description: &str, states: &str) -> (Vec<String>, Vec<String>) {
        let bricks = bricks(description);
        let away = away(&bricks, states).into_iter().map(|b| b.place.clone());
        let away = away.collect();
        (bricks.into_iter().map(|b| b.place).collect(), away)
    }

    #[test]
    fn a_replicated_volume_with_both_bricks() {
        let (all, away) = places(
            include_str!("../fixtures/replicate.vol"),
            include_str!("../fixtures/replicate.state"),
        );
        assert_eq!(
            all,
            ["g1.test:/tmp/gl/g1/brick/b", "g2.test:/tmp/gl/g2/brick/b"]
        );
        assert!(away.is_empty());
    }

    #[test]
    fn an_arbiter_volume_and_a_dispersed_one_that_lack_a_brick() {
        let (all, away) = places(
            include_str!("../fixtures/arbiter.vol"),
            include_str!("../fixtures/arbiter.state"),
        );
        assert_eq!(all.len(), 3);
        assert_eq!(away, ["g2.test:/tmp/gl/g2/brick/r3"]);
        let (all, away) = places(
            include_str!("../fixtures/disperse.vol"),
            include_str!("../fixtures/disperse.state"),
        );
        assert_eq!(all.len(), 3);
        assert_eq!(away, ["g2.test:/tmp/gl/g2/brick/e3"]);
    }

    #[test]
    fn the_client_s_patience_is_the_volume_s() {
        let text = "volume a\n type protocol/client\n option ping-timeout 7\nend-volume\n\
                    volume b\n type protocol/client\nend-volume\n";
        let patience: Vec<u64> = bricks(text).iter().map(|b| b.patience.as_secs()).collect();
        assert_eq!(patience, [7, 42]);
    }

    #[test]
    fn a_name_that_leads_elsewhere_is_no_translator() {
        for name in ["..", "../../etc", "-n", "a/b", ".hidden"] {
            let text = format!("volume {name}\n type protocol/client\nend-volume\n");
            assert!(bricks(&text).is_empty(), "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_description_is_too_odd(text in "(\\PC|\n| |volume|type|option|end-volume){0,200}", states in "(\\PC|\n|==> | <==|/){0,100}") {
            let bricks = bricks(&text);
            let _ = away(&bricks, &states);
        }
    }
}
