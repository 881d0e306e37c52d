//! The open context, and what a call of it does.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lazarette_core::context::{Level, Sink};
use lazarette_core::message::Method;
use lazarette_core::{Error, ErrorKind, Result};
use lazarette_loader::{CallFailure, Instance, Plugin};
use serde_json::Value;

/// The plugin's context: none, or one.
pub(crate) struct Context {
    plugin: Plugin,
    sink: Arc<dyn Sink>,
    mounts: PathBuf,
    /// Held while a context is opened or closed. Calls need `open` for a moment only.
    lifecycle: Mutex<()>,
    open: Mutex<Option<Open>>,
}

#[derive(Clone)]
struct Open {
    config: Value,
    instance: Arc<Instance>,
}

impl Context {
    pub(crate) fn new(plugin: Plugin, sink: Arc<dyn Sink>, mounts: PathBuf) -> Self {
        Self {
            plugin,
            sink,
            mounts,
            lifecycle: Mutex::new(()),
            open: Mutex::new(None),
        }
    }

    /// Whether a context is open.
    pub(crate) fn is_open(&self) -> bool {
        self.current().is_some()
    }

    /// Runs `method` as the call `id` within `limit`.
    pub(crate) fn call(&self, id: u64, limit: Duration, method: &Method) -> Result<Value> {
        match method {
            Method::Open { config } => self.open(id, limit, config),
            Method::Close => self.close(id, limit),
            _ => {
                let open = self.current().ok_or_else(|| {
                    Error::new(ErrorKind::Plugin, "no context is open")
                        .cause("the plugin host has just started")
                        .remedy("it is opened by itself; try again")
                })?;
                self.run(&open.instance, id, limit, method)
            }
        }
    }

    fn open(&self, id: u64, limit: Duration, config: &Value) -> Result<Value> {
        let _one_at_a_time = lock(&self.lifecycle);
        if let Some(open) = self.current() {
            if open.config == *config {
                return Ok(Value::Null);
            }
            self.sink
                .log(Level::Info, "opening the context anew: its options changed");
            match self.run_closing(&open.instance, id, limit) {
                // What is mounted keeps the storage open; opening is idempotent, so the new
                // options count from now on.
                Err(error) if error.kind == ErrorKind::Busy => {
                    self.sink
                        .log(Level::Info, &format!("it stays in use: {error}"));
                }
                closed => drop(closed?),
            }
        }
        self.open_with(config.clone())?;
        Ok(Value::Null)
    }

    fn close(&self, id: u64, limit: Duration) -> Result<Value> {
        let _one_at_a_time = lock(&self.lifecycle);
        match self.current() {
            None => Ok(Value::Null),
            Some(open) => self.run_closing(&open.instance, id, limit),
        }
    }

    /// Closes `instance` and forgets it, unless closing fails.
    fn run_closing(&self, instance: &Arc<Instance>, id: u64, limit: Duration) -> Result<Value> {
        let closed = instance.call(id, limit, &Method::Close);
        match closed {
            Ok(value) => {
                *lock(&self.open) = None;
                Ok(value)
            }
            Err(failure) => {
                if failure.poisoned {
                    *lock(&self.open) = None;
                }
                Err(failure.error)
            }
        }
    }

    fn run(
        &self,
        instance: &Arc<Instance>,
        id: u64,
        limit: Duration,
        method: &Method,
    ) -> Result<Value> {
        match instance.call(id, limit, method) {
            Ok(value) => Ok(value),
            Err(CallFailure { error, poisoned }) => {
                if poisoned {
                    self.sink.log(Level::Error, &error.to_string());
                    self.open_anew(instance);
                }
                Err(error)
            }
        }
    }

    /// Replaces an instance that has panicked; calls that still run in it end in it.
    fn open_anew(&self, poisoned: &Arc<Instance>) {
        let _one_at_a_time = lock(&self.lifecycle);
        let Some(open) = self.current() else {
            return;
        };
        if !Arc::ptr_eq(&open.instance, poisoned) {
            return;
        }
        *lock(&self.open) = None;
        if let Err(error) = self.open_with(open.config) {
            let text = format!("the context cannot be opened anew: {error}");
            self.sink.log(Level::Error, &text);
        }
    }

    fn open_with(&self, config: Value) -> Result<()> {
        let instance = self.plugin.open(self.sink.clone(), &self.mounts, &config)?;
        let instance = Arc::new(instance);
        *lock(&self.open) = Some(Open { config, instance });
        Ok(())
    }

    fn current(&self) -> Option<Open> {
        lock(&self.open).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is guarded is valid at every step.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
