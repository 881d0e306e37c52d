//! What each kind of storage costs through Lazarette, beside the bare tool and a mount made by hand.

use std::fmt::Write as _;

use anyhow::{Result, bail};
use lazarette_tests::vm::Machine;

use super::goals::{self, at_least, at_most};
use crate::demo::{PLACES, set_and_wait};

/// Rounds of writing and reading; each of three sides comes first in every third one.
const ROUNDS: usize = 90;
/// How much is written and read each time. Many short rounds say more than few long ones where others
/// use the machine, too.
const MIB: u32 = 8;
/// The same of Gluster, which is a tenth as fast, and where each write is preceded by a pause.
const ROUNDS_OF_GLUSTER: usize = 45;
const MIB_OF_GLUSTER: u32 = 1;
/// Rounds of making, taking a snapshot and removing, which last seconds under emulation.
const LIVES: usize = 9;

/// Three contexts beside the lab's own of NFS.
const CLOUD_CONFIG: &str = "#cloud-config
lazarette:
  storage:
    contexts:
      tank:
        kind: zfs
        pool: tank
        create:
          layout: mirror
          devices: [/dev/disk/by-id/virtio-disk1, /dev/disk/by-id/virtio-disk2]
      fast:
        kind: lvm
        volume_group: fast
        devices: [/dev/disk/by-id/virtio-disk3, /dev/disk/by-id/virtio-disk4]
        create: true
        thin_pool: {name: pool, size: 90%}
      big: {kind: gluster, servers: [g1.test, g2.test], volume: gv0}
    volumes:
      ledger: {context: tank, size: 500M}
      cache: {context: fast, size: 500M, fs: ext4}
";

/// The kinds whose volumes a tool makes, with a context of each.
const MADE: [(&str, &str, &str); 2] = [
    ("zfs", "tank", "`zfs create`, `snapshot`, `destroy`"),
    (
        "lvm",
        "fast",
        "`lvcreate` (thin) and `mkfs.ext4`, `lvcreate -s`, `lvremove`",
    ),
];

/// Declares the contexts and waits until their volumes are mounted.
pub(super) fn contexts(machine: &Machine) -> Result<()> {
    machine.push("/tmp/bench.yml", CLOUD_CONFIG.as_bytes(), 0o600)?;
    machine.sh(&set_and_wait("/tmp/bench.yml")).map(drop)
}

/// One file written and read through the handed-off mount, through one made directly, and through that
/// one again.
pub(super) fn throughput(machine: &Machine) -> Result<String> {
    let mut page = format!(
        "## Data path\n\nOne file of {MIB} MiB (Gluster: {MIB_OF_GLUSTER}) through the mount in the view and \
         through one made directly of the same storage, in turn, {ROUNDS} rounds (Gluster: \
         {ROUNDS_OF_GLUSTER}, with a pause before each write, in which the client that wrote last gives \
         up the file's lock); of each side counts what it reaches in the best tenth of them, for what else goes on only ever makes one slower. \
         Above 1: the handed-off mount was faster. \
         Goal: {} at least. The last column but one compares the direct mount with itself, measured in the \
         same rounds: what that differs from 1 by is no property of the mounts, but of the machine.\n\n\
         | | handed off, MiB/s | direct, MiB/s | ratio | direct twice | goal |\n|---|---|---|---|---|---|\n",
        goals::THROUGHPUT
    );
    for (kind, place) in PLACES {
        let (rounds, mib) = if kind == "gluster" {
            (ROUNDS_OF_GLUSTER, MIB_OF_GLUSTER)
        } else {
            (ROUNDS, MIB)
        };
        let output = machine.sh(&format!("throughput {kind} {place} {rounds} {mib}"))?;
        for what in ["write", "read"] {
            let rounds = Rounds::<3>::read(&output, what, rounds)?;
            let [ours, direct, again] = [0, 1, 2].map(|side| rounds.at_best(side));
            let speed = |nanoseconds: f64| f64::from(mib) / (nanoseconds / 1e9);
            let faster = direct / ours;
            writeln!(
                page,
                "| {kind}, {what} | {:.1} | {:.1} | {faster:.2} | {:.2} | {} |",
                speed(ours),
                speed(direct),
                direct / again,
                at_least(faster, goals::THROUGHPUT)
            )?;
        }
    }
    page.push('\n');
    Ok(page)
}

