use super::*;
use serde_json::{Value, from_value, json};

type Size = Number<1024, 1_048_576, 1024>;

#[test]
fn docker_s_text_is_accepted_where_a_type_is_meant() {
    for yes in [
        json!(true),
        json!("true"),
        json!(""),
        json!("1"),
        json!(1),
        json!("on"),
    ] {
        assert_eq!(
            from_value::<Flag>(yes.clone()).unwrap(),
            Flag(true),
            "{yes}"
        );
    }
    for no in [
        json!(false),
        json!("false"),
        json!("0"),
        json!("no"),
        json!(0),
    ] {
        assert_eq!(from_value::<Flag>(no.clone()).unwrap(), Flag(false), "{no}");
    }
    for n in [json!(1_048_576), json!("1048576")] {
        assert_eq!(from_value::<Size>(n).unwrap().0, 1_048_576);
    }
    for (text, version) in [
        (json!("4.2"), Versions::One(Version::V42)),
        (json!(4.2), Versions::One(Version::V42)),
        (json!(4.0), Versions::One(Version::V40)),
        (json!(4), Versions::Newest4),
        (json!(3), Versions::One(Version::V3)),
    ] {
        assert_eq!(
            from_value::<Versions>(text.clone()).unwrap(),
            version,
            "{text}"
        );
    }
}

#[test]
fn values_out_of_range_say_the_range() {
    for bad in [
        json!(1023),
        json!(1025),
        json!(2_097_152),
        json!("1e6"),
        json!("+1024"),
        json!(-1),
    ] {
        let error = from_value::<Size>(bad.clone()).unwrap_err().to_string();
        assert!(
            error.contains("1024 to 1048576") && error.contains("multiple of 1024"),
            "{bad}: {error}"
        );
    }
    assert!(
        from_value::<Flag>(json!("maybe"))
            .unwrap_err()
            .to_string()
            .contains("true or false")
    );
    for bad in [json!("2"), json!("4.3"), json!(5), json!("4,ro")] {
        assert!(from_value::<Versions>(bad.clone()).is_err(), "{bad}");
    }
}

#[test]
fn servers() {
    for good in ["nas", "nas.example.", "10.0.0.1", "a-b_c.d"] {
        assert_eq!(ServerName::new(good).unwrap().in_source(), good);
    }
    for (given, source) in [
        ("fe80::1%eth0", "[fe80::1%eth0]"),
        ("[2001:db8::1]", "[2001:db8::1]"),
    ] {
        assert_eq!(ServerName::new(given).unwrap().in_source(), source);
    }
    for bad in [
        "",
        "-nas",
        "nas-",
        "a..b",
        "a b",
        "a,b",
        "a/b",
        "a:b",
        "nas:/x",
        "[fe80::1",
        "fe80::1%",
        "fe80::1%a/b",
        "ä.example",
        "a\nb",
        "a;b",
        &"a".repeat(64),
        &"a.".repeat(130),
    ] {
        assert!(ServerName::new(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn exports_and_subdirectories_cannot_climb() {
    assert_eq!(
        ExportPath::new("/srv//media/").unwrap().as_str(),
        "/srv/media"
    );
    assert_eq!(ExportPath::new("/").unwrap().as_str(), "/");
    for bad in ["", "srv", "/srv/../etc", "/./x", "/a,b", "/a\nb", "/a\0b"] {
        assert!(ExportPath::new(bad).is_err(), "{bad:?}");
    }
    assert_eq!(Subdirectory::new("a//b/").unwrap().as_str(), "a/b");
    for bad in [
        "",
        "/",
        "/a",
        "..",
        "a/..",
        "a/../b",
        ".",
        "-rf",
        "a,b",
        "a\tb",
        &"a/".repeat(65),
    ] {
        assert!(Subdirectory::new(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn security_flavours_and_addresses() {
    assert!(!Security::new("sys").unwrap().needs_kerberos());
    assert!(Security::new("sys:krb5p").unwrap().needs_kerberos());
    for bad in ["", "krb6", "sys,ro", "sys:", "sys:sys:sys:sys:sys:sys"] {
        assert!(Security::new(bad).is_err(), "{bad:?}");
    }
    assert_eq!(Address::new("0.0.0.0").unwrap().as_str(), "0.0.0.0");
    assert!(Address::new("nas").is_err());
}

#[test]
fn no_text_type_lets_a_second_option_through() {
    for payload in ["x,rw", "x\n", "x\0y", "x\u{7f}"] {
        let value = Value::String(payload.into());
        assert!(from_value::<ServerName>(value.clone()).is_err());
        assert!(from_value::<ExportPath>(value.clone()).is_err());
        assert!(from_value::<Subdirectory>(value.clone()).is_err());
        assert!(from_value::<Security>(value.clone()).is_err());
        assert!(from_value::<Address>(value).is_err());
    }
}
