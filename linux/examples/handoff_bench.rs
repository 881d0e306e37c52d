//! What a hand-off costs beside a bind mount, with 0, 1,000 and 10,000 mounts in the view.
//!
//! ```sh
//! cargo run --profile image -p lazarette-linux --example handoff_bench [-- MOUNTS…]
//! ```
//!
//! Prints one JSON object. All times are in microseconds, medians over rounds of 20 mounts in a row, of
//! one run, so that their ratios are comparable; the view is a private namespace and nothing is left
//! behind.
//!
//! - `bind`: `mount(MS_BIND | MS_REC)` and `mount(MS_PRIVATE | MS_REC)`, by path: what a script does.
//! - `bind_constrained`: the same, and the remount that sets nosuid and nodev: what does as much as a
//!   hand-off but for checking anything.
//! - `handoff`: clone, constrain, stage, verify, move to an existing target directory.
//! - `handoff_table`: the same without `statmount`, as on kernels before 6.8.
//! - `handoff_request`: `handoff` as core asks for it, from another thread.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lazarette_linux::mount::{Expected, Lookup, MountError, MountOptions, MountRoot};
use lazarette_linux::namespace::{MountNamespace, NamespaceError};
use lazarette_linux::view::{Rung, Rungs, Session, Sharing, TargetRoot, View};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind_recursive, mount_change,
    mount_remount, unmount,
};

type Failure = Box<dyn std::error::Error>;

/// Mounts made in a row in one round; the figure of a round is their mean.
const TARGETS: usize = 20;
/// Rounds per figure.
const ROUNDS: usize = 51;

fn main() -> Result<(), Failure> {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: needs root");
        return Ok(());
    }
    let mut counts = Vec::new();
    for argument in std::env::args().skip(1) {
        counts.push(argument.parse()?);
    }
    if counts.is_empty() {
        counts = vec![0, 1_000, 10_000];
    }
    let mut rows = Vec::new();
    for count in counts {
        rows.push(measure(count)?);
    }
    println!(
        "{{\"unit\": \"us\", \"rows\": [\n  {}\n]}}",
        rows.join(",\n  ")
    );
    Ok(())
}

struct Bench {
    view: View,
    root: TargetRoot,
    source: PathBuf,
    bound: PathBuf,
}

fn measure(mounts: usize) -> Result<String, Failure> {
    let temporary = tempfile::tempdir()?;
    let directory = temporary.path().canonicalize()?;
    let [source, bound, many] = ["source", "bound", "many"].map(|name| directory.join(name));
    for path in [&source, &bound, &many] {
        std::fs::create_dir(path)?;
    }
    for number in 0..TARGETS {
        std::fs::create_dir(bound.join(number.to_string()))?;
    }
    let (from, crowd) = (source.clone(), many.clone());
    let namespace = MountNamespace::create(|_| {
        prepare(&from, &crowd, mounts).expect("mounts in a new namespace");
        Ok::<_, NamespaceError>(())
    })?;
    let staging = directory.join("staging");
    let bench = |lookup| -> Result<Bench, MountError> {
        let view = View::open_by(namespace.try_clone()?, &staging, lookup)?;
        let root = view.target_root(&directory.join("mnt"), Sharing::Private)?;
        for number in 0..TARGETS {
            root.prepare(&target(number))?;
        }
        Ok(Bench {
            view,
            root,
            source: source.clone(),
            bound: bound.clone(),
        })
    };
    let fast = bench(Lookup::Auto)?;
    let bind = fast.in_view(ROUNDS, |bench, _, number| bench.bind(number, false))?;
    let constrained = fast.in_view(ROUNDS, |bench, _, number| bench.bind(number, true))?;
    let handoff = fast.in_view(ROUNDS, Bench::hand_off)?;
    let request = fast.request()?;
    drop(fast);
    let table = bench(Lookup::MountTable)?.in_view(1, Bench::hand_off)?;
    Ok(format!(
        "{{\"mounts\": {mounts}, \"bind\": {bind:.2}, \"bind_constrained\": {constrained:.2}, \
         \"handoff\": {handoff:.2}, \"handoff_table\": {table:.2}, \"handoff_request\": {request:.2}, \
         \"ratio\": {:.2}, \"ratio_constrained\": {:.2}}}",
        handoff / bind,
        handoff / constrained,
    ))
}

