//! Kernel modules: those that the engines and storage need, those that devices ask for, and those
//! that the operator lists. All through `modprobe`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lazarette_linux::command::Command;

use crate::error::Error;
use crate::layout::Layout;
use crate::phase::Outcome;

/// What system Docker needs before it starts.
const ENGINE: [&str; 1] = ["overlay"];
/// What user Docker needs for its bridge and its published ports.
pub const BRIDGE: [&str; 9] = [
    "bridge",
    "br_netfilter",
    "veth",
    "nf_nat",
    "xt_MASQUERADE",
    "xt_conntrack",
    "xt_addrtype",
    "nft_compat",
    "nft_chain_nat",
];
/// How long one call of modprobe may take.
const LIMIT: Duration = Duration::from_secs(60);
/// Upper bound of directories looked at below `/sys/devices`.
const DEVICES: usize = 20_000;

/// Loads the modules of the devices that are there, and those that system Docker needs.
///
/// # Errors
/// When modprobe is missing, or a module that is needed cannot be loaded.
pub fn prepare(layout: &Layout) -> Result<Outcome, Error> {
    let aliases = aliases(&layout.at("/sys/devices"));
    let mut note = Outcome::Done;
    if !aliases.is_empty() {
        // Exit status 1 when a device has no module, which is no failure.
        modprobe(layout, &["-a", "-b", "-q"], &aliases)?.output()?;
        note = Outcome::Noted(format!("{} kinds of device", aliases.len()));
    }
    load(layout, ENGINE)?;
    Ok(note)
}

/// Loads modules by name, in order; those that are built into the kernel count as loaded.
///
/// # Errors
/// When modprobe is missing or refuses one; it then says which, and loads the others all the same.
pub fn load<N: AsRef<str>>(
    layout: &Layout,
    names: impl IntoIterator<Item = N>,
) -> Result<(), Error> {
    let names: Vec<String> = names
        .into_iter()
        .map(|name| name.as_ref().to_owned())
        .collect();
    if names.is_empty() {
        return Ok(());
    }
    modprobe(layout, &["-a"], &names)?.run()?;
    Ok(())
}

fn modprobe<'a>(
    layout: &Layout,
    options: &[&str],
    names: impl IntoIterator<Item = &'a String>,
) -> Result<Command, Error> {
    let program = layout
        .program("modprobe")
        .ok_or_else(|| crate::engines::no_program("modprobe"))?;
    Ok(Command::new(program)
        .args(options)
        .arg("--")
        .args(names)
        .deadline(LIMIT))
}

/// The module aliases of all devices below `root`. Links are not followed.
fn aliases(root: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open: Vec<PathBuf> = vec![root.into()];
    let mut seen = 0;
    while let Some(directory) = open.pop() {
        seen += 1;
        if seen > DEVICES {
            break;
        }
        let Ok(entries) = fs::read_dir(&directory) else {
            continue;
        };
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                open.push(entry.path());
            } else if entry.file_name() == "modalias"
                && let Ok(alias) = fs::read_to_string(entry.path())
                && !alias.trim().is_empty()
            {
                found.insert(alias.trim().to_owned());
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_are_found_once_each_and_empty_ones_left_out() {
        let root = tempfile::tempdir().unwrap();
        for (device, alias) in [
            ("a/b", "virtio:d00000002v00001AF4\n"),
            ("c", "virtio:d00000002v00001AF4"),
            ("d", ""),
            ("e", "pci:v00008086"),
        ] {
            let directory = root.path().join(device);
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join("modalias"), alias).unwrap();
        }
        std::os::unix::fs::symlink(root.path(), root.path().join("loop")).unwrap();
        let found: Vec<String> = aliases(root.path()).into_iter().collect();
        assert_eq!(found, ["pci:v00008086", "virtio:d00000002v00001AF4"]);
    }

    #[test]
    fn without_modprobe_the_error_names_it() {
        let root = tempfile::tempdir().unwrap();
        let error = load(&Layout::below(root.path()), ["overlay"]).unwrap_err();
        assert!(error.to_string().contains("modprobe"), "{error}");
    }
}
