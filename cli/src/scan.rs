//! `laz scan`.

use lazarette_core::control::{Request, Scanned};

use crate::arguments::ScanArguments;
use crate::client::Client;
use crate::failure::Failure;
use crate::status::bytes;
use crate::terminal::{Table, Terminal, printable};
use crate::volume::ask;

pub(crate) fn run(
    arguments: ScanArguments,
    client: &Client,
    terminal: &mut Terminal,
) -> Result<(), Failure> {
    let request = Request::Scan {
        kinds: arguments.kinds,
    };
    let scanned: Vec<Scanned> = ask(client, &request, terminal)?;
    if arguments.json {
        terminal.json(&scanned, true)?;
    } else {
        show(&scanned, terminal)?;
    }
    let mut failed = None;
    for one in scanned {
        if let Some(error) = one.error {
            terminal.complain(&format!(
                "laz: {} could not look: {}",
                one.kind,
                printable(&error.to_string())
            ));
            failed = Some(Failure::Missing);
        }
    }
    failed.map_or(Ok(()), Err)
}

fn show(scanned: &[Scanned], terminal: &mut Terminal) -> Result<(), Failure> {
    if scanned.is_empty() {
        return terminal.line("No kind of storage here can look for storage.");
    }
    let mut table = Table::new(&["KIND", "WHAT", "NAME", "SIZE", "LAZ ATTACH", "DETAIL"]);
    let mut rows = 0;
    for (kind, found) in scanned
        .iter()
        .flat_map(|one| one.found.iter().map(|found| (&one.kind, found)))
    {
        let devices = found.devices.iter().map(|path| path.display().to_string());
        let devices: Vec<String> = devices.filter(|path| *path != found.name).collect();
        let detail = found.detail.iter().cloned();
        let on = (!devices.is_empty()).then(|| format!("on {}", devices.join(", ")));
        let detail: Vec<String> = detail.chain(on).collect();
        table.row([
            kind.to_string(),
            found.what.clone(),
            found.name.clone(),
            found.size.map(bytes).unwrap_or_default(),
            found.url.clone().unwrap_or_default(),
            detail.join("; "),
        ]);
        rows += 1;
    }
    if rows == 0 {
        let kinds: Vec<&str> = scanned.iter().map(|one| one.kind.as_str()).collect();
        return terminal.line(&format!(
            "Nothing that belongs to no context yet ({} looked).",
            kinds.join(", ")
        ));
    }
    terminal.table(&table)
}
