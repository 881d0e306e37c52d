use minisign::KeyPair;

use super::*;

/// A key, and signatures of [`fixture`] by it, as minisign 0.11 has written them.
const KEY: &str = "RWRwV20vixiIyny+7qTubRGSM1lu+YgCXrfTrjcZ52Veurm8HP9Kl7qE";
const PREHASHED: &str = "\
untrusted comment: signature from minisign secret key
RURwV20vixiIyonfsrC530LGNcAy761k7wGY5w/K28f9CMC1VlXzHKABY3HN2FBzH6HKIKgY5OU0/WS+eVSjjibyskjtbTVPyww=
trusted comment: shelves 1.0.0
7DW54eCqLcuC2rjyL2LECdUSK4WhcMFy/51Dqv8Sc3T8QYGEY2mi0RYQcJGrrfwB2MMp0LLLtC4vJAj4CbZ+DQ==
";
const LEGACY: &str = "\
untrusted comment: signature from minisign secret key
RWRwV20vixiIyh7OZzdakvuaYuVjZzStTdWdUfKyjtxsKm9Ro4C5TkGutFDa2U3gdk0vBCwa5K3SQjq3Mb6BQn8Z1UH4RxSdtw4=
trusted comment: shelves 1.0.0
Yu3WEG8RA0Nh7t2ttZHn8tm+1ZA8K7UuyNGfzU3SM0ZKPuWlXgWzdYIW9ptRRkMt/5LKK1giqIMklzP+PSK0BA==
";
const IMAGE: &str = "sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881";

fn shelves() -> Kind {
    Kind::new("shelves").unwrap()
}

fn fixture() -> String {
    statement(&shelves(), "1.0.0", IMAGE)
}

fn policy(keys: &[&str]) -> Policy {
    Policy {
        required: true,
        keys: keys.iter().map(|k| TrustedKey::parse(k).unwrap()).collect(),
    }
}

fn sign(pair: &KeyPair, text: &str) -> String {
    let signed = minisign::sign(None, &pair.sk, text.as_bytes(), Some("a test"), None);
    signed.unwrap().into_string()
}

#[test]
fn what_minisign_has_signed_counts() {
    let id = policy(&[KEY]).verify(&fixture(), PREHASHED).unwrap();
    assert_eq!(
        id.to_string(),
        "CA88188B2F6D5770",
        "as minisign -G prints it"
    );
    assert_eq!(key_of(PREHASHED), Ok(id));
    assert_eq!(TrustedKey::parse(KEY).unwrap().id(), id);
    let windows = PREHASHED.replace('\n', "\r\n");
    assert_eq!(policy(&[KEY]).verify(&fixture(), &windows), Ok(id));
}

#[test]
fn the_old_form_does_not_count() {
    let refused = policy(&[KEY]).verify(&fixture(), LEGACY);
    assert_eq!(refused, Err(Wrong::Legacy));
}

#[test]
fn one_of_several_keys_is_enough_and_a_stranger_is_named() {
    let (a, b) = (pair(), pair());
    let keys = [key(&a), key(&b)];
    let both = policy(&[&keys[0], &keys[1]]);
    let id = |text: &str| TrustedKey::parse(text).unwrap().id();
    let signature = sign(&b, &fixture());
    assert_eq!(both.verify(&fixture(), &signature), Ok(id(&keys[1])));
    let only_a = policy(&[&keys[0]]);
    let stranger = Wrong::UnknownKey(id(&keys[1]));
    assert_eq!(only_a.verify(&fixture(), &signature), Err(stranger.clone()));
    assert_eq!(
        Policy::default().verify(&fixture(), &signature),
        Err(stranger)
    );
}

#[test]
fn a_key_that_claims_anothers_identity_signs_nothing() {
    let (honest, forger) = (pair(), pair());
    let mut signature = sign(&forger, &fixture());
    // The forger writes the honest key's identity into his signature.
    let (old, new) = (sign(&honest, &fixture()), signature.clone());
    let line = |text: &str| {
        BASE64_STANDARD
            .decode(text.lines().nth(1).unwrap())
            .unwrap()
    };
    let mut forged = line(&new);
    forged[2..10].copy_from_slice(&line(&old)[2..10]);
    signature = signature.replace(new.lines().nth(1).unwrap(), &BASE64_STANDARD.encode(forged));
    let refused = policy(&[&key(&honest)]).verify(&fixture(), &signature);
    assert!(matches!(refused, Err(Wrong::Mismatch(_))), "{refused:?}");
}

