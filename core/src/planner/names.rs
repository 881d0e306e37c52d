//! What plugins know by identity, people know by name.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::World;
use crate::name::ContextName;
use crate::volume::Health;

/// Characters of an identity.
const LENGTH: usize = 36;

impl World {
    /// Puts names in the place of the identities of the context's volumes and snapshots in reasons: of a
    /// snapshot `VOLUME@SNAPSHOT`, as `laz` takes it.
    pub(super) fn name_in_reasons(&self, context: &ContextName, report: &mut Health) {
        let own = report.volumes.iter_mut().map(|volume| &mut volume.reason);
        for reason in own.chain([&mut report.reason]).flatten() {
            if identities(reason).next().is_some() {
                *reason = named(reason, &self.names_of(context));
            }
        }
    }

    fn names_of(&self, context: &ContextName) -> BTreeMap<Uuid, String> {
        let volumes = self.volumes.iter().filter(|(_, v)| v.context == *context);
        let names = volumes.flat_map(|(name, volume)| {
            let snapshots = volume.snapshots.iter();
            let snapshots = snapshots.map(move |(own, s)| (s.id.0, format!("{name}@{own}")));
            snapshots.chain([(volume.id.0, name.to_string())])
        });
        names.collect()
    }
}

/// The identities in `text`, and where they begin: those that stand alone. In `lz-UUID` it is part of
/// another name.
fn identities(text: &str) -> impl Iterator<Item = (usize, Uuid)> {
    let joins = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'-');
    let bytes = text.as_bytes();
    (0..text.len()).filter_map(move |at| {
        let end = at + LENGTH;
        let before = at.checked_sub(1).and_then(|before| bytes.get(before));
        if bytes.get(at + 8) != Some(&b'-') || joins(before) || joins(bytes.get(end)) {
            return None;
        }
        let id = Uuid::try_parse(text.get(at..end)?).ok()?;
        Some((at, id))
    })
}

fn named(text: &str, names: &BTreeMap<Uuid, String>) -> String {
    let mut said = String::new();
    let mut rest = 0;
    for (at, id) in identities(text) {
        if let Some(name) = names.get(&id) {
            said.push_str(&text[rest..at]);
            said.push_str(name);
            rest = at + LENGTH;
        }
    }
    said.push_str(&text[rest..]);
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_known_identities_that_stand_alone_become_names() {
        let [one, two] = [1, 2].map(Uuid::from_u128);
        let names = BTreeMap::from([(one, "small@one".to_owned())]);
        for (text, wanted) in [
            (format!("{one}"), "small@one".to_owned()),
            (
                format!("ü {one}, {one}: ü"),
                "ü small@one, small@one: ü".to_owned(),
            ),
            (
                format!("{two} lzs-{one} {one}_"),
                format!("{two} lzs-{one} small@one_"),
            ),
            (format!("{one}0 0{one}"), format!("{one}0 0{one}")),
        ] {
            assert_eq!(named(&text, &names), wanted);
        }
    }

    proptest! {
        #[test]
        fn no_text_brings_it_down(text in "[-0-9aü]{0,120}") {
            let names = identities(&text).map(|(_, id)| (id, "x".to_owned())).collect();
            named(&text, &names);
        }
    }
}
