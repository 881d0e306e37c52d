//! What checks are written with: the plugin started, connected to and opened, calls with their
//! limits, and volumes that are taken away again.

use std::os::fd::OwnedFd;
use std::time::Duration;

use lazarette_core::manifest::Capability;
use lazarette_core::message::{Method, PROTOCOL, VolumeParams};
use lazarette_core::volume::Volume;
use lazarette_core::{Error, ErrorKind, Manifest, Mounted, VolumeId};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::checks::Rounds;
use crate::settings::Settings;
use crate::subject::{Facts, Failed, Subject};
use crate::wire::{Greeting, Reply, Wire};

/// How long the plugin may take to say hello.
pub(crate) const HELLO_LIMIT: Duration = Duration::from_secs(10);
/// How long after its deadline a call may still answer.
pub(crate) const GRACE: Duration = Duration::from_secs(15);

/// The plugin under check, and how it is now.
pub(crate) struct Kit {
    pub(crate) subject: Box<dyn Subject>,
    pub(crate) settings: Settings,
    wire: Option<Wire>,
    greeting: Option<Greeting>,
    /// Volumes that were made and not removed yet.
    volumes: Vec<VolumeParams>,
    /// What the rounds of the checks of leftovers have left, once they were run.
    pub(crate) rounds: Option<Rounds>,
}

impl Kit {
    pub(crate) fn new(subject: Box<dyn Subject>, settings: Settings) -> Self {
        Self {
            subject,
            settings,
            wire: None,
            greeting: None,
            volumes: Vec::new(),
            rounds: None,
        }
    }

    /// Sees to it that the plugin runs and is connected to, and that its context is open if need be.
    pub(crate) fn settle(&mut self, open: bool) -> Result<(), Failed> {
        self.subject.start()?;
        if self.wire.is_none() {
            self.connect()?;
        }
        if open {
            self.open()?;
        }
        Ok(())
    }

    /// Connects anew.
    pub(crate) fn connect(&mut self) -> Result<Greeting, Failed> {
        self.wire = None;
        let mut wire = Wire::silent(self.subject.socket())?;
        let greeting = wire.hello(PROTOCOL, HELLO_LIMIT)?;
        if greeting.protocol.major != PROTOCOL.major {
            return Err(Failed::new(format!(
                "it speaks version {} of the wire, not {}",
                greeting.protocol.major, PROTOCOL.major
            )));
        }
        self.wire = Some(wire);
        self.greeting = Some(greeting.clone());
        Ok(greeting)
    }

    /// Closes the connection.
    pub(crate) fn disconnect(&mut self) {
        self.wire = None;
    }

    /// Opens the context with the options of the settings.
    pub(crate) fn open(&mut self) -> Result<(), Failed> {
        let config = self.settings.context.clone();
        match self.try_call(Method::Open { config })?.result {
            Ok(_) => Ok(()),
            Err(error) => Err(Failed::new(format!(
                "open refuses the context's options ({error}); --config gives others"
            ))),
        }
    }

    /// Starts afresh after a failure, whatever the plugin has left.
    pub(crate) fn reset(&mut self) {
        // What it still can, it takes away itself: it may lie outside of its container.
        if self.settle(true).is_ok() {
            let _ = self.tidy();
        }
        self.wire = None;
        self.volumes.clear();
        self.subject.wipe();
    }

    /// Ends the plugin after the last check.
    pub(crate) fn end(&mut self) {
        self.reset();
    }

    /// Removes the volumes that a check has left.
    pub(crate) fn tidy(&mut self) -> Result<(), Failed> {
        if self.volumes.is_empty() {
            return Ok(());
        }
        self.settle(true)?;
        while let Some(volume) = self.volumes.pop() {
            self.done(Method::Unmount { id: volume.id })?;
            if self.offers(Capability::Create) {
                self.done(Method::Remove { volume })?;
            }
        }
        Ok(())
    }

    /// What the plugin says of itself.
    pub(crate) fn manifest(&self) -> Result<&Manifest, Failed> {
        let greeting = self.greeting.as_ref();
        let greeting = greeting.ok_or_else(|| Failed::new("it has never said hello"))?;
        Ok(&greeting.manifest)
    }

