use super::*;
use proptest::prelude::*;

/// What zpool 2.3.9 says of a mirror of two disks.
const ONLINE: &str = include_str!("fixtures/online.json");

#[test]
fn a_healthy_mirror_is_a_group_and_two_disks() {
    let found = parse(ONLINE, "tank").unwrap();
    assert_eq!(found.health(), (HealthState::Healthy, None));
    assert_eq!(found.activities(), []);
    let kinds: Vec<&str> = found.devices.iter().map(|v| v.kind.as_str()).collect();
    assert_eq!(kinds, ["mirror", "disk", "disk"]);
    let paths: Vec<&str> = found
        .devices
        .iter()
        .filter_map(|v| v.path.as_deref())
        .collect();
    assert_eq!(
        paths,
        [
            "/dev/disk/by-id/virtio-disk1-part1",
            "/dev/disk/by-id/virtio-disk2-part1"
        ]
    );
    assert!(
        found
            .devices
            .iter()
            .all(|v| v.class == "data" && v.errors == [0; 3])
    );
    let shown = found.describe("tank");
    assert_eq!(shown.as_array().unwrap().len(), 4);
    assert_eq!(shown[0]["device"], "tank");
    assert_eq!(parse(ONLINE, "other"), None);
}

#[test]
fn a_disk_that_is_gone_is_named() {
    let text = ONLINE.replacen("\"state\": \"ONLINE\"", "\"state\": \"DEGRADED\"", 3);
    let at = text.rfind("\"state\": \"ONLINE\"").unwrap();
    let text = format!(
        "{}\"state\": \"UNAVAIL\"{}",
        &text[..at],
        &text[at + "\"state\": \"ONLINE\"".len()..]
    );
    let (state, why) = parse(&text, "tank").unwrap().health();
    assert_eq!(state, HealthState::Degraded);
    assert_eq!(
        why.unwrap(),
        "/dev/disk/by-id/virtio-disk2-part1 is UNAVAIL"
    );
}

#[test]
fn a_disk_that_fails_is_named_before_it_is_given_up() {
    let text = ONLINE
        .replacen("\"write_errors\": 0", "\"write_errors\": 7", 4)
        .replace("\"error_count\": 0", "\"error_count\": 8");
    let (state, why) = parse(&text, "tank").unwrap().health();
    assert_eq!(state, HealthState::Degraded);
    let why = why.unwrap();
    let said = "/dev/disk/by-id/virtio-disk2-part1: 0 errors of reading, 7 of writing";
    assert!(
        why.contains(said) && why.ends_with("8 blocks are beyond repair"),
        "{why}"
    );
}

#[test]
fn a_scrub_is_an_activity_while_it_runs() {
    let done = include_str!("fixtures/scrubbed.json");
    let found = parse(done, "tank").unwrap();
    assert_eq!(found.activities(), []);
    assert_eq!(
        found.describe("tank")[0]["remark"],
        "scrub FINISHED, 0 errors"
    );
    let running = done
        .replace("\"FINISHED\"", "\"SCANNING\"")
        .replace("\"issued\": 328704", "\"issued\": 166400");
    let all = parse(&running, "tank").unwrap().activities();
    assert_eq!(all[0].name, "scrub");
    assert_eq!(all[0].share, Some(0.5));
    assert_eq!(all[0].detail.as_deref(), Some("no errors so far"));
    let paused = running.replace("\"scrub_pause\": 0", "\"scrub_pause\": 1795456174");
    let all = parse(&paused, "tank").unwrap().activities();
    assert!(all[0].detail.as_ref().unwrap().starts_with("paused"));
}

proptest! {
    #[test]
    fn no_status_is_too_strange(text in "\\PC*") {
        prop_assert_eq!(parse(&text, "tank"), None);
    }

    #[test]
    fn half_a_status_is_none(end in 0_usize..3000) {
        let end = end.min(ONLINE.trim_end().len() - 1);
        prop_assert_eq!(parse(&ONLINE[..end], "tank"), None);
    }
}
