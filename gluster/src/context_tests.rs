use super::*;
use crate::fakes::{Container, SERVES, call};
use serde_json::{Value, from_value};
use std::fs;

fn volume(options: Value) -> Volume<VolumeOptions> {
    Volume {
        id: VolumeId::random(),
        options: from_value(options).unwrap(),
    }
}

#[test]
fn the_manifest_asks_for_what_it_needs_and_maps_its_url() {
    let manifest = Gluster::manifest("1.0.0");
    assert_eq!(manifest.kind.as_str(), "gluster");
    assert_eq!(manifest.privileges.devices, ["/dev/fuse"]);
    assert!(manifest.privileges.host_network && !manifest.privileges.all_devices);
    let loses = |options| manifest.removal_loses_data(&options);
    assert!(!loses(json!({})) && !loses(json!({"path": "a"})));
    assert!(!loses(json!({"on_remove": "delete"})));
    assert!(loses(json!({"path": "a", "on_remove": "delete"})));
    let url = manifest.url.unwrap();
    assert_eq!(url.authority.as_deref(), Some("servers"));
    assert_eq!(
        (url.root.as_deref(), url.path.as_str()),
        (Some("volume"), "path")
    );
}

#[test]
fn directories_are_made_mounted_and_deleted_only_if_asked() {
    Container::with(SERVES, |container| {
        let context = container.open();
        let one = volume(json!({"path": "apps/one", "mode": "0750", "on_remove": "delete"}));
        assert_eq!(context.create(&call(), &one).unwrap(), Created::Created);
        assert_eq!(
            context.create(&call(), &one).unwrap(),
            Created::AlreadyExists
        );
        let mounted = context.mount(&call(), &one, false).unwrap();
        assert_eq!(mounted.subdirectory.as_deref(), Some("apps/one".as_ref()));
        assert_eq!(mounted.source, "127.0.0.1:gv0");
        let place = mounted.path.join("apps/one");
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&place).unwrap().permissions());
        assert_eq!(mode & 0o7777, 0o750);
        fs::write(place.join("f"), "x").unwrap();

        let all = volume(json!({}));
        assert_eq!(
            context.create(&call(), &all).unwrap(),
            Created::AlreadyExists
        );
        assert_eq!(
            context.mount(&call(), &all, false).unwrap().subdirectory,
            None
        );
        let inside = volume(json!({"path": "apps/one/inside"}));
        context.mount(&call(), &inside, false).unwrap();
        let error = context.remove(&call(), &one).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Busy, "{error}");
        assert_eq!(
            context.remove(&call(), &inside).unwrap(),
            Removed::AlreadyAbsent
        );
        assert!(place.join("inside").exists());
        assert_eq!(context.remove(&call(), &one).unwrap(), Removed::Removed);
        assert_eq!(
            context.remove(&call(), &one).unwrap(),
            Removed::AlreadyAbsent
        );
        assert!(!place.exists());

        let absent = volume(json!({"path": "absent", "create": false}));
        let error = context.mount(&call(), &absent, false).unwrap_err();
        assert_eq!(error.kind, ErrorKind::NotFound, "{error}");
        assert!(mounted.path.join("kept").exists());
        assert_eq!(
            context.remove(&call(), &all).unwrap(),
            Removed::AlreadyAbsent
        );
        context.close().unwrap();
    });
}

#[test]
fn a_link_in_the_volume_leads_nowhere() {
    Container::with(SERVES, |container| {
        let context = container.open();
        let mounted = context.mount(&call(), &volume(json!({})), false).unwrap();
        std::os::unix::fs::symlink("/etc", mounted.path.join("link")).unwrap();
        for path in ["link", "link/below"] {
            let error = context
                .create(&call(), &volume(json!({"path": path})))
                .unwrap_err();
            assert!(
                [ErrorKind::InvalidArgument, ErrorKind::AlreadyExists].contains(&error.kind),
                "{error}"
            );
        }
        assert!(!std::path::Path::new("/etc/below").exists());
    });
}

#[test]
fn the_list_is_what_is_configured() {
    Container::with(SERVES, |container| {
        let names = |config: Value| -> Vec<(String, Value)> {
            let config = from_value(config).unwrap();
            let context =
                Gluster::open_with(container.host(), config, container.programs()).unwrap();
            let listed = context.list(&call()).unwrap();
            assert!(listed.iter().all(|l| l.declared));
            listed.into_iter().map(|l| (l.name, l.options)).collect()
        };
        assert_eq!(
            names(json!({"servers": "g1", "volume": "gv0"})),
            [("gv0".to_owned(), json!({}))]
        );
        assert_eq!(
            names(json!({"servers": "g1", "volume": "gv0",
                "directories": ["team/apps", {"path": "x y", "name": "xy"}]})),
            [
                ("apps".to_owned(), json!({"path": "team/apps"})),
                ("xy".to_owned(), json!({"path": "x y"}))
            ]
        );
    });
}
