//! Checks of Rust code.

use super::Finding;
use super::rust_text::{self, words};
use super::tree::{Tree, is_test};

/// The kinds of storage that the project itself serves, and their tools' names.
const KINDS: [&str; 8] = [
    "nfs",
    "nfs3",
    "nfs4",
    "lvm",
    "zfs",
    "zpool",
    "gluster",
    "glusterfs",
];

/// Files that may hold unsafe code: system calls, the plugin ABI (whose function types are
/// unsafe), what `declare_plugin!` emits, the loader of plugins, and the plugin that has no SDK to
/// emit it.
const UNSAFE: [&str; 7] = [
    "linux/src/syscall.rs",
    "plugins/abi/src/export.rs",
    "plugins/abi/src/lib.rs",
    "plugins/loader/src/instance.rs",
    "plugins/loader/src/plugin.rs",
    "plugins/misbehaving/src/lib.rs",
    "plugins/sdk/src/lib.rs",
];

/// The longest file, in lines, tests left out.
const LONGEST: usize = 600;

fn each_line<'a>(
    path: &'a str,
    text: &'a str,
    wrong: impl Fn(&str) -> Option<String> + 'a,
) -> impl Iterator<Item = Finding> + 'a {
    text.lines()
        .enumerate()
        .filter_map(move |(index, line)| Some(Finding::new(path, index + 1, wrong(line)?)))
}

/// Invariant 1: a new kind changes nothing in core.
pub(super) fn core_names_no_kind(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.code().filter(|(path, _)| path.starts_with("core/")) {
        let program = rust_text::program(text, true);
        findings.extend(each_line(path, &program, |line| {
            let kind = words(line)
                .into_iter()
                .find(|word| KINDS.contains(&word.as_str()))?;
            Some(format!(
                "core names the kind `{kind}`; what is special about a kind belongs into its plugin"
            ))
        }));
    }
    findings
}

/// Invariants 1 and 7: only the loader loads libraries.
pub(super) fn nothing_loads_libraries_but_the_loader(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.code() {
        if path.starts_with("plugins/loader/") || path.starts_with("xtask/src/tidy/") {
            continue;
        }
        let program = rust_text::program(text, false);
        findings.extend(each_line(path, &program, |line| {
            let word = ["libloading", "dlopen", "dlsym"]
                .into_iter()
                .find(|word| line.contains(word))?;
            Some(format!("`{word}`: only plugins/loader loads libraries"))
        }));
    }
    for (path, text) in tree.ending_in("Cargo.toml") {
        if path.contains('/') && path != "plugins/loader/Cargo.toml" {
            findings.extend(each_line(path, text, |line| {
                line.starts_with("libloading")
                    .then(|| "only plugins/loader depends on libloading".to_owned())
            }));
        }
    }
    findings
}

/// Invariant 5.
pub(super) fn unsafe_only_where_allowed(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.code().filter(|(path, _)| !UNSAFE.contains(path)) {
        let program = rust_text::program(text, false);
        findings.extend(each_line(path, &program, |line| {
            let mut tokens = line.split(|c: char| !c.is_alphanumeric() && c != '_');
            tokens
                .any(|token| token == "unsafe")
                .then(|| "unsafe code; it belongs into linux/src/syscall.rs, plugins/abi or plugins/loader".to_owned())
        }));
    }
    findings
}

/// Invariant 6.
pub(super) fn only_linux_starts_processes(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.code() {
        let allowed = [
            "linux/src/command/",
            "linux/src/syscall.rs",
            "xtask/",
            "tests/",
        ];
        if allowed.iter().any(|allowed| path.starts_with(allowed)) {
            continue;
        }
        let program = rust_text::program(text, false);
        findings.extend(each_line(path, &program, |line| {
            starts_process(line).then(|| {
                "starts a process; use lazarette_linux::command, which gives it a deadline and a clean environment".to_owned()
            })
        }));
    }
    findings
}

fn starts_process(line: &str) -> bool {
    let named = |line: &str| {
        let mut tokens = line.split(|c: char| !c.is_alphanumeric() && c != '_');
        tokens.any(|token| token == "Command")
    };
    let grouped = line.find("process::{").is_some_and(|at| named(&line[at..]));
    let direct = line.match_indices("process::Command").any(|(at, found)| {
        let next = line[at + found.len()..].chars().next();
        !next.is_some_and(|c| c.is_alphanumeric() || c == '_')
    });
    let calls = [
        "fork(",
        "vfork(",
        "execv(",
        "execve(",
        "execvp(",
        "posix_spawn(",
    ];
    let called = calls.iter().any(|call| {
        line.match_indices(call).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
        })
    });
    direct || grouped || called
}

/// A file that can be read in one go.
pub(super) fn files_are_short(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.code() {
        let shape = rust_text::code(text, false);
        let blanked = rust_text::without_tests(text, &shape);
        let tests = text
            .lines()
            .zip(blanked.lines())
            .filter(|(a, b)| a != b)
            .count();
        let lines = text.lines().count() - tests;
        if lines > LONGEST {
            let message = format!(
                "{lines} lines without tests, {LONGEST} at most; split it by what its parts are"
            );
            findings.push(Finding::new(path, None, message));
        }
    }
    findings
}

