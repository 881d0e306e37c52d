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

    /// Looks for storage that no context has.
    ///
    /// # Errors
    /// The JSON of an error.
    fn scan() -> Reply;

    /// Runs `method`.
    ///
    /// # Errors
    /// The JSON of an error.
    fn call(&self, call: CallInfo, method: &str, request: &[u8]) -> Reply;

    /// The error for a panic with the message `panic` in `method`.
    fn panicked(method: &str, panic: &str) -> Vec<u8>;
}

/// A host whose table is at least so large has [`HostTable::changed`].
const HAS_CHANGED: usize = std::mem::offset_of!(HostTable, changed) + size_of::<crate::ChangedFn>();

/// The host as its table shows it.
#[derive(Clone, Copy)]
pub struct HostHandle {
    /// No reference: an older host's table is smaller than the type, so fields are read one by one.
    table: *const HostTable,
}

// SAFETY: rule 4 and the table's own contract: valid for the life of the process, any thread.
unsafe impl Send for HostHandle {}
// SAFETY: as above.
unsafe impl Sync for HostHandle {}

impl HostHandle {
    /// Writes a line to the context's log, at one of the `LOG_` levels.
    pub fn log(&self, level: u32, text: &str) {
        // SAFETY: the table is valid; `text` outlives the call.
        unsafe { ((*self.table).log)((*self.table).data, level, Bytes::new(text.as_bytes())) }
    }

    /// Says how far the call is.
    pub fn progress(&self, call: u64, text: &str, share: Option<f32>) {
        let share = share.unwrap_or(f32::NAN);
        let text = Bytes::new(text.as_bytes());
        // SAFETY: the table is valid; `text` outlives the call.
        unsafe { ((*self.table).progress)((*self.table).data, call, text, share) }
    }

    /// Whether nobody wants the call's reply any more.
    pub fn cancelled(&self, call: u64) -> bool {
        // SAFETY: the table is valid.
        unsafe { ((*self.table).cancelled)((*self.table).data, call) != 0 }
    }

    /// Says that the context's health has changed. A host before version 1.1 does not hear it.
    pub fn changed(&self) {
        // SAFETY: the table is valid, and the field is read only if it is large enough to have it.
        unsafe {
            if (*self.table).size as usize >= HAS_CHANGED {
                ((*self.table).changed)((*self.table).data);
            }
        }
    }

    /// The directory below which the plugin mounts.
    pub fn mounts(&self) -> String {
        // SAFETY: the table's bytes live as long as the table.
        String::from_utf8_lossy(unsafe { (*self.table).mounts.as_slice() }).into_owned()
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
        scan: Some(scan::<P>),
    }
}

