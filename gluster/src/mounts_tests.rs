use super::*;
use crate::fakes::{Container, HANGS, REFUSES, SERVES, call, call_of, until};
use lazarette_plugin::HealthState;
use rustix::process::{Signal, pidfd_send_signal};

/// Has `volume` mounted; the client's generation.
fn mount(container: &Container, mounts: &Mounts, volume: VolumeId, directory: &str) -> String {
    let config = container.config();
    let source = Source::new(&config);
    mounts
        .with(&call(), &config, &source, |ready| {
            mounts.keep(ready, volume, directory)?;
            Ok(ready.generation.clone())
        })
        .unwrap()
}

#[test]
fn a_mount_is_shared_and_goes_with_its_last_user() {
    Container::with(SERVES, |container| {
        let mounts = Mounts::find(container.host(), container.programs());
        let (one, two) = (VolumeId::random(), VolumeId::random());
        let first = mount(container, &mounts, one, "a");
        assert_eq!(mount(container, &mounts, two, "a/b"), first);
        let places = container.mounted();
        assert_eq!(places.len(), 1);
        assert_eq!(container.clients(&places[0]).len(), 1);
        let key = mounts.live()[0].0.clone();
        assert_eq!(mounts.users_below(&key, "a", one), [two]);
        assert!(mounts.users_below(&key, "a/c", one).is_empty());
        assert!(mounts.stale().is_empty());
        mounts.release(one);
        assert_eq!(container.mounted().len(), 1);
        mounts.release(two);
        mounts.release(two);
        assert!(container.mounted().is_empty());
        assert_eq!(fs::read_dir(container.mounts()).unwrap().count(), 0);
        for client in container.clients(&places[0]) {
            client::kill(&client);
        }
    });
}

/// Two volumes of one mount are let go and mounted anew at once, as core does when a client has died:
/// while the first is being mounted, the mount has no user that is noted.
#[test]
fn a_mount_that_a_call_works_on_is_not_taken_from_under_it() {
    Container::with(SERVES, |container| {
        let mounts = Mounts::find(container.host(), container.programs());
        let (one, two) = (VolumeId::random(), VolumeId::random());
        mount(container, &mounts, two, "");
        let slot = mounts.all().remove(0).1;
        let working = slot.work.lock().unwrap();
        mounts.release(two);
        assert_eq!(
            container.mounted().len(),
            1,
            "it was taken from under the call"
        );
        drop(working);
        let generation = mount(container, &mounts, one, "");
        assert_eq!(mount(container, &mounts, two, ""), generation);
        assert!(mounts.stale().is_empty());
        mounts.release(one);
        mounts.release(two);
        assert!(container.mounted().is_empty());
    });
}

#[test]
fn the_next_plugin_host_finds_mounts_and_clients() {
    Container::with(SERVES, |container| {
        let volume = VolumeId::random();
        let before = mount(
            container,
            &Mounts::find(container.host(), container.programs()),
            volume,
            "",
        );
        let after = Mounts::find(container.host(), container.programs());
        assert!(after.stale().is_empty());
        assert_eq!(mount(container, &after, volume, ""), before);
        assert_eq!(container.mounted().len(), 1);
    });
}

