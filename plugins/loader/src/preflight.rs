//! Is this a whole shared library for this machine that exports the descriptor?
//!
//! The dynamic loader maps a file and trusts its headers: a truncated library kills the process by
//! SIGBUS. So the headers are read first, as hostile input.

use std::fs::File;

use lazarette_abi::SYMBOL;
use object::elf::{self, FileHeader64};
use object::read::elf::{ElfFile64, FileHeader, ProgramHeader};
use object::{Endianness, Object, ObjectSymbol, ReadCache, ReadRef};

use crate::error::Refusal;

/// What [`check`] found out.
pub(crate) struct Checked {
    /// Bytes of the exported descriptor, by the symbol table.
    pub(crate) held: u64,
}

#[cfg(target_arch = "x86_64")]
const MACHINE: (elf::Machine, &str) = (elf::EM_X86_64, "x86_64");
#[cfg(target_arch = "aarch64")]
const MACHINE: (elf::Machine, &str) = (elf::EM_AARCH64, "aarch64");
#[cfg(target_arch = "riscv64")]
const MACHINE: (elf::Machine, &str) = (elf::EM_RISCV, "riscv64");

/// Checks the library in `file`.
pub(crate) fn check(file: &File) -> Result<Checked, Refusal> {
    check_data(&ReadCache::new(file))
}

/// Checks a library that lies in memory as [`Plugin::load`](crate::Plugin::load) checks a file before
/// anything of it is loaded.
///
/// # Errors
/// The reason for the refusal.
pub fn examine(library: &[u8]) -> Result<(), Refusal> {
    check_data(library).map(drop)
}

fn check_data<'a, R: ReadRef<'a>>(data: R) -> Result<Checked, Refusal> {
    let broken = |e: object::read::Error| Refusal::NotALibrary(e.to_string());
    check_identity(data)?;
    let header = FileHeader64::<Endianness>::parse(data).map_err(broken)?;
    let endian = header.endian().map_err(broken)?;
    let machine = header.e_machine(endian);
    if machine != MACHINE.0 {
        return Err(Refusal::Machine {
            found: machine_name(machine),
            expected: MACHINE.1.into(),
        });
    }
    if header.e_type(endian) != elf::ET_DYN {
        return Err(Refusal::NotALibrary("it is not a shared object".into()));
    }
    check_segments(header, endian, data)?;
    let library = ElfFile64::<Endianness, _>::parse(data).map_err(broken)?;
    let symbol = library
        .dynamic_symbols()
        .find(|s| s.name() == Ok(SYMBOL) && s.is_definition())
        .ok_or(Refusal::NoSymbol)?;
    Ok(Checked {
        held: symbol.size(),
    })
}

fn check_identity<'a, R: ReadRef<'a>>(data: R) -> Result<(), Refusal> {
    let identity = data
        .read_bytes_at(0, 16)
        .map_err(|()| Refusal::NotALibrary("it is shorter than an ELF header".into()))?;
    if identity[..4] != elf::ELFMAG {
        return Err(Refusal::NotALibrary("it has no ELF magic".into()));
    }
    let class_and_order = (elf::FileClass(identity[4]), elf::DataEncoding(identity[5]));
    let expected = (
        elf::ELFCLASS64,
        if cfg!(target_endian = "little") {
            elf::ELFDATA2LSB
        } else {
            elf::ELFDATA2MSB
        },
    );
    if class_and_order != expected {
        let bits = if class_and_order.0 == elf::ELFCLASS32 {
            "32-bit"
        } else {
            "64-bit"
        };
        let order = if class_and_order.1 == elf::ELFDATA2MSB {
            "big"
        } else {
            "little"
        };
        return Err(Refusal::Machine {
            found: format!("a {bits} {order}-endian machine"),
            expected: MACHINE.1.into(),
        });
    }
    Ok(())
}

fn check_segments<'a, R: ReadRef<'a>>(
    header: &FileHeader64<Endianness>,
    endian: Endianness,
    data: R,
) -> Result<(), Refusal> {
    let length = data
        .len()
        .map_err(|()| Refusal::NotALibrary("its length cannot be read".into()))?;
    let segments = header
        .program_headers(endian, data)
        .map_err(|e| Refusal::NotALibrary(e.to_string()))?;
    for segment in segments {
        let end = segment
            .p_offset(endian)
            .checked_add(segment.p_filesz(endian));
        if end.is_none_or(|end| end > length) {
            return Err(Refusal::NotALibrary(format!(
                "it is cut short: {length} bytes are there, a segment needs more"
            )));
        }
    }
    if segments.iter().all(|s| s.p_type(endian) != elf::PT_DYNAMIC) {
        return Err(Refusal::NotALibrary("it has no dynamic section".into()));
    }
    Ok(())
}

fn machine_name(machine: elf::Machine) -> String {
    match machine {
        elf::EM_X86_64 => "x86_64".into(),
        elf::EM_AARCH64 => "aarch64".into(),
        elf::EM_RISCV => "riscv".into(),
        elf::EM_386 => "i386".into(),
        elf::EM_ARM => "arm".into(),
        other => format!("ELF machine {}", other.0),
    }
}
