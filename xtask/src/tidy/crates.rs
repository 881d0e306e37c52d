//! Checks of the crates' manifests and of what they depend on.

use std::collections::BTreeSet;

use super::Finding;
use super::tree::Tree;

/// Packages that a plugin's author builds, or that run in a storage container: none of the
/// daemon's machinery may come with them.
pub(super) const WITHOUT_DAEMON: [&str; 8] = [
    "lazarette-plugin",
    "lazarette-nfs",
    "lazarette-lvm",
    "lazarette-zfs",
    "lazarette-gluster",
    "lazarette-hello",
    "lazarette-sshfs",
    "laz-plugin-host",
];

/// The daemon's machinery.
const DAEMON: [&str; 7] = [
    "tokio",
    "bollard",
    "zbus",
    "axum",
    "hyper",
    "redb",
    "jsonschema",
];

/// How many crates of others a plugin's author builds at most, all counted: see
/// docs/decisions/0012-what-a-plugin-is-built-from.md.
const MOST_FOREIGN: usize = 26;

/// Which of our crates a crate may depend on (development aside), by directory. Arrows point one
/// way: towards the contract and the kernel.
const ARROWS: &[(&str, &[&str])] = &[
    ("linux", &[]),
    ("plugins/abi", &[]),
    ("core", &["lazarette-linux"]),
    (
        "plugins/sdk",
        &["lazarette-abi", "lazarette-core", "lazarette-linux"],
    ),
    (
        "plugins/loader",
        &["lazarette-abi", "lazarette-core", "lazarette-linux"],
    ),
    (
        "plugins/host",
        &[
            "lazarette-abi",
            "lazarette-core",
            "lazarette-linux",
            "lazarette-loader",
        ],
    ),
    ("plugins/check", &["lazarette-core", "lazarette-linux"]),
    ("plugins/misbehaving", &["lazarette-abi", "lazarette-linux"]),
    ("plugins/examples/hello", &["lazarette-plugin"]),
    ("plugins/examples/sshfs", &["lazarette-plugin"]),
    ("nfs", &["lazarette-linux", "lazarette-plugin"]),
    ("lvm", &["lazarette-linux", "lazarette-plugin"]),
    ("zfs", &["lazarette-linux", "lazarette-plugin"]),
    ("gluster", &["lazarette-linux", "lazarette-plugin"]),
    ("init", &["lazarette-core", "lazarette-linux"]),
    (
        "cli",
        &[
            "lazarette-core",
            "lazarette-linux",
            "lazarette-plugin-check",
        ],
    ),
];

/// A workspace of its own, which shares nothing with ours.
const APART: &str = "fuzz/Cargo.toml";

/// The manifests of our workspace's crates: path, directory, content.
fn manifests(
    tree: &Tree,
) -> impl Iterator<Item = (&str, &str, Result<toml::Table, toml::de::Error>)> {
    let crates = tree.ending_in("/Cargo.toml");
    crates
        .filter(|(path, _)| *path != APART)
        .map(|(path, text)| {
            let directory = path.trim_end_matches("/Cargo.toml");
            (path, directory, text.parse())
        })
}

/// Each crate says what it is, and takes the rest from the workspace.
pub(super) fn are_described(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, _, manifest) in manifests(tree) {
        let manifest = match manifest {
            Ok(manifest) => manifest,
            Err(error) => {
                findings.push(Finding::new(path, None, format!("is not TOML: {error}")));
                continue;
            }
        };
        let package = manifest
            .get("package")
            .and_then(|package| package.as_table());
        let field = |name: &str| package.and_then(|package| package.get(name));
        let description = field("description").and_then(|text| text.as_str());
        if description.is_none_or(|text| text.trim().is_empty()) {
            findings.push(Finding::new(path, None, "has no description"));
        }
        for name in ["version", "edition", "license", "publish"] {
            let shared = field(name).and_then(|value| value.get("workspace")?.as_bool());
            if shared != Some(true) {
                findings.push(Finding::new(
                    path,
                    None,
                    format!("write `{name}.workspace = true`"),
                ));
            }
        }
        let lints = manifest
            .get("lints")
            .and_then(|lints| lints.get("workspace")?.as_bool());
        if lints != Some(true) {
            findings.push(Finding::new(
                path,
                None,
                "does not use the workspace's lints",
            ));
        }
    }
    findings
}

/// One version of each dependency, in one table.
pub(super) fn share_one_dependency_table(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, _, manifest) in manifests(tree) {
        let Ok(manifest) = manifest else { continue };
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let table = manifest.get(section).and_then(|table| table.as_table());
            for (name, value) in table.into_iter().flatten() {
                if value.get("workspace").and_then(|shared| shared.as_bool()) != Some(true) {
                    let message = format!("dependency `{name}` is not from the workspace's table");
                    findings.push(Finding::new(path, None, message));
                }
            }
        }
    }
    findings
}

fn is_ours(name: &str) -> bool {
    name.starts_with("lazarette-") || name.starts_with("laz-") || name == "laz"
}

/// ARCHITECTURE.md: arrows point one way.
pub(super) fn depend_one_way(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, directory, manifest) in manifests(tree) {
        let Ok(manifest) = manifest else { continue };
        if matches!(directory, "tests" | "xtask") {
            continue;
        }
        let Some((_, allowed)) = ARROWS.iter().find(|(known, _)| *known == directory) else {
            let message = "a crate that tidy does not know; say in xtask/src/tidy/crates.rs what it may depend on";
            findings.push(Finding::new(path, None, message));
            continue;
        };
        let table = manifest
            .get("dependencies")
            .and_then(|table| table.as_table());
        for name in table.into_iter().flat_map(|table| table.keys()) {
            if is_ours(name) && !allowed.contains(&name.as_str()) {
                let message =
                    format!("must not depend on `{name}`: arrows point one way (ARCHITECTURE.md)");
                findings.push(Finding::new(path, None, message));
            }
        }
    }
    findings
}

