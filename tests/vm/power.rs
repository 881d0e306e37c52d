//! Power off, reboot, and what is there afterwards.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lazarette_core::control::VolumePhase;
use lazarette_tests::lab::Lab;
use lazarette_tests::vm::{Kept, Machine, Options, Saved};

use crate::guest::Guest;
use crate::{Case, cases};

pub(crate) const BOOTS: &[Case] = cases![Boots:
    case_07_10_after_a_reboot_volumes_and_their_containers_are_back,
    power_off_is_in_order_and_in_time_with_the_server_gone,
];

/// The budget of a shutdown, and what the kernel needs on top of it.
const BUDGET: Duration = Duration::from_secs(35);

/// What a way down may take by the machine's own clock, in seconds: init's budget of 30, and room for
/// an emulated machine whose processors do not get their turn.
const LONGEST: f64 = 50.0;

/// The way down, as the console tells it.
const PHASES: [&str; 10] = [
    "user containers",
    "user Docker",
    "volumes",
    "core",
    "storage containers",
    "system Docker",
    "processes",
    "unmount",
    "sync",
    "poweroff",
];

/// Powers off and looks at what init said on the console: each phase, in order and in time.
pub(crate) fn off(machine: Machine) -> Result<String> {
    let console = machine.power_off(BUDGET)?;
    let lines: Vec<&str> = console
        .lines()
        .filter(|line| line.contains("shutdown: ") && !line.ends_with(" asked for"))
        .collect();
    let said = lines.join("\n");
    if std::env::var_os("LAZARETTE_VERBOSE").is_some() {
        eprintln!("{said}");
    }
    let phases: Option<Vec<(f64, &str)>> = lines.iter().map(|line| phase(line)).collect();
    let phases = phases.with_context(|| format!("lines without time or phase:\n{said}"))?;
    let names: Vec<&str> = phases.iter().map(|(_, name)| *name).collect();
    ensure!(
        names == PHASES,
        "other phases, or in another order:\n{said}"
    );
    ensure!(
        phases.is_sorted_by(|(before, _), (after, _)| before <= after),
        "time went back:\n{said}"
    );
    // The first line comes at the end of its phase and says how long that took.
    let first = lines.first().and_then(|line| took(line));
    let first = first.with_context(|| format!("no duration:\n{said}"))?;
    let all = phases[PHASES.len() - 1].0 - phases[0].0 + first;
    ensure!(all <= LONGEST, "it took {all:.1} s:\n{said}");
    Ok(said)
}

/// What users rely on was done, and nothing failed. (An emulated machine with its test servers may need
/// longer than a step's share to stop their containers; the way down goes on then, as it must.)
pub(crate) fn went_well(said: &str) -> Result<()> {
    let failed = |line: &&str| line.contains("FAILED") && !line.contains("not done after");
    let failed: Vec<&str> = said.lines().filter(failed).collect();
    ensure!(failed.is_empty(), "{failed:?} in:\n{said}");
    for done in [
        "volumes: unmounted, contexts closed",
        "sync: disks are written",
    ] {
        ensure!(said.contains(done), "not {done:?}:\n{said}");
    }
    Ok(())
}

/// `[ 12.3 s] shutdown: volumes: …` → 12.3 and `volumes`.
fn phase(line: &str) -> Option<(f64, &str)> {
    let (stamp, text) = line.split_once(" s] shutdown: ")?;
    let (_, stamp) = stamp.rsplit_once('[')?;
    let name = text.split(':').next()?;
    Some((stamp.trim().parse().ok()?, name.trim()))
}

/// `… (1.2 s)` or `… not done after 1.2 s; …` → 1.2.
fn took(line: &str) -> Option<f64> {
    let (before, _) = line.rsplit_once(" s")?;
    let number = before.rsplit([' ', '(']).next()?;
    number.parse().ok()
}

