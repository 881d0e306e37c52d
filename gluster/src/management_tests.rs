use super::*;
use crate::config::VolumeOptions;
use crate::fakes::{Container, SERVES, call};
use lazarette_plugin::{Removed, StorageContext, Volume, VolumeId};
use serde_json::{from_value, json};

fn volume(options: serde_json::Value) -> Volume<VolumeOptions> {
    Volume {
        id: VolumeId::random(),
        options: from_value(options).unwrap(),
    }
}

#[test]
fn a_volume_s_size_is_a_limit_on_its_directory() {
    Container::with(SERVES, |container| {
        let context = container.open_as_manager();
        container.start_glusterd("cat \"$0.answer\" 2> /dev/null || :");
        let mut sized = volume(json!({"path": "apps/db", "size": "8M", "on_remove": "delete"}));
        context.create(&call(), &sized).unwrap();
        let limit = "volume quota gv0 limit-usage /apps/db";
        assert_eq!(container.orders(), [format!("{limit} 8388608")]);
        sized.options.size = Some(crate::size::Size::parse("1G").unwrap());
        container.answer(include_str!("../fixtures/quota.xml"));
        context.resize(&call(), &sized).unwrap();
        assert_eq!(
            container.orders().pop().unwrap(),
            format!("{limit} 1073741824")
        );
        sized.options.size = Some(crate::size::Size::parse("1M").unwrap());
        let error = context.resize(&call(), &sized).unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidArgument, "{error}");
        assert!(error.to_string().contains("31457280 bytes"), "{error}");
        assert_eq!(context.remove(&call(), &sized).unwrap(), Removed::Removed);
        assert_eq!(
            container.orders().pop().unwrap(),
            "volume quota gv0 remove /apps/db"
        );
        let all = volume(json!({"size": "8M"}));
        let error = context.create(&call(), &all).unwrap_err();
        assert!(error.to_string().contains("path: …"), "{error}");
    });
}

#[test]
fn without_the_right_to_manage_no_directory_is_made_for_a_size() {
    Container::with(SERVES, |container| {
        let context = container.open();
        let sized = volume(json!({"path": "apps", "size": "8M"}));
        let error = context.create(&call(), &sized).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains("manage: true"), "{error}");
        assert!(container.mounted().is_empty());
        let plain = volume(json!({"path": "apps"}));
        context.create(&call(), &plain).unwrap();
        assert!(container.orders().is_empty());
    });
}

#[test]
fn a_volume_without_quotas_says_how_it_gets_them() {
    let error = explain(
        "x",
        "quota command failed : Quota is disabled, please enable quota",
    );
    assert_eq!(error.kind, ErrorKind::InvalidArgument);
    assert!(error.to_string().contains("laz pool quota"), "{error}");
    let error = explain("x", "");
    assert!(error.to_string().contains("no reason"), "{error}");
}
