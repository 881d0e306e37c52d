//! The real laz-init as PID 1. Needs root; says "skipped: why" otherwise.

// The lint knows tests by their attribute; what they call is test code as well.
#![allow(clippy::unwrap_used)]

mod machine;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use machine::{Machine, Recipe, missing};

const SIGHUP: i32 = 1;
const SIGINT: i32 = 2;

macro_rules! or_skip {
    () => {
        if let Some(why) = missing() {
            eprintln!("skipped: {why}");
            return;
        }
    };
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[test]
fn boots_through_all_phases_in_order_and_stops_in_reverse() {
    or_skip!();
    let mut machine = Machine::boot(&Recipe {
        command_line: "quiet lazarette.hostname=shed",
        config: "hostname: image\nmodules: [dummy]\nnetwork: {hosts: {nas.test: 10.201.0.2}}\n\
                 lazarette: {docker: {args: [--debug]}}\n\
                 runcmd: [[sh, -c, 'hostname > /out/hostname']]\n",
        ..Recipe::default()
    });
    machine.until_console("boot: finished");
    let console = machine.console();
    let mut rest = console.as_str();
    for phase in [
        "early-mounts: done",
        "command-line: done",
        "modules: done",
        "cloud-config: done: 2 sources",
        "configured-modules: done: dummy",
        "hostname: done: shed",
        "hostid: done: ",
        "network: done",
        "system-docker: done: answers",
        "devices: done",
        "core: done",
        "user-docker: done: answers",
        "runcmd: done: 1 commands",
    ] {
        let at = rest.find(&format!(" s] {phase}"));
        let at = at.unwrap_or_else(|| panic!("{phase:?} is not next in\n{console}"));
        rest = &rest[at..];
    }
    assert_eq!(
        fs::read_to_string(machine.path("hostname")).unwrap(),
        "shed\n"
    );

    let mounts = machine.run("cat /proc/self/mounts");
    for mount in [
        "devpts /dev/pts devpts ",
        "tmpfs /run tmpfs ",
        "tmpfs /tmp tmpfs ",
        "cgroup2 /sys/fs/cgroup cgroup2 ",
        "sysfs /sys sysfs ",
    ] {
        assert!(mounts.contains(mount), "{mount:?} is not in\n{mounts}");
    }
    assert!(
        machine
            .run("cat /etc/hosts")
            .contains("10.201.0.2 nas.test\n")
    );
    assert!(machine.run("ip addr show lo").contains("127.0.0.1/8"));
    assert_eq!(
        machine
            .run("cat /run/lazarette/config/*")
            .trim_end()
            .lines()
            .last(),
        Some("}")
    );

    let record: serde_json::Value =
        serde_json::from_str(&machine.run("cat /run/lazarette/boot.json")).unwrap();
    let phases = record["phases"].as_array().unwrap();
    assert_eq!(phases.len(), 13);
    assert!(
        phases.iter().all(|phase| phase["state"] == "done"),
        "{record}"
    );
    assert!(record["end"].as_f64() > record["start"].as_f64());

    // User Docker runs in the view, the others beside init; each in a cgroup of its own.
    let namespace = |who: &str| {
        machine.events_of(&format!("{who} starts"))[0]
            .split(' ')
            .nth(3)
            .map(str::to_owned)
    };
    assert_eq!(namespace("system"), namespace("core"));
    assert_ne!(namespace("user"), namespace("core"));
    for (who, name) in [
        ("system", "system-docker"),
        ("core", "core"),
        ("user", "user-docker"),
    ] {
        let pid = machine.pid_of(who);
        let cgroup = machine.run(&format!("cat /proc/{pid}/cgroup"));
        assert!(
            cgroup.contains(&format!("::/lazarette/{name}\n")),
            "{cgroup}"
        );
        let limit = machine.run(&format!("grep 'open files' /proc/{pid}/limits"));
        let words: Vec<&str> = limit.split_whitespace().collect();
        assert_eq!(words[3], words[4], "as many as the machine allows: {limit}");
    }
    assert!(machine.events_of("user starts")[0].ends_with("--live-restore --debug"));

    machine.run("laz-init poweroff");
    assert_eq!(machine.ended(seconds(35)), SIGINT);
    let ends: Vec<String> = machine
        .events()
        .into_iter()
        .filter(|event| {
            // The boot's own calls.
            if event.ends_with("udev") {
                return false;
            }
            event.ends_with("ends")
                || event.starts_with("docker ")
                || event.starts_with("core hears")
        })
        .collect();
    assert_eq!(
        ends,
        [
            "docker --host unix:///run/docker.sock ps --quiet",
            "user ends",
            r#"core hears {"request":"drain"}"#,
            "core ends",
            "docker --host unix:///run/system-docker.sock ps --quiet",
            "system ends",
        ]
    );
    let console = machine.console();
    for step in [
        "processes: all ended",
        "unmount: ",
        "sync: disks are written",
    ] {
        assert!(console.contains(&format!("shutdown: {step}")), "{console}");
    }
}

#[test]
fn whoever_is_killed_comes_back_alone_and_orphans_are_reaped() {
    or_skip!();
    let mut machine = Machine::boot(&Recipe::default());
    machine.until_console("boot: finished");
    for who in ["system", "core", "user"] {
        let before: Vec<String> = ["system", "core", "user"]
            .map(|who| machine.pid_of(who))
            .into();
        let begin = Instant::now();
        machine.run(&format!("kill -9 {}", machine.pid_of(who)));
        let starts = format!("{who} starts");
        machine.until("started again", |machine| {
            machine.events_of(&starts).len() == 2
        });
        assert!(begin.elapsed() < seconds(5), "{:?}", begin.elapsed());
        let after: Vec<String> = ["system", "core", "user"]
            .map(|who| machine.pid_of(who))
            .into();
        let changed = before
            .iter()
            .zip(&after)
            .filter(|(old, new)| old != new)
            .count();
        assert_eq!(changed, 1, "{before:?} {after:?}");
    }
    let namespaces: Vec<Option<String>> = machine
        .events_of("user starts")
        .iter()
        .map(|event| event.split(' ').nth(3).map(str::to_owned))
        .collect();
    assert_eq!(namespaces[0], namespaces[1], "it is back in the view");
    // Each start of an engine leaves two orphans.
    machine.until("no zombies", |machine| {
        let zombies = machine.run("grep -l '^State:.Z' /proc/[0-9]*/status; true");
        zombies.trim().is_empty()
    });
    machine.run("kill -TERM 1");
    assert_eq!(machine.ended(seconds(35)), SIGHUP);
}

#[test]
fn another_manager_follows_a_killed_one_and_ends_what_it_left() {
    or_skip!();
    let mut machine = Machine::boot(&Recipe {
        config: "runcmd: [[sh, -c, 'echo runcmd >> /out/events']]\n",
        ..Recipe::default()
    });
    machine.until_console("boot: finished");
    let manager = "for p in /proc/[0-9]*; do \
        grep -qxz manager $p/cmdline 2>/dev/null && echo ${p#/proc/}; done; true";
    let killed = machine.run(manager);
    machine.run(&format!("kill -9 {killed}"));
    machine.until("a second boot", |machine| {
        machine.console().matches("boot: finished").count() == 2
    });
    let console = machine.console();
    assert!(
        console.contains("init: the manager ended: ended by signal 9"),
        "{console}"
    );
    assert!(!console.contains("FAILED"), "{console}");
    assert_eq!(machine.events_of("runcmd").len(), 1);
    // One of each runs, not two.
    for program in ["dockerd", "laz-core"] {
        let running = machine.run(&format!(
            "grep -lz 'sbin/{program}$' /proc/[0-9]*/cmdline | wc -l"
        ));
        let expected = if program == "dockerd" { "2" } else { "1" };
        assert_eq!(running.trim(), expected, "{program}");
    }
    machine.run("ln -s laz-init /usr/local/sbin/halt; halt");
    assert_eq!(machine.ended(seconds(35)), SIGINT);
}

#[test]
fn failed_phases_are_told_and_the_rest_goes_on() {
    or_skip!();
    let machine = Machine::boot(&Recipe {
        command_line: "lazarette.debug cloud-config-base64=%",
        config: "hostnam: typo\nmodules: [nosuch]\n\
                 network: {interfaces: {eth7: {addresses: [10.0.0.1/24]}, lo: {gateway: 10.9.9.9}}}\n\
                 runcmd: [[nosuchprogram], [sh, -c, 'echo runcmd >> /out/events']]\n",
        programs: vec![(
            "modprobe",
            "#!/bin/sh\ncase \"$*\" in *nosuch*|*bridge*) echo \"Module not found\" >&2; exit 1;; esac\n",
        )],
        without: vec!["laz-core"],
        ..Recipe::default()
    });
    machine.until_console("boot: finished");
    let console = machine.console();
    for line in [
        "cloud-config: /usr/share/lazarette/cloud-config.d/50-test.yml:1: hostnam",
        "cloud-config: kernel command line: cloud-config-base64",
        "configured-modules: FAILED: /usr/local/sbin/modprobe -a -- nosuch: exit status 1: Module not found",
        "network: FAILED: lo: cannot have the default route over 10.9.9.9",
        "system-docker: done",
        "core: FAILED: no program laz-core in /usr/local/sbin",
        "user-docker: FAILED: core has made no view",
        "runcmd: FAILED: nosuchprogram: no such program",
    ] {
        assert!(console.contains(line), "{line:?} is not in\n{console}");
    }
    assert_eq!(machine.events_of("runcmd").len(), 1);
    assert!(machine.events_of("user starts").is_empty());
    // An interface that comes later is set up then.
    machine.run("ip link add eth7 type veth peer name peer");
    machine.until_console("network: eth7: 10.0.0.1/24");
    assert!(machine.run("ip addr show eth7").contains("10.0.0.1/24"));
}

#[test]
fn user_docker_starts_as_soon_as_there_is_a_view() {
    or_skip!();
    let machine = Machine::boot(&Recipe {
        flags: vec!["no-view"],
        ..Recipe::default()
    });
    machine.until_console("boot: finished");
    let console = machine.console();
    assert!(
        console.contains("user-docker: FAILED: core has made no view"),
        "{console}"
    );
    assert!(machine.events_of("user starts").is_empty());
    fs::remove_file(machine.path("no-view")).unwrap();
    machine.run(&format!("kill -9 {}", machine.pid_of("core")));
    machine.until("user Docker", |machine| {
        !machine.events_of("user starts").is_empty()
    });
}

#[test]
fn the_budget_holds_although_nobody_ends_when_asked() {
    or_skip!();
    let mut machine = Machine::boot(&Recipe {
        programs: vec![(
            "docker",
            concat!(
                include_str!("docker.sh"),
                "case \"$*\" in *udev) exit;; esac\ntrap '' TERM\nsleep 1000\n"
            ),
        )],
        ..Recipe::default()
    });
    machine.until_console("boot: finished");
    fs::write(machine.path("stubborn"), "").unwrap();
    let begin = Instant::now();
    machine.run(
        "setsid sh -c \"trap '' TERM; sleep 1000 & wait; wait; sleep 1000\" >/dev/null 2>&1 &",
    );
    machine.run("kill -PWR 1");
    assert_eq!(machine.ended(seconds(40)), SIGINT);
    assert!(begin.elapsed() < seconds(31), "{:?}", begin.elapsed());
    let console = machine.console();
    for line in [
        "shutdown: user containers: FAILED: ",
        "shutdown: user Docker: ended by signal 9",
        "shutdown: volumes: FAILED: cannot get an answer of core on /run/lazarette/core.sock",
        "shutdown: core: ended by signal 9",
        "shutdown: system Docker: ended by signal 9",
        "shutdown: processes: all ended",
        "shutdown: sync: disks are written",
    ] {
        assert!(console.contains(line), "{line:?} is not in\n{console}");
    }
    assert_eq!(machine.events_of("core ignores").len(), 1);
}

#[test]
fn pid_1_stops_the_machine_when_the_manager_dies_on_the_way_down() {
    or_skip!();
    let mut machine = Machine::boot(&Recipe::default());
    machine.until_console("boot: finished");
    fs::write(machine.path("stubborn"), "").unwrap();
    machine.run("kill -USR2 1");
    machine.until_console("shutdown: user containers");
    machine.try_run(
        "for p in /proc/[0-9]*; do \
         grep -qxz manager $p/cmdline 2>/dev/null && kill -9 ${p#/proc/}; done; true",
    );
    assert_eq!(machine.ended(seconds(20)), SIGINT);
    assert!(
        machine
            .console()
            .contains("init: the manager did not stop the machine")
    );
}

#[test]
fn a_lease_is_taken_and_renewed_and_nobody_waits_for_it() {
    or_skip!();
    if !Path::new("/usr/bin/busybox").exists() {
        eprintln!("skipped: needs /usr/bin/busybox, for its udhcpd");
        return;
    }
    let machine = Machine::boot(&Recipe {
        config: "network: {nameservers: [192.0.2.53], interfaces: {eth0: {dhcp: true, mtu: 1400}}}\n",
        ..Recipe::default()
    });
    machine.until_console("boot: finished");
    assert!(
        machine
            .console()
            .contains("network: done: eth0: not there yet")
    );
    fs::write(
        machine.path("udhcpd.conf"),
        "start 10.77.0.50\nend 10.77.0.50\ninterface srv0\nmin_lease 2\n\
         lease_file /out/leases\npidfile /out/udhcpd.pid\n\
         option subnet 255.255.255.0\noption router 10.77.0.1\noption dns 10.77.0.2\n\
         option domain lab.example\noption lease 6\n",
    )
    .unwrap();
    fs::write(machine.path("leases"), "").unwrap();
    let inode = machine.run("stat -c %i /etc/resolv.conf");
    machine.run(
        "unshare -n sleep 1000 >/dev/null 2>&1 & holder=$!; sleep 0.5
         ip link add eth0 type veth peer name srv0
         ip link set srv0 netns $holder
         nsenter -t $holder -n ip addr add 10.77.0.1/24 dev srv0
         nsenter -t $holder -n ip link set srv0 up
         nsenter -t $holder -n setsid busybox udhcpd -f /out/udhcpd.conf > /out/udhcpd.log 2>&1 &",
    );
    machine
        .until_console("network: eth0: 10.77.0.50/24, over 10.77.0.1, leased by 10.77.0.1 for 6 s");
    assert!(machine.run("ip addr show eth0").contains("mtu 1400"));
    assert!(
        machine
            .run("ip route")
            .contains("default via 10.77.0.1 dev eth0")
    );
    assert_eq!(
        machine.run("cat /etc/resolv.conf"),
        "search lab.example\nnameserver 192.0.2.53\nnameserver 10.77.0.2\n"
    );
    assert_eq!(machine.run("stat -c %i /etc/resolv.conf"), inode);
    // Renewed twice, without a word on the console.
    machine.until("renewals", |machine| {
        let log = fs::read_to_string(machine.path("udhcpd.log")).unwrap_or_default();
        log.to_lowercase().matches("sending ack").count() >= 3
    });
    assert_eq!(machine.console().matches("leased by").count(), 1);
    // The server goes: the lease runs out, and what it brought goes with it.
    machine.run("kill $(cat /out/udhcpd.pid)");
    machine.until_console("network: eth0: the lease has run out");
    machine.until("no address", |machine| {
        !machine.run("ip addr show eth0").contains("10.77.0.50")
    });
    assert_eq!(
        machine.run("cat /etc/resolv.conf"),
        "nameserver 192.0.2.53\n"
    );
}
