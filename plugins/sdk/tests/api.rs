//! What plugins are compiled against: every public item of the SDK, of the ABI and of the contract,
//! as a listing that is kept. A change of it is a change for every author: additions need a line in
//! the changelog, anything else a new version. `UPDATE_GOLDEN=1 cargo test -p lazarette-plugin --test
//! api` writes it anew; look at the difference before you commit it.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

/// Where the items are, from the workspace's root: files, and directories of files.
const PLACES: [&str; 14] = [
    "plugins/abi/src",
    "plugins/sdk/src",
    "core/src/context.rs",
    "core/src/error.rs",
    "core/src/frame.rs",
    "core/src/manifest.rs",
    "core/src/message.rs",
    "core/src/name.rs",
    "core/src/volume.rs",
    "linux/src/command",
    "linux/src/mount",
    "linux/src/mountinfo",
    "linux/src/namespace",
    "linux/src/process.rs",
];
/// Where the listing is kept.
const GOLDEN: &str = "plugins/sdk/tests/api.txt";

/// The source files in a place, sorted, without tests.
fn sources(root: &Path, place: &str) -> Vec<String> {
    let path = root.join(place);
    if path.is_file() {
        return vec![place.to_owned()];
    }
    let entries = fs::read_dir(&path).unwrap_or_else(|e| panic!("{place}: {e}"));
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| !name.ends_with("tests.rs")).collect();
    names.sort();
    let within = names.iter().map(|name| format!("{place}/{name}"));
    within.flat_map(|path| sources(root, &path)).collect()
}

/// The code of a file: without comments, attributes and what is for tests.
fn code(text: &str) -> Vec<&str> {
    let text = text
        .split("#[cfg(test)]\nmod tests {")
        .next()
        .unwrap_or(text);
    let kept = |line: &&str| {
        let line = line.trim_start();
        !line.is_empty() && !line.starts_with("//") && !line.starts_with('#')
    };
    text.lines().filter(kept).collect()
}

fn depth(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// An item's signature, from its first line: up to its body; an enumeration with its variants, for
/// those are public, too.
fn item(lines: &[&str]) -> String {
    let whole = lines[0].contains("pub enum");
    let listed = ["pub use ", "checked_text!"];
    let listed = listed
        .iter()
        .any(|word| lines[0].trim_start().starts_with(word));
    let mut text = String::new();
    for line in lines {
        text.push_str(line.trim());
        let open = text.matches(['(', '[']).count() > text.matches([')', ']']).count();
        let over = match whole {
            true => *line == "}" || line.trim_end().ends_with("{}"),
            false if listed => text.ends_with(';'),
            false => !open && text.ends_with(['{', ';', ',']),
        };
        if over {
            break;
        }
        text.push(' ');
    }
    text.trim_end_matches(['{', ';', ',', ' ']).to_owned()
}

/// The public items of a file, in its order; those of a public trait have no `pub` of their own.
fn items(text: &str) -> Vec<String> {
    let lines = code(text);
    let mut found = Vec::new();
    let mut in_trait = false;
    for (number, line) in lines.iter().enumerate() {
        let begins = line.trim_start();
        if depth(line) == 0 {
            in_trait = begins.starts_with("pub trait ");
        }
        let member = in_trait
            && depth(line) == 4
            && ["fn ", "type ", "const "]
                .iter()
                .any(|word| begins.starts_with(word));
        let macros = ["macro_rules! ", "checked_text!("];
        let of_a_macro = macros.iter().any(|word| begins.starts_with(word));
        if begins.starts_with("pub ") || member || of_a_macro {
            let indent = " ".repeat(depth(line).min(4));
            found.push(format!("{indent}{}", item(&lines[number..])));
        }
    }
    found
}

#[test]
fn what_plugins_are_compiled_against_is_as_it_was() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut listing = String::new();
    for file in PLACES.iter().flat_map(|place| sources(&root, place)) {
        let text = fs::read_to_string(root.join(&file)).unwrap();
        let found = items(&text);
        listing.push_str(&format!("{file}\n"));
        for item in found {
            listing.push_str(&format!("    {item}\n"));
        }
    }
    // What is re-exported is listed by name, and where it comes from is among the places.
    let sdk = "pub use lazarette_core::volume::{ Activity, Capacity, CloneSource,";
    for part in [
        sdk,
        "pub fn fs_type",
        "pub struct Command",
        "pub const fn descriptor",
    ] {
        assert!(listing.contains(part), "the listing has no {part}");
    }
    let golden = root.join(GOLDEN);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&golden, &listing).unwrap();
    }
    let kept = fs::read_to_string(&golden).unwrap();
    let gone: Vec<&str> = kept
        .lines()
        .filter(|l| !listing.lines().any(|n| n == *l))
        .collect();
    let new: Vec<&str> = listing
        .lines()
        .filter(|l| !kept.lines().any(|k| k == *l))
        .collect();
    assert!(
        kept == listing,
        "gone:\n{}\nnew:\n{}\nif authors can live with it: UPDATE_GOLDEN=1",
        gone.join("\n"),
        new.join("\n")
    );
}

#[test]
fn a_listing_has_what_an_author_sees() {
    let text = "/// A.\n#[derive(Debug)]\npub struct A {\n    /// B.\n    pub b: Vec<(u8, u8)>,\n    c: u8,\n}\n\
                pub enum D {\n    /// E.\n    E,\n    F(u8),\n}\npub(crate) fn g() {}\n\
                pub trait H: Send {\n    const I: u8;\n    fn j(\n        &self,\n    ) -> u8 {\n        1\n    }\n}\n\
                pub use a::{\n    B, C,\n    D,\n};\nchecked_text!(\n    /// E.\n    E, check, \"^a$\"\n);\n\
                #[cfg(test)]\nmod tests {\n    pub fn k() {}\n}\n";
    let found = items(text);
    assert_eq!(
        found,
        [
            "pub struct A",
            "    pub b: Vec<(u8, u8)>",
            "pub enum D { E, F(u8), }",
            "pub trait H: Send",
            "    const I: u8",
            "    fn j( &self, ) -> u8",
            "pub use a::{ B, C, D, }",
            "checked_text!( E, check, \"^a$\" )",
        ]
    );
}