fn power_off_is_in_order_and_in_time_with_the_server_gone(lab: &Lab) -> Result<()> {
    let machine = Saved::ensure(lab, &Options::default())?.restore()?;
    let guest = Guest::with(machine, |guest| {
        guest
            .sh(
                "a writer, and the server goes",
                r#"
            docker volume create -d nfs -o server=nas.test -o export=/srv/media media > /dev/null
            writer w0 media
            until_ok 30 test -s /var/lib/lab/nas/srv/media/w0
            nas block
            sleep 2
            "#,
            )
            .map(drop)
    })?;
    off(guest.into_machine()).map(drop)
}

fn case_07_10_after_a_reboot_volumes_and_their_containers_are_back(lab: &Lab) -> Result<()> {
    let kept = Kept::new(
        lab,
        &Options {
            disks: Vec::new(),
            ..Options::default()
        },
    )?;
    let mut machine = kept.boot()?;
    machine.prepare()?;
    let guest = Guest::with(machine, |guest| {
        guest.sh(
            "a volume, and a container that is always restarted",
            r#"
            docker volume create -d nfs -o server=nas.test -o export=/srv/media -o path=always media > /dev/null
            docker run -d --name w0 --restart always -v media:/data busybox sh -c \
                'while :; do date +%s >> /data/w; sync; sleep 0.5; done' > /dev/null
            until_ok 30 test -s /var/lib/lab/nas/srv/media/always/w
            sync
            "#,
        )?;
        guest
            .sh(
                "a name of the OS's is another image's when the machine goes down",
                r#"
            docker tag busybox lazarette/udev
            docker save lazarette/udev | system-docker load > /dev/null
            case "$(system-docker image inspect -f '{{.Id}}' lazarette/udev)" in
                "$(system-docker inspect -f '{{.Image}}' udev)") fail "the name was not taken" ;;
            esac
            "#,
            )
            .map(drop)
    })?;
    let said = off(guest.into_machine())?;
    went_well(&said)?;
    ensure!(said.contains("user containers: 1 stopped"), "{said}");

    Guest::with(kept.boot()?, |guest| {
        guest.sh(
            "udev is the OS's own, and has its name again",
            r#"
            ours=$(awk '/ lazarette\/udev:latest/ {print $1}' /usr/lib/lazarette/built-in-images)
            [ -n "$ours" ] || fail "udev is not in the list of the OS's images"
            # System Docker itself starts the container of the last boot again, until init replaces it.
            back() { [ "$(system-docker image inspect -f '{{.Id}}' lazarette/udev)" = "$ours" ]; }
            until_ok 120 back
            runs() { [ "$(system-docker inspect -f '{{.Image}} {{.State.Running}}' udev)" = "$ours true" ]; }
            until_ok 120 runs
            "#,
        )?;
        guest.sh(
            "the server is up again, later than user Docker's start",
            r#"
            until_ok 120 system-docker version
            system-docker rm -f nas > /dev/null
            rm -f /var/lib/lab/nas/.ready
            wc -l < /var/lib/lab/nas/srv/media/always/w > /tmp/lines
            until_ok 120 pgrep -f data-root.*/var/lib/docker
            sleep 5
            nas start
            until_ok 200 docker version
            "#,
        )?;
        guest.until(
            "the volumes are not back",
            Duration::from_secs(40),
            |status| {
                let back = |name: &str| {
                    let mut volumes = status.volumes.iter();
                    volumes.any(|v| v.name.as_str() == name && v.phase == VolumePhase::Mounted)
                };
                (back("nas.media") && back("nas.home") && back("media")).then_some(())
            },
        )?;
        guest
            .sh(
                "and the container writes there again",
                r#"
            more() { [ "$(wc -l < /var/lib/lab/nas/srv/media/always/w)" -gt "$(cat /tmp/lines)" ]; }
            until_ok 60 more
            docker rm -f w0 > /dev/null
            docker volume rm media > /dev/null
            same "" "$(view ls /run/lazarette/volumes)" "what is left in the view"
            "#,
            )
            .map(drop)
    })
    .map(drop)
}