#[test]
fn every_changed_character_of_a_signature_makes_it_wrong() {
    let policy = policy(&[KEY]);
    let untrusted = PREHASHED.find('\n').unwrap();
    for (index, old) in PREHASHED.char_indices().skip(untrusted + 1) {
        if index + 1 == PREHASHED.len() {
            continue; // The last line may or may not be ended.
        }
        for new in ['A', 'B', 'z', ' ', '\n', '='] {
            if new == old {
                continue;
            }
            let mut changed = PREHASHED.to_owned();
            changed.replace_range(index..=index, &new.to_string());
            let verified = policy.verify(&fixture(), &changed);
            assert!(verified.is_err(), "{index}: {old:?} became {new:?}");
        }
    }
    for end in untrusted..PREHASHED.len() - 1 {
        assert!(
            policy.verify(&fixture(), &PREHASHED[..end]).is_err(),
            "{end}"
        );
    }
    let comment = PREHASHED.replace("signature from", "whatever");
    assert!(
        policy.verify(&fixture(), &comment).is_ok(),
        "nobody signs that"
    );
}

#[test]
fn every_changed_byte_of_the_statement_makes_the_signature_wrong() {
    let (policy, text) = (policy(&[KEY]), fixture());
    for index in 0..text.len() {
        for flip in [1, 0x20] {
            let mut changed = text.clone().into_bytes();
            changed[index] ^= flip;
            let changed = String::from_utf8(changed).unwrap();
            let refused = policy.verify(&changed, PREHASHED);
            assert!(
                matches!(refused, Err(Wrong::Mismatch(_))),
                "{index}: {refused:?}"
            );
        }
    }
    let image = IMAGE.replace('2', "3");
    for (kind, version, image) in [
        ("shelf", "1.0.0", IMAGE),
        ("shelves", "1.0.1", IMAGE),
        ("shelves", "1.0.0", &image),
        ("shelves", "1.0.0\nimage: sha256:0", IMAGE),
    ] {
        let other = statement(&Kind::new(kind).unwrap(), version, image);
        assert!(policy.verify(&other, PREHASHED).is_err(), "{other}");
    }
}

#[test]
fn no_two_images_have_one_statement() {
    let image = "sha256:1";
    let nested = format!("1\nimage: {image}");
    let honest = statement(&shelves(), "1", image);
    assert_ne!(honest, statement(&shelves(), &nested, "sha256:2"));
    assert_ne!(honest, statement(&shelves(), &nested, image));
    assert_ne!(honest, statement(&shelves(), "1", "sha256:2"));
}

#[test]
fn what_is_no_signature_is_said_to_be_none() {
    let policy = policy(&[KEY]);
    let long = format!("{PREHASHED}{}", " ".repeat(LARGEST_SIGNATURE));
    for text in [
        "",
        "\n\n\n\n",
        KEY,
        "untrusted comment: x\nRURw\ntrusted comment: \nAA==",
        &long,
    ] {
        assert_eq!(
            policy.verify(&fixture(), text),
            Err(Wrong::Unreadable),
            "{text:.80}"
        );
    }
}

#[test]
fn a_key_is_one_line_of_minisigns_and_a_secret_one_is_not_repeated() {
    let file = format!("untrusted comment: minisign public key\n{KEY}");
    let secret = format!("RWQAAEIy{}", "A".repeat(204));
    let encrypted = format!("RWRTY0Iy{}", "A".repeat(204));
    for (text, said) in [
        ("", "is no public key of minisign"),
        ("RW", "56 characters that begin with RW"),
        (&KEY[1..], "is no public key"),
        (&KEY.replace('+', "-"), "is no public key"),
        (&format!("{KEY} "), "is no public key"),
        (&file, "is more than one line"),
        (&secret, "if it is a secret one, replace it"),
        (&encrypted, "if it is a secret one, replace it"),
    ] {
        let error = TrustedKey::parse(text).unwrap_err();
        assert!(error.contains(said), "{text}: {error}");
        assert!(!error.contains("AAAA"), "{error}");
    }
}

#[test]
fn a_refusal_names_the_plugin_the_cause_and_what_to_do() {
    let key = TrustedKey::parse(KEY).unwrap().id();
    for (wrong, words) in [
        (Wrong::Missing, ["require_signature", "--signature FILE"]),
        (Wrong::Unreadable, ["none of minisign's", "minisign -S"]),
        (Wrong::Legacy, ["old form", "without -l"]),
        (
            Wrong::UnknownKey(key),
            ["CA88188B2F6D5770", "add its author's public key"],
        ),
        (Wrong::Mismatch(key), ["something else", "laz plugin pack"]),
    ] {
        let error = wrong.error(&shelves(), IMAGE).to_string();
        assert!(
            error.starts_with("plugin \"shelves\" (image 2d711642b726): "),
            "{error}"
        );
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    }
}

fn pair() -> KeyPair {
    KeyPair::generate_unencrypted_keypair().unwrap()
}

fn key(pair: &KeyPair) -> String {
    pair.pk.to_base64()
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic_or_count(text in "[ -~\n]{0,400}", key in "[A-Za-z0-9+/=]{0,60}") {
        let _ = TrustedKey::parse(&key);
        assert!(policy(&[KEY]).verify(&fixture(), &text).is_err());
        let lines: Vec<&str> = PREHASHED.lines().collect();
        for place in 1..4 {
            let mut changed = lines.clone();
            changed[place] = &text;
            assert!(policy(&[KEY]).verify(&fixture(), &changed.join("\n")).is_err());
        }
    }
}
