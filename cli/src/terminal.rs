//! Where output goes, how wide it is, tables, questions.

use std::borrow::Cow;
use std::io::{self, BufRead, IsTerminal, Write};

use comfy_table::{ColumnConstraint, ContentArrangement, Table as Grid, presets};
use serde::Serialize;

use crate::failure::Failure;

/// Standard input, output and error, and what is known about them.
pub struct Terminal {
    output: Box<dyn Write>,
    errors: Box<dyn Write>,
    input: Box<dyn BufRead>,
    /// Columns; none: no limit (output goes to a file or a pipe).
    width: Option<u16>,
    colours: bool,
    /// Whether somebody can answer a question.
    can_ask: bool,
}

impl Terminal {
    /// Those of this process.
    pub fn of_process() -> Self {
        let output = io::stdout();
        let shown = output.is_terminal();
        let width = std::env::var("COLUMNS")
            .ok()
            .and_then(|text| text.parse().ok());
        let size = || rustix::termios::tcgetwinsize(io::stdout()).ok();
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            width: shown
                .then(|| width.or_else(|| size().map(|size| size.ws_col)))
                .flatten()
                .filter(|columns| *columns >= 20),
            colours: shown && !plain,
            can_ask: io::stdin().is_terminal() && io::stderr().is_terminal(),
            output: Box::new(output),
            errors: Box::new(io::stderr()),
            input: Box::new(io::BufReader::new(io::stdin())),
        }
    }

    /// One made of parts, for tests and for programs that embed laz. `width` is in columns, none
    /// means no limit; `answers` is what the operator types, none means that nobody can be asked.
    pub fn from_parts(
        output: Box<dyn Write>,
        errors: Box<dyn Write>,
        input: Box<dyn BufRead>,
        width: Option<u16>,
        colours: bool,
        can_ask: bool,
    ) -> Self {
        Self {
            output,
            errors,
            input,
            width,
            colours,
            can_ask,
        }
    }

    /// Whether output may be coloured.
    pub(crate) fn colours(&self) -> bool {
        self.colours
    }

    /// Standard input.
    pub(crate) fn input(&mut self) -> &mut dyn BufRead {
        &mut *self.input
    }

    /// Standard output.
    pub(crate) fn output(&mut self) -> &mut dyn Write {
        &mut *self.output
    }

    /// Prints a line.
    ///
    /// # Errors
    /// Those of standard output.
    pub(crate) fn line(&mut self, text: &str) -> Result<(), Failure> {
        writeln!(self.output, "{text}")?;
        self.output.flush()?;
        Ok(())
    }

    /// Prints a value as JSON: on several lines for people, on one for programs.
    ///
    /// # Errors
    /// Those of standard output.
    pub(crate) fn json(&mut self, value: &impl Serialize, pretty: bool) -> Result<(), Failure> {
        let text = if pretty {
            serde_json::to_string_pretty(value)
        } else {
            serde_json::to_string(value)
        };
        self.line(&text.map_err(io::Error::from)?)
    }

    /// Prints a line on standard error. Nothing can be done if that fails.
    pub(crate) fn complain(&mut self, text: &str) {
        let _ = writeln!(self.errors, "{text}");
        let _ = self.errors.flush();
    }

    /// Clears the screen, if there is one.
    ///
    /// # Errors
    /// Those of standard output.
    pub(crate) fn clear(&mut self) -> Result<(), Failure> {
        if self.width.is_some() {
            write!(self.output, "\x1b[H\x1b[2J")?;
        }
        Ok(())
    }

    /// Prints a heading.
    ///
    /// # Errors
    /// Those of standard output.
    pub(crate) fn heading(&mut self, text: &str) -> Result<(), Failure> {
        let text = if self.colours {
            format!("\x1b[1m{text}\x1b[0m")
        } else {
            text.to_owned()
        };
        self.line(&text)
    }

    /// Prints a table.
    ///
    /// # Errors
    /// Those of standard output.
    pub(crate) fn table(&mut self, table: &Table) -> Result<(), Failure> {
        for line in table.lines(self.width, self.colours) {
            self.line(&line)?;
        }
        Ok(())
    }

    /// Says what will be lost, and has `name` typed before it is.
    ///
    /// # Errors
    /// [`Failure::NotConfirmed`] unless the answer is the name.
    pub(crate) fn confirm_loss(&mut self, name: &str, lost: &str) -> Result<(), Failure> {
        let lost = printable(lost);
        if !self.can_ask {
            return Err(Failure::NotConfirmed(format!(
                "this loses {lost}; nobody can be asked here: if so, say it with --yes"
            )));
        }
        let _ = write!(
            self.errors,
            "This loses {lost}.\nType {name} to go on, anything else to leave it: "
        );
        let _ = self.errors.flush();
        let mut answer = String::new();
        // An answer that cannot be read is none.
        let _ = self.input.read_line(&mut answer);
        if answer.trim() == name {
            return Ok(());
        }
        Err(Failure::NotConfirmed("nothing was done".into()))
    }

    /// Refuses to begin with what will be asked about where nobody can be asked; `why` says what for.
    ///
    /// # Errors
    /// [`Failure::NotConfirmed`].
    pub(crate) fn must_be_able_to_ask(&self, why: &str) -> Result<(), Failure> {
        match self.can_ask {
            true => Ok(()),
            false => Err(Failure::NotConfirmed(format!(
                "{why}; nobody can be asked here: if so, say it with --yes"
            ))),
        }
    }

    /// Asks a yes-or-no question about something that cannot be undone.
    ///
    /// # Errors
    /// [`Failure::NotConfirmed`] unless the answer is yes.
    pub(crate) fn confirm(&mut self, question: &str) -> Result<(), Failure> {
        if !self.can_ask {
            let message = format!("{question} Nobody can be asked here; if so, say it with --yes");
            return Err(Failure::NotConfirmed(message));
        }
        let _ = write!(self.errors, "{question} [y/N] ");
        let _ = self.errors.flush();
        let mut answer = String::new();
        // An answer that cannot be read is none.
        let _ = self.input.read_line(&mut answer);
        match answer.trim().to_lowercase().as_str() {
            "y" | "yes" => Ok(()),
            _ => Err(Failure::NotConfirmed("nothing was done".into())),
        }
    }
}

