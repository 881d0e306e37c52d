//! The plugins that this machine has: `ls`, `inspect`, `install`, `upgrade`, `rm`.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use lazarette_core::control::{PluginInstall, PluginSignature, PluginStatus, Plugins, Request};
use lazarette_core::{Error, Kind};

use super::{InstallArguments, printed, statement};
use crate::client::Client;
use crate::failure::Failure;
use crate::terminal::{Table, Terminal};

/// What a plugin's containers may use is asked about.
const ASK: &str = "a plugin may use only what you agree to";

/// Lists them, and what is wrong with images that could be some.
pub(crate) fn ls(json: bool, client: &Client, terminal: &mut Terminal) -> Result<(), Failure> {
    let all: Plugins = client.get(&Request::Plugins)?;
    if json {
        return terminal.json(&all, true);
    }
    if all.plugins.is_empty() {
        terminal.complain("No plugins. Install one: laz plugin install IMAGE");
    } else {
        let mut table = Table::new(&["KIND", "VERSION", "IMAGE", "SIGNED BY", "CONTEXTS"]);
        for plugin in all.plugins {
            let contexts: Vec<_> = plugin.contexts.iter().map(ToString::to_string).collect();
            table.row([
                plugin.kind.to_string(),
                plugin.version.clone(),
                short(&plugin.image).to_owned(),
                signer(&plugin),
                contexts.join(", "),
            ]);
        }
        terminal.table(&table)?;
    }
    for problem in all.problems {
        terminal.complain(&problem);
    }
    Ok(())
}

/// Shows one in full, as JSON.
pub(crate) fn inspect(
    kind: &Kind,
    client: &Client,
    terminal: &mut Terminal,
) -> Result<(), Failure> {
    let all: Plugins = client.get(&Request::Plugins)?;
    let found = all.plugins.into_iter().find(|plugin| plugin.kind == *kind);
    let missing = || {
        let error = Error::not_found(format!("plugin \"{kind}\"")).cause("it is not installed");
        Failure::Core(error.remedy("laz plugin ls shows those that are"))
    };
    terminal.json(&found.ok_or_else(missing)?, true)
}

/// Installs one as `wanted`, or puts it in the place of the one of its kind, once somebody has agreed
/// to what it asks for.
pub(crate) fn install(
    arguments: &InstallArguments,
    mut wanted: PluginInstall,
    client: &Client,
    terminal: &mut Terminal,
) -> Result<(), Failure> {
    wanted.downgrade = arguments.downgrade;
    wanted.signature = statement::signature_of(&arguments.source, arguments.signature.as_deref())?;
    if !arguments.yes {
        // Before anything is sent to where nobody would agree to it.
        if arguments.source == "-" {
            let message = format!("{ASK}; what comes from standard input needs --yes");
            return Err(Failure::NotConfirmed(message));
        }
        terminal.must_be_able_to_ask(ASK)?;
        wanted.look = true;
        let new = send(&wanted, &arguments.source, client)?;
        told(&new, terminal)?;
        terminal.confirm("Install it?")?;
        wanted.look = false;
        wanted.expected = Some(new.image);
    }
    let plugin = send(&wanted, &arguments.source, client)?;
    match arguments.yes {
        true => told(&plugin, terminal),
        false => Ok(()),
    }
}

fn told(plugin: &PluginStatus, terminal: &mut Terminal) -> Result<(), Failure> {
    let whose = whose(&plugin.signature);
    terminal.line(&format!("{} {}, {whose}", plugin.kind, plugin.version))?;
    printed(&plugin.manifest.privileges, terminal)
}

/// In a sentence.
fn whose(signature: &PluginSignature) -> String {
    match signature {
        PluginSignature::Missing => "not signed".into(),
        PluginSignature::BuiltIn => "part of the OS".into(),
        PluginSignature::Unchecked { key } => format!("signed by {key} (not checked)"),
        PluginSignature::Verified { key } => format!("signed by {key}"),
        PluginSignature::Wrong => "wrongly signed".into(),
        PluginSignature::Unknown => "signed in a way that this laz does not know".into(),
    }
}

/// In a table.
fn signer(plugin: &PluginStatus) -> String {
    let whose = match &plugin.signature {
        PluginSignature::Missing => "nobody".into(),
        PluginSignature::BuiltIn => "(the OS)".into(),
        PluginSignature::Unchecked { key } => format!("{key} (not checked)"),
        PluginSignature::Verified { key } => key.clone(),
        PluginSignature::Wrong => "wrongly".into(),
        PluginSignature::Unknown => "?".into(),
    };
    match plugin.refused {
        Some(_) => format!("{whose}: refused"),
        None => whose,
    }
}

fn send(wanted: &PluginInstall, source: &str, client: &Client) -> Result<PluginStatus, Failure> {
    let request = |image: Option<&str>| {
        Request::PluginInstall(PluginInstall {
            image: image.map(str::to_owned),
            ..wanted.clone()
        })
    };
    match archive(source)? {
        Some(mut archive) => client.upload(&request(None), &mut *archive),
        None => client.get(&request(Some(source))),
    }
}

/// What is to be sent; none: the name of an image. A path has a `/` at its beginning or is there.
fn archive(source: &str) -> Result<Option<Box<dyn Read>>, Failure> {
    let path = Path::new(source);
    if source == "-" {
        return Ok(Some(Box::new(io::stdin())));
    }
    if !path.is_file() && !source.starts_with(['/', '.']) {
        return Ok(None);
    }
    let file = File::open(path).map_err(|source| Failure::File {
        verb: "read",
        path: path.into(),
        source,
    })?;
    Ok(Some(Box::new(file)))
}

/// Removes one.
pub(crate) fn rm(kind: Kind, client: &Client, terminal: &mut Terminal) -> Result<(), Failure> {
    let ours: Option<PluginStatus> = client.get(&Request::PluginRemove { kind: kind.clone() })?;
    terminal.line(kind.as_str())?;
    if let Some(ours) = ours {
        let version = ours.version;
        terminal.complain(&format!(
            "{kind} {version}, which is part of the OS, serves again"
        ));
    }
    Ok(())
}

fn short(image: &str) -> &str {
    let digits = image.strip_prefix("sha256:").unwrap_or(image);
    digits.get(..12).unwrap_or(digits)
}
