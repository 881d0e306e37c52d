//! Printing a manifest.

use std::error::Error;
use std::path::Path;

use lazarette_loader::Plugin;

/// Prints the manifest of the library `plugin` as one line of JSON.
pub(crate) fn describe(plugin: &Path) -> Result<(), Box<dyn Error>> {
    let manifest = Plugin::load(plugin)?.describe()?;
    println!("{}", serde_json::to_string(&manifest)?);
    Ok(())
}
