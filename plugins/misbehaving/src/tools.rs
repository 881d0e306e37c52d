//! Programs that are at work when the plugin host dies. This breaks no contract.

use std::time::Duration;

use lazarette_linux::command::{ChildOutput, Command};

/// Starts the program that `behaviour` names, and waits for it unless it is a daemon. It sleeps for
/// so many seconds that one is not taken for another: tests find it by that.
pub(crate) fn start(behaviour: &str) {
    let sleep = Command::new("/bin/sleep").deadline(Duration::from_secs(120));
    match behaviour {
        "has-a-tool" => drop(sleep.arg("61").run()),
        "has-a-tool-to-the-end" => drop(sleep.arg("3").to_the_end().run()),
        "has-an-endless-tool" => drop(sleep.arg("62").to_the_end().run()),
        _ => drop(sleep.arg("63").session().spawn(ChildOutput::Null)),
    }
}
