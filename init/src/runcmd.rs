//! `runcmd`: the operator's commands at the end of the boot.

use std::fs;
use std::time::Duration;

use lazarette_linux::command::{ChildOutput, Command};

use crate::console::Console;
use crate::error::{Error, all, chain};
use crate::layout::Layout;
use crate::phase::Outcome;
use crate::service::log;

/// How long a command is waited for before the next one begins beside it.
const LIMIT: Duration = Duration::from_secs(60);

/// Runs the commands in order, once per boot. Their output goes to `runcmd.log`. One that is not
/// done after [`LIMIT`] is left running and the next one begins.
///
/// # Errors
/// [`Error::Several`] with every command that could not be started or failed; all were tried.
pub fn run(layout: &Layout, console: &Console, commands: &[Vec<String>]) -> Result<Outcome, Error> {
    if commands.is_empty() {
        return Ok(Outcome::Skipped("none configured".into()));
    }
    let marker = layout.own().join("runcmd.started");
    if marker.exists() {
        return Ok(Outcome::Skipped("already run in this boot".into()));
    }
    fs::write(&marker, "").map_err(|source| Error::file("write", &marker, source))?;
    let mut failures = Vec::new();
    for command in commands {
        let Some((name, arguments)) = command.split_first() else {
            failures.push("an empty command".into());
            continue;
        };
        if let Err(error) = run_one(layout, console, name, arguments) {
            failures.push(error);
        }
    }
    all(failures)?;
    Ok(Outcome::Noted(format!("{} commands", commands.len())))
}

fn run_one(
    layout: &Layout,
    console: &Console,
    name: &str,
    arguments: &[String],
) -> Result<(), String> {
    let program = if name.contains('/') {
        layout.at(name)
    } else {
        layout
            .program(name)
            .ok_or_else(|| format!("{name}: no such program"))?
    };
    let log = log::open(&layout.logs().join("runcmd.log")).map_err(|error| chain(&error))?;
    let child = Command::new(program)
        .args(arguments)
        .env("HOME", "/root")
        .session()
        .spawn(ChildOutput::File(log))
        .map_err(|error| chain(&error))?;
    match child.wait(Some(LIMIT)) {
        Ok(Some(exit)) if exit.success() => Ok(()),
        Ok(Some(exit)) => Err(format!("{name}: {exit}")),
        Ok(None) => {
            console.line(format!(
                "runcmd: {name}: not done after {} s; left running",
                LIMIT.as_secs()
            ));
            Ok(())
        }
        Err(error) => Err(format!("{name}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::fake::Screen;

    #[test]
    fn commands_run_in_order_and_once_and_a_failed_one_is_told() {
        let root = tempfile::tempdir().unwrap();
        // `/bin/sh` below the root is the machine's.
        std::os::unix::fs::symlink("/bin", root.path().join("bin")).unwrap();
        let layout = Layout::below(root.path());
        fs::create_dir_all(layout.own()).unwrap();
        fs::create_dir_all(layout.logs()).unwrap();
        let console = Screen::default().console();
        let words = |text: &str| text.split('|').map(ToOwned::to_owned).collect();
        let commands: Vec<Vec<String>> = vec![
            words("sh|-c|echo one"),
            words("/bin/sh|-c|exit 7"),
            words("nosuchprogram"),
            vec![],
            words("sh|-c|echo two"),
        ];
        let error = run(&layout, &console, &commands).unwrap_err().to_string();
        assert_eq!(
            error,
            "/bin/sh: exit status 7; nosuchprogram: no such program; an empty command"
        );
        let log = || fs::read_to_string(layout.logs().join("runcmd.log")).unwrap();
        assert_eq!(log(), "one\ntwo\n");
        let again = run(&layout, &console, &commands).unwrap();
        assert!(matches!(again, Outcome::Skipped(_)));
        assert_eq!(log(), "one\ntwo\n");
    }
}
