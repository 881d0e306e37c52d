//! `cargo xtask header`: the plugin ABI for authors in C, generated from `plugins/abi`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// What the file begins with.
const PREAMBLE: &str = "\
/* The C ABI between Lazarette's plugin host and a storage plugin, version 1.

   Generated from plugins/abi/src/lib.rs by `cargo xtask header`: do not edit. The rules that both
   sides keep to are in docs/plugin-abi.md.

   SPDX-License-Identifier: Apache-2.0 */
";

/// What a C author needs beyond the types.
const TRAILER: &str = "\
/* The one symbol that a plugin exports. It must stay unchanged once the library is loaded. */
#ifdef __cplusplus
extern \"C\"
#endif
extern const laz_descriptor LAZARETTE_PLUGIN_V1;";

/// What the types below refer to.
const FORWARD: &str = "
/* The first eight bytes of a descriptor. */
#define LAZ_MAGIC \"LAZARETT\"

/* An open context: the plugin's own, known to the host by its address only. */
typedef struct laz_instance laz_instance;";

fn path(workspace: &Path) -> PathBuf {
    workspace.join("plugins/abi/include/lazarette.h")
}

/// Writes the header.
///
/// # Errors
/// When the ABI cannot be read or the file cannot be written.
pub(crate) fn write(workspace: &Path) -> Result<PathBuf> {
    let path = path(workspace);
    let text = generate(workspace)?;
    fs::write(&path, text).with_context(|| path.display().to_string())?;
    Ok(path)
}

/// Whether the header in the tree is what would be generated.
///
/// # Errors
/// When it is not, saying what to do.
pub(crate) fn check(workspace: &Path) -> Result<()> {
    let path = path(workspace);
    let kept = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    if kept != generate(workspace)? {
        bail!(
            "{} is not what plugins/abi/src/lib.rs says; run cargo xtask header",
            path.display()
        );
    }
    Ok(())
}

fn generate(workspace: &Path) -> Result<String> {
    let source = workspace.join("plugins/abi/src/lib.rs");
    let mut config = cbindgen::Config {
        language: cbindgen::Language::C,
        header: Some(PREAMBLE.into()),
        trailer: Some(TRAILER.into()),
        include_guard: Some("LAZARETTE_H".into()),
        no_includes: true,
        sys_includes: ["stddef.h", "stdint.h"].map(String::from).into(),
        after_includes: Some(FORWARD.into()),
        cpp_compat: true,
        usize_is_size_t: true,
        documentation_style: cbindgen::DocumentationStyle::C,
        style: cbindgen::Style::Both,
        line_length: 100,
        tab_width: 2,
        ..cbindgen::Config::default()
    };
    config.export.rename = NAMES
        .iter()
        .map(|(rust, c)| ((*rust).to_owned(), (*c).to_owned()))
        .collect();
    // C knows an incomplete type; Rust's stand-in for one would be an array without members.
    config.export.exclude = vec!["Instance".into()];
    config.export.include = vec!["Descriptor".into(), "HostTable".into(), "CallInfo".into()];
    let bindings = cbindgen::Builder::new()
        .with_src(&source)
        .with_config(config)
        .generate()
        .with_context(|| source.display().to_string())?;
    let mut text = Vec::new();
    bindings.write(&mut text);
    Ok(in_c(&String::from_utf8(text)?))
}

/// Comments name things as C does.
fn in_c(text: &str) -> String {
    let mut text = text.replace("[`MAGIC`]", "LAZ_MAGIC");
    for (rust, c) in NAMES {
        text = text.replace(&format!("[`{rust}`]"), c);
        text = text.replace(&format!("[`{rust}::"), &format!("[`{c}."));
    }
    text.replace("[`", "").replace("`]", "").replace('`', "")
}

/// C's names of Rust's.
const NAMES: &[(&str, &str)] = &[
    ("MAJOR", "LAZ_MAJOR"),
    ("MINOR", "LAZ_MINOR"),
    ("OK", "LAZ_OK"),
    ("ERROR", "LAZ_ERROR"),
    ("PANICKED", "LAZ_PANICKED"),
    ("LOG_ERROR", "LAZ_LOG_ERROR"),
    ("LOG_WARN", "LAZ_LOG_WARN"),
    ("LOG_INFO", "LAZ_LOG_INFO"),
    ("LOG_DEBUG", "LAZ_LOG_DEBUG"),
    ("SMALLEST_DESCRIPTOR", "LAZ_SMALLEST_DESCRIPTOR"),
    ("Header", "laz_header"),
    ("Bytes", "laz_bytes"),
    ("Buffer", "laz_buffer"),
    ("Instance", "laz_instance"),
    ("CallInfo", "laz_call_info"),
    ("HostTable", "laz_host_table"),
    ("Descriptor", "laz_descriptor"),
    ("LogFn", "laz_log_fn"),
    ("ProgressFn", "laz_progress_fn"),
    ("CancelledFn", "laz_cancelled_fn"),
    ("ChangedFn", "laz_changed_fn"),
    ("DescribeFn", "laz_describe_fn"),
    ("CreateFn", "laz_create_fn"),
    ("CallFn", "laz_call_fn"),
    ("DestroyFn", "laz_destroy_fn"),
    ("FreeFn", "laz_free_fn"),
];
