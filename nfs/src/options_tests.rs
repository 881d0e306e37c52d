use super::*;
use lazarette_plugin::serde_json::json;

fn options(value: Value) -> Options {
    serde_json::from_value(value).unwrap()
}

#[test]
fn a_mount_is_hard_unless_asked_otherwise_and_never_retries_by_itself() {
    assert_eq!(
        options(json!({})).words(Version::V42, false),
        "vers=4.2,hard,nosuid,nodev,retry=0"
    );
    assert_eq!(
        options(json!({"soft": true, "timeo": "50", "retrans": 3})).words(Version::V41, true),
        "vers=4.1,soft,timeo=50,retrans=3,nosuid,nodev,retry=0,ro"
    );
    assert_eq!(
        options(json!({"softerr": ""})).words(Version::V3, false),
        "vers=3,softerr,nosuid,nodev,retry=0"
    );
    assert_eq!(
        options(json!({"soft": "false"})).words(Version::V42, false),
        "vers=4.2,hard,nosuid,nodev,retry=0"
    );
}

#[test]
fn every_option_of_nfs_5_has_its_word() {
    let all = options(json!({
        "hard": true, "softreval": true, "ac": true, "nocto": true, "noacl": true, "lock": true,
        "nordirplus": true, "nosharecache": true, "noresvport": true, "fsc": true,
        "timeo": 600, "retrans": 2, "rsize": 1_048_576, "wsize": 1_048_576, "acregmin": 3, "acregmax": 60,
        "acdirmin": 30, "acdirmax": 60, "lookupcache": "pos", "nconnect": 4, "sec": "sys:krb5p",
        "xprtsec": "tls", "write": "eager", "port": 2049, "mountport": 20048, "mountproto": "tcp",
        "mountvers": 3, "mounthost": "nas", "namlen": 255, "local_lock": "flock", "vers": "3", "proto": "tcp",
    }));
    all.check().unwrap();
    let words = all.words(Version::V3, false);
    for word in [
        "vers=3",
        "proto=tcp",
        "hard",
        "softreval",
        "ac",
        "nocto",
        "noacl",
        "lock",
        "nordirplus",
        "nosharecache",
        "noresvport",
        "fsc",
        "timeo=600",
        "retrans=2",
        "rsize=1048576",
        "wsize=1048576",
        "acregmin=3",
        "acregmax=60",
        "acdirmin=30",
        "acdirmax=60",
        "lookupcache=pos",
        "nconnect=4",
        "sec=sys:krb5p",
        "xprtsec=tls",
        "write=eager",
        "port=2049",
        "mountport=20048",
        "mountproto=tcp",
        "mountvers=3",
        "mounthost=nas",
        "namlen=255",
        "local_lock=flock",
    ] {
        assert!(words.split(',').any(|w| w == word), "{word} in {words}");
    }
    let four = options(
        json!({"vers": "4.0", "clientaddr": "0.0.0.0", "migration": true, "max_connect": 2}),
    );
    four.check().unwrap();
    let words = four.words(Version::V40, false);
    assert!(
        words.contains("clientaddr=0.0.0.0,") || words.contains(",clientaddr=0.0.0.0"),
        "{words}"
    );
    assert!(
        words.contains("migration") && words.contains("max_connect=2"),
        "{words}"
    );
}

/// The names in nfs(5) of nfs-common 2.8, each either offered or refused with a reason.
#[test]
fn no_option_of_nfs_5_is_forgotten() {
    let page = "nfsvers vers soft softerr hard softreval nosoftreval intr nointr timeo retrans rsize wsize ac noac \
        acregmin acregmax acdirmin acdirmax actimeo bg fg nconnect max_connect rdirplus nordirplus retry sec \
        sharecache nosharecache resvport noresvport lookupcache fsc nofsc sloppy xprtsec proto udp tcp rdma port \
        mountport mountproto mounthost mountvers namlen lock nolock cto nocto acl noacl local_lock minorversion \
        clientaddr migration nomigration trunkdiscovery notrunkdiscovery";
    for name in page.split_whitespace() {
        assert!(NAMES.contains(&name) != refused(name).is_some(), "{name}");
    }
}

