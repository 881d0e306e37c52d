//! `laz volume` (its snapshots are in [`crate::snapshot`]), `laz attach`, `laz detach`.

use lazarette_core::control::{
    Attached, NewVolume, Origin, Progress, Request, Status, VolumeStatus,
};
use lazarette_core::manifest::{ActionOn, Capability, Manifest};
use lazarette_core::{ErrorKind, VolumeName};
use serde_json::Value;

use crate::action;
use crate::arguments::{
    AttachArguments, CreateArguments, DetachArguments, ListArguments, Operand, RemoveArguments,
    VolumeVerb,
};
use crate::client::Client;
use crate::failure::Failure;
use crate::snapshot;
use crate::status;
use crate::terminal::{Terminal, printable};

pub(crate) fn run(
    verb: VolumeVerb,
    client: &Client,
    terminal: &mut Terminal,
) -> Result<(), Failure> {
    match verb {
        VolumeVerb::Create(create) => make(create, client, terminal),
        VolumeVerb::Ls(list) => ls(&list, client, terminal),
        VolumeVerb::Inspect { names } => inspect(names, client, terminal),
        VolumeVerb::Rm(remove) => rm(remove, client, terminal),
        VolumeVerb::Snapshot {
            name,
            snapshot,
            json,
        } => snapshot::take(name, snapshot, json, client, terminal),
        VolumeVerb::Snapshots { name, list } => snapshot::ls(name, &list, client, terminal),
        VolumeVerb::Rollback {
            name,
            snapshot,
            yes,
        } => snapshot::rollback(name, snapshot, yes, client, terminal),
        VolumeVerb::Clone {
            source,
            name,
            options,
            json,
        } => {
            let request = Request::VolumeClone {
                source: source.volume,
                snapshot: source.snapshot,
                name,
                options: options.into_iter().collect(),
            };
            let volume: VolumeStatus = capable(Capability::Clone, &request, client, terminal)?;
            if json {
                return terminal.json(&volume, true);
            }
            terminal.line(volume.name.as_str())
        }
        VolumeVerb::Resize { name, size } => {
            let request = Request::VolumeResize { name, size };
            let volume: VolumeStatus = capable(Capability::Resize, &request, client, terminal)?;
            terminal.line(&resized(&volume))
        }
        VolumeVerb::Rename { name, to } => {
            let volume: VolumeStatus = ask(client, &Request::VolumeRename { name, to }, terminal)?;
            terminal.line(volume.name.as_str())
        }
        VolumeVerb::Act(words) => action::run(ActionOn::Volume, words, client, terminal),
    }
}

fn resized(volume: &VolumeStatus) -> String {
    let (name, none) = (&volume.name, String::new());
    let size = printable(volume.size.as_ref().unwrap_or(&none));
    match (&volume.new_size, &volume.reason) {
        (None, _) => format!("{name} has {size} now"),
        (Some(new), None) => format!("{name} is being given {}", printable(new)),
        (Some(new), Some(reason)) => format!(
            "{name} has {size} and will be given {} when it can be: {}",
            printable(new),
            printable(reason)
        ),
    }
}

/// Asks core, showing on standard error what it says meanwhile.
pub(crate) fn ask<T: serde::de::DeserializeOwned>(
    client: &Client,
    request: &Request,
    terminal: &mut Terminal,
) -> Result<T, Failure> {
    client.ask(request, &mut |word| {
        if let Some(text) = progress(&word) {
            terminal.complain(&printable(&text));
        }
        Ok(())
    })
}

/// A word of progress as people read it.
fn progress(word: &Value) -> Option<String> {
    let Progress { message, share } = match word.as_str() {
        Some(text) => return Some(text.to_owned()),
        None => serde_json::from_value(word.clone()).ok()?,
    };
    Some(match share {
        Some(share) => format!("{message}: {}", status::percent(share)),
        None => message,
    })
}

/// Asks core for something that not every kind can; if this one cannot, says which can.
pub(crate) fn capable<T: serde::de::DeserializeOwned>(
    needed: Capability,
    request: &Request,
    client: &Client,
    terminal: &mut Terminal,
) -> Result<T, Failure> {
    let mut error = match ask(client, request, terminal) {
        Err(Failure::Core(error)) if error.kind == ErrorKind::Unsupported => error,
        other => return other,
    };
    if error.remedy.is_none()
        && let Ok(kinds) = client.get::<Vec<Manifest>>(&Request::Kinds)
    {
        let able = kinds
            .iter()
            .filter(|manifest| manifest.capabilities.contains(&needed));
        let able: Vec<&str> = able.map(|manifest| manifest.kind.as_str()).collect();
        error = error.remedy(match able[..] {
            [] => "no kind of storage here can".to_owned(),
            _ => format!("kinds that can: {}", able.join(", ")),
        });
    }
    Err(Failure::Core(error))
}

fn make(
    arguments: CreateArguments,
    client: &Client,
    terminal: &mut Terminal,
) -> Result<(), Failure> {
    let json = arguments.json;
    let request = Request::VolumeCreate(NewVolume {
        name: arguments.name,
        kind: arguments.kind,
        context: arguments.context,
        options: arguments.options.into_iter().collect(),
    });
    let volume: VolumeStatus = ask(client, &request, terminal)?;
    if json {
        return terminal.json(&volume, true);
    }
    terminal.line(volume.name.as_str())
}

