//! Checks of shell scripts, whether they are files or stand in Rust code.

use super::Finding;
use super::tree::Tree;

/// Under `set -e` a command that `!` negates never ends a script, whatever comes of it: a check that
/// cannot fail.
pub(super) fn negations_can_fail(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.ending_in("") {
        // Documents are no scripts, and this check's tests hold what it looks for.
        if path.ends_with(".md") || path.starts_with("xtask/src/tidy/") {
            continue;
        }
        findings.extend(commands(text).into_iter().filter_map(|(line, command)| {
            negated_for_nothing(&command).then(|| {
                let message = "under `set -e` a negated command never fails its script; \
                               write `! command || fail \"why\"`";
                Finding::new(path, line, message)
            })
        }));
    }
    findings
}

/// What writes to a pipe that nobody reads any more dies of it, which under `pipefail` fails the whole pipe:
/// `grep -q` stops to read when it knows the answer.
pub(super) fn pipes_are_read_to_the_end(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.ending_in("") {
        // Only these scripts have `pipefail`, and `has`.
        if !path.starts_with("tests/vm/") {
            continue;
        }
        findings.extend(commands(text).into_iter().filter_map(|(line, command)| {
            command.contains("| grep -q").then(|| {
                let message = "`grep -q` at the end of a pipe fails it now and then; write `| has`";
                Finding::new(path, line, message)
            })
        }));
    }
    findings
}

/// Lines with their numbers, from 1; those that go on in the next one (after `\`, `|`, `||` or `&&`)
/// are one.
fn commands(text: &str) -> Vec<(usize, String)> {
    let mut commands: Vec<(usize, String)> = Vec::new();
    let mut goes_on = false;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        match commands.last_mut() {
            Some((_, command)) if goes_on => {
                command.push(' ');
                command.push_str(line);
            }
            _ => commands.push((index + 1, line.to_owned())),
        }
        goes_on = ["\\", "|", "&&"].iter().any(|end| line.ends_with(end));
    }
    commands
}

/// Whether a command begins with `!` (at the beginning of the line or of a string, or after `;`) and
/// nothing is done when it does not hold.
fn negated_for_nothing(command: &str) -> bool {
    let first = command.trim_start_matches('"');
    let starts = first.starts_with("! ").then_some(first);
    let later = command.match_indices("; ! ").map(|(at, _)| &command[at..]);
    starts
        .into_iter()
        .chain(later)
        .any(|rest| !rest.contains("||"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_that_is_not_read_to_the_end_is_found() {
        let found =
            |path: &str, text: &str| pipes_are_read_to_the_end(&Tree::of(&[(path, text)])).len();
        assert_eq!(found("tests/vm/a.rs", "laz status | grep -q healthy"), 1);
        assert_eq!(
            found("tests/vm/a.rs", "laz status |\n    grep -q healthy"),
            1
        );
        assert_eq!(found("tests/vm/a.rs", "laz status | has healthy"), 0);
        assert_eq!(found("tests/vm/a.rs", "grep -q healthy /tmp/status"), 0);
        assert_eq!(
            found("os/lab/server", "laz status | grep -q healthy"),
            0,
            "no pipefail"
        );
    }

    fn found(text: &str) -> Vec<Option<usize>> {
        let tree = Tree::of(&[("tests/vm/a.rs", text)]);
        let findings = negations_can_fail(&tree);
        findings.iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn a_negation_that_cannot_fail_is_found() {
        for text in [
            "! grep x /tmp/f",
            "    ! docker volume inspect x > /dev/null 2>&1\n",
            "\"! command -v mount.nfs\",",
            "a; ! grep x /tmp/f",
            "! grep x /tmp/f |\n    grep y\n",
            "! laz volume create \\\n    --kind nfs x\n",
            "! a || fail \"one\"; ! b",
        ] {
            assert_eq!(found(text), [Some(1)], "{text}");
        }
        assert_eq!(found("a\n! b\nc || d\n"), [Some(2)]);
    }

    #[test]
    fn one_that_can_is_not() {
        for text in [
            "! grep x /tmp/f || fail \"it is there\"",
            "! laz volume create --kind nfs x ||\n    fail \"it was made\"\n",
            "! laz volume create \\\n    --kind nfs x || fail \"it was made\"\n",
            "gone() { ! mounted /mnt/a; }",
            "if ! grep x /tmp/f; then fail x; fi",
            "[ ! -e /tmp/f ]",
            "//! A module.",
            "let a = !b;",
        ] {
            assert_eq!(found(text), [], "{text}");
        }
        assert_eq!(
            negations_can_fail(&Tree::of(&[("docs/a.md", "! b")])),
            [],
            "a document"
        );
    }
}