/// Mounts what is handed over, and `mounts` others.
fn prepare(source: &Path, many: &Path, mounts: usize) -> Result<(), Failure> {
    mount("source", source, "tmpfs", MountFlags::empty(), c"size=1m")?;
    mount("many", many, "tmpfs", MountFlags::empty(), c"size=1m")?;
    for number in 0..mounts {
        let path = many.join(number.to_string());
        std::fs::create_dir(&path)?;
        mount_bind_recursive(source, &path)?;
    }
    Ok(())
}

impl Bench {
    /// The median over `rounds` of the mean time of `work`, run for each target in the view's own
    /// thread; it returns what it measured.
    fn in_view(
        &self,
        rounds: usize,
        work: impl Fn(&Self, &Session, usize) -> Result<Duration, MountError> + Copy + Send + 'static,
    ) -> Result<f64, MountError> {
        let mut times = Vec::with_capacity(rounds);
        for _ in 0..rounds {
            let bench = self.copy();
            times.push(self.view.run(move |session| {
                let mut sum = Duration::ZERO;
                for number in 0..TARGETS {
                    sum += work(&bench, session, number)?;
                }
                Ok(sum / TARGETS as u32)
            })?);
            self.clear()?;
        }
        Ok(median(times))
    }

    /// Takes away what a round has mounted.
    fn clear(&self) -> Result<(), MountError> {
        for number in 0..TARGETS {
            let bound = self.bound.join(number.to_string());
            self.view.run(move |_| {
                // Not a mount point if this round did not bind.
                let _ = unmount(bound, UnmountFlags::empty());
                Ok(())
            })?;
            self.root
                .detach(&target(number), Rungs::up_to(Rung::Plain))?;
            self.root.prepare(&target(number))?;
        }
        Ok(())
    }

    fn copy(&self) -> Self {
        Self {
            view: self.view.clone(),
            root: self.root.clone(),
            source: self.source.clone(),
            bound: self.bound.clone(),
        }
    }

    fn bind(&self, number: usize, constrain: bool) -> Result<Duration, MountError> {
        let bound = self.bound.join(number.to_string());
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        let start = Instant::now();
        mount_bind_recursive(&self.source, &bound).expect("bind");
        if constrain {
            let flags = MountFlags::BIND | MountFlags::NOSUID | MountFlags::NODEV;
            mount_remount(&bound, flags, c"").expect("remount");
        }
        mount_change(&bound, private).expect("private");
        Ok(start.elapsed())
    }

    fn hand_off(&self, session: &Session, number: usize) -> Result<Duration, MountError> {
        let expected = Expected::types(["tmpfs"]);
        let source = MountRoot::open(&self.source, &expected)?;
        let target = target(number);
        let options = MountOptions::default();
        let start = Instant::now();
        let mount = source.clone_tree()?;
        session.attach(&self.root, &target, mount, &expected, options)?;
        Ok(start.elapsed())
    }

    fn request(&self) -> Result<f64, MountError> {
        let expected = Expected::types(["tmpfs"]);
        let mut times = Vec::new();
        for _ in 0..ROUNDS {
            for number in 0..TARGETS {
                let (source, checked) = (self.source.clone(), expected.clone());
                let mount = self
                    .view
                    .run(move |_| MountRoot::open(&source, &checked)?.clone_tree())?;
                let start = Instant::now();
                let options = MountOptions::default();
                self.root
                    .attach(&target(number), mount, &expected, options)?;
                times.push(start.elapsed());
            }
            self.clear()?;
        }
        Ok(median(times))
    }
}

fn target(number: usize) -> PathBuf {
    PathBuf::from(format!("keep/{number}"))
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e6
}
