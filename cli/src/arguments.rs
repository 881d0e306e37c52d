//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use lazarette_core::{ContextName, Kind, VolumeName};

/// Where core listens.
pub(crate) const SOCKET: &str = "/run/lazarette/core.sock";

const EXIT_STATUS: &str = "\
Exit status:
  0  done
  1  it failed; the line on standard error says why and what to do
  2  the command line is wrong
  3  core cannot be reached, or did not answer in time
  4  what was named does not exist
  5  the input is not valid (a name, an option, a cloud-config)

Errors are one line on standard error: `laz: WHAT: CAUSE; REMEDY`. With --json, standard output
is JSON and nothing else. NO_COLOR switches colours off.";

/// Looks at and drives Lazarette, the storage of this machine's containers.
#[derive(Debug, Parser)]
#[command(name = "laz", version, after_help = EXIT_STATUS, propagate_version = true)]
pub struct Arguments {
    /// The control socket of core.
    #[arg(long, global = true, env = "LAZARETTE_SOCKET", default_value = SOCKET, value_name = "PATH")]
    pub(crate) socket: PathBuf,

    /// How long to wait for core's answer; without it 10 seconds to look at something, 180 to
    /// change something.
    #[arg(long, global = true, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) timeout: Option<u32>,

    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Show contexts, volumes, engines and what is wrong with them.
    Status(StatusArguments),
    /// Mount storage named by a URL, such as nfs://nas/media, below /mnt.
    Attach(AttachArguments),
    /// Take back an attach: unmount and forget the volume; its data stays.
    Detach(DetachArguments),
    /// Make, list, look at and remove volumes.
    Volume {
        #[command(subcommand)]
        verb: VolumeVerb,
    },
    /// Check, set and describe the cloud-config.
    Config {
        #[command(subcommand)]
        verb: ConfigVerb,
    },
    /// List the kinds of storage that this machine can serve, or the options of one.
    Kinds(KindsArguments),
    /// Show the log of a storage context.
    Logs(LogsArguments),
    /// Check what this machine has of what Lazarette needs, and say how to get the rest.
    Doctor(DoctorArguments),
    /// Unmount everything and stop all storage containers, because the machine goes down.
    Drain {
        /// Do not ask, although every container loses its storage.
        #[arg(long, short)]
        yes: bool,
    },
    /// Print the completion script of a shell.
    Completions {
        /// Which shell.
        shell: Shell,
    },
    /// Print the man page, or write all of them into a directory.
    Man {
        /// The directory to write laz.1, laz-status.1, … into; without it laz.1 is printed.
        #[arg(long, value_name = "DIR")]
        directory: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct StatusArguments {
    /// Print JSON, one document a line.
    #[arg(long)]
    pub(crate) json: bool,
    /// Show it again every two seconds until interrupted.
    #[arg(long, short)]
    pub(crate) watch: bool,
}

#[derive(Debug, Args)]
pub(crate) struct AttachArguments {
    /// The storage, as KIND://WHERE/WHAT.
    pub(crate) url: String,
    /// The volume's name; without it one is made from the URL.
    #[arg(long, value_name = "NAME", value_parser = volume_name)]
    pub(crate) name: Option<VolumeName>,
    /// A further option of the kind (see `laz kinds KIND`); may be given several times.
    #[arg(long = "option", short = 'o', value_name = "KEY=VALUE", value_parser = option)]
    pub(crate) options: Vec<(String, String)>,
    /// Mount it for reading only.
    #[arg(long)]
    pub(crate) read_only: bool,
    /// Print the volume as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DetachArguments {
    /// The volume's name, as `laz status` shows it.
    #[arg(value_parser = volume_name)]
    pub(crate) name: VolumeName,
    /// Detach although it is in use: who has files open in it keeps them, nobody else sees it.
    #[arg(long)]
    pub(crate) lazy: bool,
}

/// What to do with volumes.
#[derive(Debug, Subcommand)]
pub(crate) enum VolumeVerb {
    /// Make a volume and print its name.
    Create(CreateArguments),
    /// List volumes.
    #[command(alias = "list")]
    Ls(ListArguments),
    /// Show volumes in full, as JSON.
    Inspect {
        /// The volumes' names.
        #[arg(required = true, value_name = "NAME", value_parser = volume_name)]
        names: Vec<VolumeName>,
    },
    /// Remove volumes that nothing uses.
    #[command(alias = "remove")]
    Rm(RemoveArguments),
}

#[derive(Debug, Args)]
pub(crate) struct CreateArguments {
    /// The volume's name.
    #[arg(value_parser = volume_name)]
    pub(crate) name: VolumeName,
    /// The kind of storage; not needed with --context.
    #[arg(long, short, value_name = "KIND", value_parser = kind, required_unless_present = "context")]
    pub(crate) kind: Option<Kind>,
    /// The storage context to make it in; without it one is found or made from the options.
    #[arg(long, short, value_name = "CONTEXT", value_parser = context_name)]
    pub(crate) context: Option<ContextName>,
    /// An option of the kind (see `laz kinds KIND`); may be given several times.
    #[arg(long = "option", short = 'o', value_name = "KEY=VALUE", value_parser = option)]
    pub(crate) options: Vec<(String, String)>,
    /// Print the volume as JSON instead of its name.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    /// Print JSON.
    #[arg(long, conflicts_with = "quiet")]
    pub(crate) json: bool,
    /// Print names only.
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RemoveArguments {
    /// The volumes' names.
    #[arg(required = true, value_name = "NAME", value_parser = volume_name)]
    pub(crate) names: Vec<VolumeName>,
    /// Remove it also with its storage away; what cannot be cleaned up there is left there.
    #[arg(long, short)]
    pub(crate) force: bool,
    /// Do not ask, although data may be lost.
    #[arg(long, short)]
    pub(crate) yes: bool,
}

/// What to do with the cloud-config.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigVerb {
    /// Check a cloud-config and print what is wrong, as FILE:LINE: PATH: MESSAGE.
    Validate {
        /// The file; `-` is standard input.
        file: PathBuf,
        /// Print the problems as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Check a cloud-config and, if nothing is wrong with it, make it this machine's and apply it.
    Set {
        /// The file; `-` is standard input.
        file: PathBuf,
        /// Print the problems as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print the JSON schema of the cloud-config, with all kinds of storage known here.
    Schema,
}

#[derive(Debug, Args)]
pub(crate) struct KindsArguments {
    /// Show the options of this kind.
    #[arg(value_parser = kind)]
    pub(crate) kind: Option<Kind>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LogsArguments {
    /// The storage context, as `laz status` shows it.
    #[arg(value_parser = context_name)]
    pub(crate) context: ContextName,
    /// Stay and print lines as they come.
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// Begin with the last N lines; without it all that is kept.
    #[arg(long, short = 'n', value_name = "N")]
    pub(crate) tail: Option<usize>,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArguments {
    /// The socket of system Docker, on which storage contexts run.
    #[arg(long, value_name = "PATH", default_value = "/run/system-docker.sock")]
    pub(crate) system_docker: PathBuf,
    /// The socket of user Docker, on which users' containers run.
    #[arg(long, value_name = "PATH", default_value = "/run/docker.sock")]
    pub(crate) user_docker: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

fn option(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some(("", _)) => Err("the key is empty; write KEY=VALUE".into()),
        Some((key, value)) => Ok((key.into(), value.into())),
        None => Ok((text.into(), String::new())),
    }
}

fn volume_name(text: &str) -> Result<VolumeName, lazarette_core::Error> {
    VolumeName::new(text)
}

fn context_name(text: &str) -> Result<ContextName, lazarette_core::Error> {
    ContextName::new(text)
}

fn kind(text: &str) -> Result<Kind, lazarette_core::Error> {
    Kind::new(text)
}