/// A name that says nothing gathers everything.
pub(super) fn nothing_is_called_utils(tree: &Tree) -> Vec<Finding> {
    const EMPTY: [&str; 6] = ["util", "utils", "helper", "helpers", "misc", "common"];
    let mut findings = Vec::new();
    for (path, text) in tree.ending_in(".rs") {
        let stem = |part: &str| part.trim_end_matches(".rs").to_owned();
        if path
            .split('/')
            .map(stem)
            .any(|part| EMPTY.contains(&part.as_str()))
        {
            findings.push(Finding::new(path, None, "name it after what it holds"));
        }
        if is_test(path) {
            continue;
        }
        let program = rust_text::program(text, false);
        findings.extend(each_line(path, &program, |line| {
            let (_, name) = line.split_once("mod ")?;
            let name = name.trim_end_matches([' ', ';', '{']);
            EMPTY
                .contains(&name)
                .then(|| format!("module `{name}`: name it after what it holds"))
        }));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(findings: &[Finding]) -> Vec<Option<usize>> {
        findings.iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn a_kind_in_core_is_found() {
        for (text, wrong) in [
            ("fn nfs_server() {}", true),
            ("struct ZfsPool;", true),
            ("let kind = \"gluster\";", true),
            ("// nfs is a kind\n/// `nfs://nas/media`\nfn f() {}", false),
            ("let confs = 1; let zfsx = 2;", false),
            (
                "#[cfg(test)]\nmod tests { const K: &str = \"nfs\"; }",
                false,
            ),
        ] {
            let tree = Tree::of(&[("core/src/a.rs", text)]);
            assert_eq!(!core_names_no_kind(&tree).is_empty(), wrong, "{text}");
        }
        for path in [
            "nfs/src/lib.rs",
            "core/tests/engines.rs",
            "core/src/daemon/tests.rs",
        ] {
            assert_eq!(
                core_names_no_kind(&Tree::of(&[(path, "let a = \"nfs\";")])),
                [],
                "{path}"
            );
        }
    }

    #[test]
    fn loading_a_library_outside_the_loader_is_found() {
        let text = "use libloading::Library;";
        assert_eq!(
            nothing_loads_libraries_but_the_loader(&Tree::of(&[("core/src/a.rs", text)])).len(),
            1
        );
        let manifest = "[dependencies]\nlibloading.workspace = true\n";
        let tree = Tree::of(&[("core/Cargo.toml", manifest), ("Cargo.toml", manifest)]);
        assert_eq!(
            lines(&nothing_loads_libraries_but_the_loader(&tree)),
            [Some(2)]
        );
        let tree = Tree::of(&[
            ("plugins/loader/src/a.rs", text),
            ("plugins/loader/Cargo.toml", manifest),
        ]);
        assert_eq!(nothing_loads_libraries_but_the_loader(&tree), []);
    }

    #[test]
    fn unsafe_outside_its_files_is_found() {
        let text = "fn f() {\n    unsafe { g() }\n}\n";
        assert_eq!(
            lines(&unsafe_only_where_allowed(&Tree::of(&[(
                "nfs/src/a.rs",
                text
            )]))),
            [Some(2)]
        );
        assert_eq!(
            unsafe_only_where_allowed(&Tree::of(&[("linux/src/syscall.rs", text)])),
            []
        );
        let fine = "#![forbid(unsafe_code)]\n// unsafe\nlet a = \"unsafe\";\n";
        assert_eq!(
            unsafe_only_where_allowed(&Tree::of(&[("nfs/src/a.rs", fine)])),
            []
        );
        let attribute = "#[unsafe(no_mangle)]\nstatic A: u8 = 1;\n";
        assert_eq!(
            unsafe_only_where_allowed(&Tree::of(&[("nfs/src/a.rs", attribute)])).len(),
            1
        );
    }

    #[test]
    fn starting_a_process_elsewhere_is_found() {
        for (line, wrong) in [
            ("use std::process::Command;", true),
            ("let c = tokio::process::Command::new(\"a\");", true),
            ("use std::process::{Child, Command, Stdio};", true),
            ("let pid = unistd::fork();", true),
            ("use std::process::{self, ExitCode};", false),
            ("use std::os::unix::process::CommandExt;", false),
            ("use lazarette_linux::command::Command;", false),
            ("let c = Command::new(\"/sbin/a\");", false),
        ] {
            let tree = Tree::of(&[("init/src/a.rs", line)]);
            assert_eq!(
                !only_linux_starts_processes(&tree).is_empty(),
                wrong,
                "{line}"
            );
            let tree = Tree::of(&[
                ("linux/src/command/mod.rs", line),
                ("xtask/src/a.rs", line),
                ("core/tests/a.rs", line),
            ]);
            assert_eq!(only_linux_starts_processes(&tree), [], "{line}");
        }
    }

    #[test]
    fn a_long_file_is_found_and_its_tests_do_not_count() {
        let long = "fn f() {}\n".repeat(LONGEST + 1);
        assert_eq!(
            files_are_short(&Tree::of(&[("a/src/a.rs", &long)])).len(),
            1
        );
        assert_eq!(files_are_short(&Tree::of(&[("a/tests/a.rs", &long)])), []);
        let tested = format!("fn f() {{}}\n#[cfg(test)]\nmod tests {{\n{long}}}\n");
        assert_eq!(files_are_short(&Tree::of(&[("a/src/a.rs", &tested)])), []);
    }

    #[test]
    fn empty_names_are_found() {
        for (path, text) in [
            ("a/src/utils.rs", ""),
            ("a/src/helpers/mod.rs", ""),
            ("a/src/lib.rs", "pub(crate) mod util;"),
            ("a/src/lib.rs", "mod misc {"),
        ] {
            assert_eq!(
                nothing_is_called_utils(&Tree::of(&[(path, text)])).len(),
                1,
                "{path} {text}"
            );
        }
        assert_eq!(
            nothing_is_called_utils(&Tree::of(&[("a/src/utility_belt.rs", "mod futile;")])),
            []
        );
    }
}
