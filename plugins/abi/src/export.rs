//! The plugin's side of the ABI in safe Rust: implement [`Plugin`], export [`descriptor`].
//!
//! Panics are caught here, inside the library: one that crossed the boundary would abort the host.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::{
    Buffer, Bytes, CallInfo, Descriptor, ERROR, Header, HostTable, Instance, MAGIC, MAJOR, MINOR,
    OK, PANICKED,
};

/// A reply: the value's JSON, or the error's.
pub type Reply = Result<Vec<u8>, Vec<u8>>;

/// A storage plugin in terms of bytes. `lazarette-plugin` implements it for each storage context.
pub trait Plugin: Send + Sync + Sized + 'static {
    /// The kind of storage.
    const KIND: &'static str;

    /// The manifest.
    ///
    /// # Errors
    /// The JSON of an error.
    fn describe(version: &str) -> Reply;

    /// Opens a context with the options `config`.
    ///
    /// # Errors
    /// The JSON of an error.
    fn open(host: HostHandle, config: &[u8]) -> Result<Self, Vec<u8>>;

    /// Runs `method`.
    ///
    /// # Errors
    /// The JSON of an error.
    fn call(&self, call: CallInfo, method: &str, request: &[u8]) -> Reply;

    /// The error for a panic with the message `panic` in `method`.
    fn panicked(method: &str, panic: &str) -> Vec<u8>;
}

/// The host as its table shows it.
#[derive(Clone, Copy)]
pub struct HostHandle {
    table: &'static HostTable,
}

// SAFETY: rule 4 and the table's own contract: valid for the life of the process, any thread.
unsafe impl Send for HostHandle {}
// SAFETY: as above.
unsafe impl Sync for HostHandle {}

impl HostHandle {
    /// Writes a line to the context's log, at one of the `LOG_` levels.
    pub fn log(&self, level: u32, text: &str) {
        // SAFETY: the table is valid; `text` outlives the call.
        unsafe { (self.table.log)(self.table.data, level, Bytes::new(text.as_bytes())) }
    }

    /// Says how far the call is.
    pub fn progress(&self, call: u64, text: &str, share: Option<f32>) {
        let share = share.unwrap_or(f32::NAN);
        // SAFETY: the table is valid; `text` outlives the call.
        unsafe {
            (self.table.progress)(self.table.data, call, Bytes::new(text.as_bytes()), share);
        }
    }

    /// Whether nobody wants the call's reply any more.
    pub fn cancelled(&self, call: u64) -> bool {
        // SAFETY: the table is valid.
        unsafe { (self.table.cancelled)(self.table.data, call) != 0 }
    }

    /// The directory below which the plugin mounts.
    pub fn mounts(&self) -> String {
        // SAFETY: the table's bytes live as long as the table.
        String::from_utf8_lossy(unsafe { self.table.mounts.as_slice() }).into_owned()
    }
}

/// The plugin's version as a type, so that [`describe`](Plugin::describe) can be a plain function.
pub trait Version {
    /// The version.
    const VERSION: &'static str;
}

/// The descriptor of the plugin `P` in the version `V`.
pub const fn descriptor<P: Plugin, V: Version>() -> Descriptor {
    Descriptor {
        header: Header {
            magic: MAGIC,
            major: MAJOR,
            minor: MINOR,
            size: size_of::<Descriptor>() as u32,
        },
        kind: Bytes::new(P::KIND.as_bytes()),
        version: Bytes::new(V::VERSION.as_bytes()),
        describe: describe::<P, V>,
        create: create::<P>,
        call: call::<P>,
        destroy: destroy::<P>,
        free,
    }
}

unsafe extern "C" fn describe<P: Plugin, V: Version>(out: *mut Buffer) -> i32 {
    let (status, reply) = guarded::<P>("describe", || P::describe(V::VERSION));
    // SAFETY: the host passes a valid pointer.
    unsafe { out.write(buffer(reply)) };
    status
}

unsafe extern "C" fn create<P: Plugin>(
    host: *const HostTable,
    config: Bytes,
    instance: *mut *mut Instance,
    out: *mut Buffer,
) -> i32 {
    let mut opened = None;
    let (status, reply) = guarded::<P>("open", || {
        // SAFETY: the host's table lives as long as the process (rule 4).
        let table = unsafe { &*host };
        let host = HostHandle { table };
        // SAFETY: valid until this function returns (rule 4).
        opened = Some(P::open(host, unsafe { config.as_slice() })?);
        Ok(Vec::new())
    });
    if let Some(plugin) = opened {
        // SAFETY: the host passes a valid pointer.
        unsafe { instance.write(Box::into_raw(Box::new(plugin)).cast()) };
    }
    // SAFETY: the host passes a valid pointer.
    unsafe { out.write(buffer(reply)) };
    status
}

unsafe extern "C" fn call<P: Plugin>(
    instance: *mut Instance,
    call: *const CallInfo,
    method: Bytes,
    request: Bytes,
    out: *mut Buffer,
) -> i32 {
    // SAFETY: rule 5: made by `create` above and not destroyed yet; only shared references to it.
    let plugin = unsafe { &*instance.cast::<P>() };
    // SAFETY: valid until this function returns (rule 4).
    let (info, method, request) = unsafe { (call.read(), method.as_slice(), request.as_slice()) };
    let name = String::from_utf8_lossy(method);
    let (status, reply) = guarded::<P>(&name, || plugin.call(info, &name, request));
    // SAFETY: the host passes a valid pointer.
    unsafe { out.write(buffer(reply)) };
    status
}

unsafe extern "C" fn destroy<P: Plugin>(instance: *mut Instance) {
    // SAFETY: rule 5: made by `create` above, destroyed once, called no more.
    let plugin = unsafe { Box::from_raw(instance.cast::<P>()) };
    let _ = catch_unwind(AssertUnwindSafe(move || drop(plugin)));
}

unsafe extern "C" fn free(made: Buffer) {
    if !made.data.is_null() {
        // SAFETY: made by `buffer` below and handed back unchanged, once (rule 4).
        drop(unsafe { Vec::from_raw_parts(made.data, made.len, made.capacity) });
    }
}

fn buffer(reply: Vec<u8>) -> Buffer {
    let mut reply = std::mem::ManuallyDrop::new(reply);
    Buffer {
        data: reply.as_mut_ptr(),
        len: reply.len(),
        capacity: reply.capacity(),
    }
}

fn guarded<P: Plugin>(method: &str, body: impl FnOnce() -> Reply) -> (i32, Vec<u8>) {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(value)) => (OK, value),
        Ok(Err(error)) => (ERROR, error),
        Err(panic) => (PANICKED, P::panicked(method, &message(&*panic))),
    }
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    if let Some(text) = panic.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text.clone()
    } else {
        "a panic without a message".to_owned()
    }
}
