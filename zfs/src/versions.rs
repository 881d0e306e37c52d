//! Whether the tools and the kernel's module fit together.

use std::fs;

use lazarette_plugin::{Error, ErrorKind, Result};

use crate::programs::Programs;
use crate::report;

/// Tools and module must agree in this many numbers of their versions.
const COUNTS: usize = 2;

/// Checks that the module is loaded and of the tools' version; both versions.
///
/// # Errors
/// `Unsupported` naming both versions, `NotFound` if the module is not loaded.
pub(crate) fn check(programs: &Programs) -> Result<(String, String)> {
    let module = fs::read_to_string(&programs.module_version).map_err(|e| {
        Error::new(ErrorKind::NotFound, "the kernel has no ZFS")
            .cause(e)
            .remedy(
                "load the module zfs, or install it for this kernel: see docs/kernel-modules.md",
            )
    })?;
    // `zfs version` asks the kernel too and waits for the module where there is none.
    let said = programs
        .zfs(std::time::Duration::from_secs(20))
        .arg("version")
        .run()
        .map_err(|e| report::explain(&e, "cannot ask for the version of the ZFS tools"))?;
    let said = said.stdout_text();
    let (module, tools) = (module.trim().to_owned(), tools_version(&said).to_owned());
    if fit(&module, &tools) {
        return Ok((module, tools));
    }
    Err(Error::new(
        ErrorKind::Unsupported,
        format!("the kernel's ZFS is {module}, the tools of this container are {tools}"),
    )
    .remedy("boot with the module of the tools' version, or use the image that fits the module"))
}

/// `zfs-2.3.2-2` in the first line that is not about the module.
fn tools_version(said: &str) -> &str {
    said.lines()
        .filter(|line| !line.starts_with("zfs-kmod-"))
        .find_map(|line| line.strip_prefix("zfs-"))
        .unwrap_or("of no version")
        .trim()
}

fn fit(module: &str, tools: &str) -> bool {
    let numbers = |text: &str| -> Vec<String> {
        text.split(['.', '-', '_'])
            .take(COUNTS)
            .map(str::to_owned)
            .collect()
    };
    module.starts_with(|c: char| c.is_ascii_digit()) && numbers(module) == numbers(tools)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_may_differ_and_releases_may_not() {
        assert_eq!(tools_version("zfs-2.3.9-1\nzfs-kmod-2.3.9-1\n"), "2.3.9-1");
        assert_eq!(tools_version("zfs-kmod-2.3.9-1\n"), "of no version");
        assert!(fit("2.3.9-1", "2.3.2-2+deb13u1"));
        assert!(!fit("2.2.7-1", "2.3.2-2"));
        assert!(!fit("", ""));
        assert!(!fit("2.3.9-1", "of no version"));
    }

    #[test]
    fn both_versions_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let version = directory.path().join("version");
        let zfs = directory.path().join("zfs");
        fs::write(
            &zfs,
            "#!/bin/sh\necho zfs-2.3.9-1\necho zfs-kmod-2.1.11-1\n",
        )
        .unwrap();
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(&zfs, fs::Permissions::from_mode(0o755)).unwrap();
        let programs = Programs {
            zfs,
            module_version: version.clone(),
            ..Programs::default()
        };
        let absent = check(&programs).unwrap_err();
        assert_eq!(absent.kind, ErrorKind::NotFound);
        fs::write(&version, "2.1.11-1\n").unwrap();
        let error = check(&programs).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unsupported);
        assert!(error.message.contains("2.1.11-1") && error.message.contains("2.3.9-1"));
        fs::write(&version, "2.3.1-1\n").unwrap();
        check(&programs).unwrap();
    }
}
