//! Printing what a plugin says without a context: its manifest, and what it finds.

use std::error::Error;
use std::path::Path;

use lazarette_core::message::Outcome;
use lazarette_loader::Plugin;

/// Prints the manifest of the library `plugin` as one line of JSON.
pub(crate) fn describe(plugin: &Path) -> Result<(), Box<dyn Error>> {
    let manifest = Plugin::load(plugin)?.describe()?;
    println!("{}", serde_json::to_string(&manifest)?);
    Ok(())
}

/// Prints what the library `plugin` finds that no context has, as one line of JSON; an error of
/// the plugin's as `{"error": …}`.
pub(crate) fn scan(plugin: &Path) -> Result<(), Box<dyn Error>> {
    let outcome = match Plugin::load(plugin)?.scan() {
        Ok(found) => Outcome::Ok(serde_json::to_value(found)?),
        Err(error) => Outcome::Error(error),
    };
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(())
}