#[test]
fn without_a_version_all_are_tried_newest_first() {
    let tried = |value| options(value).versions();
    assert_eq!(tried(json!({})), Version::NEWEST_FIRST);
    assert_eq!(
        tried(json!({"vers": 4})),
        [Version::V42, Version::V41, Version::V40]
    );
    assert_eq!(
        tried(json!({"vers": 4, "minorversion": "1"})),
        [Version::V41]
    );
    assert_eq!(tried(json!({"nfsvers": "3"})), [Version::V3]);
    assert_eq!(tried(json!({"udp": true})), [Version::V3]);
}

#[test]
fn options_of_one_version_are_left_out_for_another_if_none_is_asked_for() {
    let both = options(json!({"nolock": true, "clientaddr": "10.0.0.2"}));
    both.check().unwrap();
    assert!(!both.words(Version::V42, false).contains("lock"));
    assert!(both.words(Version::V42, false).contains("clientaddr"));
    assert!(both.words(Version::V3, false).contains("nolock"));
    assert!(!both.words(Version::V3, false).contains("clientaddr"));
}

#[test]
fn combinations_that_cannot_work_are_explained() {
    for (bad, says) in [
        (json!({"hard": true, "soft": true}), "hard and soft"),
        (json!({"ac": false, "noac": false}), "ac and noac"),
        (json!({"soft": true, "softerr": true}), "softerr"),
        (json!({"vers": "4.2", "nolock": true}), "NFS 3 only"),
        (json!({"vers": "4", "noacl": true}), "NFS 3 only"),
        (json!({"vers": "4.1", "udp": true}), "NFS 4 needs TCP"),
        (json!({"vers": "3", "clientaddr": "10.0.0.1"}), "NFS 4 only"),
        (json!({"vers": "3", "nomigration": true}), "NFS 4 only"),
        (json!({"vers": "4.2", "nfsvers": "4.2"}), "vers and nfsvers"),
        (json!({"minorversion": 1}), "vers: 4"),
        (json!({"vers": "4.2", "minorversion": 1}), "vers: 4"),
        (json!({"tcp": true, "rdma": true}), "one transport"),
        (json!({"noac": true, "actimeo": 5}), "noac"),
        (json!({"actimeo": 5, "acdirmin": 5}), "actimeo sets it"),
        (
            json!({"udp": true, "nconnect": 2}),
            "UDP has no connections",
        ),
        (json!({"xprtsec": "tls", "proto": "rdma"}), "TLS needs TCP"),
        (json!({"nolock": true, "local_lock": "flock"}), "nolock"),
    ] {
        let error = options(bad.clone()).check().unwrap_err().to_string();
        assert!(error.contains(says), "{bad}: {error}");
    }
    for good in [
        json!({"hard": true, "soft": false}),
        json!({"tcp": true, "udp": false}),
        json!({"vers": "4", "minorversion": 2}),
    ] {
        assert_eq!(options(good.clone()).check(), Ok(()), "{good}");
    }
}

#[test]
fn a_volume_s_option_replaces_the_context_s_whole_group() {
    let context =
        options(json!({"hard": true, "vers": "4.2", "proto": "tcp", "noac": true, "timeo": 600}));
    let volume = options(json!({"soft": true, "nfsvers": 3, "udp": true, "ac": true}));
    let merged = context.overlaid_by(&volume);
    merged.check().unwrap();
    assert_eq!(
        merged,
        options(json!({"soft": true, "nfsvers": 3, "udp": true, "ac": true, "timeo": 600}))
    );
    assert_eq!(context.overlaid_by(&Options::default()), context);
}

#[test]
fn which_options_need_the_lock_daemons() {
    assert!(options(json!({})).needs_lock_daemons());
    assert!(options(json!({"local_lock": "flock"})).needs_lock_daemons());
    for local in [
        json!({"nolock": true}),
        json!({"lock": "no"}),
        json!({"local_lock": "all"}),
    ] {
        assert!(!options(local).needs_lock_daemons());
    }
}
