//! What a plugin answers to an action, for people: text, an object or a list of objects, of any
//! fields.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::failure::Failure;
use crate::terminal::{Table, Terminal, printable};

/// The fields that come first, in this order: what it is, how it is, how much. JSON objects are in no
/// order; others follow by their names.
const FIRST: [&str; 10] = [
    "name", "device", "brick", "class", "type", "state", "size", "used", "read", "write",
];

/// Prints it.
pub(crate) fn show(answer: &Value, terminal: &mut Terminal) -> Result<(), Failure> {
    match answer {
        Value::Null => Ok(()),
        Value::Object(fields) => object(fields, terminal),
        Value::Array(rows) if is_list(answer) => list(rows, terminal),
        Value::Array(rows) => rows
            .iter()
            .try_for_each(|row| terminal.line(&printable(&cell(Some(row))))),
        Value::String(text) => text
            .lines()
            .try_for_each(|line| terminal.line(&printable(line))),
        other => terminal.line(&other.to_string()),
    }
}

/// A table of the plain fields, then each of the others under its name.
fn object(fields: &Map<String, Value>, terminal: &mut Terminal) -> Result<(), Failure> {
    let nested = |value: &Value| value.is_object() || is_list(value);
    let mut table = Table::new(&["WHAT", "VALUE"]);
    let mut names: Vec<&String> = fields.keys().collect();
    sort(&mut names);
    let (below, plain): (Vec<&String>, Vec<&String>) =
        names.into_iter().partition(|name| nested(&fields[*name]));
    for name in &plain {
        table.row([name.replace('_', " "), cell(fields.get(*name))]);
    }
    if !plain.is_empty() || below.is_empty() {
        terminal.table(&table)?;
    }
    for name in below {
        terminal.line("")?;
        terminal.heading(&printable(&name.replace('_', " ")))?;
        match &fields[name] {
            Value::Object(inner) if inner.is_empty() => terminal.line("none")?,
            Value::Object(inner) => {
                let mut table = Table::new(&["NAME", "VALUE"]);
                for (key, value) in inner {
                    table.row([key.clone(), cell(Some(value))]);
                }
                terminal.table(&table)?;
            }
            other => show(other, terminal)?,
        }
    }
    Ok(())
}

/// Whether it is a list that makes a table.
fn is_list(value: &Value) -> bool {
    value
        .as_array()
        .is_some_and(|rows| rows.iter().all(Value::is_object))
}

/// A table with the objects' fields for columns.
fn list(rows: &[Value], terminal: &mut Terminal) -> Result<(), Failure> {
    if rows.is_empty() {
        return terminal.line("none");
    }
    let fields = rows.iter().filter_map(Value::as_object);
    let names: BTreeSet<&String> = fields.flat_map(|fields| fields.keys()).collect();
    let mut names: Vec<&String> = names.into_iter().collect();
    sort(&mut names);
    let heading = |name: &&String| Cow::Owned(printable(&name.replace('_', " ").to_uppercase()));
    let mut table = Table::with(names.iter().map(heading).collect());
    for row in rows {
        table.row(names.iter().map(|name| cell(row.get(name.as_str()))));
    }
    terminal.table(&table)
}

fn sort(names: &mut [&String]) {
    let place = |name: &str| FIRST.iter().position(|first| *first == name);
    names.sort_by_key(|name| (place(name).unwrap_or(FIRST.len()), *name));
}

fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) if items.iter().all(Value::is_string) => {
            let items = items.iter().filter_map(Value::as_str);
            items.collect::<Vec<_>>().join(", ")
        }
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(answer: &Value) -> String {
        let output = tempfile::NamedTempFile::new().unwrap();
        {
            let mut terminal = Terminal::from_parts(
                Box::new(output.reopen().unwrap()),
                Box::new(std::io::sink()),
                Box::new(std::io::empty()),
                None,
                false,
                false,
            );
            show(answer, &mut terminal).unwrap();
        }
        std::fs::read_to_string(output.path()).unwrap()
    }

    #[test]
    fn what_it_is_comes_before_how_it_is() {
        let row = json!({"checksum": 0, "write": 2, "read": 1, "state": "ONLINE", "device": "a"});
        let text = shown(&json!([row]));
        assert_eq!(
            text.lines()
                .next()
                .unwrap()
                .split_whitespace()
                .collect::<Vec<_>>(),
            ["DEVICE", "STATE", "READ", "WRITE", "CHECKSUM"]
        );
    }

    #[test]
    fn what_has_fields_of_its_own_is_a_table_of_its_own() {
        let text = shown(&json!({
            "volume": "gv0", "bricks": [{"brick": "g1:/b", "state": "online"}],
            "options": {"nfs.disable": "on"}, "unhealed": [],
        }));
        assert!(!text.contains(['{', '[']), "{text}");
        let words: Vec<&str> = text.split_whitespace().collect();
        let wanted = "WHAT VALUE volume gv0 bricks BRICK STATE g1:/b online options NAME VALUE \
            nfs.disable on unhealed none";
        assert_eq!(words.join(" "), wanted);
    }
}
