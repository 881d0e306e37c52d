//! What `sec=krb5*` needs of the container, said before the kernel says something unclear.

use std::fs;
use std::path::Path;

use lazarette_plugin::{Error, Result};

/// Where a machine's keys are.
const KEYTAB: &str = "/etc/krb5.keytab";

/// Whether Kerberos can work here.
///
/// # Errors
/// `NotFound` saying exactly what is missing.
pub(crate) fn check() -> Result<()> {
    check_at(Path::new(KEYTAB), Path::new("/proc"))
}

fn check_at(keytab: &Path, proc: &Path) -> Result<()> {
    let missing = |what: String| {
        Err(Error::not_found("Kerberos security cannot be used")
            .cause(what)
            .remedy("give the storage container a keytab and rpc.gssd as docs/nfs.md says, or set sec: sys"))
    };
    if !keytab.exists() {
        return missing(format!(
            "there is no {} in the storage container",
            keytab.display()
        ));
    }
    let runs = |name: &str| {
        fs::read_dir(proc)
            .into_iter()
            .flatten()
            .flatten()
            .any(|entry| {
                fs::read_to_string(entry.path().join("comm")).is_ok_and(|c| c.trim() == name)
            })
    };
    if !runs("rpc.gssd") {
        return missing("rpc.gssd does not run in the storage container".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_says_which_part_is_missing() {
        let directory = tempfile::tempdir().unwrap();
        let (keytab, proc) = (
            directory.path().join("keytab"),
            directory.path().join("proc"),
        );
        fs::create_dir_all(proc.join("12")).unwrap();
        let error = check_at(&keytab, &proc).unwrap_err().to_string();
        assert!(
            error.contains("keytab") && error.contains("docs/nfs.md"),
            "{error}"
        );
        fs::write(&keytab, "").unwrap();
        let error = check_at(&keytab, &proc).unwrap_err().to_string();
        assert!(error.contains("rpc.gssd does not run"), "{error}");
        fs::write(proc.join("12/comm"), "rpc.gssd\n").unwrap();
        check_at(&keytab, &proc).unwrap();
    }
}
