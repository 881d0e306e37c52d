//! A fast device before a slow one: a part of it holds what is used most of a volume.
//!
//! The cache is a logical volume of its own (LVM's *cachevol*), named after the volume, so that
//! after a crash it is known whose it is.

use lazarette_plugin::serde_json::{Value, json};
use lazarette_plugin::{Call, Error, ErrorKind, JsonSchema, Result, Volume};
use serde::Deserialize;

use crate::context::Inner;
use crate::lvm::Time;
use crate::options::VolumeOptions;
use crate::report::Logical;
use crate::values::{DevicePath, Size, readable};
use crate::volume::Look;
use crate::{devices, stamp};

/// A cache that a volume gets.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cache {
    /// The fast device, one of the volume group's, by its stable path.
    pub device: DevicePath,
    /// How much of it the volume gets: 10G.
    pub size: Size,
    /// What becomes of writes: writethrough if it is left out.
    #[serde(default)]
    pub mode: CacheMode,
}

/// When what is written reaches the volume's own devices.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CacheMode {
    /// At once: the fast device may be lost.
    #[default]
    Writethrough,
    /// Later: what was written last is lost with the fast device.
    Writeback,
}

impl CacheMode {
    /// As LVM names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Writethrough => "writethrough",
            Self::Writeback => "writeback",
        }
    }
}

impl JsonSchema for CacheMode {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "CacheMode".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "enum": ["writethrough", "writeback"] })
    }
}

/// Smaller ones have no room for anything beside what the cache keeps of itself.
const LEAST: u64 = 16 << 20;

impl Inner {
    /// Puts a cache before the volume, or finds it there.
    pub(crate) fn cache(
        &self,
        call: &Call,
        volume: &Volume<VolumeOptions>,
        wanted: &Cache,
    ) -> Result<Value> {
        let time = Time::Of(call);
        let _turn = self.turns.take(call, volume.id)?;
        let (look, found) = self.existing(time, volume)?;
        let (full, mode) = (self.full(&found.name), wanted.mode.name());
        if found.is_cached() {
            return match found.cache_mode == mode {
                true => Ok(json!(format!("{full} has its cache already"))),
                false => Err(
                    Error::new(ErrorKind::AlreadyExists, format!("{full} has a cache"))
                        .cause(format!("its mode is {}, not {mode}", found.cache_mode))
                        .remedy("take it away first: laz volume uncache VOLUME"),
                ),
            };
        }
        self.refuse_uncacheable(&look, &found)?;
        if wanted.size.bytes() < LEAST {
            return Err(Error::invalid(format!("size: {}", wanted.size))
                .cause(format!("a cache needs {} at least", readable(LEAST)))
                .remedy("make it larger"));
        }
        let device = self.own_device(time, &wanted.device)?;
        let name = stamp::name_of_cache(volume.id);
        // What an interrupted attempt has left: it was never before the volume.
        if look.named(&name).is_some() {
            self.lvremove(time, &name)?;
        }
        let size = format!("{}b", look.group.rounded(wanted.size.bytes()));
        let mut words = vec!["lvcreate", "--yes", "--type", "linear", "--name", &name];
        words.extend(["--size", &size, "--wipesignatures", "y", "--zero", "y"]);
        words.extend(["--", &self.group.name, &device]);
        let what = format!(
            "cannot make a cache of {} on {}",
            wanted.size, wanted.device
        );
        self.lvm.run(time, &what, &words)?;
        let mut words = vec!["lvconvert", "--yes", "--type", "cache", "--cachevol", &name];
        words.extend(["--cachemode", mode, "--", &full]);
        let what = format!("cannot put a cache before {full}");
        if let Err(error) = self.lvm.run(time, &what, &words) {
            // Nobody would find it. That this fails, too, is worth less than why it came to it.
            let _ = self.lvremove(time, &name);
            return Err(error);
        }
        self.host.changed();
        let size = wanted.size;
        Ok(json!(format!("{full} has a cache of {size}, {mode}")))
    }

