//! What test programs print, read line by line: how many tests ended how, and which of those that
//! count as passed have only said why they cannot run here.
//!
//! A test that lacks something prints `skipped: why` and returns. Its program hides what passed tests
//! print unless it is run with [`SHOW_OUTPUT`]; what they print beside that is not passed on.

/// Lets a test program print what passed tests have printed, in a section of its own.
pub(super) const SHOW_OUTPUT: &str = "--show-output";

/// How many checks and tests ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) passed: u64,
    pub(super) failed: u64,
    pub(super) skipped: u64,
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

/// A reader of the output of test programs, one after the other.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Of all programs that have ended.
    pub(super) counts: Counts,
    /// `test: why` for each test that was skipped and says why.
    pub(super) skipped: Vec<String>,
    /// `test: why` for each test that says so at once, in a line that begins with `FAILED`.
    pub(super) failed: Vec<String>,
    /// How many headings of the section of passed tests were seen: the first stands above what they
    /// have printed, the second above their names.
    headings: u8,
    /// Whose output is being read.
    test: Option<String>,
    /// How many tests of this program have printed that they are skipped.
    told: u64,
}

impl Outcome {
    /// Forgets a program that did not come to its result.
    pub(super) fn begin(&mut self) {
        (self.headings, self.told, self.test) = (0, 0, None);
    }

    /// Takes in a line; whether it is to be shown.
    pub(super) fn line(&mut self, line: &str) -> bool {
        let line = line.trim_end();
        if line == "successes:" && self.headings < 2 {
            self.headings += 1;
            self.test = None;
            return false;
        }
        if self.headings == 1 {
            if let Some(name) = heading(line) {
                self.test = Some(name.to_owned());
            } else if let Some(why) = line.strip_prefix("skipped: ")
                && let Some(name) = self.test.take()
            {
                // Once for each test, however often it says so.
                self.told += 1;
                self.skipped.push(format!("{name}: {why}"));
            }
            return false;
        }
        if let Some(mut counts) = result(line) {
            let told = self.told.min(counts.passed);
            counts.passed -= told;
            counts.skipped += told;
            self.counts.add(counts);
            self.begin();
            return true;
        }
        if line == "failures:" {
            self.headings = 0;
        }
        self.skipped.extend(ignored(line));
        self.failed
            .extend(line.strip_prefix("FAILED ").map(str::to_owned));
        self.headings == 0
    }
}

/// `---- tests::one stdout ----`
fn heading(line: &str) -> Option<&str> {
    line.strip_prefix("---- ")?.strip_suffix(" stdout ----")
}

/// `test one ... ignored, why` → `one: why`
fn ignored(line: &str) -> Option<String> {
    let (name, why) = line.strip_prefix("test ")?.split_once(" ... ignored, ")?;
    let why = why.strip_prefix("skipped: ").unwrap_or(why);
    Some(format!("{}: {why}", name.trim_end()))
}

/// `test result: ok. 3 passed; 0 failed; 1 ignored; …`
fn result(line: &str) -> Option<Counts> {
    let rest = line.trim().strip_prefix("test result: ")?;
    let mut counts = Counts::default();
    for part in rest.split(['.', ';']) {
        let mut words = part.split_whitespace();
        let (Some(number), Some(word)) = (words.next(), words.next()) else {
            continue;
        };
        let Ok(number) = number.parse() else { continue };
        match word {
            "passed" => counts.passed = number,
            "failed" => counts.failed = number,
            "ignored" => counts.skipped = number,
            _ => {}
        }
    }
    Some(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Outcome, Vec<&str>) {
        let mut outcome = Outcome::default();
        let shown = text.lines().filter(|line| outcome.line(line)).collect();
        (outcome, shown)
    }

    #[test]
    fn the_results_of_both_test_harnesses_are_read() {
        let cargo = "test result: FAILED. 3 passed; 2 failed; 1 ignored; 0 measured; \
                     7 filtered out; finished in 0.01s";
        let expected = Counts {
            passed: 3,
            failed: 2,
            skipped: 1,
        };
        assert_eq!(result(cargo), Some(expected));
        let mimic = "test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 1 filtered out";
        assert_eq!(result(mimic).map(|counts| counts.passed), Some(12));
        assert_eq!(result("test tests::x ... ok"), None);
    }

    /// Two programs, as libtest prints them.
    const PRINTED: &str = "
running 4 tests
test tests::one ... ok
test tests::two ... ok
test tests::three ... FAILED
test tests::four ... ignored, needs a tape

successes:

---- tests::one stdout ----
skipped: needs root
skipped: needs root

---- tests::two stdout ----
made a volume
skipped in part: no quota


successes:
    tests::one
    tests::two

failures:

---- tests::three stdout ----
skipped: says one that fails


failures:
    tests::three

test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out

running 1 test
test it ... ok

successes:

successes:
    it

test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out
";

    #[test]
    fn a_test_that_says_it_is_skipped_has_not_passed() {
        let (outcome, _) = read(PRINTED);
        let expected = Counts {
            passed: 2,
            failed: 1,
            skipped: 2,
        };
        assert_eq!(outcome.counts, expected);
        assert_eq!(
            outcome.skipped,
            ["tests::four: needs a tape", "tests::one: needs root"]
        );
    }

    #[test]
    fn failures_are_shown_and_what_passed_tests_print_is_not() {
        let (_, shown) = read(PRINTED);
        for line in [
            "test tests::one ... ok",
            "---- tests::three stdout ----",
            "skipped: says one that fails",
            "    tests::three",
            "test it ... ok",
        ] {
            assert!(shown.contains(&line), "{line} is not in {shown:#?}");
        }
        for line in ["successes:", "made a volume", "    tests::one", "    it"] {
            assert!(!shown.contains(&line), "{line} is in {shown:#?}");
        }
        assert_eq!(
            shown.iter().filter(|l| l.contains("test result")).count(),
            2
        );
    }

    #[test]
    fn what_a_suite_ignores_says_why() {
        let (outcome, shown) = read("test case_14 ... ignored, skipped: needs bindfs\n");
        assert_eq!(outcome.skipped, ["case_14: needs bindfs"]);
        assert_eq!(shown.len(), 1);
    }

    #[test]
    fn what_a_suite_says_of_a_failure_is_kept_for_the_end() {
        let (outcome, shown) = read("FAILED case_19: the pool is exported | wanted 'a'\n");
        assert_eq!(
            outcome.failed,
            ["case_19: the pool is exported | wanted 'a'"]
        );
        assert_eq!(shown.len(), 1);
    }
}