    /// Whether the plugin says that it can.
    pub(crate) fn offers(&self, capability: Capability) -> bool {
        self.manifest()
            .is_ok_and(|manifest| manifest.capabilities.contains(&capability))
    }

    pub(crate) fn wire(&mut self) -> Result<&mut Wire, Failed> {
        self.wire
            .as_mut()
            .ok_or_else(|| Failed::new("nobody is connected"))
    }

    pub(crate) fn deadline(&self) -> Duration {
        self.settings.deadline()
    }

    /// Starts a call.
    pub(crate) fn begin(&mut self, method: Method) -> Result<u64, Failed> {
        let deadline = self.deadline();
        self.wire()?.begin(method, deadline)
    }

    /// Waits for the end of the call `id`.
    pub(crate) fn finish(&mut self, id: u64) -> Result<Reply, Failed> {
        let limit = self.deadline() + GRACE;
        self.wire()?.end(id, limit)
    }

    /// Makes a call, whatever comes of it.
    pub(crate) fn try_call(&mut self, method: Method) -> Result<Reply, Failed> {
        let name = method.name();
        let begun = self.begin(method);
        let reply = begun.and_then(|id| self.finish(id));
        let reply = reply.map_err(|failed| {
            self.wire = None;
            Failed::new(format!("{name}: {failed}"))
        })?;
        match &reply.result {
            // The plugin host says so of a plugin: a reply that is none, a crash, a panic.
            Err(error) if error.kind == ErrorKind::Plugin => {
                Err(Failed::new(format!("{name}: {error}")))
            }
            Err(error) => {
                sane(error).map_err(|failed| Failed::new(format!("{name}: {failed}")))?;
                Ok(reply)
            }
            Ok(_) => Ok(reply),
        }
    }

    /// Makes a call that has to succeed, and returns its value.
    pub(crate) fn done(&mut self, method: Method) -> Result<Value, Failed> {
        let name = method.name();
        let reply = self.try_call(method)?;
        if reply.fd.is_some() {
            return Err(Failed::new(format!("{name} answers with a descriptor")));
        }
        reply
            .result
            .map_err(|e| Failed::new(format!("{name}: {e}")))
    }

    /// Makes a call that has to succeed without a value.
    pub(crate) fn silent(&mut self, method: Method) -> Result<(), Failed> {
        let name = method.name();
        match self.done(method)? {
            Value::Null => Ok(()),
            other => Err(Failed::new(format!("{name} answers {other}, not null"))),
        }
    }

    /// Makes a call that has to answer `wanted`.
    pub(crate) fn says(&mut self, method: Method, wanted: &str) -> Result<(), Failed> {
        let name = method.name();
        match self.done(method)? {
            Value::String(text) if text == wanted => Ok(()),
            other => Err(Failed::new(format!(
                "{name} answers {other}, not \"{wanted}\""
            ))),
        }
    }

    /// Makes a call that has to be refused, and returns the error.
    pub(crate) fn refused(&mut self, method: Method, why: &str) -> Result<Error, Failed> {
        let name = method.name();
        match self.try_call(method)?.result {
            Err(error) => Ok(error),
            Ok(value) => Err(Failed::new(format!("{name} answers {value} {why}"))),
        }
    }

    /// A volume that is not made yet. It is removed after the check.
    pub(crate) fn fresh(&mut self) -> VolumeParams {
        let volume = self.nobody();
        self.volumes.push(volume.clone());
        volume
    }

    /// A volume that is not there and that nobody makes.
    pub(crate) fn nobody(&self) -> VolumeParams {
        let id = VolumeId::random();
        Volume {
            id,
            options: self.settings.volume_of(id),
        }
    }

    /// A volume that is there: one made for the check, or the one that exists.
    pub(crate) fn made(&mut self) -> Result<VolumeParams, Failed> {
        if self.offers(Capability::Create) {
            let volume = self.fresh();
            let create = Method::Create {
                volume: volume.clone(),
            };
            self.says(create, "created")?;
            return Ok(volume);
        }
        let options = match &self.settings.existing {
            Some(options) => options.clone(),
            None => self.listed()?,
        };
        let volume = Volume {
            id: VolumeId::random(),
            options,
        };
        self.volumes.push(volume.clone());
        Ok(volume)
    }

