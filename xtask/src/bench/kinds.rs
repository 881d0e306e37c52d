//! What each kind of storage costs through Lazarette, beside the bare tool and a mount made by hand.

use std::fmt::Write as _;

use anyhow::{Result, bail};
use lazarette_tests::vm::Machine;

use super::goals::{self, at_least, at_most};
use crate::demo::{PLACES, set_and_wait};

/// Rounds of writing and reading; an even number, for each side comes first in every other one.
const ROUNDS: usize = 20;
/// How much is written and read each time, and of Gluster, which takes seconds for less.
const MIB: u32 = 64;
const MIB_OF_GLUSTER: u32 = 16;
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

/// The same file written and read through the handed-off mount and through one made directly.
pub(super) fn throughput(machine: &Machine) -> Result<String> {
    let mut page = format!(
        "## Data path\n\n{MIB} MiB (Gluster: {MIB_OF_GLUSTER}) through the mount in the view and through one \
         made directly of the same storage, in turn, {ROUNDS} rounds; two with each side first once count \
         as one. Above 1: the handed-off mount was faster. Goal: {} at least. Under emulation two runs \
         differ by some percent, either way.\n\n\
         | | handed off, MiB/s | direct, MiB/s | ratio | goal |\n|---|---|---|---|---|\n",
        goals::THROUGHPUT
    );
    for (kind, place) in PLACES {
        let mib = if kind == "gluster" {
            MIB_OF_GLUSTER
        } else {
            MIB
        };
        let output = machine.sh(&format!("throughput {kind} {place} {ROUNDS} {mib}"))?;
        for what in ["write", "read"] {
            let pairs = Pairs::read(&output, what, ROUNDS)?;
            let speed = |nanoseconds: f64| f64::from(mib) / (nanoseconds / 1e9);
            let faster = 1.0 / pairs.ratio_in_turn();
            writeln!(
                page,
                "| {kind}, {what} | {:.1} | {:.1} | {:.2} | {} |",
                speed(pairs.ours()),
                speed(pairs.others()),
                faster,
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
            let pairs = Pairs::read(&output, what, LIVES)?;
            writeln!(
                page,
                "| {kind}, {what} | {:.2} | {:.2} | {:.2} | {} |",
                pairs.ours() / 1e9,
                pairs.others() / 1e9,
                pairs.ratio(),
                at_most(pairs.ratio(), goals::LIFE)
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

/// How long the same took on either side, in turn, in nanoseconds.
struct Pairs(Vec<(f64, f64)>);

impl Pairs {
    /// The lines of `output` that begin with `what`: `write 123 456`. There must be `count`.
    fn read(output: &str, what: &str, count: usize) -> Result<Self> {
        let pairs: Vec<(f64, f64)> = output.lines().filter_map(|line| pair(line, what)).collect();
        if pairs.len() != count {
            bail!(
                "{} rounds of {what}, {count} expected:\n{output}",
                pairs.len()
            );
        }
        Ok(Self(pairs))
    }

    fn ours(&self) -> f64 {
        median(self.0.iter().map(|p| p.0).collect())
    }

    fn others(&self) -> f64 {
        median(self.0.iter().map(|p| p.1).collect())
    }

    /// How much longer ours took; the middle of all rounds.
    fn ratio(&self) -> f64 {
        median(self.0.iter().map(|p| p.0 / p.1).collect())
    }

    /// The same where the sides take turns in coming first. Who comes second may find something
    /// warm: the rounds then fall into two heaps, and the middle of all is the edge of one of them.
    /// Two rounds together have each side first once.
    fn ratio_in_turn(&self) -> f64 {
        let both = |rounds: &[(f64, f64)]| {
            let product: f64 = rounds.iter().map(|p| p.0 / p.1).product();
            product.powf(1.0 / rounds.len() as f64)
        };
        median(self.0.chunks(2).map(both).collect())
    }
}

fn pair(line: &str, what: &str) -> Option<(f64, f64)> {
    let mut words = line.split_whitespace();
    if words.next() != Some(what) {
        return None;
    }
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
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
    fn who_comes_first_does_not_count() {
        // Equal, but for a fifth that the first of each round takes longer.
        let rounds = [(12.0, 10.0), (10.0, 12.0)].repeat(3);
        assert!((Pairs(rounds).ratio_in_turn() - 1.0).abs() < 1e-9);
        let slower = [(24.0, 10.0), (20.0, 12.0)].repeat(3);
        assert!((Pairs(slower).ratio_in_turn() - 2.0).abs() < 1e-9);
    }

    #[test]
    fn rounds_are_told_apart_and_the_middle_one_counts() {
        let output = "write 10 20\nread 1 1\nwrite 30 20\nwrite 20 20\nwrite 7";
        let pairs = Pairs::read(output, "write", 3).unwrap();
        assert!((pairs.ours() - 20.0).abs() < f64::EPSILON);
        assert!((pairs.others() - 20.0).abs() < f64::EPSILON);
        assert!((pairs.ratio() - 1.0).abs() < f64::EPSILON);
        let error = Pairs::read(output, "read", 3).err().unwrap().to_string();
        assert!(error.contains("1 rounds of read, 3 expected"), "{error}");
    }
}
