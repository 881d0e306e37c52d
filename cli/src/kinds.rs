//! `laz kinds`.

use lazarette_core::cloud_config::{OptionInfo, describe_options};
use lazarette_core::control::Request;
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
    if let Some(url) = &manifest.url {
        terminal.line("")?;
        let (scheme, authority, path) = (&url.scheme, &url.authority, &url.path);
        terminal.line(&format!(
            "URL for laz attach: {scheme}://{}/{}",
            authority.to_uppercase(),
            path.to_uppercase()
        ))?;
    }
    Ok(())
}

fn list(kinds: &[Manifest], terminal: &mut Terminal) -> Result<(), Failure> {
    if kinds.is_empty() {
        return terminal.line(
            "No kinds of storage: system Docker has no image with the label dev.lazarette.plugin.",
        );
    }
    let mut table = Table::new(&["KIND", "VERSION", "VOLUMES CAN", "URL"]);
    for manifest in kinds {
        let capabilities: Vec<String> = manifest
            .capabilities
            .iter()
            .filter_map(|capability| serde_json::to_value(capability).ok())
            .filter_map(|name| name.as_str().map(str::to_owned))
            .collect();
        let url = manifest.url.as_ref();
        table.row([
            manifest.kind.to_string(),
            manifest.version.clone(),
            capabilities.join(", "),
            url.map(|url| format!("{}://", url.scheme))
                .unwrap_or_default(),
        ]);
    }
    terminal.table(&table)
}

fn options(schema: &Value, terminal: &mut Terminal) -> Result<(), Failure> {
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