unsafe extern "C" fn scan<P: Plugin>(out: *mut Buffer) -> i32 {
    let (status, reply) = guarded::<P>("scan", P::scan);
    // SAFETY: the host passes a valid pointer.
    unsafe { out.write(buffer(reply)) };
    status
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
        let host = HostHandle { table: host };
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::c_void;
    use std::sync::atomic::{AtomicUsize, Ordering};

    struct Jumpy(HostHandle);
    struct V1;

    static ALIVE: AtomicUsize = AtomicUsize::new(0);
    static HEARD: AtomicUsize = AtomicUsize::new(0);

    impl Version for V1 {
        const VERSION: &'static str = "1.2.3";
    }

    impl Plugin for Jumpy {
        const KIND: &'static str = "jumpy";
        fn describe(version: &str) -> Reply {
            Ok(version.into())
        }
        fn open(host: HostHandle, config: &[u8]) -> Result<Self, Vec<u8>> {
            match config {
                b"refuse" => Err(b"refused".to_vec()),
                b"panic" => panic!("at open"),
                b"counted" => {
                    ALIVE.fetch_add(1, Ordering::SeqCst);
                    Ok(Self(host))
                }
                _ => Ok(Self(host)),
            }
        }
        fn scan() -> Reply {
            panic!("at scan")
        }
        fn call(&self, call: CallInfo, method: &str, request: &[u8]) -> Reply {
            match method {
                "panic" => panic!("in {method} {}", call.id),
                "payload" => std::panic::panic_any(7_u8),
                "empty" => Ok(Vec::new()),
                "cancelled" => Ok(self.0.cancelled(call.id).to_string().into()),
                "mounts" => Ok(self.0.mounts().into()),
                _ => Ok(request.to_vec()),
            }
        }
        fn panicked(method: &str, panic: &str) -> Vec<u8> {
            format!("{method}: {panic}").into()
        }
    }

    impl Drop for Jumpy {
        fn drop(&mut self) {
            ALIVE.fetch_sub(1, Ordering::SeqCst);
            panic!("even at the end");
        }
    }

    unsafe extern "C" fn silent(_: *mut c_void, _: u32, _: Bytes) {}
    unsafe extern "C" fn nowhere(_: *mut c_void, _: u64, _: Bytes, _: f32) {}
    unsafe extern "C" fn hear(_: *mut c_void) {
        HEARD.fetch_add(1, Ordering::SeqCst);
    }
    unsafe extern "C" fn even(_: *mut c_void, call: u64) -> u32 {
        u32::from(call.is_multiple_of(2))
    }

    fn host() -> *const HostTable {
        Box::leak(Box::new(HostTable {
            size: size_of::<HostTable>() as u32,
            major: MAJOR,
            minor: MINOR,
            data: std::ptr::null_mut(),
            mounts: Bytes::new(b"/mnt"),
            log: silent,
            progress: nowhere,
            cancelled: even,
            changed: hear,
        }))
    }

    static DESCRIPTOR: Descriptor = descriptor::<Jumpy, V1>();

    fn taken(out: Buffer) -> String {
        // SAFETY: a buffer of the functions under test.
        let text = unsafe { std::slice::from_raw_parts(out.data, out.len) }.to_vec();
        // SAFETY: as above; freed once.
        unsafe { (DESCRIPTOR.free)(out) };
        String::from_utf8(text).unwrap()
    }

    fn open(config: &[u8]) -> (i32, *mut Instance, String) {
        let (mut instance, mut out) = (std::ptr::null_mut(), Buffer::empty());
        // SAFETY: a leaked table; the rest outlives the call.
        let status = unsafe {
            (DESCRIPTOR.create)(host(), Bytes::new(config), &raw mut instance, &raw mut out)
        };
        (status, instance, taken(out))
    }

    fn call(instance: *mut Instance, id: u64, method: &str) -> (i32, String) {
        let info = CallInfo {
            size: size_of::<CallInfo>() as u32,
            reserved: 0,
            id,
            deadline_ms: 1,
        };
        let mut out = Buffer::empty();
        // SAFETY: an instance of `open`; the rest outlives the call.
        let status = unsafe {
            (DESCRIPTOR.call)(
                instance,
                &raw const info,
                Bytes::new(method.as_bytes()),
                Bytes::new(b"echo"),
                &raw mut out,
            )
        };
        (status, taken(out))
    }

    #[test]
    fn no_panic_leaves_the_library() {
        assert_eq!(open(b"refuse").0, ERROR);
        let (status, instance, said) = open(b"panic");
        assert_eq!((status, said.as_str()), (PANICKED, "open: at open"));
        assert!(instance.is_null());
        let (status, instance, _) = open(b"counted");
        assert_eq!(status, OK);
        assert_eq!(call(instance, 5, "x"), (OK, "echo".into()));
        assert_eq!(
            call(instance, 5, "panic"),
            (PANICKED, "panic: in panic 5".into())
        );
        assert_eq!(
            call(instance, 5, "payload"),
            (PANICKED, "payload: a panic without a message".into())
        );
        assert_eq!(ALIVE.load(Ordering::SeqCst), 1);
        // SAFETY: made by `open`, called no more.
        unsafe { (DESCRIPTOR.destroy)(instance) };
        assert_eq!(ALIVE.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn the_host_is_reached_through_its_table() {
        let (_, instance, _) = open(b"");
        assert_eq!(call(instance, 4, "cancelled").1, "true");
        assert_eq!(call(instance, 5, "cancelled").1, "false");
        assert_eq!(call(instance, 5, "mounts").1, "/mnt");
        assert_eq!(call(instance, 5, "empty"), (OK, String::new()));
    }

    /// A plugin that knows more of the table than a host has uses what both know, and no more.
    #[test]
    fn a_field_is_used_by_hosts_that_have_it_whatever_else_they_have() {
        for (size, heard) in [(56, 0), (60, 0), (63, 0), (64, 1), (72, 1), (4096, 1)] {
            let table = host().cast_mut();
            // SAFETY: a leaked table of our own.
            unsafe { (*table).size = size };
            let before = HEARD.load(Ordering::SeqCst);
            HostHandle { table }.changed();
            assert_eq!(HEARD.load(Ordering::SeqCst) - before, heard, "{size}");
        }
    }

    #[test]
    fn the_descriptor_says_who_it_is() {
        let mut out = Buffer::empty();
        // SAFETY: `out` outlives the call.
        let status = unsafe { (DESCRIPTOR.describe)(&raw mut out) };
        assert_eq!((status, taken(out)), (OK, "1.2.3".into()));
        assert_eq!(DESCRIPTOR.header.magic, MAGIC);
        assert_eq!(DESCRIPTOR.header.size as usize, size_of::<Descriptor>());
    }
}
