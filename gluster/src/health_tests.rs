use super::*;
use lazarette_plugin::values::ServerName;

fn answer(server: &str, why: Option<&str>) -> Answer {
    (ServerName::new(server).unwrap(), why.map(str::to_owned))
}

fn answers(away: &[&str], to_heal: Option<u64>, split: &[&str]) -> Health {
    let found = Found::Answers {
        away: away.iter().map(|s| (*s).to_owned()).collect(),
        bricks: 2,
        to_heal,
        capacity: capacity("4096 100 40\n"),
    };
    found.health(&split.iter().map(|s| (*s).to_owned()).collect())
}

#[test]
fn bricks_heals_and_split_brains_are_told() {
    let health = answers(&[], Some(0), &[]);
    assert_eq!(health.state, HealthState::Healthy);
    assert_eq!(
        health.capacity,
        Some(Capacity {
            total: 409_600,
            used: 245_760
        })
    );
    let health = answers(&["g2:/b"], Some(4), &[]);
    assert_eq!(health.state, HealthState::Degraded);
    let why = health.reason.unwrap();
    assert!(
        why.contains("1 of 2 bricks away: g2:/b") && why.contains("4 files"),
        "{why}"
    );
    assert_eq!(health.activities[0].name, "heal");
    let health = answers(&[], None, &["c06d1f69-6eff-421d-8a13-f0d67e59f72c"]);
    assert_eq!(health.state, HealthState::Degraded);
    assert!(
        health
            .reason
            .unwrap()
            .contains("split brain in 1 files (gfid c06d1f69")
    );
    assert_eq!(
        Found::Silent.health(&BTreeSet::new()).state,
        HealthState::Unreachable
    );
    assert_eq!(
        Found::Refused.health(&BTreeSet::new()).state,
        HealthState::Unreachable
    );
}

#[test]
fn a_server_that_is_away_matters_most_where_nothing_is_mounted() {
    let both = [answer("g1", None), answer("g2", None)];
    assert_eq!(of_servers(&both, true), Health::healthy());
    let one = [answer("g1", None), answer("g2", Some("refused"))];
    let health = of_servers(&one, true);
    assert_eq!(health.state, HealthState::Degraded);
    assert!(health.reason.unwrap().contains("g2: refused"));
    let none = [answer("g1", Some("refused")), answer("g2", Some("refused"))];
    assert_eq!(of_servers(&none, true).state, HealthState::Unreachable);
    assert_eq!(of_servers(&none, false).state, HealthState::Degraded);
}

#[test]
fn the_worse_of_two_is_told_with_both_reasons() {
    let degraded = || Health::because(HealthState::Degraded, "a");
    let away = || Health::because(HealthState::Unreachable, "b");
    for both in [worse(degraded(), away()), worse(away(), degraded())] {
        assert_eq!(both.state, HealthState::Unreachable);
        assert_eq!(both.reason.as_deref(), Some("b; a"));
    }
    assert_eq!(worse(Health::healthy(), degraded()), degraded());
}

#[test]
fn a_client_hangs_only_if_servers_answer_and_it_has_not_for_long() {
    let there = [answer("g1", None)];
    let gone = [answer("g1", Some("no answer"))];
    let long_ago = || Instant::now().checked_sub(Duration::from_secs(73));
    let mut client = Client {
        patience: Duration::from_secs(42),
        ..Client::default()
    };
    assert!(!client.hangs(&Found::Silent, &there));
    client.silent = long_ago();
    assert!(client.hangs(&Found::Silent, &there));
    client.silent = long_ago();
    assert!(!client.hangs(&Found::Silent, &gone));
    assert!(!client.hangs(&Found::Silent, &there), "from the beginning");
    client.silent = long_ago();
    assert!(!client.hangs(&Found::Refused, &there));
}

#[test]
fn bricks_are_asked_only_if_they_can_know_and_what_they_list_counts() {
    let found = |away: &[&str], to_heal| Found::Answers {
        away: away.iter().map(|s| (*s).to_owned()).collect(),
        bricks: 2,
        to_heal,
        capacity: None,
    };
    let left = |found: &Found| match found {
        Found::Answers { to_heal, .. } => *to_heal,
        _ => None,
    };
    let listed = || {
        let split = ["/apps/f".to_owned()].into();
        Ok(Unhealed {
            split,
            ..Unhealed::default()
        })
    };
    let never = || -> Result<Unhealed, String> { panic!("asked") };
    let mut client = Client {
        split: ["c06d1f69-6eff-421d-8a13-f0d67e59f72c".to_owned()].into(),
        ..Client::default()
    };
    client
        .ask_bricks(&mut found(&["g2:/b"], Some(2)), never)
        .unwrap();
    client.ask_bricks(&mut found(&[], None), never).unwrap();
    client
        .ask_bricks(&mut found(&[], Some(FEW + 1)), never)
        .unwrap();
    assert_eq!(client.split.len(), 1);
    let mut two = found(&[], Some(2));
    client.ask_bricks(&mut two, listed).unwrap();
    assert_eq!(left(&two), Some(1), "a split brain is no heal that waits");
    let why = two.health(&client.split).reason.unwrap();
    assert!(why.contains("split brain in 1 files (/apps/f)"), "{why}");
    // Not at every look.
    client.ask_bricks(&mut found(&[], Some(2)), never).unwrap();
    client.asked = Instant::now().checked_sub(ASK);
    let failed = || Err("no answer".to_owned());
    client
        .ask_bricks(&mut found(&[], Some(2)), failed)
        .unwrap_err();
    assert_eq!(client.split.len(), 1, "what was known stays");
    client.ask_bricks(&mut found(&[], Some(0)), never).unwrap();
    assert!(client.split.is_empty());
}

#[test]
fn a_log_is_read_once_told_and_emptied_when_long() {
    let place = tempfile::tempdir().unwrap();
    let log = place.path().join("log");
    let listener = Arc::new(crate::fakes::Listener::default());
    let host = Host::new(listener.clone(), place.path());
    let mut client = Client {
        pid: 7,
        ..Client::default()
    };
    fs::write(&log, include_str!("../fixtures/split-brain.log")).unwrap();
    client.hear(&host, &log);
    let said = listener.said();
    assert!(
        said.contains("client 7: 0-gv0-replicate-0: All subvolumes are down"),
        "{said}"
    );
    assert_eq!(client.split.len(), 1);
    client.hear(&host, &log);
    assert_eq!(listener.said(), said);
    let line = "[2026-11-23 16:36:00.408327 +0000] W [a.c:1:f] 0-x: again and again\n";
    let many = usize::try_from(LONGEST_LOG).unwrap() / line.len() + 100;
    fs::write(&log, line.repeat(many)).unwrap();
    client.read = 0;
    client.hear(&host, &log);
    assert!(listener.said().contains("lines more"));
    assert_eq!(fs::metadata(&log).unwrap().len(), 0);
    client.hear(&host, &log);
}

#[test]
fn capacities() {
    assert_eq!(capacity(""), None);
    assert_eq!(capacity("4096 0 0"), None);
    assert_eq!(capacity("4096 10 20"), None);
    assert_eq!(capacity("18446744073709551615 2 1"), None);
    assert_eq!(capacity("x 2 1"), None);
}