    /// Writes back what the volume's cache holds, and takes it away.
    pub(crate) fn uncache(&self, call: &Call, volume: &Volume<VolumeOptions>) -> Result<Value> {
        let time = Time::Of(call);
        let _turn = self.turns.take(call, volume.id)?;
        let (look, found) = self.existing(time, volume)?;
        let full = self.full(&found.name);
        if found.is_cached() {
            call.progress("writing back what the cache holds", None);
            self.flush(time, &found)?;
        }
        let left = stamp::name_of_cache(volume.id);
        if look.named(&left).is_some() {
            self.lvremove(time, &left)?;
        }
        self.host.changed();
        Ok(json!(format!("{full} has no cache")))
    }

    /// Takes the cache of `found` away when all it holds is written back.
    pub(crate) fn flush(&self, time: Time<'_>, found: &Logical) -> Result<()> {
        let full = self.full(&found.name);
        let what = format!("cannot take the cache of {full} away");
        let words = ["lvconvert", "--yes", "--uncache", "--", &full];
        self.lvm.run(time, &what, &words)
    }

    /// Takes away a cache that lies on a missing device, of a volume that does not. Whether that
    /// is how it was.
    pub(crate) fn do_without_cache(
        &self,
        time: Time<'_>,
        look: &Look,
        found: &Logical,
        lose: bool,
    ) -> Result<bool> {
        if !found.is_cached() {
            return Ok(false);
        }
        let full = self.full(&found.name);
        let what = format!("cannot do without the cache of {full}");
        if look.beneath(found).health.contains("partial") {
            return Err(Error::invalid(what)
                .cause("it lies on a missing device itself")
                .remedy("take the cache away first: laz volume uncache VOLUME"));
        }
        if found.cache_mode != CacheMode::Writethrough.name() && !lose {
            return Err(Error::invalid(what)
                .cause("what was not written back is lost with it")
                .remedy("plug the device in again, or give that up: remove_lost=true"));
        }
        let words = ["lvconvert", "--yes", "--uncache", "--force", "--", &full];
        self.lvm.run(time, &what, &words)?;
        Ok(true)
    }

    fn refuse_uncacheable(&self, look: &Look, found: &Logical) -> Result<()> {
        let what = format!("{} cannot have a cache", self.full(&found.name));
        if found.is_thin() {
            return Err(Error::invalid(what)
                .cause("it is thin: its data are the thin pool's")
                .remedy("make a volume of another type, and clone or copy into it"));
        }
        let depends = |l: &&Logical| l.is_thick_snapshot() && l.origin == found.name;
        let snapshots = look.all.iter().filter(depends).count();
        if snapshots > 0 {
            return Err(Error::new(ErrorKind::Busy, what)
                .cause(format!("it has {snapshots} snapshots"))
                .remedy("remove them first: laz volume snapshots VOLUME"));
        }
        Ok(())
    }

    /// What LVM calls the group's device.
    fn own_device(&self, time: Time<'_>, wanted: &DevicePath) -> Result<String> {
        let node = devices::node(wanted.path())?;
        let is_it = |name: &str| {
            name == wanted.as_str() || devices::node(name.as_ref()).is_ok_and(|n| n == node)
        };
        let physicals = self.lvm.physicals(time)?;
        let mut ours = physicals
            .iter()
            .filter(|p| p.group_uuid == self.group.uuid && !p.missing);
        let found = ours.find(|p| is_it(&p.name)).ok_or_else(|| {
            Error::invalid(format!("device: {wanted}"))
                .cause(format!("it does not belong to {}", self.group.name))
                .remedy("add it first: laz pool extend CONTEXT devices=DEVICE")
        })?;
        Ok(found.name.clone())
    }
}

/// Refuses what a volume with a cache cannot.
pub(crate) fn refuse_cached(found: &Logical, what: &str) -> Result<()> {
    if !found.is_cached() {
        return Ok(());
    }
    Err(Error::invalid(what)
        .cause("it has a cache")
        .remedy("take it away first, and put it there again after that: laz volume uncache VOLUME"))
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