/// A volume made, a snapshot of it taken, both removed: by `laz` and by the bare tool.
pub(super) fn life(machine: &Machine) -> Result<String> {
    let mut page = format!(
        "## The life of a volume\n\n`laz` (core, plugin and tool, until it is acknowledged) and the bare \
         tool in the same container, without the way there, in turn, {LIVES} rounds; seconds. Below 1: \
         `laz` was quicker. Goal: {} at most.\n\n\
         | | laz | bare | ratio | goal |\n|---|---|---|---|---|\n",
        goals::LIFE
    );
    for (kind, context, _) in MADE {
        let output = machine.sh(&format!("life {kind} {context} {LIVES}"))?;
        for what in ["create", "snapshot", "delete"] {
            let rounds = Rounds::<2>::read(&output, what, LIVES)?;
            writeln!(
                page,
                "| {kind}, {what} | {:.2} | {:.2} | {:.2} | {} |",
                rounds.middle(0) / 1e9,
                rounds.middle(1) / 1e9,
                rounds.ratio(),
                at_most(rounds.ratio(), goals::LIFE)
            )?;
        }
    }
    page.push_str("\nThe bare tools:");
    for (kind, _, tools) in MADE {
        write!(page, " {kind}: {tools}.")?;
    }
    page.push_str("\n\n");
    Ok(page)
}

/// How long the same took on each side, in turn, in nanoseconds; the first is ours.
struct Rounds<const SIDES: usize>(Vec<[f64; SIDES]>);

impl<const SIDES: usize> Rounds<SIDES> {
    /// The lines of `output` that begin with `what`: `write 123 456`. There must be `count`.
    fn read(output: &str, what: &str, count: usize) -> Result<Self> {
        let lines = output.lines().filter_map(|line| line.strip_prefix(what));
        let rounds: Vec<[f64; SIDES]> = lines.filter_map(sides).collect();
        if rounds.len() != count {
            bail!(
                "{} rounds of {what}, {count} expected:\n{output}",
                rounds.len()
            );
        }
        Ok(Self(rounds))
    }

    fn middle(&self, side: usize) -> f64 {
        median(self.0.iter().map(|round| round[side]).collect())
    }

    /// What is not exceeded in a tenth of the rounds. Less is needed by a lucky one alone.
    fn at_best(&self, side: usize) -> f64 {
        let mut times: Vec<f64> = self.0.iter().map(|round| round[side]).collect();
        times.sort_by(f64::total_cmp);
        times[times.len() / 10]
    }

    /// How much longer ours took than the second; the middle of all rounds.
    fn ratio(&self) -> f64 {
        median(self.0.iter().map(|round| round[0] / round[1]).collect())
    }
}

/// The figures of one line; `None` if there are others than that.
fn sides<const SIDES: usize>(line: &str) -> Option<[f64; SIDES]> {
    let figures: Result<Vec<f64>, _> = line.split_whitespace().map(str::parse).collect();
    figures.ok()?.try_into().ok()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        0 => f64::midpoint(values[middle - 1], values[middle]),
        _ => values[middle],
    }
}

#[cfg(test)]
mod unit_tests {
    use super::*;

    #[test]
    fn rounds_are_told_apart_and_the_middle_or_the_best_tenth_counts() {
        let output = "write 10 20\nread 1 1\nwrite 30 20\nwrite 20 20\nwrite 7";
        let rounds = Rounds::<2>::read(output, "write", 3).unwrap();
        let near = |found: f64, wanted: f64| assert!((found - wanted).abs() < 1e-9, "{found}");
        near(rounds.middle(0), 20.0);
        near(rounds.middle(1), 20.0);
        near(rounds.at_best(0), 10.0);
        near(rounds.ratio(), 1.0);
        let error = Rounds::<2>::read(output, "read", 3).err().unwrap();
        let error = error.to_string();
        assert!(error.contains("1 rounds of read, 3 expected"), "{error}");
    }

    #[test]
    fn a_round_has_all_sides() {
        assert!(Rounds::<3>::read("write 1 2 3", "write", 1).is_ok());
        assert!(Rounds::<3>::read("write 1 2", "write", 1).is_err());
        assert!(Rounds::<3>::read("write 1 2 x", "write", 1).is_err());
    }
}
