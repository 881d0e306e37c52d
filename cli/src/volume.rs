//! `laz volume`, `laz attach`, `laz detach`.

use lazarette_core::control::{NewVolume, Request, Status, VolumeStatus};
use lazarette_core::manifest::{Capability, Manifest};
use lazarette_core::{ErrorKind, VolumeName};

use crate::arguments::{
    AttachArguments, CreateArguments, DetachArguments, ListArguments, RemoveArguments, VolumeVerb,
};
use crate::client::Client;
use crate::failure::Failure;
use crate::status;
use crate::terminal::{Terminal, printable};

/// The volume option with which a kind lets its users choose what becomes of the data, and the
/// value that removes it.
const ON_REMOVE: &str = "on_remove";
const DELETE: &str = "delete";

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
    }
}

/// Asks core, showing on standard error what it says meanwhile.
fn ask<T: serde::de::DeserializeOwned>(
    client: &Client,
    request: &Request,
    terminal: &mut Terminal,
) -> Result<T, Failure> {
    client.ask(request, &mut |word| {
        if let Some(text) = word.as_str() {
            terminal.complain(&printable(text));
        }
        Ok(())
    })
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
    let volume: VolumeStatus = ask(client, &request, terminal)?;
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
    for name in arguments.names {
        let outcome = confirm_loss(&name, arguments.yes, client, terminal).and_then(|()| {
            let request = Request::VolumeRemove {
                name: name.clone(),
                force: arguments.force,
            };
            ask::<()>(client, &request, terminal)
        });
        match outcome {
            Ok(()) => terminal.line(name.as_str())?,
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

/// Asks, if removing the volume may remove data.
fn confirm_loss(
    name: &VolumeName,
    yes: bool,
    client: &Client,
    terminal: &mut Terminal,
) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    let volume: VolumeStatus = client.get(&Request::VolumeInspect { name: name.clone() })?;
    let kinds: Vec<Manifest> = client.get(&Request::Kinds)?;
    let manifest = kinds.iter().find(|manifest| manifest.kind == volume.kind);
    if loses_data(&volume, manifest) {
        let context = &volume.context;
        terminal.confirm(&format!(
            "Remove volume {name} of context {context} and the data in it?"
        ))?;
    }
    Ok(())
}

/// A kind that lets its users choose what becomes of the data removes it only if they chose so;
/// one that makes volumes and gives no choice removes what it has made.
fn loses_data(volume: &VolumeStatus, manifest: Option<&Manifest>) -> bool {
    if let Some(choice) = volume.options.get(ON_REMOVE) {
        return choice == DELETE;
    }
    manifest.is_none_or(|manifest| {
        let names = lazarette_core::cloud_config::option_names(&manifest.volume_schema);
        manifest.capabilities.contains(&Capability::Create) && !names.contains(ON_REMOVE)
    })
}
