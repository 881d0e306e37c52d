use super::*;
use crate::fakes::{Container, call_of, row};
use lazarette_plugin::VolumeId;
use lazarette_plugin::serde_json::{Value, from_value, json};
use std::time::Duration;

fn call() -> Call {
    call_of(Duration::from_secs(60))
}

fn volume() -> Volume<VolumeOptions> {
    Volume {
        id: VolumeId::random(),
        options: from_value(json!({"size": "1G"})).unwrap(),
    }
}

fn plain() -> Value {
    json!({"volume_group": "fast"})
}

/// A source and its clone of which 512 MiB are copied, with more rows.
fn half_copied(more: impl FnOnce(&str, &str) -> Vec<Value>) -> (Container, CloneOf) {
    let (source, clone) = (volume(), volume());
    let name = stamp::name_of_volume(source.id);
    let ready = format!("{},{}", stamp::of_volume(source.id), stamp::READY);
    let tags = format!("{},{}", stamp::of_volume(clone.id), stamp::copied(512));
    let mut rows = vec![
        row(&name, &ready, &[]),
        row(&stamp::name_of_volume(clone.id), &tags, &[]),
    ];
    rows.extend(more(&name, &stamp::name_of_helper(clone.id)));
    (Container::new(&rows), CloneOf { source, clone })
}

struct CloneOf {
    source: Volume<VolumeOptions>,
    clone: Volume<VolumeOptions>,
}

#[test]
fn a_copy_goes_on_where_its_tag_says_and_notes_how_far_it_is() {
    let (container, of) = half_copied(|_, _| Vec::new());
    let inner = container.inner(plain());
    let call = call();
    let look = inner.look(Time::Of(&call)).unwrap();
    inner
        .copy(&call, &look.all[0], 1200 << 20, &look.all[1])
        .unwrap();
    let calls = container.calls();
    let parts: Vec<&str> = calls
        .iter()
        .filter_map(|c| c.strip_prefix("dd ")?.split_once("status=none "))
        .map(|(_, part)| part)
        .collect();
    assert_eq!(
        parts,
        [
            "skip=512 seek=512 count=512",
            "skip=1024 seek=1024 count=512"
        ]
    );
    let name = stamp::name_of_volume(of.clone.id);
    let noted = |now: u64, before: u64| {
        format!(
            "lvm lvchange --addtag {} --deltag {} -- fast/{name}",
            stamp::copied(now),
            stamp::copied(before)
        )
    };
    assert!(calls.contains(&noted(1024, 512)), "{calls:?}");
    assert_eq!(calls.last(), Some(&noted(1200, 1024)));
    // All of it is there: nothing is copied again.
    let done = row(&name, &stamp::copied(1200), &[]);
    container.set("lvs.json", &json!({"report": [{"lv": [done]}]}).to_string());
    let before = container
        .calls()
        .iter()
        .filter(|c| c.starts_with("dd"))
        .count();
    let target = inner.look(Time::Of(&call)).unwrap().all.remove(0);
    inner
        .copy(&call, &look.all[0], 1200 << 20, &target)
        .unwrap();
    let after = container
        .calls()
        .iter()
        .filter(|c| c.starts_with("dd"))
        .count();
    assert_eq!(before, after);
}

#[test]
fn a_copy_begins_anew_when_what_it_was_made_from_is_lost() {
    let thick = "public,snapshot,thicksnapshot";
    for (invalid, anew) in [("0", false), ("1", true)] {
        let (container, of) = half_copied(|name, helper| {
            let still = [
                ("lv_role", thick),
                ("origin", name),
                ("lv_snapshot_invalid", invalid),
            ];
            vec![row(helper, "", &still)]
        });
        let inner = container.inner(plain());
        let call = call();
        let time = Time::Of(&call);
        let look = inner.look(time).unwrap();
        let helper = stamp::name_of_helper(of.clone.id);
        let source = CloneSource {
            volume: of.source,
            snapshot: None,
        };
        inner
            .still(time, &look, &of.clone, &source, &look.all[0], &helper)
            .unwrap();
        let calls = container.calls();
        let forgotten = format!("--deltag {}", stamp::copied(512));
        assert_eq!(
            calls.iter().any(|c| c.contains(&forgotten)),
            anew,
            "{calls:?}"
        );
        let removed = format!("lvm lvremove --yes -- fast/{helper}");
        assert_eq!(calls.contains(&removed), anew, "{calls:?}");
    }
}
