//! An open context behind the ABI.

use std::ffi::c_void;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lazarette_abi::{
    Buffer, Bytes, CallInfo, Descriptor, HostTable, Instance as Raw, LOG_DEBUG, LOG_ERROR,
    LOG_WARN, MAJOR, MINOR, OK, PANICKED,
};
use lazarette_core::context::{Level, Sink};
use lazarette_core::frame::LARGEST_BODY;
use lazarette_core::message::Method;
use lazarette_core::{Error, ErrorKind, Result};
use serde_json::Value;

/// An open context. Dropping it frees it without closing: that is a method.
pub struct Instance {
    descriptor: &'static Descriptor,
    raw: *mut Raw,
}

// SAFETY: rule 5 of the ABI: an instance may be called by any number of threads at once.
unsafe impl Send for Instance {}
// SAFETY: as above.
unsafe impl Sync for Instance {}

/// Why a call failed.
#[derive(Debug)]
pub struct CallFailure {
    /// What to tell the caller.
    pub error: Error,
    /// Whether the instance must not be called again: drop it and open another one.
    pub poisoned: bool,
}

impl Instance {
    pub(crate) fn create(
        descriptor: &'static Descriptor,
        host: &'static HostTable,
        config: &Value,
    ) -> Result<Self> {
        let config = config.to_string();
        let mut raw = std::ptr::null_mut();
        let mut out = Buffer::empty();
        // SAFETY: a checked descriptor; the table is never freed, the rest outlives the call.
        let status = unsafe {
            (descriptor.create)(
                host,
                Bytes::new(config.as_bytes()),
                &raw mut raw,
                &raw mut out,
            )
        };
        if status == OK {
            free(descriptor, out);
            if raw.is_null() {
                return Err(broken("open succeeded without an instance"));
            }
            return Ok(Self { descriptor, raw });
        }
        match reply(descriptor, status, out) {
            Ok(_) => Err(broken("open neither failed nor succeeded")),
            Err(failure) => Err(failure.error),
        }
    }

    /// Runs `method` as the call `id`, to be done within `deadline`. Blocks.
    ///
    /// # Errors
    /// What the plugin reports, or `Plugin` if it broke the contract.
    pub fn call(&self, id: u64, deadline: Duration, method: &Method) -> Result<Value, CallFailure> {
        let request = parameters(method)?;
        let info = CallInfo {
            size: size_of::<CallInfo>() as u32,
            reserved: 0,
            id,
            deadline_ms: u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX),
        };
        let mut out = Buffer::empty();
        // SAFETY: made by this descriptor's `create`, destroyed only by our `Drop`; what is passed
        // outlives the call.
        let status = unsafe {
            (self.descriptor.call)(
                self.raw,
                &raw const info,
                Bytes::new(method.name().as_bytes()),
                Bytes::new(request.as_bytes()),
                &raw mut out,
            )
        };
        reply(self.descriptor, status, out)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // SAFETY: made by `create`; nobody calls it any more, for nobody else has a reference.
        unsafe { (self.descriptor.destroy)(self.raw) };
    }
}

/// The value or the error in `out`, freed.
pub(crate) fn reply(
    descriptor: &'static Descriptor,
    status: i32,
    out: Buffer,
) -> Result<Value, CallFailure> {
    let oversize = out.len > LARGEST_BODY;
    let text = if out.data.is_null() || oversize {
        Vec::new()
    } else {
        // SAFETY: the plugin says that so many bytes lie there, until they are freed below.
        unsafe { std::slice::from_raw_parts(out.data, out.len) }.to_vec()
    };
    free(descriptor, out);
    let failed = |error, poisoned| Err(CallFailure { error, poisoned });
    if oversize {
        return failed(broken("a reply of more than 1 MiB"), false);
    }
    if status == OK {
        if text.is_empty() {
            return Ok(Value::Null);
        }
        return match serde_json::from_slice(&text) {
            Ok(value) => Ok(value),
            Err(e) => failed(broken("a reply that is not JSON").cause(e), false),
        };
    }
    let error = serde_json::from_slice::<Error>(&text)
        .unwrap_or_else(|e| broken("an error that is none of ours").cause(e));
    failed(error, status == PANICKED)
}

fn free(descriptor: &'static Descriptor, out: Buffer) {
    if !out.data.is_null() {
        // SAFETY: filled by this plugin, handed back unchanged, once.
        unsafe { (descriptor.free)(out) };
    }
}

fn parameters(method: &Method) -> Result<String, CallFailure> {
    let failed = |error| CallFailure {
        error,
        poisoned: false,
    };
    let value = serde_json::to_value(method)
        .map_err(|e| failed(Error::internal("a request that is not JSON").cause(e)))?;
    Ok(value
        .get("params")
        .map_or_else(String::new, Value::to_string))
}

fn broken(how: &str) -> Error {
    Error::new(
        ErrorKind::Plugin,
        format!("the plugin broke its contract: {how}"),
    )
    .remedy("update the plugin or report this to its author")
}

/// A table for the life of the process: threads of the plugin may outlive its instance.
pub(crate) fn host_table(sink: Arc<dyn Sink>, mounts: &Path) -> &'static HostTable {
    let mounts: &'static str = Box::leak(mounts.display().to_string().into_boxed_str());
    let sink: &'static Arc<dyn Sink> = Box::leak(Box::new(sink));
    Box::leak(Box::new(HostTable {
        size: size_of::<HostTable>() as u32,
        major: MAJOR,
        minor: MINOR,
        data: std::ptr::from_ref(sink).cast_mut().cast::<c_void>(),
        mounts: Bytes::new(mounts.as_bytes()),
        log,
        progress,
        cancelled,
        changed,
    }))
}

unsafe extern "C" fn log(data: *mut c_void, level: u32, text: Bytes) {
    // SAFETY: the contract of the table: our `data`, and text valid for this call.
    let (sink, text) = unsafe { (sink(data), text_of(text)) };
    let level = match level {
        LOG_ERROR => Level::Error,
        LOG_WARN => Level::Warn,
        LOG_DEBUG => Level::Debug,
        _ => Level::Info,
    };
    sink.log(level, &text);
}

unsafe extern "C" fn progress(data: *mut c_void, call: u64, text: Bytes, share: f32) {
    // SAFETY: as in `log`.
    let (sink, text) = unsafe { (sink(data), text_of(text)) };
    let share = share.is_finite().then(|| share.clamp(0.0, 1.0));
    sink.progress(call, &text, share);
}

unsafe extern "C" fn cancelled(data: *mut c_void, call: u64) -> u32 {
    // SAFETY: as in `log`.
    u32::from(unsafe { sink(data) }.cancelled(call))
}

unsafe extern "C" fn changed(data: *mut c_void) {
    // SAFETY: as in `log`.
    unsafe { sink(data) }.changed();
}

/// # Safety
/// `data` must be that of a [`host_table`].
unsafe fn sink(data: *mut c_void) -> &'static Arc<dyn Sink> {
    // SAFETY: leaked in `host_table`, so valid for ever.
    unsafe { &*data.cast::<Arc<dyn Sink>>() }
}

/// # Safety
/// `text` must be valid while the result is used.
unsafe fn text_of<'a>(text: Bytes) -> std::borrow::Cow<'a, str> {
    const LONGEST: usize = 8 * 1024;
    // SAFETY: the caller's promise.
    let bytes = unsafe { text.as_slice() };
    String::from_utf8_lossy(&bytes[..bytes.len().min(LONGEST)])
}
