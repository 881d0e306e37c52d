//! Why a library was refused.

use std::io;
use std::path::PathBuf;

use lazarette_abi::{MAJOR, MINOR, SYMBOL};

/// A library that was refused, and why. Prints as one sentence with cause and remedy.
#[derive(Debug, thiserror::Error)]
#[error("the plugin {} cannot be loaded: {refusal}", path.display())]
pub struct LoadError {
    /// The library.
    pub path: PathBuf,
    /// What is wrong with it.
    pub refusal: Refusal,
}

/// What is wrong with a library.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// It cannot be opened or read.
    #[error("{0}; check the path and that it is a regular file (not a symbolic link)")]
    Unreadable(io::Error),
    /// Somebody else owns it.
    #[error("it belongs to user {uid}; make it root's: chown root FILE")]
    Owner {
        /// Its owner.
        uid: u32,
    },
    /// Others may write to it.
    #[error("others than its owner may write to it (mode {mode:03o}); run chmod go-w FILE")]
    Writable {
        /// Its permission bits.
        mode: u32,
    },
    /// It is not a whole shared library.
    #[error("it is no whole ELF shared library: {0}; build or copy it again")]
    NotALibrary(String),
    /// It is for another machine.
    #[error("it is built for {found}, and this machine is {expected}; build it for this machine")]
    Machine {
        /// The machine that it is for.
        found: String,
        /// This machine.
        expected: String,
    },
    /// It does not export a descriptor.
    #[error(
        "it does not export {SYMBOL}; a plugin has the line declare_plugin!(TYPE) (or defines that \
         symbol in C) and is built as a cdylib"
    )]
    NoSymbol,
    /// The dynamic loader refused it.
    #[error("{0}; build it in, or for, the image it runs in")]
    Linker(String),
    /// The symbol is not a descriptor.
    #[error(
        "{SYMBOL} is no plugin descriptor (wrong magic); build it with lazarette-plugin or the \
         current header"
    )]
    Magic,
    /// It is built for another version of the ABI.
    #[error(
        "it speaks plugin ABI {major}.{minor} and this host {MAJOR}.{MINOR}; rebuild it with a \
         lazarette-plugin of this release"
    )]
    Version {
        /// The plugin's major version.
        major: u16,
        /// The plugin's minor version.
        minor: u16,
    },
    /// Its descriptor is too small for its version, or larger than the symbol.
    #[error(
        "its descriptor says {size} bytes and its symbol holds {held}; rebuild it with \
         lazarette-plugin or the current header"
    )]
    Size {
        /// What the descriptor says.
        size: u32,
        /// What the symbol table says.
        held: u64,
    },
    /// What it says of itself is not usable.
    #[error("{0}; rebuild it with lazarette-plugin or the current header")]
    Descriptor(String),
}
