//! From what is asked for to the context and the volume that are meant: checked as a whole before
//! anything happens.

use serde_json::{Map, Value};

use super::options::{self, Sorted};
use super::requests::{now_rfc3339, still_there};
use super::supervisor::Supervisor;
use crate::control::{NewVolume, Origin};
use crate::error::{Error, ErrorKind, Result};
use crate::manifest::Manifest;
use crate::name::{ContextName, Kind, VolumeName};
use crate::planner::{ContextEntry, Event, Place, VolumeEntry, overlap};

/// What a request for a volume comes to.
pub(super) enum Prepared {
    Exists,
    New(Vec<Event>),
}

impl Supervisor {
    /// What has to happen for `new` to be: checked as a whole before anything does.
    pub(super) fn prepare(
        &self,
        new: &NewVolume,
        place: Place,
        origin: Origin,
        read_only: bool,
    ) -> Result<Prepared> {
        let kind = self.kind_of(new)?;
        let manifest = self.manifest(&kind)?;
        let sorted = options::sort(manifest, &new.options).map_err(|e| Error {
            message: format!("volume \"{}\": {}", new.name, e.message),
            ..e
        })?;
        let (context, made) = self.context_for(&kind, new.context.as_ref(), &sorted, manifest)?;
        let mut entry = VolumeEntry::declared(
            context.clone(),
            Value::Object(sorted.volume),
            String::new(),
            read_only,
        );
        entry.place = place;
        entry.origin = origin;
        entry.created_at = now_rfc3339();
        if let Some(old) = self.world.volumes.get(&new.name) {
            return same(&new.name, old, &entry).map(|()| Prepared::Exists);
        }
        self.check_target(&entry)?;
        // In this order: a context without volumes is let go.
        let mut events = vec![Event::VolumeWanted(new.name.clone(), Box::new(entry))];
        if let Some(made) = made {
            events.push(Event::ContextMade(context, Box::new(made)));
        }
        Ok(Prepared::New(events))
    }

    pub(super) fn check_target(&self, entry: &VolumeEntry) -> Result<()> {
        let target = entry.target();
        let mut volumes = self.world.volumes.iter();
        let clash = volumes.find(|(_, v)| overlap(&v.target(), &target));
        match clash {
            Some((name, other)) => Err(Error::new(
                ErrorKind::AlreadyExists,
                format!(
                    "{target} is taken: volume \"{name}\" has {}",
                    other.target()
                ),
            )),
            None => Ok(()),
        }
    }

    fn kind_of(&self, new: &NewVolume) -> Result<Kind> {
        let of_context = match &new.context {
            Some(name) => Some(self.context(name)?.kind.clone()),
            None => None,
        };
        match (new.kind.clone(), of_context) {
            (Some(kind), Some(of_context)) if kind != of_context => Err(Error::invalid(format!(
                "volume \"{}\": its context is of kind \"{of_context}\", not \"{kind}\"",
                new.name
            ))),
            (Some(kind), _) | (None, Some(kind)) => Ok(kind),
            (None, None) => Err(Error::invalid(format!(
                "volume \"{}\": neither kind nor context is given",
                new.name
            ))
            .remedy("name one of them")),
        }
    }

    pub(super) fn context(&self, name: &ContextName) -> Result<&ContextEntry> {
        self.world.contexts.get(name).ok_or_else(|| {
            let names: Vec<&str> = self
                .world
                .contexts
                .keys()
                .map(ContextName::as_str)
                .collect();
            let remedy = if names.is_empty() {
                "there are none yet".into()
            } else {
                format!("the contexts are: {}", names.join(", "))
            };
            Error::not_found(format!("no context \"{name}\"")).remedy(remedy)
        })
    }

    pub(super) fn manifest(&self, kind: &Kind) -> Result<&Manifest> {
        match self.world.kinds.get(kind) {
            Some(entry) => Ok(&entry.manifest),
            None if !self.knows_kinds() => {
                let error = Error::new(
                    ErrorKind::Unreachable,
                    format!("core cannot tell whether it can serve kind \"{kind}\""),
                );
                let engine = self.engines.get("system");
                let reason = engine.and_then(|e| e.reason.as_deref());
                Err(error.cause(reason.unwrap_or("system Docker has not told its images")))
            }
            None => Err(self.world.no_image(kind)),
        }
    }

