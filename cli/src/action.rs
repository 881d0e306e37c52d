//! What the kinds of storage can do beyond what `laz` knows: `laz pool ACTION CONTEXT …` and
//! `laz volume ACTION VOLUME …`. Names, parameters and warnings come from the kinds' manifests.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::PathBuf;

use clap::{CommandFactory, FromArgMatches};
use lazarette_core::control::{ActTarget, ContextStatus, Request, Status, VolumeStatus};
use lazarette_core::manifest::{Action, ActionOn, Manifest};
use lazarette_core::{ContextName, Error, ErrorKind, Kind, VolumeName};
use serde_json::Value;

use crate::answer;
use crate::arguments::{ActArguments, Arguments, PoolVerb};
use crate::client::Client;
use crate::failure::Failure;
use crate::kinds::options;
use crate::status;
use crate::terminal::{Table, Terminal, printable};
use crate::volume::ask;

/// An action, with the kind that offers it.
type Offer<'a> = (&'a Kind, &'a Action);

pub(crate) fn pool(
    verb: PoolVerb,
    client: &Client,
    terminal: &mut Terminal,
) -> Result<(), Failure> {
    match verb {
        PoolVerb::Ls { json } => {
            let contexts = client.get::<Status>(&Request::Status)?.contexts;
            if json {
                return terminal.json(&contexts, true);
            }
            terminal.table(&status::pools(&contexts))
        }
        PoolVerb::Resume { context } => {
            let resumed = Request::ContextResume { name: context };
            let context: ContextStatus = client.get(&resumed)?;
            terminal.line(context.name.as_str())
        }
        PoolVerb::Act(words) => run(ActionOn::Context, words, client, terminal),
    }
}

/// Runs `ACTION NAME [KEY=VALUE]…`.
pub(crate) fn run(
    on: ActionOn,
    words: Vec<String>,
    client: &Client,
    terminal: &mut Terminal,
) -> Result<(), Failure> {
    let arguments = parse(on, words).map_err(Failure::Usage)?;
    let name = arguments.action.as_str();
    let kinds: Vec<Manifest> = client.get(&Request::Kinds)?;
    let offers = offers(on, &kinds);
    let named: Vec<Offer<'_>> = offers
        .iter()
        .copied()
        .filter(|(_, action)| action.name == name)
        .collect();
    if named.is_empty() {
        return Err(unknown(on, name, &offers));
    }
    let Some(target) = arguments.name.as_deref().filter(|_| !arguments.help) else {
        return named
            .iter()
            .try_for_each(|offer| describe(on, *offer, terminal));
    };
    let (request_target, kind) = find(on, target, client)?;
    let Some((_, action)) = named.iter().find(|(of, _)| **of == kind) else {
        return Err(cannot(on, name, target, &kind, &named));
    };
    if let Some(lost) = action.loses.as_ref().filter(|_| !arguments.yes) {
        let what = format!("{lost} ({name} of {} {target})", noun(on));
        terminal.confirm_loss(target, &what)?;
    }
    let request = Request::Act {
        on: request_target,
        action: name.to_owned(),
        parameters: parameters(arguments.parameters)?,
    };
    let answer: Value = ask(client, &request, terminal)?;
    if arguments.json {
        return terminal.json(&answer, true);
    }
    answer::show(&answer, terminal)
}

/// How long help waits for core.
const FOR_HELP: u32 = 2;

/// After the help of `laz pool` and `laz volume`: what the kinds here offer beyond it.
pub(crate) fn more_help(words: &[OsString], terminal: &mut Terminal) -> Result<(), Failure> {
    // The same command line without its --help.
    let command = Arguments::command().disable_help_flag(true);
    let Ok(matches) = command.ignore_errors(true).try_get_matches_from(words) else {
        return Ok(());
    };
    let on = match matches.subcommand() {
        Some(("pool", rest)) if rest.subcommand().is_none() => ActionOn::Context,
        Some(("volume", rest)) if rest.subcommand().is_none() => ActionOn::Volume,
        _ => return Ok(()),
    };
    let Some(socket) = matches.get_one::<PathBuf>("socket") else {
        return Ok(());
    };
    let client = Client::new(socket.clone(), Some(FOR_HELP));
    terminal.line("")?;
    let kinds: Vec<Manifest> = match client.get(&Request::Kinds) {
        Ok(kinds) => kinds,
        Err(_) => {
            return terminal.line(
                "What the kinds of storage can do beyond this, core would say; it does not answer.",
            );
        }
    };
    let offers = offers(on, &kinds);
    if offers.is_empty() {
        return terminal.line("The kinds of storage here offer nothing beyond this.");
    }
    terminal.heading(&format!(
        "Offered by the kinds of storage here (laz {} ACTION {} [KEY=VALUE]…; --help after an action shows what it takes)",
        verb(on),
        noun(on).to_uppercase()
    ))?;
    let mut table = Table::new(&["ACTION", "KIND", "MEANING"]);
    for (kind, action) in offers {
        table.row([action.name.clone(), kind.to_string(), meaning(action)]);
    }
    terminal.table(&table)
}

