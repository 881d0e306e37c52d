//! Completion scripts and man pages, made from the command line's own description.

use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::arguments::Arguments;
use crate::failure::Failure;
use crate::terminal::Terminal;

pub(crate) fn completions(shell: Shell, terminal: &mut Terminal) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "laz", &mut script);
    terminal.output().write_all(&script)?;
    terminal.output().flush()?;
    Ok(())
}

pub(crate) fn man(directory: Option<&Path>, terminal: &mut Terminal) -> Result<(), Failure> {
    let Some(directory) = directory else {
        clap_mangen::Man::new(Arguments::command()).render(terminal.output())?;
        terminal.output().flush()?;
        return Ok(());
    };
    let written = std::fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(Arguments::command(), directory));
    written.map_err(|source| Failure::File {
        verb: "write man pages into",
        path: directory.into(),
        source,
    })
}
