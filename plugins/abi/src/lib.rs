//! The C ABI between the plugin host and a storage plugin: a contract of the product.
//!
//! A plugin is a shared library that exports one static, [`SYMBOL`] (`LAZARETTE_PLUGIN_V1`), of
//! type [`Descriptor`]. Everything else is reached through it.
//!
//! # Rules
//!
//! 1. **Version.** The first 16 bytes of the descriptor ([`Header`]) never change. The host reads
//!    them before anything else and refuses another [`MAGIC`], another major version, or a
//!    descriptor smaller than version 1.0's. A major version is raised when an old peer would
//!    misunderstand; a minor one when something was added.
//! 2. **Growth.** New fields are appended. `size` in a structure says how much of it its maker
//!    knows; a field beyond it does not exist. Unknown methods are answered with an error of kind
//!    `unsupported`. Unknown fields in JSON are an error only where the contract says so.
//! 3. **Text** is UTF-8 by pointer and length, without a terminating NUL; requests and replies are
//!    JSON (the `params` and the values of the messages between core and a plugin host; an error
//!    is `{"kind", "message", "cause"?, "remedy"?}`).
//! 4. **Memory.** A buffer is freed by whoever made it: replies by [`Descriptor::free`]. What the
//!    host passes to a function is valid until that function returns, except the [`HostTable`],
//!    which is valid for the life of the process.
//! 5. **Threads.** `create` and `destroy` are called once for an instance, `call` by any number of
//!    threads at once, and never after `destroy`. `describe` may be called at any time.
//! 6. **Panics** and exceptions must not leave the plugin; one that was caught is reported as
//!    [`PANICKED`], and the instance is then only destroyed, never called again.
//! 7. A library that was loaded is never unloaded.
//!
//! Rust authors use the crate `lazarette-plugin`, which does all of this; [`export`] is what it
//! stands on.

use std::ffi::c_void;

pub mod export;

/// The name of the exported static.
pub const SYMBOL: &str = "LAZARETTE_PLUGIN_V1";

/// The first eight bytes of a descriptor.
pub const MAGIC: [u8; 8] = *b"LAZARETT";

/// The major version of this ABI.
pub const MAJOR: u16 = 1;

/// The minor version of this ABI.
pub const MINOR: u16 = 1;

/// Status: the reply is the value.
pub const OK: i32 = 0;
/// Status: the reply is an error.
pub const ERROR: i32 = 1;
/// Status: the plugin panicked; the reply is an error and the instance must not be called again.
pub const PANICKED: i32 = 2;

/// Log level of [`HostTable::log`]: something failed.
pub const LOG_ERROR: u32 = 1;
/// Log level: something is odd.
pub const LOG_WARN: u32 = 2;
/// Log level: something happened.
pub const LOG_INFO: u32 = 3;
/// Log level: detail for whoever looks for a fault.
pub const LOG_DEBUG: u32 = 4;

/// The first 16 bytes of a descriptor, frozen for all versions.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// [`MAJOR`].
    pub major: u16,
    /// [`MINOR`].
    pub minor: u16,
    /// Bytes of the whole descriptor.
    pub size: u32,
}

/// Bytes that belong to somebody else: valid while the function they are passed to runs.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Bytes {
    /// The first byte; may be null if `len` is 0.
    pub data: *const u8,
    /// How many bytes.
    pub len: usize,
}

impl Bytes {
    /// The bytes of `text`.
    pub const fn new(text: &[u8]) -> Self {
        Self {
            data: text.as_ptr(),
            len: text.len(),
        }
    }

    /// The bytes, or none if the pointer is null.
    ///
    /// # Safety
    /// `data` must be null or point at `len` bytes that stay unchanged for `'a`.
    pub unsafe fn as_slice<'a>(self) -> &'a [u8] {
        if self.data.is_null() {
            return &[];
        }
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts(self.data, self.len) }
    }
}

/// Bytes that the plugin made and [`Descriptor::free`] frees.
#[repr(C)]
#[derive(Debug)]
pub struct Buffer {
    /// The first byte; null if there is nothing to free.
    pub data: *mut u8,
    /// How many bytes.
    pub len: usize,
    /// For the plugin's own use, handed back unchanged.
    pub capacity: usize,
}

impl Buffer {
    /// Nothing.
    pub const fn empty() -> Self {
        Self {
            data: std::ptr::null_mut(),
            len: 0,
            capacity: 0,
        }
    }
}

/// An open context: the plugin's own, known to the host by its address only.
#[repr(C)]
pub struct Instance {
    _private: [u8; 0],
}

/// What the host says about a call.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct CallInfo {
    /// Bytes of this structure.
    pub size: u32,
    /// Zero.
    pub reserved: u32,
    /// The call, for [`HostTable::progress`] and [`HostTable::cancelled`].
    pub id: u64,
    /// Milliseconds from now after which nobody waits for the reply.
    pub deadline_ms: u64,
}