#[test]
fn each_volume_of_a_dead_client_is_stale_until_it_is_mounted_anew() {
    Container::with(SERVES, |container| {
        let mounts = Mounts::find(container.host(), container.programs());
        let (one, two) = (VolumeId::random(), VolumeId::random());
        let before = mount(container, &mounts, one, "");
        mount(container, &mounts, two, "kept");
        let (key, place, client) = mounts.live().remove(0);
        assert!(client::kill(&client));
        mounts.dead(&key, &client, "the client has ended");
        mounts.dead(&key, &client, "the client has ended");
        assert_eq!(container.listener.changed().len(), 1);
        let stale: Vec<VolumeId> = mounts.stale().into_iter().map(|(id, _)| id).collect();
        assert_eq!(stale.len(), 2);
        let after = mount(container, &mounts, one, "");
        assert_ne!(after, before);
        assert_eq!(container.mounted().len(), 1, "the dead mount has gone");
        assert_eq!(container.clients(&place).len(), 1);
        let stale: Vec<VolumeId> = mounts.stale().into_iter().map(|(id, _)| id).collect();
        assert_eq!(stale, [two]);
        mount(container, &mounts, two, "kept");
        assert!(mounts.stale().is_empty());
        // The same after a death of the whole container, which takes all mounts with it.
        let (_, place, client) = mounts.live().remove(0);
        drop(mounts);
        client::kill(&client);
        assert!(let_go(&place, true));
        fs::remove_dir_all(container.mounts()).unwrap();
        fs::create_dir(container.mounts()).unwrap();
        let mounts = Mounts::find(container.host(), container.programs());
        assert_eq!(mounts.stale().len(), 2);
        mounts.release(one);
        assert_eq!(mounts.stale().len(), 1);
    });
}

#[test]
fn a_death_is_noticed_at_once_and_a_client_that_is_stopped_is_ended() {
    Container::with(SERVES, |container| {
        let context = container.open();
        let volume = VolumeId::random();
        let mounts = Mounts::find(container.host(), container.programs());
        let _ = mount(container, &mounts, volume, "");
        drop((context, mounts));
        let context = container.open();
        let place = container.mounted().remove(0);
        let client = container.clients(&place).remove(0);
        // The watch has to have seen it once.
        thread::sleep(Duration::from_millis(400));
        let killed = Instant::now();
        client::kill(&client);
        until("core is called", || {
            !container.listener.changed().is_empty()
        });
        let noticed = container.listener.changed()[0].duration_since(killed);
        assert!(noticed < Duration::from_secs(1), "{noticed:?}");
        let health = lazarette_plugin::StorageContext::health(&context);
        assert_eq!(health.volumes.len(), 1);
        assert_eq!(health.volumes[0].state, HealthState::Stale);
        drop(context);

        let mounts = Arc::new(Mounts::find(container.host(), container.programs()));
        mount(container, &mounts, volume, "");
        let _watch = crate::watch::Watch::start(&mounts).unwrap();
        let (_, _, client) = mounts.live().remove(0);
        pidfd_send_signal(&*client, Signal::STOP).unwrap();
        let stopped = Instant::now();
        until("it is ended", || !client.is_alive());
        assert!(stopped.elapsed() < Duration::from_secs(15));
        until("core is called again", || {
            container.listener.changed().len() == 2
        });
        assert!(container.listener.said().contains("was stopped"));
    });
}

#[test]
fn what_fails_says_why_in_time_and_leaves_nothing() {
    Container::with(REFUSES, |container| {
        let mounts = Mounts::find(container.host(), container.programs());
        let config = container.config();
        let source = Source::new(&config);
        let nothing = |_: &Ready| Ok(());
        let error = mounts.with(&call(), &config, &source, nothing).unwrap_err();
        assert_eq!(error.kind, ErrorKind::NotFound, "{error}");
        assert!(error.to_string().contains("key:nosuch"), "{error}");
        assert!(container.mounted().is_empty());

        container.replace_client(&format!(
            "#!/bin/sh\n{HANGS}mkfifo \"$0.$$\"; read -r end < \"$0.$$\"\n"
        ));
        let began = Instant::now();
        let brief = call_of(Duration::from_secs(2));
        let error = mounts.with(&brief, &config, &source, nothing).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Timeout, "{error}");
        assert!(began.elapsed() < Duration::from_secs(20));
        let place = mounts.place(&source.key());
        until("it has ended", || container.clients(&place).is_empty());

        container.stop_server();
        let error = mounts.with(&call(), &config, &source, nothing).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unreachable, "{error}");
        assert!(
            error
                .to_string()
                .contains("127.0.0.1: the connection was refused"),
            "{error}"
        );

        container.replace_client("no program");
        let again = Container::config(container);
        let error = mounts.with(&call(), &again, &source, nothing).unwrap_err();
        assert!(error.remedy.is_some(), "{error}");
    });
}
