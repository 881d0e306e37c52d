//! `laz plugin check`: the conformance kit.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use lazarette_core::Error;
use lazarette_plugin_check::report::Checked;
use lazarette_plugin_check::subject::{Container, Engine, InProcess, Launch};
use lazarette_plugin_check::{Report, Settings, Subject, all, check};

use crate::failure::Failure;
use crate::terminal::{Table, Terminal, printable};

/// What `check` takes.
#[derive(Debug, Args)]
pub(crate) struct CheckArguments {
    /// The plugin: an image, or the path of a shared library or of a program that serves the wire.
    #[arg(value_name = "PATH|IMAGE", required_unless_present = "list")]
    plugin: Option<String>,
    /// The options of the context and the volumes to check with, as JSON (docs/plugin-check.md).
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Run the plugin as a child process, in a mount namespace of its own, not in a container.
    /// What is named by a path always is.
    #[arg(long)]
    in_process: bool,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Run this check only, or this group of checks; may be given several times.
    #[arg(long = "only", value_name = "CHECK")]
    only: Vec<String>,
    /// List the checks and what they demand.
    #[arg(long)]
    list: bool,
    /// The plugin host that loads a shared library; without it, the one beside laz or in PATH.
    #[arg(long, value_name = "PATH")]
    plugin_host: Option<PathBuf>,
    /// The Docker engine that runs an image, as unix:///PATH; without it the usual one.
    #[arg(long, value_name = "ADDRESS")]
    docker: Option<String>,
}

/// How the result is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
    /// JUnit XML, for CI servers.
    Junit,
}

/// Runs the checks; fails when the plugin does.
pub(super) fn run(arguments: &CheckArguments, terminal: &mut Terminal) -> Result<(), Failure> {
    if arguments.list {
        return list(terminal);
    }
    known(&arguments.only)?;
    let plugin = arguments.plugin.as_deref().unwrap_or_default();
    let settings = settings(arguments.config.as_deref())?;
    let subject = subject(plugin, arguments, &settings)?;
    let report = check(subject, settings, &arguments.only, &mut |_| {});
    match arguments.format {
        Format::Table => table(&report, terminal)?,
        Format::Json => terminal.line(&report.to_json())?,
        Format::Junit => terminal.line(report.to_junit().trim_end())?,
    }
    if report.passed() {
        return Ok(());
    }
    let (_, failed, _) = report.counts();
    let error = Error::new(
        lazarette_core::ErrorKind::Plugin,
        format!("{plugin} does not keep the contract of a plugin"),
    );
    let error = error.cause(format!("{failed} checks failed"));
    Err(Failure::Core(error.remedy(
        "`--only CHECK` runs one of them again; docs/plugin-abi.md says what they demand",
    )))
}

fn list(terminal: &mut Terminal) -> Result<(), Failure> {
    let mut table = Table::new(&["CHECK", "DEMANDS"]);
    for check in all() {
        table.row([check.id.to_owned(), check.demands.to_owned()]);
    }
    terminal.table(&table)
}

/// Refuses names that mean no check.
fn known(only: &[String]) -> Result<(), Failure> {
    let means = |name: &str, id: &str| {
        id == name
            || id
                .strip_prefix(name)
                .is_some_and(|rest| rest.starts_with('.'))
    };
    match only
        .iter()
        .find(|name| !all().any(|check| means(name, check.id)))
    {
        None => Ok(()),
        Some(name) => Err(Failure::Core(
            Error::invalid(format!("there is no check {}", printable(name)))
                .remedy("`laz plugin check --list` shows them"),
        )),
    }
}

fn settings(file: Option<&Path>) -> Result<Settings, Failure> {
    let Some(path) = file else {
        return Ok(Settings::default());
    };
    let text = std::fs::read_to_string(path).map_err(|source| Failure::File {
        verb: "read",
        path: path.into(),
        source,
    })?;
    Settings::parse(&text).map_err(|why| {
        Failure::Core(
            Error::invalid(format!("{}: not settings for a check", path.display()))
                .cause(why)
                .remedy("docs/plugin-check.md shows what it may say"),
        )
    })
}

fn subject(
    plugin: &str,
    arguments: &CheckArguments,
    settings: &Settings,
) -> Result<Box<dyn Subject>, Failure> {
    let broken = |failed: lazarette_plugin_check::Failed| {
        Failure::Core(
            Error::new(
                lazarette_core::ErrorKind::Internal,
                format!("cannot check {plugin}"),
            )
            .cause(failed)
            .remedy("see docs/plugin-check.md for what a check needs"),
        )
    };
    let path = Path::new(plugin);
    if !arguments.in_process && !path.exists() && !plugin.starts_with(['/', '.']) {
        let engine = Engine::new(arguments.docker.clone()).map_err(broken)?;
        let secrets = settings.secrets.clone();
        return Ok(Box::new(
            Container::new(engine, plugin.into(), secrets).map_err(broken)?,
        ));
    }
    if !rustix::process::geteuid().is_root() {
        return Err(Failure::Core(
            Error::new(
                lazarette_core::ErrorKind::PermissionDenied,
                "a plugin mounts, and only root may",
            )
            .remedy("run it with sudo"),
        ));
    }
    let library = path.extension().is_some_and(|extension| extension == "so");
    let host = if library {
        Some(plugin_host(arguments)?)
    } else {
        None
    };
    let launch = Launch {
        plugin: path.into(),
        host,
        environment: Vec::new(),
    };
    Ok(Box::new(InProcess::new(launch).map_err(broken)?))
}

/// The plugin host: the one that was named, the one beside this program, or one in the usual place.
fn plugin_host(arguments: &CheckArguments) -> Result<PathBuf, Failure> {
    const NAME: &str = "laz-plugin-host";
    if let Some(named) = &arguments.plugin_host {
        return std::path::absolute(named).map_err(|source| Failure::File {
            verb: "find",
            path: named.clone(),
            source,
        });
    }
    let beside = std::env::current_exe()
        .ok()
        .map(|laz| laz.with_file_name(NAME));
    let beside = beside.filter(|path| path.is_file());
    let found = beside.or_else(|| lazarette_plugin_check::subject::program(NAME).ok());
    found.ok_or_else(|| {
        Failure::Core(
            Error::not_found("there is no laz-plugin-host on this machine")
                .remedy("name it with --plugin-host, or check the plugin's image"),
        )
    })
}

fn table(report: &Report, terminal: &mut Terminal) -> Result<(), Failure> {
    let mut table = Table::new(&["CHECK", "VERDICT", "WHY"]);
    for checked in &report.checks {
        table.row([
            checked.id.to_owned(),
            checked.word().to_owned(),
            why(checked),
        ]);
    }
    terminal.table(&table)?;
    let (passed, failed, skipped) = report.counts();
    terminal.line(&format!(
        "{passed} passed, {failed} failed, {skipped} skipped"
    ))
}

/// Why a check did not pass, and what it demands if it failed.
fn why(checked: &Checked) -> String {
    let why = printable(checked.why());
    if checked.word() == "FAILED" {
        format!("{why} (wanted: {})", checked.demands)
    } else {
        why
    }
}