/// Writes a line to the context's log: `data` of the table, level, text without a newline.
pub type LogFn = unsafe extern "C" fn(data: *mut c_void, level: u32, text: Bytes);
/// Says how far a call is: `share` between 0 and 1, or NaN if unknown.
pub type ProgressFn = unsafe extern "C" fn(data: *mut c_void, call: u64, text: Bytes, share: f32);
/// Non-zero if nobody wants the call's reply any more.
pub type CancelledFn = unsafe extern "C" fn(data: *mut c_void, call: u64) -> u32;

/// The context's health has changed: core should ask for it now.
pub type ChangedFn = unsafe extern "C" fn(data: *mut c_void);

/// What the plugin may call. Valid for the life of the process, from any thread.
#[repr(C)]
#[derive(Debug)]
pub struct HostTable {
    /// Bytes of this structure.
    pub size: u32,
    /// [`MAJOR`].
    pub major: u16,
    /// [`MINOR`].
    pub minor: u16,
    /// The first argument of the functions below.
    pub data: *mut c_void,
    /// The directory below which the plugin mounts.
    pub mounts: Bytes,
    /// Logs.
    pub log: LogFn,
    /// Reports progress.
    pub progress: ProgressFn,
    /// Asks for cancellation.
    pub cancelled: CancelledFn,
    /// Says that the context's health has changed. Since version 1.1: look at `size` first.
    pub changed: ChangedFn,
}

/// Writes the manifest (JSON) into `out`, or an error.
pub type DescribeFn = unsafe extern "C" fn(out: *mut Buffer) -> i32;
/// Opens a context with the options `config` (JSON). On [`OK`], `instance` is set.
pub type CreateFn = unsafe extern "C" fn(
    host: *const HostTable,
    config: Bytes,
    instance: *mut *mut Instance,
    out: *mut Buffer,
) -> i32;
/// Runs `method` with the parameters `request` (JSON; empty for none).
pub type CallFn = unsafe extern "C" fn(
    instance: *mut Instance,
    call: *const CallInfo,
    method: Bytes,
    request: Bytes,
    out: *mut Buffer,
) -> i32;
/// Frees an instance. Does not close the context: that is a method.
pub type DestroyFn = unsafe extern "C" fn(instance: *mut Instance);
/// Frees a buffer that one of the functions above has filled.
pub type FreeFn = unsafe extern "C" fn(buffer: Buffer);

/// What a plugin exports as [`SYMBOL`]. Must stay unchanged once the library is loaded.
#[repr(C)]
pub struct Descriptor {
    /// Who it is.
    pub header: Header,
    /// The kind of storage (`nfs`).
    pub kind: Bytes,
    /// The plugin's version.
    pub version: Bytes,
    /// Describes the plugin; needs no context.
    pub describe: DescribeFn,
    /// Opens a context.
    pub create: CreateFn,
    /// Calls a method of it.
    pub call: CallFn,
    /// Frees it.
    pub destroy: DestroyFn,
    /// Frees a reply.
    pub free: FreeFn,
    /// Writes a list of the storage that no context has (JSON) into `out`, or an error; needs no
    /// context; null if the plugin cannot. Since version 1.1.
    pub scan: Option<unsafe extern "C" fn(out: *mut Buffer) -> i32>,
}

// SAFETY: nothing in a descriptor changes, and its pointers are to statics and functions.
unsafe impl Sync for Descriptor {}

/// Bytes of the descriptor of version 1.0: the least a plugin has.
pub const SMALLEST_DESCRIPTOR: usize = 88;

const _: () = {
    assert!(size_of::<Header>() == 16);
    assert!(size_of::<Descriptor>() == SMALLEST_DESCRIPTOR + 8 || size_of::<usize>() != 8);
    assert!(size_of::<CallInfo>() == 24);
};

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::offset_of;

    /// Where each field lies is the contract: fields are appended, never moved.
    #[test]
    #[cfg(target_pointer_width = "64")]
    fn nothing_moves() {
        let header = [
            offset_of!(Header, magic),
            offset_of!(Header, major),
            offset_of!(Header, minor),
            offset_of!(Header, size),
        ];
        assert_eq!(header, [0, 8, 10, 12]);
        let descriptor = [
            offset_of!(Descriptor, header),
            offset_of!(Descriptor, kind),
            offset_of!(Descriptor, version),
            offset_of!(Descriptor, describe),
            offset_of!(Descriptor, create),
            offset_of!(Descriptor, call),
            offset_of!(Descriptor, destroy),
            offset_of!(Descriptor, free),
            offset_of!(Descriptor, scan),
        ];
        assert_eq!(descriptor, [0, 16, 32, 48, 56, 64, 72, 80, 88]);
        let host = [
            offset_of!(HostTable, size),
            offset_of!(HostTable, major),
            offset_of!(HostTable, minor),
            offset_of!(HostTable, data),
            offset_of!(HostTable, mounts),
            offset_of!(HostTable, log),
            offset_of!(HostTable, progress),
            offset_of!(HostTable, cancelled),
            offset_of!(HostTable, changed),
        ];
        assert_eq!(host, [0, 4, 6, 8, 16, 32, 40, 48, 56]);
        let call = [
            offset_of!(CallInfo, size),
            offset_of!(CallInfo, reserved),
            offset_of!(CallInfo, id),
            offset_of!(CallInfo, deadline_ms),
        ];
        assert_eq!(call, [0, 4, 8, 16]);
    }
}
