//! What signatures decide.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use minisign::KeyPair;

use super::*;
use crate::signature::TrustedKey;

fn kind() -> Kind {
    Kind::new("shelves").unwrap()
}

fn candidate<'a>(kind: &'a Kind, image: &'a str) -> Candidate<'a> {
    Candidate {
        kind,
        version: "1.0.0",
        image,
    }
}

fn signature(pair: &KeyPair, image: &str) -> String {
    let text = signature::statement(&kind(), "1.0.0", image);
    let signed = minisign::sign(None, &pair.sk, text.as_bytes(), None, None);
    signed.unwrap().into_string()
}

fn pair() -> KeyPair {
    KeyPair::generate_unencrypted_keypair().unwrap()
}

fn policy(required: bool, keys: &[&KeyPair]) -> Policy {
    let keys = keys.iter().map(|pair| pair.pk.to_base64());
    Policy {
        required,
        keys: keys.map(|key| TrustedKey::parse(&key).unwrap()).collect(),
    }
}

fn id(pair: &KeyPair) -> String {
    let key = TrustedKey::parse(&pair.pk.to_base64()).unwrap();
    key.id().to_string()
}

#[test]
fn with_signatures_required_only_what_is_signed_by_a_listed_key_serves() {
    let (listed, stranger) = (pair(), pair());
    let signatures = BTreeMap::from([
        ("good".to_owned(), signature(&listed, "good")),
        ("strange".to_owned(), signature(&stranger, "strange")),
        // As if somebody had given one image the signature of another.
        ("swapped".to_owned(), signature(&listed, "good")),
        ("garbled".to_owned(), "no signature".to_owned()),
    ]);
    let admission = Admission::default();
    assert!(!admission.learn(policy(true, &[&listed]), signatures.clone()));
    let kind = kind();
    let judge = |image| admission.judge(candidate(&kind, image));
    let verified = PluginSignature::Verified { key: id(&listed) };
    assert_eq!(judge("good").unwrap(), verified);
    for (image, said) in [
        ("bare", "is not signed"),
        ("strange", &id(&stranger)),
        ("swapped", "of something else"),
        ("garbled", "none of minisign's"),
    ] {
        let error = judge(image).unwrap_err();
        assert_eq!(error.kind, ErrorKind::PermissionDenied);
        assert!(error.to_string().contains(said), "{image}: {error}");
    }
    let other = Candidate {
        version: "2",
        ..candidate(&kind, "good")
    };
    assert!(
        admission.judge(other).is_err(),
        "the version is signed, too"
    );

    // The key is taken away again.
    assert!(!admission.learn(policy(true, &[]), signatures.clone()));
    assert!(admission.judge(candidate(&kind, "good")).is_err());
    assert!(
        admission.learn(policy(true, &[]), signatures),
        "it is no news"
    );
}

#[test]
fn without_the_policy_all_serve_and_it_is_told_whose_they_are() {
    let (listed, stranger) = (pair(), pair());
    let signatures = BTreeMap::from([
        ("good".to_owned(), signature(&listed, "good")),
        ("strange".to_owned(), signature(&stranger, "strange")),
        ("swapped".to_owned(), signature(&listed, "good")),
    ]);
    let admission = Admission::default();
    admission.learn(policy(false, &[&listed]), signatures.clone());
    let kind = kind();
    let judge = |image| admission.judge(candidate(&kind, image)).unwrap();
    assert_eq!(judge("bare"), PluginSignature::Missing);
    assert_eq!(
        judge("good"),
        PluginSignature::Verified { key: id(&listed) }
    );
    let unchecked = |pair| PluginSignature::Unchecked { key: id(pair) };
    assert_eq!(judge("strange"), unchecked(&stranger));
    assert_eq!(judge("swapped"), PluginSignature::Wrong);
    admission.learn(policy(false, &[]), signatures);
    let judge = |image| admission.judge(candidate(&kind, image)).unwrap();
    assert_eq!(judge("good"), unchecked(&listed));
}

#[test]
fn a_signature_that_is_given_is_checked_if_there_is_a_key() {
    let (listed, stranger) = (pair(), pair());
    let (good, strange) = (signature(&listed, "new"), signature(&stranger, "new"));
    let admission = Admission::default();
    let kind = kind();
    let judge = |given: Option<&str>| admission.judge_given(candidate(&kind, "new"), given);
    for required in [false, true] {
        admission.learn(policy(required, &[&listed]), BTreeMap::new());
        assert!(judge(Some(&good)).is_ok());
        assert!(judge(Some(&strange)).is_err());
        assert!(judge(Some(&signature(&listed, "old"))).is_err());
        assert!(judge(Some("none")).is_err());
        assert_eq!(judge(None).is_err(), required);
    }
    admission.learn(policy(false, &[]), BTreeMap::new());
    let unchecked = PluginSignature::Unchecked { key: id(&stranger) };
    assert_eq!(judge(Some(&strange)).unwrap(), unchecked);
    assert!(judge(Some("none")).is_err());
    admission.learn(policy(true, &[]), BTreeMap::new());
    assert!(judge(Some(&strange)).is_err(), "no key is trusted");
}

#[test]
fn what_is_part_of_the_os_needs_no_signature_if_only_root_can_write_the_list() {
    let directory = tempfile::tempdir().unwrap();
    let list = directory.path().join("built-in-images");
    fs::write(&list, "sha256:ours\n\nsha256:builder a/name:1\n").unwrap();
    let kind = kind();
    let serves = |image| {
        let admission = Admission::new(&list);
        admission.learn(policy(true, &[]), BTreeMap::new());
        let builds = admission.may_build("a/name:1", image).is_ok();
        let judged = admission.judge(candidate(&kind, image));
        assert_eq!(judged.is_ok(), builds);
        judged.is_ok_and(|whose| whose == PluginSignature::BuiltIn)
    };
    fs::set_permissions(&list, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(serves("sha256:ours") && serves("sha256:builder"));
    assert!(!serves("sha256:other") && !serves(""));
    for mode in [0o664, 0o646] {
        fs::set_permissions(&list, fs::Permissions::from_mode(mode)).unwrap();
        assert!(!serves("sha256:ours"), "{mode:o}");
    }
    fs::remove_file(&list).unwrap();
    assert!(!serves("sha256:ours"));
}

#[test]
fn modules_are_built_by_what_was_signed_and_not_by_what_has_a_name() {
    let admission = Admission::default();
    assert!(admission.may_build("builder:1", "sha256:1").is_ok());
    admission.learn(policy(true, &[]), BTreeMap::new());
    assert!(admission.may_build("sha256:1", "sha256:1").is_ok());
    let error = admission.may_build("builder:1", "sha256:1").unwrap_err();
    assert!(error.to_string().contains("builder:1"), "{error}");
}