pub(crate) fn attach(
    arguments: AttachArguments,
    client: &Client,
    terminal: &mut Terminal,
) -> Result<(), Failure> {
    let json = arguments.json;
    let request = Request::Attach {
        url: arguments.url,
        name: arguments.name,
        options: arguments.options.into_iter().collect(),
        read_only: arguments.read_only,
    };
    let volume = match ask(client, &request, terminal)? {
        Attached::Volume(volume) => volume,
        Attached::Context(context) if json => return terminal.json(&context, true),
        Attached::Context(context) => {
            let name = &context.name;
            return match &context.reason {
                None => terminal.line(&format!("context {name}: what it has is below /mnt/{name}")),
                Some(reason) => terminal.line(&format!(
                    "context {name} is attached and not well: {}",
                    printable(reason)
                )),
            };
        }
    };
    if json {
        return terminal.json(&volume, true);
    }
    let name = &volume.name;
    match (&volume.mountpoint, &volume.reason) {
        (Some(path), _) => terminal.line(&format!("{name} is mounted at {}", printable(path))),
        (None, Some(reason)) => terminal.line(&format!(
            "{name} is attached and will be mounted when it can be: {}",
            printable(reason)
        )),
        (None, None) => terminal.line(&format!("{name} is attached and being mounted")),
    }
}

pub(crate) fn detach(
    arguments: DetachArguments,
    client: &Client,
    terminal: &mut Terminal,
) -> Result<(), Failure> {
    let name = arguments.name;
    let request = Request::Detach {
        name: name.clone(),
        lazy: arguments.lazy,
    };
    ask::<()>(client, &request, terminal)?;
    terminal.line(name.as_str())
}

fn ls(arguments: &ListArguments, client: &Client, terminal: &mut Terminal) -> Result<(), Failure> {
    let volumes = client.get::<Status>(&Request::Status)?.volumes;
    if arguments.json {
        return terminal.json(&volumes, true);
    }
    if arguments.quiet {
        return volumes
            .iter()
            .try_for_each(|volume| terminal.line(volume.name.as_str()));
    }
    if volumes.is_empty() {
        terminal.complain("No volumes. Make one: laz volume create --kind KIND -o KEY=VALUE NAME");
        return Ok(());
    }
    terminal.table(&status::volumes(&volumes))
}

/// Like `docker volume inspect`: shows those that exist, then fails for those that don't.
fn inspect(
    names: Vec<VolumeName>,
    client: &Client,
    terminal: &mut Terminal,
) -> Result<(), Failure> {
    let mut found = Vec::new();
    let mut missing = None;
    for name in names {
        match client.get::<VolumeStatus>(&Request::VolumeInspect { name }) {
            Ok(volume) => found.push(volume),
            Err(Failure::Core(error)) if error.kind == ErrorKind::NotFound => {
                tell(missing.replace(Failure::Core(error)), terminal);
            }
            Err(failure) => return Err(failure),
        }
    }
    terminal.json(&found, true)?;
    missing.map_or(Ok(()), Err)
}

/// Removes each; goes on after one that cannot be removed, and fails for it at the end.
fn rm(arguments: RemoveArguments, client: &Client, terminal: &mut Terminal) -> Result<(), Failure> {
    let mut failed = None;
    for operand in &arguments.names {
        match remove(operand, &arguments, client, terminal) {
            Ok(()) => terminal.line(&operand.to_string())?,
            Err(failure @ (Failure::Core(_) | Failure::NotConfirmed(_))) => {
                tell(failed.replace(failure), terminal);
            }
            Err(failure) => return Err(failure),
        }
    }
    failed.map_or(Ok(()), Err)
}

/// Of several failures the last one is told by `main`, the others here.
fn tell(failure: Option<Failure>, terminal: &mut Terminal) {
    if let Some(line) = failure.and_then(|failure| failure.line()) {
        terminal.complain(&format!("laz: {line}"));
    }
}

fn remove(
    operand: &Operand,
    arguments: &RemoveArguments,
    client: &Client,
    terminal: &mut Terminal,
) -> Result<(), Failure> {
    let name = operand.volume.clone();
    if let Some(snapshot) = &operand.snapshot {
        return snapshot::remove(name, snapshot.clone(), arguments.yes, client, terminal);
    }
    if !arguments.yes
        && let Some(lost) = loss(&name, arguments.snapshots, client)?
    {
        terminal.confirm_loss(name.as_str(), &lost)?;
    }
    let request = Request::VolumeRemove {
        name,
        force: arguments.force,
        snapshots: arguments.snapshots,
    };
    ask(client, &request, terminal)
}

/// What is lost with the volume, if anything is.
fn loss(name: &VolumeName, snapshots: bool, client: &Client) -> Result<Option<String>, Failure> {
    let volume: VolumeStatus = client.get(&Request::VolumeInspect { name: name.clone() })?;
    let kinds: Vec<Manifest> = client.get(&Request::Kinds)?;
    let manifest = kinds.iter().find(|manifest| manifest.kind == volume.kind);
    let mut lost = Vec::new();
    if loses_data(&volume, manifest) {
        let context = &volume.context;
        lost.push(format!("volume {name} of context {context} with its data"));
    }
    if snapshots && !volume.snapshots.is_empty() {
        let names: Vec<&str> = volume.snapshots.iter().map(|s| s.name.as_str()).collect();
        lost.push(format!("the snapshots {} of {name}", names.join(", ")));
    }
    Ok((!lost.is_empty()).then(|| lost.join(", and ")))
}

/// Nothing is lost with a volume that was made by nobody, and what a kind that is not known here
/// does is not known either.
fn loses_data(volume: &VolumeStatus, manifest: Option<&Manifest>) -> bool {
    volume.origin == Origin::Created
        && manifest.is_none_or(|manifest| manifest.removal_loses_data(&volume.options))
}
