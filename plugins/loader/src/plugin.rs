//! A loaded plugin.

use std::fs::File;
use std::io;
use std::mem::offset_of;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lazarette_abi::{Buffer, Descriptor, Header, MAGIC, MAJOR, SMALLEST_DESCRIPTOR, SYMBOL};
use lazarette_core::context::Sink;
use lazarette_core::volume::Found;
use lazarette_core::{Error, Manifest, Result};
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use rustix::fs::{Mode, OFlags};
use serde_json::Value;

use crate::error::{LoadError, Refusal};
use crate::instance::{Instance, host_table, reply};
use crate::preflight::{self, Checked};

/// A plugin whose library stays loaded for the life of the process.
#[derive(Clone, Copy)]
pub struct Plugin {
    descriptor: &'static Descriptor,
    kind: &'static str,
    version: &'static str,
}

impl Plugin {
    /// Checks and loads the library at `path`.
    ///
    /// # Errors
    /// The reason for the refusal. None of the plugin's functions has run then, but for what the
    /// dynamic loader runs by itself.
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        load(path).map_err(|refusal| LoadError {
            path: path.to_owned(),
            refusal,
        })
    }

    /// The kind of storage that it serves.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// Its version.
    pub fn version(&self) -> &'static str {
        self.version
    }

    /// What it says of itself.
    ///
    /// # Errors
    /// What it reports, and `Plugin` if that is no manifest or one of another kind.
    pub fn describe(&self) -> Result<Manifest> {
        let mut out = Buffer::empty();
        // SAFETY: a checked descriptor; `out` is valid for writing.
        let status = unsafe { (self.descriptor.describe)(&raw mut out) };
        let value = reply(self.descriptor, status, out).map_err(|failure| failure.error)?;
        let manifest: Manifest = serde_json::from_value(value).map_err(|e| {
            Error::new(
                lazarette_core::ErrorKind::Plugin,
                format!("the {} plugin's manifest is not one", self.kind),
            )
            .cause(e)
        })?;
        if manifest.kind.as_str() != self.kind {
            return Err(Error::new(
                lazarette_core::ErrorKind::Plugin,
                format!(
                    "the {} plugin's manifest is of kind {}",
                    self.kind, manifest.kind
                ),
            ));
        }
        Ok(manifest)
    }

    /// Looks for storage that no context has yet.
    ///
    /// # Errors
    /// `Unsupported` if the plugin is older than the question, and what it reports.
    pub fn scan(&self) -> Result<Vec<Found>> {
        let Some(scan) = self.descriptor.scan else {
            return Err(Error::unsupported("be looked for", self.kind));
        };
        let mut out = Buffer::empty();
        // SAFETY: a checked descriptor; `out` outlives the call.
        let status = unsafe { scan(&raw mut out) };
        let value = reply(self.descriptor, status, out).map_err(|failure| failure.error)?;
        serde_json::from_value(value).map_err(|e| {
            Error::new(
                lazarette_core::ErrorKind::Plugin,
                format!("what the {} plugin found is no list of it", self.kind),
            )
            .cause(e)
        })
    }

    /// Opens a context with the options `config`; the plugin logs and reports to `sink` and mounts
    /// below `mounts`.
    ///
    /// # Errors
    /// What the plugin reports.
    pub fn open(&self, sink: Arc<dyn Sink>, mounts: &Path, config: &Value) -> Result<Instance> {
        Instance::create(self.descriptor, host_table(sink, mounts), config)
    }
}

fn load(path: &Path) -> Result<Plugin, Refusal> {
    let (file, checked) = check(path)?;
    load_checked(path, file, &checked)
}

/// Opens and checks the file; none of what is in it runs.
fn check(path: &Path) -> Result<(File, Checked), Refusal> {
    let file = open(path)?;
    check_owner(&file)?;
    let checked = preflight::check(&file)?;
    Ok((file, checked))
}

/// Loads what was checked, whatever lies at `path` by now.
fn load_checked(path: &Path, file: File, checked: &Checked) -> Result<Plugin, Refusal> {
    if checked.held < size_of::<Header>() as u64 {
        return Err(Refusal::Size {
            size: 0,
            held: checked.held,
        });
    }
    // Through the descriptor: what was checked is what is loaded.
    let through = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    // SAFETY: loading runs the library's constructors: that is what a plugin host is for; the file
    // is root's own (or that of the user who loads it) and nobody else may write to it.
    let library = unsafe { Library::open(Some(&through), RTLD_NOW | RTLD_LOCAL) }
        .map_err(|e| Refusal::Linker(linker_message(&e, &through, path)))?;
    // SAFETY: only the address is taken; its type is checked below before it is believed.
    let symbol = unsafe { library.get::<*const Header>(SYMBOL.as_bytes()) }
        .map_err(|_| Refusal::NoSymbol)?
        .into_raw()
        .cast::<Header>()
        .cast_const();
    // Never unloaded. The descriptor stays open as well: the dynamic loader takes a library for the
    // one it has loaded before if the name is the same, so no other file may get this number.
    std::mem::forget((library, file));
    if symbol.is_null() || !symbol.cast::<Descriptor>().is_aligned() {
        return Err(Refusal::Magic);
    }
    // SAFETY: the symbol table says that at least a header lies there; the library stays loaded.
    let header = unsafe { symbol.read() };
    check_header(header, checked.held)?;
    // SAFETY: magic, version and size say that a descriptor lies there; aligned; never unloaded.
    unsafe { check_functions(symbol.cast()) }?;
    // SAFETY: magic, version and size say that a descriptor lies there; aligned; never unloaded.
    let descriptor: &'static Descriptor = unsafe { descriptor(symbol, header.size as usize) };
    Ok(Plugin {
        descriptor,
        kind: text(descriptor.kind, "kind")?,
        version: text(descriptor.version, "version")?,
    })
}

