//! Properties of datasets: as they are, and as they are asked for.

use std::collections::BTreeMap;
use std::time::Duration;

use lazarette_plugin::{Error, Result};

use crate::programs::Programs;
use crate::report;
use crate::values::Size;

/// The property that says for which volume a dataset was made.
pub(crate) const ID: &str = "lazarette:id";
/// The property of a zvol that has its file system.
pub(crate) const READY: &str = "lazarette:ready";

/// Properties by their names; sizes in bytes.
pub(crate) type Current = BTreeMap<String, String>;

/// All properties of a dataset or snapshot; none if it is not there.
///
/// # Errors
/// What zfs(8) says.
pub(crate) fn of(programs: &Programs, limit: Duration, name: &str) -> Result<Option<Current>> {
    let asked = programs
        .zfs(limit)
        .args(["get", "-H", "-p", "-o", "property,value", "all", name])
        .run();
    match asked {
        Ok(output) => Ok(Some(parse(&output.stdout_text()))),
        Err(failed) if report::is_absent(&failed.stderr) => Ok(None),
        Err(failed) => Err(report::explain(&failed, &format!("cannot look at {name}"))),
    }
}

/// Lines of a name, a tab and a value.
fn parse(text: &str) -> Current {
    text.lines()
        .filter_map(|line| line.split_once('\t'))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// Whether what is there is what is asked for.
///
/// # Errors
/// `AlreadyExists` with the first property that differs, and both values.
pub(crate) fn check(name: &str, current: &Current, wanted: &[(String, String)]) -> Result<()> {
    for (property, value) in wanted {
        let found = current.get(property).map_or("-", String::as_str);
        if !same(property, found, value) {
            return Err(Error::new(
                lazarette_plugin::ErrorKind::AlreadyExists,
                format!("{name} is there already with other options"),
            )
            .cause(format!(
                "{property} is {}, not {}",
                shown(found),
                shown(value)
            ))
            .remedy(format!(
                "ask for {property}={}, or change it first",
                shown(found)
            )));
        }
    }
    Ok(())
}

fn same(property: &str, found: &str, wanted: &str) -> bool {
    if found == wanted {
        return true;
    }
    let bytes = |text: &str| match text {
        "none" | "-" | "0" => Some(0),
        text => Size::parse(text).ok().map(|size| size.0),
    };
    match property {
        // What is on is shown as the cipher in use.
        "encryption" => wanted == "on" && found != "off" && found != "-",
        // zvols are made of whole blocks.
        "volsize" => match (bytes(found), bytes(wanted)) {
            (Some(found), Some(wanted)) => found >= wanted && found - wanted < 1 << 20,
            _ => false,
        },
        _ => bytes(found).is_some() && bytes(found) == bytes(wanted),
    }
}

fn shown(value: &str) -> String {
    match value.parse() {
        Ok(bytes) if bytes >= 1024 => Size(bytes).to_string(),
        _ => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(all: &[(&str, &str)]) -> Vec<(String, String)> {
        all.iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn a_difference_is_told_with_both_values() {
        let current =
            parse("refquota\t1073741824\ncompression\tlz4\nquota\t0\nencryption\taes-256-gcm\n");
        let fine = [
            ("refquota", "1G"),
            ("compression", "lz4"),
            ("quota", "none"),
            ("encryption", "on"),
        ];
        check("tank/x", &current, &pairs(&fine)).unwrap();
        let error = check("tank/x", &current, &pairs(&[("refquota", "2147483648")])).unwrap_err();
        assert_eq!(error.kind, lazarette_plugin::ErrorKind::AlreadyExists);
        assert!(
            error.to_string().contains("refquota is 1G, not 2G"),
            "{error}"
        );
        for other in [
            ("compression", "zstd"),
            ("atime", "off"),
            ("encryption", "off"),
        ] {
            assert!(
                check("tank/x", &current, &pairs(&[other])).is_err(),
                "{other:?}"
            );
        }
    }

    #[test]
    fn a_zvol_may_be_rounded_up() {
        assert!(same("volsize", "1073741824", "1073740000"));
        assert!(!same("volsize", "1073741824", "2147483648"));
        assert!(!same("volsize", "4294967296", "2147483648"));
    }
}
