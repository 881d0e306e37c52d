//! `laz plugin`: writing plugins, and the plugins that this machine has.

mod check;
mod installed;
mod new;
mod pack;
mod statement;

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use lazarette_core::Kind;
use lazarette_core::control::PluginInstall;
use lazarette_core::manifest::Privileges;

use crate::arguments::kind;
use crate::client::Client;
use crate::failure::Failure;
use crate::terminal::Terminal;

/// What to do with plugins.
#[derive(Debug, Subcommand)]
pub(crate) enum PluginVerb {
    /// Write a project for a plugin that builds: NAME/ with the plugin and its image's recipe.
    New(NewArguments),
    /// Check that a plugin keeps the contract: what core asks of it, twice, at once, amid kills.
    Check(check::CheckArguments),
    /// Make an image of a built plugin, with the docker command of this machine, and print its tag.
    Pack(PackArguments),
    /// Install a plugin: an image that user Docker or a registry has, or an archive of one.
    Install(InstallArguments),
    /// Put another version in the place of an installed plugin; what is mounted stays mounted.
    Upgrade(UpgradeArguments),
    /// List the installed plugins, and the images that could be plugins and are not used.
    #[command(alias = "list")]
    Ls {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show an installed plugin in full, as JSON: its options, its privileges.
    Inspect {
        /// Its kind.
        #[arg(value_parser = kind)]
        kind: Kind,
    },
    /// Remove a plugin that no context needs.
    #[command(alias = "remove")]
    Rm {
        /// Its kind.
        #[arg(value_parser = kind)]
        kind: Kind,
    },
}

/// What `new` takes.
#[derive(Debug, Args)]
pub(crate) struct NewArguments {
    /// The kind of storage; also the name of the directory.
    #[arg(value_name = "NAME", value_parser = kind)]
    pub(crate) kind: Kind,
    /// The language it is written in.
    #[arg(long, value_enum, default_value_t = Language::Rust)]
    pub(crate) lang: Language,
    /// The directory that NAME is made in.
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) directory: PathBuf,
    /// Where the crate lazarette-plugin lies; without it its source is written into the project.
    #[arg(long, value_name = "DIR")]
    pub(crate) sdk: Option<PathBuf>,
}

/// A language with a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Language {
    /// A shared library on the crate lazarette-plugin.
    Rust,
    /// A shared library on lazarette.h.
    C,
    /// A program that speaks the wire protocol itself.
    Python,
}

/// What `pack` takes.
#[derive(Debug, Args)]
pub(crate) struct PackArguments {
    /// The shared library (….so), or a program that speaks the wire protocol itself.
    pub(crate) plugin: PathBuf,
    /// The directory with the Dockerfile of what the plugin runs.
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) recipe: PathBuf,
    /// An image to put the plugin into, instead of one built from a recipe.
    #[arg(long, value_name = "IMAGE", conflicts_with = "recipe")]
    pub(crate) base: Option<String>,
    /// The image's name; without it lazarette-plugin-KIND:VERSION.
    #[arg(long, short, value_name = "NAME")]
    pub(crate) tag: Option<String>,
    /// Also write the image into this file, and what its author signs into FILE.statement.
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Write what its author signs (minisign -S -m FILE) into this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) statement: Option<PathBuf>,
    /// The plugin host to put into the image; without it the one beside laz.
    #[arg(long, value_name = "FILE")]
    pub(crate) host: Option<PathBuf>,
}

/// What `install` takes.
#[derive(Debug, Args)]
pub(crate) struct InstallArguments {
    /// The image's name, or a file that docker save has written; - is standard input.
    #[arg(value_name = "IMAGE|FILE")]
    pub(crate) source: String,
    /// Do not ask whether it may have what it asks for.
    #[arg(long, short)]
    pub(crate) yes: bool,
    /// Its author's signature; without it that in SOURCE.statement.minisig, if there is one.
    #[arg(long, value_name = "FILE")]
    pub(crate) signature: Option<PathBuf>,
    /// Also if the version is older than the installed one, or than one that was removed.
    #[arg(long)]
    pub(crate) downgrade: bool,
}

/// What `upgrade` takes.
#[derive(Debug, Args)]
pub(crate) struct UpgradeArguments {
    #[command(flatten)]
    pub(crate) install: InstallArguments,
    /// Also under containers whose mounts have to be replaced (FUSE).
    #[arg(long)]
    pub(crate) force: bool,
}

/// Runs one.
pub(crate) fn run(
    verb: PluginVerb,
    client: &Client,
    terminal: &mut Terminal,
) -> Result<(), Failure> {
    match verb {
        PluginVerb::New(arguments) => new::run(&arguments, terminal),
        PluginVerb::Check(arguments) => check::run(&arguments, terminal),
        PluginVerb::Pack(arguments) => pack::run(&arguments, terminal),
        PluginVerb::Install(arguments) => {
            let wanted = PluginInstall::default();
            installed::install(&arguments, wanted, client, terminal)
        }
        PluginVerb::Upgrade(arguments) => {
            let wanted = PluginInstall {
                upgrade: true,
                force: arguments.force,
                ..PluginInstall::default()
            };
            installed::install(&arguments.install, wanted, client, terminal)
        }
        PluginVerb::Ls { json } => installed::ls(json, client, terminal),
        PluginVerb::Inspect { kind } => installed::inspect(&kind, client, terminal),
        PluginVerb::Rm { kind } => installed::rm(kind, client, terminal),
    }
}

/// Tells what a plugin's containers are allowed beyond nothing.
fn printed(granted: &Privileges, terminal: &mut Terminal) -> Result<(), Failure> {
    let mut all: Vec<String> = granted.capabilities.iter().cloned().collect();
    all.extend(granted.devices.iter().cloned());
    let flags = [
        (granted.all_devices, "all devices"),
        (granted.host_network, "the host's network"),
        (granted.secrets, "its context's secrets"),
    ];
    all.extend(
        flags
            .iter()
            .filter(|(on, _)| *on)
            .map(|(_, what)| (*what).to_owned()),
    );
    all.extend(granted.host_directories.iter().cloned());
    all.extend(granted.host_files.iter().cloned());
    let modules = granted.kernel_modules.iter();
    all.extend(modules.map(|module| format!("the kernel module {module}")));
    let builder = granted.module_builder.iter();
    all.extend(builder.map(|image| format!("kernel modules that {image} builds")));
    match all.is_empty() {
        true => terminal.line("its containers may do nothing special"),
        false => terminal.line(&format!("its containers may use: {}", all.join(", "))),
    }
}
