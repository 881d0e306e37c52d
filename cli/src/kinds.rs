//! `laz kinds`.

use lazarette_core::cloud_config::{OptionInfo, describe_options};
use lazarette_core::control::Request;
use lazarette_core::manifest::{ActionOn, UrlMapping};
use lazarette_core::{Error, Kind, Manifest};
use serde_json::Value;

use crate::arguments::KindsArguments;
use crate::client::Client;
use crate::failure::Failure;
use crate::terminal::{Table, Terminal};

pub(crate) fn run(
    arguments: &KindsArguments,
    client: &Client,
    terminal: &mut Terminal,
) -> Result<(), Failure> {
    let kinds: Vec<Manifest> = client.get(&Request::Kinds)?;
    let Some(kind) = &arguments.kind else {
        return if arguments.json {
            terminal.json(&kinds, true)
        } else {
            list(&kinds, terminal)
        };
    };
    let manifest = kinds
        .iter()
        .find(|manifest| manifest.kind == *kind)
        .ok_or_else(|| unknown(kind, &kinds))?;
    if arguments.json {
        return terminal.json(manifest, true);
    }
    terminal.heading(&format!(
        "Options of a context of kind {kind} (in the cloud-config)"
    ))?;
    options(&manifest.context_schema, terminal)?;
    terminal.line("")?;
    terminal.heading(&format!(
        "Options of a volume of kind {kind} (in the cloud-config, or -o KEY=VALUE)"
    ))?;
    options(&manifest.volume_schema, terminal)?;
    let can = can(manifest);
    if !can.is_empty() {
        terminal.line("")?;
        terminal.line(&format!("Its volumes can: {}", can.join(", ")))?;
    }
    if !manifest.actions.is_empty() {
        terminal.line("")?;
        terminal.heading("Actions (`laz pool --help`, `laz volume --help`)")?;
        let mut table = Table::new(&["ACTION", "ON", "MEANING"]);
        for action in &manifest.actions {
            let on = match action.on {
                ActionOn::Context => "context",
                ActionOn::Volume => "volume",
            };
            table.row([action.name.clone(), on.into(), action.summary.clone()]);
        }
        terminal.table(&table)?;
    }
    if let Some(url) = &manifest.url {
        terminal.line("")?;
        terminal.line(&format!("URL for laz attach: {}", shape(url)))?;
    }
    Ok(())
}

/// `nfs://SERVER/EXPORT`, `zfs:POOL/DATASET`.
fn shape(url: &UrlMapping) -> String {
    let parts = [url.root.as_ref(), Some(&url.path)];
    let path: Vec<String> = parts
        .into_iter()
        .flatten()
        .map(|p| p.to_uppercase())
        .collect();
    let path = path.join("/");
    match &url.authority {
        Some(authority) => format!("{}://{}/{path}", url.scheme, authority.to_uppercase()),
        None => format!("{}:{path}", url.scheme),
    }
}

fn list(kinds: &[Manifest], terminal: &mut Terminal) -> Result<(), Failure> {
    if kinds.is_empty() {
        return terminal.line(
            "No kinds of storage: system Docker has no image with the label dev.lazarette.plugin.",
        );
    }
    let mut table = Table::new(&["KIND", "VERSION", "VOLUMES CAN", "URL"]);
    for manifest in kinds {
        let url = manifest.url.as_ref();
        table.row([
            manifest.kind.to_string(),
            manifest.version.clone(),
            can(manifest).join(", "),
            url.map(shape).unwrap_or_default(),
        ]);
    }
    terminal.table(&table)
}

/// The capabilities by their names.
fn can(manifest: &Manifest) -> Vec<String> {
    let names = manifest
        .capabilities
        .iter()
        .filter_map(|capability| serde_json::to_value(capability).ok());
    names
        .filter_map(|name| name.as_str().map(str::to_owned))
        .collect()
}

/// Prints the options that a schema describes.
pub(crate) fn options(schema: &Value, terminal: &mut Terminal) -> Result<(), Failure> {
    let options = describe_options(schema);
    if options.is_empty() {
        return terminal.line("none");
    }
    let mut table = Table::new(&["OPTION", "TAKES", "MEANING"]);
    for OptionInfo {
        name,
        takes,
        required,
        description,
    } in options
    {
        let required = if required { " (required)" } else { "" };
        table.row([format!("{name}{required}"), takes, description]);
    }
    terminal.table(&table)
}

fn unknown(kind: &Kind, kinds: &[Manifest]) -> Failure {
    let names: Vec<&str> = kinds
        .iter()
        .map(|manifest| manifest.kind.as_str())
        .collect();
    let known = if names.is_empty() {
        "none is known".into()
    } else {
        format!("known: {}", names.join(", "))
    };
    Failure::Core(Error::not_found(format!("no kind of storage is called {kind}")).remedy(known))
}