/// `listed` is what `cargo tree --prefix none --format {p}` prints for `package`.
pub(super) fn check_dependencies_of(package: &str, listed: &str) -> Vec<Finding> {
    let names: BTreeSet<&str> = listed
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    let heavy = names.iter().filter(|name| DAEMON.contains(name));
    let mut findings: Vec<Finding> = heavy
        .map(|name| {
            let message = format!("{package} comes to depend on `{name}`; see `cargo tree -p {package} -i {name} -e normal`");
            Finding::new("Cargo.toml", None, message)
        })
        .collect();
    let foreign = names.iter().filter(|name| !is_ours(name)).count();
    if package == "lazarette-plugin" && foreign > MOST_FOREIGN {
        let message = format!(
            "{package} comes to depend on {foreign} crates of others, {MOST_FOREIGN} at most \
             (docs/decisions/0012-what-a-plugin-is-built-from.md); see `cargo tree -p {package} -e normal`"
        );
        findings.push(Finding::new("Cargo.toml", None, message));
    }
    if !names.contains(package) {
        let message = format!("cargo tree does not list {package} itself: the check sees nothing");
        findings.push(Finding::new("Cargo.toml", None, message));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "[package]\nname = \"a\"\ndescription = \"A.\"\nversion.workspace = true\nedition.workspace = true\n\
        license.workspace = true\npublish.workspace = true\n[lints]\nworkspace = true\n[dependencies]\nserde.workspace = true\n";

    fn tree(path: &str, text: &str) -> Tree {
        Tree::of(&[(path, text)])
    }

    #[test]
    fn a_crate_without_description_or_lints_is_found() {
        assert_eq!(are_described(&tree("nfs/Cargo.toml", GOOD)), []);
        for (from, to) in [
            ("description = \"A.\"\n", ""),
            ("description = \"A.\"", "description = \" \""),
            ("[lints]\nworkspace = true\n", ""),
            ("license.workspace = true", "license = \"MIT\""),
            ("[package]", "[package"),
        ] {
            let text = GOOD.replace(from, to);
            assert_eq!(
                are_described(&tree("nfs/Cargo.toml", &text)).len(),
                1,
                "{from} -> {to}"
            );
        }
    }

    #[test]
    fn a_dependency_beside_the_table_is_found() {
        assert_eq!(
            share_one_dependency_table(&tree("nfs/Cargo.toml", GOOD)),
            []
        );
        for line in [
            "libc = \"0.2\"",
            "libc = { version = \"0.2\" }",
            "libc = { path = \"x\" }",
        ] {
            let text = format!("{GOOD}{line}\n");
            assert_eq!(
                share_one_dependency_table(&tree("nfs/Cargo.toml", &text)).len(),
                1,
                "{line}"
            );
            let text = format!("{GOOD}[dev-dependencies]\n{line}\n");
            assert_eq!(
                share_one_dependency_table(&tree("nfs/Cargo.toml", &text)).len(),
                1,
                "{line}"
            );
        }
    }

    #[test]
    fn an_arrow_against_the_stream_is_found() {
        assert_eq!(depend_one_way(&tree("nfs/Cargo.toml", GOOD)), []);
        let text = format!("{GOOD}lazarette-core.workspace = true\n");
        assert_eq!(depend_one_way(&tree("linux/Cargo.toml", &text)).len(), 1);
        assert_eq!(depend_one_way(&tree("cli/Cargo.toml", &text)), []);
        let text = format!("{GOOD}lazarette-nfs.workspace = true\n");
        assert_eq!(depend_one_way(&tree("core/Cargo.toml", &text)).len(), 1);
        assert_eq!(depend_one_way(&tree("somewhere/Cargo.toml", GOOD)).len(), 1);
    }

    #[test]
    fn a_plugin_that_is_built_from_too_much_is_found() {
        let others = |count: usize| -> String {
            let lines = (0..count).map(|n| format!("other{n} v1.0.0\nother{n} v1.0.0 (*)\n"));
            format!(
                "lazarette-plugin v0.1.0 (x)\nlazarette-abi v0.1.0 (x)\n{}",
                lines.collect::<String>()
            )
        };
        let found = |count| check_dependencies_of("lazarette-plugin", &others(count)).len();
        assert_eq!((found(MOST_FOREIGN), found(MOST_FOREIGN + 1)), (0, 1));
        let larger = others(99).replace("lazarette-plugin", "lazarette-nfs");
        assert_eq!(check_dependencies_of("lazarette-nfs", &larger), []);
    }

    #[test]
    fn the_daemons_machinery_in_a_plugin_is_found() {
        let fine = "lazarette-nfs v0.1.0 (x)\nserde v1.0.0\n";
        assert_eq!(check_dependencies_of("lazarette-nfs", fine), []);
        let heavy = format!("{fine}tokio v1.0.0\n");
        assert_eq!(check_dependencies_of("lazarette-nfs", &heavy).len(), 1);
        assert_eq!(
            check_dependencies_of("lazarette-nfs", "").len(),
            1,
            "an empty list proves nothing"
        );
    }
}