fn parse(on: ActionOn, words: Vec<String>) -> Result<ActArguments, clap::Error> {
    let command = ActArguments::command().bin_name(format!("laz {}", verb(on)));
    ActArguments::from_arg_matches(&command.try_get_matches_from(words)?)
}

fn verb(on: ActionOn) -> &'static str {
    match on {
        ActionOn::Context => "pool",
        ActionOn::Volume => "volume",
    }
}

fn noun(on: ActionOn) -> &'static str {
    match on {
        ActionOn::Context => "context",
        ActionOn::Volume => "volume",
    }
}

fn meaning(action: &Action) -> String {
    match &action.loses {
        Some(lost) => format!("{} (loses {lost})", action.summary),
        None => action.summary.clone(),
    }
}

/// All actions of that sort.
fn offers(on: ActionOn, kinds: &[Manifest]) -> Vec<Offer<'_>> {
    let mut offers = Vec::new();
    for manifest in kinds {
        let actions = manifest.actions.iter().filter(|action| action.on == on);
        offers.extend(actions.map(|action| (&manifest.kind, action)));
    }
    offers
}

fn unknown(on: ActionOn, name: &str, offers: &[Offer<'_>]) -> Failure {
    let what = format!(
        "laz {} has no verb {name}, and no kind of storage here offers it",
        verb(on)
    );
    let names: BTreeSet<&str> = offers
        .iter()
        .map(|(_, action)| action.name.as_str())
        .collect();
    let names: Vec<&str> = names.into_iter().collect();
    let remedy = match names[..] {
        [] => format!("`laz {} --help` shows what there is", verb(on)),
        _ => format!(
            "they offer {}; `laz {} --help` shows all",
            names.join(", "),
            verb(on)
        ),
    };
    Failure::Core(Error::invalid(what).remedy(remedy))
}

fn cannot(on: ActionOn, name: &str, target: &str, kind: &Kind, named: &[Offer<'_>]) -> Failure {
    let able: Vec<&str> = named.iter().map(|(kind, _)| kind.as_str()).collect();
    let what = format!(
        "{} {target} is of kind {kind}, which has no {name}",
        noun(on)
    );
    let remedy = format!("kinds that have it: {}", able.join(", "));
    Failure::Core(Error::new(ErrorKind::Unsupported, what).remedy(remedy))
}

fn describe(
    on: ActionOn,
    (kind, action): Offer<'_>,
    terminal: &mut Terminal,
) -> Result<(), Failure> {
    terminal.heading(&format!(
        "laz {} {} {} [KEY=VALUE]… (kind {kind})",
        verb(on),
        action.name,
        noun(on).to_uppercase()
    ))?;
    terminal.line(&printable(&meaning(action)))?;
    options(&action.parameters, terminal)
}

/// Looks up whom the action is for, and of which kind it is.
fn find(on: ActionOn, name: &str, client: &Client) -> Result<(ActTarget, Kind), Failure> {
    match on {
        ActionOn::Volume => {
            let name = VolumeName::new(name).map_err(Failure::Core)?;
            let volume: VolumeStatus =
                client.get(&Request::VolumeInspect { name: name.clone() })?;
            Ok((ActTarget::Volume(name), volume.kind))
        }
        ActionOn::Context => {
            let name = ContextName::new(name).map_err(Failure::Core)?;
            let contexts = client.get::<Status>(&Request::Status)?.contexts;
            match contexts.into_iter().find(|context| context.name == name) {
                Some(context) => Ok((ActTarget::Context(name), context.kind)),
                None => Err(Failure::Core(
                    Error::not_found(format!("no context is called {name}"))
                        .remedy("`laz pool ls` lists them"),
                )),
            }
        }
    }
}

fn parameters(given: Vec<(String, String)>) -> Result<BTreeMap<String, String>, Failure> {
    let mut parameters = BTreeMap::new();
    for (key, value) in given {
        if parameters.insert(key.clone(), value).is_some() {
            let error = Error::invalid(format!("the parameter {key} is given twice"));
            return Err(Failure::Core(error.remedy("lists are written with commas")));
        }
    }
    Ok(parameters)
}
