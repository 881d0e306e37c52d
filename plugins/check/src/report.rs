//! What came out of the checks, and how it is written.

use std::fmt::Write;
use std::time::Duration;

use serde::Serialize;

use crate::checks::Named;

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", content = "why", rename_all = "snake_case")]
pub enum Verdict {
    /// The plugin does what the contract says.
    Passed,
    /// It does not; the sentence says how.
    Failed(String),
    /// The plugin does not offer it, or the settings lack something.
    Skipped(String),
}

/// One check that was run.
#[derive(Debug, Clone, Serialize)]
pub struct Checked {
    /// The check's name, `group.what`.
    pub id: &'static str,
    /// What the contract demands.
    pub demands: &'static str,
    /// What was found.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// How long it took.
    pub seconds: f64,
}

impl Checked {
    pub(crate) fn new(check: &Named, verdict: Verdict, took: Duration) -> Self {
        Self {
            id: check.id,
            demands: check.demands,
            verdict,
            seconds: (took.as_secs_f64() * 1000.0).round() / 1000.0,
        }
    }

    /// The verdict in one word.
    pub fn word(&self) -> &'static str {
        match self.verdict {
            Verdict::Passed => "passed",
            Verdict::Failed(_) => "FAILED",
            Verdict::Skipped(_) => "skipped",
        }
    }

    /// Why it failed or was skipped; empty if it passed.
    pub fn why(&self) -> &str {
        match &self.verdict {
            Verdict::Passed => "",
            Verdict::Failed(why) | Verdict::Skipped(why) => why,
        }
    }
}

/// All that was found about a plugin.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// What was checked: a path or an image.
    pub plugin: String,
    /// The checks in the order in which they ran.
    pub checks: Vec<Checked>,
}

impl Report {
    pub(crate) fn new(plugin: String) -> Self {
        Self {
            plugin,
            checks: Vec::new(),
        }
    }

    /// How many passed, failed and were skipped.
    pub fn counts(&self) -> (usize, usize, usize) {
        let count = |word| self.checks.iter().filter(|c| c.word() == word).count();
        (count("passed"), count("FAILED"), count("skipped"))
    }

    /// Whether the plugin keeps the contract: something was checked, and nothing failed.
    pub fn passed(&self) -> bool {
        let (passed, failed, _) = self.counts();
        failed == 0 && passed > 0
    }

    /// The report as JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a report has string keys only")
    }

    /// The report as JUnit XML, as CI servers read it.
    pub fn to_junit(&self) -> String {
        let (_, failed, skipped) = self.counts();
        let all: f64 = self.checks.iter().map(|c| c.seconds).sum();
        let mut xml = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"{}\" tests=\"{}\" \
             failures=\"{failed}\" skipped=\"{skipped}\" time=\"{all:.3}\">\n",
            escaped(&self.plugin),
            self.checks.len(),
        );
        for check in &self.checks {
            let (group, name) = check.id.split_once('.').unwrap_or(("", check.id));
            let inner = match &check.verdict {
                Verdict::Passed => String::new(),
                Verdict::Failed(why) => format!(
                    "<failure message=\"{}\">{}</failure>",
                    escaped(why),
                    escaped(check.demands)
                ),
                Verdict::Skipped(why) => format!("<skipped message=\"{}\"/>", escaped(why)),
            };
            // Writing to a String cannot fail.
            let _ = writeln!(
                xml,
                "  <testcase classname=\"{group}\" name=\"{name}\" time=\"{:.3}\">{inner}</testcase>",
                check.seconds
            );
        }
        xml.push_str("</testsuite>\n");
        xml
    }
}

/// `text` as an XML attribute or text may hold it: what XML 1.0 cannot carry becomes a blank.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn report() -> Report {
        let checked = |id, verdict| Checked {
            id,
            demands: "it works",
            verdict,
            seconds: 0.5,
        };
        Report {
            plugin: "a<b".into(),
            checks: vec![
                checked("group.one", Verdict::Passed),
                checked(
                    "group.two",
                    Verdict::Failed("said \"no\"\u{1} & left".into()),
                ),
                checked("group.three", Verdict::Skipped("not offered".into())),
            ],
        }
    }

    #[test]
    fn one_failure_fails_the_whole_and_nothing_checked_is_no_pass() {
        assert_eq!(report().counts(), (1, 1, 1));
        assert!(!report().passed());
        let mut fine = report();
        fine.checks.remove(1);
        assert!(fine.passed());
        fine.checks.clear();
        assert!(!fine.passed());
    }

    #[test]
    fn junit_escapes_what_the_plugin_says() {
        assert_eq!(
            report().to_junit(),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
             <testsuite name=\"a&lt;b\" tests=\"3\" failures=\"1\" skipped=\"1\" time=\"1.500\">\n  \
             <testcase classname=\"group\" name=\"one\" time=\"0.500\"></testcase>\n  \
             <testcase classname=\"group\" name=\"two\" time=\"0.500\">\
             <failure message=\"said &quot;no&quot;  &amp; left\">it works</failure></testcase>\n  \
             <testcase classname=\"group\" name=\"three\" time=\"0.500\">\
             <skipped message=\"not offered\"/></testcase>\n</testsuite>\n"
        );
    }

    #[test]
    fn json_carries_the_verdict_and_its_reason() {
        let json: serde_json::Value = serde_json::from_str(&report().to_json()).unwrap();
        assert_eq!(json["checks"][0]["verdict"], "passed");
        assert_eq!(json["checks"][2]["why"], "not offered");
    }
}