    /// The options of the first volume that the context lists.
    fn listed(&mut self) -> Result<Value, Failed> {
        let list = self.done(Method::List)?;
        let first = list.get(0).and_then(|volume| volume.get("options"));
        first.cloned().ok_or_else(|| {
            Failed::new("it makes no volumes and lists none; name one as `existing` in --config")
        })
    }

    /// Forgets a volume that was removed.
    pub(crate) fn forget(&mut self, id: VolumeId) {
        self.volumes.retain(|volume| volume.id != id);
    }

    /// Mounts a volume, and returns what the plugin says of it and the descriptor.
    pub(crate) fn mount(&mut self, volume: &VolumeParams) -> Result<(Mounted, OwnedFd), Failed> {
        let reply = self.try_call(Method::Mount {
            volume: volume.clone(),
            read_only: false,
        })?;
        let value = reply
            .result
            .map_err(|e| Failed::new(format!("mount: {e}")))?;
        let mounted = shaped("mount", value)?;
        let fd = reply
            .fd
            .ok_or_else(|| Failed::new("mount answers without a descriptor"))?;
        Ok((mounted, fd))
    }

    pub(crate) fn unmount(&mut self, volume: &VolumeParams) -> Result<(), Failed> {
        self.silent(Method::Unmount { id: volume.id })
    }

    /// Takes a volume away, as far as the plugin makes any.
    pub(crate) fn remove(&mut self, volume: &VolumeParams) -> Result<(), Failed> {
        self.unmount(volume)?;
        if self.offers(Capability::Create) {
            self.done(Method::Remove {
                volume: volume.clone(),
            })?;
        }
        self.forget(volume.id);
        Ok(())
    }

    pub(crate) fn facts(&self) -> Result<Facts, Failed> {
        self.subject.facts()
    }

    /// Kills the plugin, starts it again and opens its context.
    pub(crate) fn kill(&mut self) -> Result<(), Failed> {
        self.subject.kill()?;
        self.wire = None;
        self.settle(true)
            .map_err(|failed| Failed::new(format!("after it was killed: {failed}")))
    }
}

/// What `method` answers, in its shape. Core leaves out what it does not know, for a newer plugin
/// may say more; here that is a typing error.
pub(crate) fn shaped<T: DeserializeOwned + Serialize>(
    method: &str,
    value: Value,
) -> Result<T, Failed> {
    let wrong = |e| Failed::new(format!("what `{method}` answers is not its shape: {e}"));
    let known = serde_json::from_value(value.clone()).map_err(wrong)?;
    match unknown(&value, &serde_json::to_value(&known).map_err(wrong)?) {
        None => Ok(known),
        Some(field) => Err(Failed::new(format!(
            "what `{method}` answers has a field `{field}`, which this version does not know"
        ))),
    }
}

/// A field of `given` that is not in what was understood of it.
fn unknown(given: &Value, known: &Value) -> Option<String> {
    match (given, known) {
        (Value::Object(given), Value::Object(known)) => given.iter().find_map(|(name, value)| {
            match known.get(name) {
                Some(known) => unknown(value, known),
                // What is empty is left out.
                None => match value {
                    Value::Null => None,
                    Value::Array(all) if all.is_empty() => None,
                    _ => Some(name.clone()),
                },
            }
        }),
        (Value::Array(given), Value::Array(known)) => {
            given.iter().zip(known).find_map(|(g, k)| unknown(g, k))
        }
        _ => None,
    }
}

/// An error that people can read: it says what, on one line.
fn sane(error: &Error) -> Result<(), Failed> {
    let text = error.to_string();
    if error.kind == ErrorKind::Unknown {
        return Err(Failed::new(format!(
            "its error ({text}) is of a kind that this version does not know"
        )));
    }
    if error.message.trim().is_empty() {
        return Err(Failed::new("its error says nothing"));
    }
    if text.len() > 4096 {
        return Err(Failed::new(format!(
            "its error is {} bytes long",
            text.len()
        )));
    }
    if text
        .chars()
        .any(|c| c.is_control() && c != '\n' && c != '\t')
    {
        return Err(Failed::new("its error contains control characters"));
    }
    Ok(())
}
