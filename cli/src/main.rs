//! laz, the command that looks at and drives Lazarette.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut terminal = laz::Terminal::of_process();
    ExitCode::from(laz::run(std::env::args_os(), &mut terminal))
}
