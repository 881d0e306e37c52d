//! `laz logs`.

use lazarette_core::control::Request;
use serde_json::Value;

use crate::arguments::LogsArguments;
use crate::client::Client;
use crate::failure::Failure;
use crate::terminal::Terminal;

pub(crate) fn run(
    arguments: LogsArguments,
    client: &Client,
    terminal: &mut Terminal,
) -> Result<(), Failure> {
    let request = Request::Logs {
        context: arguments.context,
        tail: arguments.tail,
        follow: arguments.follow,
    };
    client.ask(&request, &mut |line| match line {
        Value::String(line) => terminal.line(&plain(&line)),
        other => terminal.json(&other, false),
    })
}

/// A log line may hold tabs, but nothing that steers the terminal.
fn plain(line: &str) -> String {
    line.trim_end_matches(['\n', '\r'])
        .chars()
        .map(|c| {
            if c.is_control() && c != '\t' {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}
