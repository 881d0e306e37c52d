//! The command line.

use std::path::PathBuf;

use crate::plugin::PluginVerb;
use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use lazarette_core::{ContextName, Kind, SnapshotName, VolumeName};

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
    /// Take over storage named by a URL: a volume such as nfs://nas/media, a whole pool such as
    /// zfs:tank. It appears below /mnt.
    Attach(AttachArguments),
    /// Take back an attach: unmount and forget the volume or the context; the data stays.
    Detach(DetachArguments),
    /// Look for storage that could be attached (pools, volume groups, blank disks); changes nothing.
    Scan(ScanArguments),
    /// Make, list, look at, copy, resize and remove volumes.
    Volume {
        #[command(subcommand)]
        verb: VolumeVerb,
    },
    /// List contexts (pools, volume groups, servers), and do to them what their kinds offer.
    Pool {
        #[command(subcommand)]
        verb: PoolVerb,
    },
    /// Check, set and describe the cloud-config.
    Config {
        #[command(subcommand)]
        verb: ConfigVerb,
    },
    /// List the kinds of storage that this machine can serve, or the options of one.
    Kinds(KindsArguments),
    /// Write, pack and check plugins; install and remove them here.
    Plugin {
        #[command(subcommand)]
        verb: PluginVerb,
    },
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
    /// The storage, as KIND://WHERE/WHAT or KIND:POOL/WHAT; `laz scan` and `laz kinds` show URLs.
    pub(crate) url: String,
    /// The volume's or the context's name; without it one is made from the URL.
    #[arg(long, value_name = "NAME", value_parser = volume_name)]
    pub(crate) name: Option<VolumeName>,
    /// A further option of the kind (see `laz kinds KIND`); may be given several times.
    #[arg(long = "option", short = 'o', value_name = "KEY=VALUE", value_parser = option)]
    pub(crate) options: Vec<(String, String)>,
    /// Mount it for reading only.
    #[arg(long)]
    pub(crate) read_only: bool,
    /// Print the volume or the context as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ScanArguments {
    /// Only these kinds look; without any all that can.
    #[arg(value_name = "KIND", value_parser = kind)]
    pub(crate) kinds: Vec<Kind>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What to do with contexts.
#[derive(Debug, Subcommand)]
pub(crate) enum PoolVerb {
    /// List contexts, how full they are and what is going on in them.
    #[command(alias = "list")]
    Ls {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Have a context that waits or is stopped tried again now.
    Resume {
        /// The context.
        #[arg(value_name = "CONTEXT", value_parser = context_name)]
        context: ContextName,
    },
    /// ACTION CONTEXT [KEY=VALUE]…
    #[command(external_subcommand)]
    Act(Vec<String>),
}

/// One of the kinds' own actions: what follows `laz pool` and `laz volume` if it is none of laz's
/// own verbs.
#[derive(Debug, Parser)]
#[command(
    no_binary_name = true,
    disable_help_flag = true,
    disable_version_flag = true
)]
pub(crate) struct ActArguments {
    /// The action.
    pub(crate) action: String,
    /// The context's or volume's name.
    pub(crate) name: Option<String>,
    /// A parameter of the action; may be given several times.
    #[arg(value_name = "KEY=VALUE", value_parser = option)]
    pub(crate) parameters: Vec<(String, String)>,
    /// Do not ask, although something will be lost.
    #[arg(long, short)]
    pub(crate) yes: bool,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Show what the action does and takes.
    #[arg(long, short)]
    pub(crate) help: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DetachArguments {
    /// The volume's or context's name, as `laz status` shows it.
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
    /// Remove volumes that nothing uses, or snapshots.
    #[command(alias = "remove")]
    Rm(RemoveArguments),
    /// Take a snapshot of a volume, which may be in use, and print its name.
    Snapshot {
        /// The volume's name.
        #[arg(value_parser = volume_name)]
        name: VolumeName,
        /// The snapshot's name; without it the time.
        #[arg(value_parser = snapshot_name)]
        snapshot: Option<SnapshotName>,
        /// Print the snapshot as JSON instead of its name.
        #[arg(long)]
        json: bool,
    },
    /// List the snapshots of a volume.
    Snapshots {
        /// The volume's name.
        #[arg(value_parser = volume_name)]
        name: VolumeName,
        #[command(flatten)]
        list: ListArguments,
    },
    /// Bring a volume that nothing uses back to a snapshot; what was written since is lost.
    Rollback {
        /// The volume's name.
        #[arg(value_parser = volume_name)]
        name: VolumeName,
        /// The snapshot's name.
        #[arg(value_parser = snapshot_name)]
        snapshot: SnapshotName,
        /// Do not ask.
        #[arg(long, short)]
        yes: bool,
    },
    /// Make a volume with the content of another one of the same context, and print its name.
    Clone {
        /// The volume, or a snapshot of it.
        #[arg(value_name = "VOLUME[@SNAPSHOT]", value_parser = operand)]
        source: Operand,
        /// The new volume's name.
        #[arg(value_parser = volume_name)]
        name: VolumeName,
        /// What is to be different from the source's options; may be given several times.
        #[arg(long = "option", short = 'o', value_name = "KEY=VALUE", value_parser = option)]
        options: Vec<(String, String)>,
        /// Print the volume as JSON instead of its name.
        #[arg(long)]
        json: bool,
    },
    /// Give a volume another size, while it is in use if its storage can.
    Resize {
        /// The volume's name.
        #[arg(value_parser = volume_name)]
        name: VolumeName,
        /// The size it is to have, such as 20G.
        size: String,
    },
    /// Give a volume that nothing uses another name.
    Rename {
        /// The volume's name.
        #[arg(value_parser = volume_name)]
        name: VolumeName,
        /// Its new name.
        #[arg(value_name = "NEW", value_parser = volume_name)]
        to: VolumeName,
    },
    /// ACTION VOLUME [KEY=VALUE]…
    #[command(external_subcommand)]
    Act(Vec<String>),
}

/// A volume, or one of its snapshots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Operand {
    /// The volume.
    pub(crate) volume: VolumeName,
    /// The snapshot; none: the volume itself.
    pub(crate) snapshot: Option<SnapshotName>,
}

impl std::fmt::Display for Operand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.snapshot {
            Some(snapshot) => write!(f, "{}@{snapshot}", self.volume),
            None => self.volume.fmt(f),
        }
    }
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
    /// The volumes' names, or snapshots.
    #[arg(required = true, value_name = "VOLUME[@SNAPSHOT]", value_parser = operand)]
    pub(crate) names: Vec<Operand>,
    /// Remove its snapshots with it.
    #[arg(long)]
    pub(crate) snapshots: bool,
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

fn snapshot_name(text: &str) -> Result<SnapshotName, lazarette_core::Error> {
    SnapshotName::new(text)
}

/// `VOLUME` or `VOLUME@SNAPSHOT`: no name contains an `@`.
fn operand(text: &str) -> Result<Operand, lazarette_core::Error> {
    let (volume, snapshot) = match text.split_once('@') {
        Some((volume, snapshot)) => (volume, Some(snapshot)),
        None => (text, None),
    };
    Ok(Operand {
        volume: VolumeName::new(volume)?,
        snapshot: snapshot.map(SnapshotName::new).transpose()?,
    })
}

fn context_name(text: &str) -> Result<ContextName, lazarette_core::Error> {
    ContextName::new(text)
}

pub(crate) fn kind(text: &str) -> Result<Kind, lazarette_core::Error> {
    Kind::new(text)
}