    /// The context for a volume: the one that is named, the only one that fits, or a new one.
    fn context_for(
        &self,
        kind: &Kind,
        named: Option<&ContextName>,
        sorted: &Sorted,
        manifest: &Manifest,
    ) -> Result<(ContextName, Option<ContextEntry>)> {
        if let Some(name) = named {
            let context = self.context(name)?;
            return match differing(&sorted.context, &context.config) {
                None => Ok((name.clone(), None)),
                Some(key) => Err(
                    Error::invalid(format!("context \"{name}\" has another `{key}`"))
                        .remedy("leave the option out, or the context"),
                ),
            };
        }
        let fits: Vec<&ContextName> = self
            .world
            .contexts
            .iter()
            .filter(|(_, c)| c.kind == *kind && differing(&sorted.context, &c.config).is_none())
            .filter(|(name, c)| self.world.rival(name, c).is_none())
            .map(|(name, _)| name)
            .collect();
        match fits.as_slice() {
            [only] => Ok(((*only).clone(), None)),
            // The one with just these options was made for just this purpose.
            [_, ..] => match fits
                .iter()
                .find(|n| self.world.contexts[**n].config == Value::Object(sorted.context.clone()))
            {
                Some(exact) => Ok(((*exact).clone(), None)),
                None => {
                    let names: Vec<&str> = fits.iter().map(|n| n.as_str()).collect();
                    Err(Error::invalid(format!(
                        "several contexts of kind \"{kind}\" fit: {}",
                        names.join(", ")
                    ))
                    .remedy("say which with `-o context=NAME`"))
                }
            },
            [] => {
                // Checks that what is required is there, too.
                let given = Value::Object(sorted.context.clone());
                crate::cloud_config::check_options(&given, &manifest.context_schema)?;
                if let Some(refusal) = self.world.refusal(kind, &given) {
                    return Err(refusal);
                }
                let name = self.free_context_name(kind, &sorted.context);
                Ok((name, Some(ContextEntry::new(kind.clone(), given, false))))
            }
        }
    }

    fn free_context_name(&self, kind: &Kind, config: &Map<String, Value>) -> ContextName {
        let mut slug = kind.to_string();
        for text in config.values().filter_map(Value::as_str).take(1) {
            slug.push('-');
            slug.extend(text.chars().map(|c| {
                if c.is_ascii_alphanumeric() {
                    c.to_ascii_lowercase()
                } else {
                    '-'
                }
            }));
        }
        slug.truncate(55);
        let slug = slug.trim_end_matches('-').to_owned();
        let candidates =
            std::iter::once(slug.clone()).chain((2..).map(|n: u64| format!("{slug}-{n}")));
        candidates
            .filter_map(|name| ContextName::new(name).ok())
            .find(|name| !self.world.contexts.contains_key(name))
            .expect("numbers do not run out, and a kind begins like a context's name")
    }
}

/// Whether `new` asks for what `old` is.
fn same(name: &VolumeName, old: &VolumeEntry, new: &VolumeEntry) -> Result<()> {
    if !old.wanted {
        return Err(still_there(name));
    }
    let mut differences = Vec::new();
    if old.context != new.context {
        differences.push(format!(
            "its context is \"{}\", not \"{}\"",
            old.context, new.context
        ));
    }
    if old.read_only != new.read_only {
        differences.push("one of them is read-only".to_owned());
    }
    let empty = Map::new();
    let (have, want) = (
        old.options.as_object().unwrap_or(&empty),
        new.options.as_object().unwrap_or(&empty),
    );
    let keys: std::collections::BTreeSet<&String> = have.keys().chain(want.keys()).collect();
    for key in keys {
        let shown = |v: Option<&Value>| v.map_or_else(|| "not set".to_owned(), ToString::to_string);
        if have.get(key) != want.get(key) {
            differences.push(format!(
                "`{key}` is {}, not {}",
                shown(have.get(key)),
                shown(want.get(key))
            ));
        }
    }
    if differences.is_empty() {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::AlreadyExists,
        format!("volume \"{name}\" exists with other options"),
    )
    .cause(differences.join("; "))
    .remedy("use another name, or remove it first"))
}

/// The first of `given` that `config` has not, or has otherwise.
pub(super) fn differing<'a>(given: &'a Map<String, Value>, config: &Value) -> Option<&'a str> {
    given
        .iter()
        .find(|(key, value)| config.get(key.as_str()) != Some(value))
        .map(|(key, _)| key.as_str())
}