/// The descriptor at `symbol` as this version knows it: what an older plugin has not is null, what
/// a newer one has beyond it is left out.
///
/// # Safety
/// `size` bytes of a descriptor must lie at `symbol`, [`SMALLEST_DESCRIPTOR`] at least, and stay.
unsafe fn descriptor(symbol: *const Header, size: usize) -> &'static Descriptor {
    const SCAN: usize = offset_of!(Descriptor, scan) + size_of::<usize>();
    let mut known = std::mem::MaybeUninit::<Descriptor>::zeroed();
    // A field is there as a whole or not at all: half a pointer is none.
    let size = if size < SCAN {
        SMALLEST_DESCRIPTOR
    } else {
        size_of::<Descriptor>()
    };
    // SAFETY: the caller's promise; `known` has room for so many bytes, and what lies beyond the
    // smallest descriptor may be null.
    let known = unsafe {
        std::ptr::copy_nonoverlapping(symbol.cast::<u8>(), known.as_mut_ptr().cast(), size);
        known.assume_init()
    };
    Box::leak(Box::new(known))
}

/// Refuses a null pointer where a function must be: a Rust function pointer cannot hold it.
///
/// # Safety
/// A descriptor of version 1.0 at least must lie at `symbol`.
unsafe fn check_functions(symbol: *const Descriptor) -> Result<(), Refusal> {
    let functions = [
        ("describe", offset_of!(Descriptor, describe)),
        ("create", offset_of!(Descriptor, create)),
        ("call", offset_of!(Descriptor, call)),
        ("destroy", offset_of!(Descriptor, destroy)),
        ("free", offset_of!(Descriptor, free)),
    ];
    for (name, offset) in functions {
        // SAFETY: the caller's promise; the fields are aligned as pointers are.
        let address = unsafe { symbol.cast::<u8>().add(offset).cast::<usize>().read() };
        if address == 0 {
            return Err(Refusal::Descriptor(format!("its `{name}` is null")));
        }
    }
    Ok(())
}

fn open(path: &Path) -> Result<File, Refusal> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = rustix::fs::open(path, flags, Mode::empty())
        .map(File::from)
        .map_err(|e| Refusal::Unreadable(e.into()))?;
    let metadata = file.metadata().map_err(Refusal::Unreadable)?;
    if metadata.is_file() {
        Ok(file)
    } else {
        Err(Refusal::Unreadable(io::Error::other("not a regular file")))
    }
}

/// Root's own, or, for a developer who looks at what he has built, the loading user's.
fn check_owner(file: &File) -> Result<(), Refusal> {
    let metadata = file.metadata().map_err(Refusal::Unreadable)?;
    if metadata.uid() != 0 && metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(Refusal::Owner {
            uid: metadata.uid(),
        });
    }
    if metadata.mode() & 0o022 != 0 {
        return Err(Refusal::Writable {
            mode: metadata.mode() & 0o777,
        });
    }
    Ok(())
}

fn check_header(header: Header, held: u64) -> Result<(), Refusal> {
    if header.magic != MAGIC {
        return Err(Refusal::Magic);
    }
    if header.major != MAJOR {
        return Err(Refusal::Version {
            major: header.major,
            minor: header.minor,
        });
    }
    if (header.size as usize) < SMALLEST_DESCRIPTOR || u64::from(header.size) > held {
        return Err(Refusal::Size {
            size: header.size,
            held,
        });
    }
    Ok(())
}

fn text(bytes: lazarette_abi::Bytes, what: &str) -> Result<&'static str, Refusal> {
    const LONGEST: usize = 256;
    if bytes.data.is_null() || bytes.len == 0 || bytes.len > LONGEST {
        return Err(Refusal::Descriptor(format!(
            "its {what} is not 1 to {LONGEST} bytes long"
        )));
    }
    // SAFETY: the descriptor's own text; the library stays loaded.
    let bytes = unsafe { bytes.as_slice() };
    std::str::from_utf8(bytes).map_err(|_| Refusal::Descriptor(format!("its {what} is not UTF-8")))
}

fn linker_message(error: &libloading::Error, through: &Path, path: &Path) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(source) = next {
        let line = source.to_string();
        if !text.contains(&line) {
            text = format!("{text}: {line}");
        }
        next = source.source();
    }
    text.replace(&through.display().to_string(), &path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::process::Command;

    fn build(path: &Path, kind: &str) {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/plugin.c");
        let kind = format!("-DKIND=\"{kind}\"");
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", &kind, "-o"]).arg(path);
        assert!(cc.arg(source).status().unwrap().success());
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        fs::set_permissions(path, mode).unwrap();
    }

    #[test]
    fn what_was_checked_is_loaded_though_another_file_has_its_place() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("plugin.so");
        let other = directory.path().join("other.so");
        build(&path, "checked");
        build(&other, "swapped");
        let (file, checked) = check(&path).unwrap();
        fs::rename(&other, &path).unwrap();
        let plugin = load_checked(&path, file, &checked).unwrap();
        assert_eq!(plugin.kind(), "checked");
        assert_eq!(Plugin::load(&path).unwrap().kind(), "swapped");
    }
}
