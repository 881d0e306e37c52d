//! The project's own tasks: demo, test, vm, bench, images, tidy.

mod accelerator;
mod apt;
mod bench;
mod cache;
mod command;
mod demo;
mod header;
mod images;
mod packages;
mod progress;
mod test;
mod tidy;
mod vm;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// What can be set from outside.
const VARIABLES: &str = "\
Environment:
  LAZARETTE_CACHE          where built images and saved machines are kept (~/.cache/lazarette)
  LAZARETTE_ACCELERATOR    kvm or tcg, instead of trying whether KVM works
  LAZARETTE_DEBIAN_MIRROR  the Debian mirror, where apt's own configuration names none";

/// Lazarette's own tasks.
#[derive(Parser)]
#[command(bin_name = "cargo xtask", after_help = VARIABLES)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build what machines are made of, as far as it is missing.
    Images {
        /// Look for newer Debian packages, even if that was done in the last day.
        #[arg(long)]
        refresh: bool,
    },
    Vm(vm::Vm),
    Test(test::Test),
    /// Boot the OS and show, step by step, how one container of a user's gets to NFS, ZFS, LVM and
    /// Gluster at once.
    Demo,
    /// Measure, and write docs/benchmarks.md.
    Bench(bench::Bench),
    /// Write plugins/abi/include/lazarette.h, the plugin ABI for authors in C.
    Header,
    /// Check the invariants of ARCHITECTURE.md that can be checked.
    Tidy,
    /// Part of `images`, inside a mount namespace.
    #[command(hide = true)]
    BakeInside {
        /// The job's file.
        job: PathBuf,
    },
}

fn main() -> ExitCode {
    progress::started();
    let result = match Arguments::parse().task {
        Task::Images { refresh } => images::ensure(refresh).map(|(_, path)| {
            progress::say(&format!("{} names the images", path.display()));
            ExitCode::SUCCESS
        }),
        Task::Vm(vm) => vm.run(),
        Task::Test(test) => test.run(),
        Task::Demo => demo::run(),
        Task::Bench(bench) => bench.run(),
        Task::Header => header::write(&images::workspace()).map(|path| {
            progress::say(&format!("{} is written", path.display()));
            ExitCode::SUCCESS
        }),
        Task::Tidy => tidy::run().map(|()| ExitCode::SUCCESS),
        Task::BakeInside { job } => images::bake_inside(&job).map(|()| ExitCode::SUCCESS),
    };
    result.unwrap_or_else(|error| {
        eprintln!("{error:#}");
        ExitCode::from(2)
    })
}