/// A table: headings in the first row, one of the columns coloured by what it says.
pub(crate) struct Table {
    headings: Vec<Cow<'static, str>>,
    rows: Vec<Vec<String>>,
}

/// The columns that are folded on a narrow screen; paths and names stay whole, to be copied.
const FOLDING: [&str; 6] = [
    "USED BY",
    "VOLUMES CAN",
    "MEANING",
    "REMARK",
    "GOING ON",
    "DETAIL",
];

/// The column whose words are coloured.
pub(crate) const STATE: &str = "STATE";

impl Table {
    pub(crate) fn new(headings: &[&'static str]) -> Self {
        Self::with(headings.iter().map(|heading| (*heading).into()).collect())
    }

    /// One whose headings are not known beforehand.
    pub(crate) fn with(headings: Vec<Cow<'static, str>>) -> Self {
        Self {
            headings,
            rows: Vec::new(),
        }
    }

    /// Adds a row; an empty cell shows `-`.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let shown = |cell: String| {
            if cell.is_empty() {
                "-".into()
            } else {
                printable(&cell)
            }
        };
        self.rows.push(cells.into_iter().map(shown).collect());
    }

    /// The lines, folded to `width`.
    pub(crate) fn lines(&self, width: Option<u16>, colours: bool) -> Vec<String> {
        let mut grid = Grid::new();
        grid.load_preset(presets::NOTHING)
            .set_header(self.headings.iter())
            .add_rows(self.rows.iter());
        for (column, heading) in grid.column_iter_mut().zip(&self.headings) {
            column.set_padding((0, 2));
            if !FOLDING.contains(&heading.as_ref()) {
                column.set_constraint(ColumnConstraint::ContentWidth);
            }
        }
        if let Some(width) = width {
            grid.set_content_arrangement(ContentArrangement::Dynamic)
                .set_width(width);
        }
        let lines = grid.lines().map(|line| line.trim_end().to_owned());
        let mut lines: Vec<String> = lines.collect();
        if colours {
            let at = lines.first().and_then(|head| column_of(head, STATE));
            for (index, line) in lines.iter_mut().enumerate() {
                match (index, at) {
                    (0, _) => *line = format!("\x1b[1m{line}\x1b[0m"),
                    (_, Some(at)) => colour_word(line, at),
                    (_, None) => {}
                }
            }
        }
        lines
    }
}

/// The column, in characters, at which `word` stands in `line`.
fn column_of(line: &str, word: &str) -> Option<usize> {
    line.find(word).map(|at| line[..at].chars().count())
}

/// Colours the word at column `at` by what it means.
fn colour_word(line: &mut String, at: usize) {
    let Some((start, _)) = line.char_indices().nth(at) else {
        return;
    };
    let rest = &line[start..];
    let end = rest
        .find(|c: char| !c.is_alphanumeric())
        .unwrap_or(rest.len());
    let colour = match &rest[..end] {
        "healthy" | "mounted" | "answers" | "ok" => 32,
        "" => return,
        "idle" => 2,
        "faulted" | "failed" | "stopped" | "stale" | "quarantined" | "missing" => 31,
        _ => 33,
    };
    let coloured = format!("\x1b[{colour}m{}\x1b[0m", &rest[..end]);
    line.replace_range(start..start + end, &coloured);
}

/// Text from elsewhere, fit for a terminal: without control characters.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&["NAME", STATE, "REMARK"]);
        table.row(["nas".into(), "healthy".into(), String::new()]);
        table.row([
            "böx".into(),
            "faulted".into(),
            "the server\x1b[2J does not answer at all".into(),
        ]);
        table
    }

    #[test]
    fn a_table_without_a_screen_is_not_folded() {
        assert_eq!(
            table().lines(None, false),
            [
                "NAME  STATE    REMARK",
                "nas   healthy  -",
                "böx   faulted  the server\u{fffd}[2J does not answer at all"
            ]
        );
    }

    #[test]
    fn a_table_fits_the_screen() {
        let lines = table().lines(Some(34), false);
        assert!(lines.len() > 3, "{lines:?}");
        assert!(
            lines.iter().all(|line| line.chars().count() <= 34),
            "{lines:?}"
        );
    }

    #[test]
    fn states_are_coloured_and_nothing_else() {
        let lines = table().lines(None, true);
        assert_eq!(lines[1], "nas   \x1b[32mhealthy\x1b[0m  -");
        assert!(
            lines[2].starts_with("böx   \x1b[31mfaulted\x1b[0m  the"),
            "{lines:?}"
        );
    }
}
