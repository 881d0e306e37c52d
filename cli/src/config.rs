//! `laz config`.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::Path;

use lazarette_core::cloud_config::{self, LARGEST_SOURCE, Source};
use lazarette_core::control::{Problem, Request};
use serde_json::Value;

use crate::arguments::ConfigVerb;
use crate::client::Client;
use crate::failure::Failure;
use crate::terminal::{Terminal, printable};

pub(crate) fn run(
    verb: ConfigVerb,
    client: &Client,
    terminal: &mut Terminal,
) -> Result<(), Failure> {
    match verb {
        ConfigVerb::Validate { file, json } => validate(&file, json, client, terminal),
        ConfigVerb::Set { file, json } => set(&file, json, client, terminal),
        ConfigVerb::Schema => schema(client, terminal),
    }
}

fn validate(
    file: &Path,
    json: bool,
    client: &Client,
    terminal: &mut Terminal,
) -> Result<(), Failure> {
    let text = read(file, terminal)?;
    let answer = client.get::<Vec<Problem>>(&Request::ConfigCheck { text: text.clone() });
    let (problems, whole) = match answer {
        Ok(problems) => (problems, true),
        Err(failure @ (Failure::Unreachable { .. } | Failure::TooLarge(_))) => {
            let why = failure.line().unwrap_or_default();
            terminal.complain(&format!(
                "laz: only the structure is checked, not the options of storage: {why}"
            ));
            let source = Source::new(name(file), text);
            (cloud_config::check(&source, &BTreeMap::new()), false)
        }
        Err(failure) => return Err(failure),
    };
    report(problems, file, json, terminal)?;
    if !json {
        let extent = if whole {
            "ok"
        } else {
            "ok as far as it was checked"
        };
        terminal.line(&format!("{}: {extent}", name(file)))?;
    }
    Ok(())
}

fn set(file: &Path, json: bool, client: &Client, terminal: &mut Terminal) -> Result<(), Failure> {
    let text = read(file, terminal)?;
    let problems = client.get(&Request::ConfigSet { text })?;
    report(problems, file, json, terminal)?;
    if !json {
        terminal.line(&format!(
            "{}: set; core applies it now, `laz status` shows how far it is",
            name(file)
        ))?;
    }
    Ok(())
}

fn schema(client: &Client, terminal: &mut Terminal) -> Result<(), Failure> {
    let schema = match client.get::<Value>(&Request::ConfigSchema) {
        Err(failure @ Failure::Unreachable { .. }) => {
            let why = failure.line().unwrap_or_default();
            terminal.complain(&format!(
                "laz: this is the structure only, without the options of storage: {why}"
            ));
            cloud_config::schema(&BTreeMap::new())
        }
        answer => answer?,
    };
    terminal.json(&schema, true)
}

/// Prints the problems.
///
/// # Errors
/// [`Failure::Problems`] if there are any.
fn report(
    mut problems: Vec<Problem>,
    file: &Path,
    json: bool,
    terminal: &mut Terminal,
) -> Result<(), Failure> {
    // Core knows the text, not the file: only problems of other sources keep their name.
    for problem in &mut problems {
        if !problem.source.contains('/') {
            problem.source = name(file);
        }
    }
    if json {
        terminal.json(&problems, true)?;
    } else {
        for problem in &problems {
            terminal.line(&printable(&problem.to_string()))?;
        }
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(Failure::Problems)
    }
}

fn name(file: &Path) -> String {
    if file == Path::new("-") {
        "standard input".into()
    } else {
        file.display().to_string()
    }
}

fn read(file: &Path, terminal: &mut Terminal) -> Result<String, Failure> {
    let text = if file == Path::new("-") {
        let mut text = String::new();
        let limit = LARGEST_SOURCE as u64 + 1;
        let read = terminal.input().take(limit).read_to_string(&mut text);
        match read {
            Ok(bytes) if bytes > LARGEST_SOURCE => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "larger than 1 MiB",
            )),
            Ok(_) => Ok(text),
            Err(error) => Err(error),
        }
    } else {
        cloud_config::read_file(file)
    };
    text.map_err(|source| Failure::File {
        verb: "read",
        path: name(file).into(),
        source,
    })
}
