//! Our own plugins keep the contract that we demand of others: the conformance kit, kills at each step
//! included, on real disks and servers. (Gluster's is held to it in the host suite.)

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::guest::Guest;
use crate::{Case, cases};

pub(crate) const RESTORED: &[Case] = cases![Restored:
    the_plugins_zfs_and_nfs_keep_the_contract,
    the_plugin_lvm_keeps_the_contract,
];

/// A plugin under check.
struct Subject {
    kind: &'static str,
    /// The options of its context and of the volumes.
    context: &'static str,
    volume: &'static str,
    /// How many checks have to pass at least.
    least: usize,
    /// The checks that may be skipped, and why.
    skips: &'static [&'static str],
}

const ZFS: Subject = Subject {
    kind: "zfs",
    context: r#"{"pool": "tank", "create": {"layout": "mirror",
        "devices": ["/dev/disk/by-id/virtio-disk1", "/dev/disk/by-id/virtio-disk2"]}}"#,
    volume: r#"{"size": "64M"}"#,
    least: 60,
    skips: &[FAULT],
};
const LVM: Subject = Subject {
    kind: "lvm",
    context: r#"{"volume_group": "fast", "create": true, "devices": ["/dev/disk/by-id/virtio-disk3"],
        "thin_pool": {"name": "pool", "size": "80%"}}"#,
    volume: r#"{"size": "64M"}"#,
    least: 60,
    skips: &[FAULT],
};
const NFS: Subject = Subject {
    kind: "nfs",
    context: r#"{"server": "nas.test", "exports": ["/srv/media"]}"#,
    volume: r#"{"export": "/srv/media", "path": "check/{id}", "on_remove": "delete"}"#,
    least: 45,
    skips: DIRECTORIES,
};
/// The cases of each kind break its storage in ways of their own.
const FAULT: &str = "health.fault";
/// Directories of a server have no size, no snapshots and no copies of their own, and this kind offers no
/// actions.
const DIRECTORIES: &[&str] = &[
    FAULT,
    "capabilities.size",
    "copies.clone",
    "copies.clone-of-snapshot",
    "copies.resize",
    "copies.rollback",
    "copies.rollback-to-nothing",
    "copies.snapshot",
    "copies.snapshot-of-nothing",
    "kills.clone",
    "kills.remove-snapshot",
    "kills.resize",
    "kills.rollback",
    "kills.snapshot",
    "manifest.actions",
    "manifest.size",
];

/// How long all checks may take, at native speed.
const LIMIT: Duration = Duration::from_secs(300);

fn the_plugins_zfs_and_nfs_keep_the_contract(guest: &Guest) -> Result<()> {
    keep_the_contract(guest, &[ZFS, NFS])
}

fn the_plugin_lvm_keeps_the_contract(guest: &Guest) -> Result<()> {
    keep_the_contract(guest, &[LVM])
}

/// Checks them side by side: each waits for programs most of the time.
fn keep_the_contract(guest: &Guest, subjects: &[Subject]) -> Result<()> {
    for subject in subjects {
        let Subject {
            kind,
            context,
            volume,
            ..
        } = subject;
        let settings = format!(
            r#"{{"context": {context}, "volume": {volume}, "larger": "128M", "deadline_s": 180,
                "kill_points": [50]}}"#
        );
        let file = format!("/tmp/{kind}.json");
        guest.machine().push(&file, settings.as_bytes(), 0o600)?;
        // A script may run for some minutes only; this goes on beside it.
        guest.sh(
            "the kit begins",
            &format!(
                "setsid sh -c 'laz plugin check lazarette/{kind} --config {file} --format json \
                 --docker unix:///run/system-docker.sock > /tmp/{kind}.out 2> /tmp/{kind}.err; \
                 echo $? > /tmp/{kind}.status' > /dev/null 2>&1 < /dev/null &"
            ),
        )?;
    }
    let results: Vec<Result<()>> = subjects.iter().map(|one| passes(guest, one)).collect();
    let failures: Vec<String> = results
        .into_iter()
        .filter_map(|result| Some(format!("{:#}", result.err()?)))
        .collect();
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    guest
        .sh(
            "no container of the kit is left",
            r#"same "" "$(system-docker ps -aq --filter name=laz-check)" "the kit's containers""#,
        )
        .map(drop)
}

fn passes(guest: &Guest, subject: &Subject) -> Result<()> {
    let kind = subject.kind;
    let end = Instant::now() + guest.machine().patience(LIMIT);
    while guest
        .machine()
        .run(&format!("test -s /tmp/{kind}.status"))?
        .status
        != 0
    {
        ensure!(Instant::now() < end, "{kind}: the checks do not end");
        std::thread::sleep(Duration::from_secs(2));
    }
    let status = guest.sh("the status", &format!("cat /tmp/{kind}.status"))?;
    let text = guest.sh("the report", &format!("cat /tmp/{kind}.out"))?;
    let said = guest.sh("what it says", &format!("cat /tmp/{kind}.err"))?;
    let report: Value = serde_json::from_str(&text)
        .with_context(|| format!("{kind}: status {status}: {text} {said}"))?;
    let checks = report["checks"].as_array().context("checks")?;
    let of = |verdict: &str| -> Vec<String> {
        let found = checks.iter().filter(|check| check["verdict"] == verdict);
        found
            .map(|check| {
                let word = |name: &str| check[name].as_str().unwrap_or_default().to_owned();
                format!("{}: {}", word("id"), word("why"))
            })
            .collect()
    };
    let (passed, failed, skipped) = (of("passed"), of("failed"), of("skipped"));
    if std::env::var_os("LAZARETTE_VERBOSE").is_some() {
        for check in checks {
            eprintln!(
                "{kind} {} {} {}",
                check["id"], check["verdict"], check["seconds"]
            );
        }
    }
    println!(
        "{kind}: {} passed, {} failed, skipped {skipped:#?}",
        passed.len(),
        failed.len()
    );
    if !failed.is_empty() || status != "0" {
        bail!("{kind}: status {status}: {failed:#?} {said}");
    }
    ensure!(
        passed.len() >= subject.least,
        "{kind}: {} passed",
        passed.len()
    );
    let unexpected: Vec<&String> = skipped
        .iter()
        .filter(|skip| {
            !subject
                .skips
                .iter()
                .any(|known| skip.starts_with(&format!("{known}:")))
        })
        .collect();
    ensure!(unexpected.is_empty(), "{kind}: skipped {unexpected:#?}");
    Ok(())
}
