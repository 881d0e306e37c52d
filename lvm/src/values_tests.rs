use super::*;
use lazarette_plugin::serde_json::{from_value, to_value};
use proptest::prelude::*;

fn name(text: &str) -> Result<LvmName> {
    text.to_owned().try_into()
}

#[test]
fn names_are_those_that_lvm_takes() {
    for good in ["fast", "vg0", "a.b+c_d-e", "_x", "home"] {
        name(good).unwrap();
    }
    for bad in [
        "",
        "-x",
        "a/b",
        "a b",
        "..",
        ".",
        "ä",
        "a\n",
        "snapshot1",
        "pvmove0",
        "x_tdata",
        "db_rimage_0",
    ] {
        assert!(name(bad).is_err(), "{bad:?}");
    }
    assert!(name(&"x".repeat(64)).is_err());
}

#[test]
fn our_own_tags_are_not_for_users() {
    let tag = |text: &str| Tag::try_from(text.to_owned());
    tag("team/a=b!").unwrap();
    let error = tag("lazarette.ready").unwrap_err().to_string();
    assert!(error.contains("which volume"), "{error}");
    for bad in ["", "-x", "a b", "a,b", "@x", "a'b"] {
        assert!(tag(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn devices_are_plain_paths_below_dev() {
    let device = |text: &str| DevicePath::try_from(text.to_owned());
    for good in [
        "/dev/sdb",
        "/dev/disk/by-id/virtio-disk1",
        "/dev/disk/by-id/nvme-eui.0025_1:2",
    ] {
        device(good).unwrap();
    }
    for bad in [
        "",
        "sdb",
        "/etc/passwd",
        "/dev/../etc",
        "/dev/./sdb",
        "/dev//sdb",
        "/dev/sd b",
        "/dev/sdb,rw",
        "/dev/x|r",
        "/dev/x\"]",
        "/dev/x\n",
        "/dev/",
        "/dev/a*",
    ] {
        assert!(device(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn the_uuid_is_lvm_s() {
    let uuid = |text: &str| GroupUuid::try_from(text.to_owned());
    uuid("ZuZyOH-ELib-KS5K-Vsp0-tpq1-y9f4-O0z756").unwrap();
    for bad in [
        "",
        "0c9f1a6e-4d4c-4a55-9f3d-2f6f8a1b2c3d",
        "ZuZyOHELibKS5KVsp0tpq1y9f4O0z756",
    ] {
        assert!(uuid(bad).is_err(), "{bad}");
    }
}

#[test]
fn what_may_be_the_key_itself_is_not_shown() {
    let error = SecretName::try_from("hunter2 canary".to_owned())
        .unwrap_err()
        .to_string();
    assert!(!error.contains("hunter2"), "{error}");
    SecretName::try_from("db.key".to_owned()).unwrap();
}

#[test]
fn sizes_are_read_as_people_write_them() {
    for (text, bytes) in [
        ("20G", 20 << 30),
        ("512m", 512 << 20),
        ("1.5T", 3 << 39),
        ("4KiB", 4096),
        ("4kb", 4096),
        ("4096", 4096),
    ] {
        assert_eq!(text.parse::<Size>().unwrap().bytes(), bytes, "{text}");
    }
    assert_eq!(from_value::<Size>(4096.into()).unwrap().bytes(), 4096);
    for bad in [
        "",
        "0",
        "G",
        "-1G",
        "1X",
        "1 000",
        "1e9",
        "99999999P",
        "1.G5",
        "0x10",
        "1,5G",
    ] {
        assert!(bad.parse::<Size>().is_err(), "{bad}");
    }
    let written = |bytes| to_value(Size::of_bytes(bytes)).unwrap();
    assert_eq!(written(20 << 30), "20G");
    assert_eq!(written(3 << 39), "1536G");
    assert_eq!(written(4097), "4097");
}

#[test]
fn a_share_is_of_something() {
    let share = |text: &str| from_value::<SizeOrShare>(text.into());
    assert_eq!(share("20%").unwrap().bytes_of(1000), 200);
    assert_eq!(share("2G").unwrap().bytes_of(1000), 2 << 30);
    for bad in ["0%", "101%", "%", "x%", "-1%"] {
        assert!(share(bad).is_err(), "{bad}");
    }
}

#[test]
fn bytes_are_shown_in_the_largest_unit() {
    assert_eq!(readable(1536 << 20), "1.5 GiB");
    assert_eq!(readable(20 << 30), "20 GiB");
    assert_eq!(readable(100), "100 bytes");
}

proptest! {
    #[test]
    fn a_size_is_read_back_as_it_is_written(bytes in 1_u64..1 << 60) {
        let size = Size::of_bytes(bytes);
        prop_assert_eq!(size.to_string().parse::<Size>().unwrap(), size);
    }

    #[test]
    fn no_text_brings_it_down_and_none_smuggles_an_option(text in "\\PC{0,40}") {
        let _ = text.parse::<Size>();
        let _ = from_value::<SizeOrShare>(text.clone().into());
        if let Ok(name) = LvmName::try_from(text.clone()) {
            prop_assert!(!name.as_str().starts_with('-') && !name.as_str().contains('/'));
        }
        if let Ok(path) = DevicePath::try_from(text) {
            prop_assert!(path.path().starts_with("/dev"));
        }
    }
}
