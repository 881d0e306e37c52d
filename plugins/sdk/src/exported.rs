//! A storage context as the bytes of the ABI.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lazarette_abi::CallInfo;
use lazarette_abi::export::{HostHandle, Plugin, Reply};
use lazarette_core::message::{self, Method};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{Call, Error, ErrorKind, Host, Level, Result, Sink, StorageContext};

/// What [`declare_plugin!`](crate::declare_plugin) exports: an open context and its host.
pub struct Exported<C> {
    context: C,
    sink: Arc<HostSink>,
}

impl<C: StorageContext> Plugin for Exported<C> {
    const KIND: &'static str = C::KIND;

    fn describe(version: &str) -> Reply {
        encode(Ok(C::manifest(version)))
    }

    fn open(host: HostHandle, config: &[u8]) -> Result<Self, Vec<u8>> {
        let sink = Arc::new(HostSink(host));
        let opened = serde_json::from_slice(config)
            .map_err(|e| {
                Error::invalid(format!("the options of this {} context", C::KIND)).cause(e)
            })
            .and_then(|config| C::open(Host::new(sink.clone(), host.mounts()), config));
        match opened {
            Ok(context) => Ok(Self { context, sink }),
            Err(error) => Err(bytes(&error)),
        }
    }

    fn scan() -> Reply {
        encode(C::scan())
    }

    fn call(&self, info: CallInfo, method: &str, request: &[u8]) -> Reply {
        let deadline = Instant::now() + Duration::from_millis(info.deadline_ms.min(DAY_MS));
        let call = Call::new(info.id, deadline, self.sink.clone());
        encode(
            parse(C::KIND, method, request)
                .and_then(|m| message::dispatch(&self.context, &call, &m)),
        )
    }

    fn panicked(method: &str, panic: &str) -> Vec<u8> {
        bytes(
            &Error::new(
                ErrorKind::Plugin,
                format!("the {} plugin panicked in {method}", C::KIND),
            )
            .cause(panic)
            .remedy("the context is opened anew; please report this to the plugin's author"),
        )
    }
}

/// Longer deadlines than a day are a day: an `Instant` cannot hold any number of milliseconds.
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

fn parse(kind: &str, method: &str, request: &[u8]) -> Result<Method> {
    if !Method::NAMES.contains(&method) {
        return Err(Error::unsupported(method, kind)
            .remedy("update the plugin, or do without what it cannot do"));
    }
    let mut envelope = json!({ "method": method });
    if !request.is_empty() {
        let params: Value = serde_json::from_slice(request)
            .map_err(|e| Error::invalid(format!("parameters of {method}")).cause(e))?;
        if !params.is_null() {
            envelope["params"] = params;
        }
    }
    serde_json::from_value(envelope)
        .map_err(|e| Error::invalid(format!("parameters of {method}")).cause(e))
}

fn encode<T: Serialize>(result: Result<T>) -> Reply {
    result
        .and_then(|value| {
            serde_json::to_vec(&value)
                .map_err(|e| Error::internal("a reply that is not JSON").cause(e))
        })
        .map_err(|error| bytes(&error))
}

fn bytes(error: &Error) -> Vec<u8> {
    serde_json::to_vec(error).expect("an error is strings")
}

struct HostSink(HostHandle);

impl Sink for HostSink {
    fn log(&self, level: Level, message: &str) {
        let level = match level {
            Level::Error => lazarette_abi::LOG_ERROR,
            Level::Warn => lazarette_abi::LOG_WARN,
            Level::Info => lazarette_abi::LOG_INFO,
            Level::Debug => lazarette_abi::LOG_DEBUG,
        };
        self.0.log(level, message);
    }

    fn progress(&self, id: u64, message: &str, share: Option<f32>) {
        self.0.progress(id, message, share);
    }

    fn cancelled(&self, id: u64) -> bool {
        self.0.cancelled(id)
    }

    fn changed(&self) {
        self.0.changed();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_method_is_unsupported_and_bad_parameters_are_invalid() {
        let unknown = parse("hello", "defragment", b"").unwrap_err();
        assert_eq!(unknown.kind, ErrorKind::Unsupported);
        assert!(
            unknown
                .to_string()
                .contains("hello volumes cannot defragment")
        );
        assert_eq!(parse("hello", "list", b"").unwrap(), Method::List);
        assert_eq!(parse("hello", "list", b"null").unwrap(), Method::List);
        for bad in [&b"{"[..], b"{}", b"[1]", b"\xff", b""] {
            let error = parse("hello", "create", bad).unwrap_err();
            assert_eq!(error.kind, ErrorKind::InvalidArgument, "{bad:?}");
        }
    }
}
