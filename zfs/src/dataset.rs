//! Volumes: datasets and zvols, their snapshots and clones.
//!
//! What is made for a volume is called by its identity, `POOL/lazarette/UUID`, and carries it in a
//! property. Everything may be repeated after a crash at any point: first comes a look at what is.

use std::fs;
use std::path::PathBuf;

use lazarette_plugin::{
    Call, CloneSource, Created, Error, ErrorKind, Host, Level, Removed, Result, SnapshotId, Volume,
    VolumeId,
};

use crate::config::VolumeOptions;
use crate::family::Family;
use crate::mounts::{Mounts, Source};
use crate::pool::{self, PARENT};
use crate::programs::{Programs, time_for};
use crate::properties::{self, Current, ID, READY};
use crate::report;
use crate::snapshots;
use crate::values::{PoolName, Size};
use crate::zvol;

/// How many times a clone is made the head of its family before its origin is destroyed.
const PROMOTIONS: usize = 64;
/// Properties by which we mount ourselves.
const OURS: &[&str] = &[
    "mountpoint",
    "canmount",
    "keylocation",
    "keyformat",
    ID,
    READY,
];
/// zvols are made of whole MiB, whatever their block size.
const ZVOL_UNIT: u64 = 1 << 20;

/// The datasets of a pool.
pub(crate) struct Datasets {
    pub(crate) host: Host,
    pub(crate) programs: Programs,
    pub(crate) pool: PoolName,
    pub(crate) mounts: Mounts,
    pub(crate) secrets: PathBuf,
}

type Wanted = Volume<VolumeOptions>;

impl Datasets {
    /// The name of the volume's dataset.
    pub(crate) fn name(&self, volume: &Wanted) -> String {
        match &volume.options.dataset {
            Some(dataset) => dataset.in_pool(&self.pool),
            None => self.made(volume.id),
        }
    }

    fn made(&self, id: VolumeId) -> String {
        format!("{}/{PARENT}/{id}", self.pool)
    }

    fn zfs(&self, call: &Call) -> lazarette_plugin::command::Command {
        self.programs.zfs(time_for(call))
    }

    pub(crate) fn look(&self, call: &Call, name: &str) -> Result<Option<Current>> {
        pool::ensure_serving(&self.programs, &self.pool)?;
        properties::of(&self.programs, time_for(call), name)
    }

    /// The dataset of a volume that has to be there.
    fn existing(&self, call: &Call, volume: &Wanted) -> Result<(String, Current)> {
        let name = self.name(volume);
        match self.look(call, &name)? {
            Some(current) => Ok((name, current)),
            None => Err(self.absent(&name)),
        }
    }

    fn absent(&self, name: &str) -> Error {
        Error::not_found(format!("the pool {} has no dataset {name}", self.pool))
            .remedy("check the name, which is given without the pool: laz pool datasets CONTEXT")
    }

    /// Makes the volume, or finds it made.
    pub(crate) fn create(&self, call: &Call, volume: &Wanted) -> Result<Created> {
        let options = &volume.options;
        check(options)?;
        if options.is_import() {
            let (name, current) = self.existing(call, volume)?;
            properties::check(&name, &current, &rounded(options))?;
            return Ok(Created::AlreadyExists);
        }
        let name = self.name(volume);
        pool::ensure_serving(&self.programs, &self.pool)?;
        // Made first and looked at when it is there already: the tool takes most of the time, and
        // once is enough for a name that nobody else gives.
        // Not if that wants a key, which may be gone by now.
        let found = options.key.is_some() && self.look(call, &name)?.is_some();
        let created = match found {
            true => Created::AlreadyExists,
            false => self.make(call, &name, volume)?,
        };
        if created == Created::AlreadyExists {
            let current = self.stamped(call, &name)?;
            self.is_ours(&name, &current, volume)?;
            properties::check(&name, &current, &rounded(options))?;
        }
        if options.is_zvol() {
            self.format(call, &name, options)?;
        }
        Ok(created)
    }

    fn is_ours(&self, name: &str, current: &Current, volume: &Wanted) -> Result<()> {
        let zvol = current.get("type").is_some_and(|kind| kind == "volume");
        let id = current.get(ID).map_or("-", String::as_str);
        if id == volume.id.to_string() && zvol == volume.options.is_zvol() {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::AlreadyExists,
            format!("{name} is there already and is not this volume"),
        )
        .cause(format!(
            "its {ID} is {id}, its type {}",
            current.get("type").map_or("-", |t| t)
        ))
        .remedy("rename it (zfs rename), or take it over with dataset"))
    }

    fn make(&self, call: &Call, name: &str, volume: &Wanted) -> Result<Created> {
        let options = &volume.options;
        let what = format!("cannot make {name}");
        let build = || -> Result<_> {
            let mut command = self.zfs(call).args(["create", "-o"]).arg(stamp(volume.id));
            if options.is_zvol() {
                command = command.args(["-s", "-V"]);
                command = command.arg(zvol_size(options.size).to_string());
            } else {
                command = command.args(["-o", "canmount=noauto", "-o", "mountpoint=legacy"]);
            }
            for (property, value) in rounded(options).iter().filter(|(p, _)| p != "volsize") {
                command = command.arg("-o").arg(format!("{property}={value}"));
            }
            if let (Some(cipher), Some(_)) = (&options.encryption, &options.key) {
                let format = options.key_format.map_or("passphrase", |f| f.name());
                command = command
                    .arg("-o")
                    .arg(format!("encryption={cipher}"))
                    .arg("-o")
                    .arg(format!("keyformat={format}"))
                    .args(["-o", "keylocation=prompt"])
                    .stdin(self.key(name, options)?);
            }
            Ok(command.arg("--").arg(name))
        };
        let mut made = build()?.run();
        if made
            .as_ref()
            .is_err_and(|e| e.stderr.contains("parent does not exist"))
        {
            // The pool's first volume.
            pool::ensure_parent(&self.programs, time_for(call), &self.pool)?;
            made = build()?.run();
        }
        match made {
            Ok(_) => Ok(Created::Created),
            Err(failed) if failed.stderr.contains("dataset already exists") => {
                Ok(Created::AlreadyExists)
            }
            Err(failed) => Err(report::explain(&failed, &what)),
        }
    }

    /// Makes the file system of a zvol that has none yet.
    fn format(&self, call: &Call, name: &str, options: &VolumeOptions) -> Result<()> {
        let current = self.look(call, name)?.unwrap_or_default();
        self.unlock(call, name, &current, options)?;
        if current.get(READY).is_some_and(|value| value != "-") {
            return Ok(());
        }
        let device = zvol::device(&self.programs, call, name)?;
        zvol::make_file_system(call, &device, options.file_system())?;
        self.set(call, name, READY, options.file_system().name())
    }

    fn set(&self, call: &Call, name: &str, property: &str, value: &str) -> Result<()> {
        self.zfs(call)
            .arg("set")
            .arg(format!("{property}={value}"))
            .arg(name)
            .run()
            .map(drop)
            .map_err(|e| report::explain(&e, &format!("cannot set {property} of {name}")))
    }

    /// Sets a property for whoever asks.
    pub(crate) fn set_property(
        &self,
        call: &Call,
        volume: &Wanted,
        property: &str,
        value: &str,
    ) -> Result<()> {
        if OURS.contains(&property) {
            return Err(Error::invalid(format!("{property} is Lazarette's own")));
        }
        let (name, _) = self.existing(call, volume)?;
        self.set(call, &name, property, value)
    }

    /// The key of a secret.
    fn key(&self, name: &str, options: &VolumeOptions) -> Result<Vec<u8>> {
        let locked = |why: &str| {
            Error::new(ErrorKind::PermissionDenied, format!("{name} is locked")).cause(why)
        };
        let Some(secret) = &options.key else {
            return Err(locked("it is encrypted, and the volume names no key").remedy(
                "put the key into a file in /etc/lazarette/secrets/CONTEXT and set key to its name",
            ));
        };
        fs::read(secret.in_directory(&self.secrets)).map_err(|e| {
            locked(&format!(
                "its key, the secret {secret}, cannot be read: {e}"
            ))
            .remedy(format!(
                "put the key into /etc/lazarette/secrets/CONTEXT/{secret}"
            ))
        })
    }

    /// Loads the key of an encrypted dataset, unless that was done.
    fn unlock(
        &self,
        call: &Call,
        name: &str,
        current: &Current,
        options: &VolumeOptions,
    ) -> Result<()> {
        if current.get("keystatus").is_none_or(|s| s != "unavailable") {
            return Ok(());
        }
        let key = self.key(name, options)?;
        let root = current.get("encryptionroot").map_or(name, String::as_str);
        let loaded = self
            .zfs(call)
            .args(["load-key", "-L", "prompt", "--", root])
            .stdin(key)
            .run();
        match loaded {
            Ok(_) => Ok(()),
            // Another volume of the same root was quicker.
            Err(failed) if failed.stderr.contains("already loaded") => Ok(()),
            Err(failed) => Err(report::explain(&failed, &format!("{name} is locked"))),
        }
    }

    /// Mounts the volume; where, and as what.
    pub(crate) fn mount(&self, call: &Call, volume: &Wanted) -> Result<(PathBuf, Source)> {
        let (name, current) = self.existing(call, volume)?;
        self.unlock(call, &name, &current, &volume.options)?;
        let source = match current.get("type").map(String::as_str) {
            Some("volume") => {
                let device = zvol::device(&self.programs, call, &name)?;
                zvol::source(&self.programs, &device)?
            }
            _ => Source {
                what: name,
                fs_type: "zfs",
                data: None,
            },
        };
        let path = self.mounts.mount(volume.id, &source)?;
        Ok((path, source))
    }

    /// Destroys the volume if it was made for itself or that was asked for.
    pub(crate) fn remove(&self, call: &Call, volume: &Wanted) -> Result<Removed> {
        self.mounts.unmount(volume.id)?;
        if !volume.options.is_destroyed() {
            return Ok(Removed::AlreadyAbsent);
        }
        let name = self.name(volume);
        let Some(family) = self.family(call, &name)? else {
            self.forget_clone(call, volume.id)?;
            return Ok(Removed::AlreadyAbsent);
        };
        if !volume.options.is_import() {
            self.is_ours(&name, &family.head, volume)?;
        }
        let head = family.head.clone();
        self.free_clones(call, &name, family)?;
        self.forget_origin(call, volume.id, &head)?;
        match self.destroy(call, &name) {
            Ok(_) => Ok(Removed::Removed),
            Err(failed) if report::is_absent(&failed.stderr) => Ok(Removed::AlreadyAbsent),
            Err(failed) => Err(report::explain(&failed, &format!("cannot destroy {name}"))),
        }
    }

    fn family(&self, call: &Call, name: &str) -> Result<Option<Family>> {
        pool::ensure_serving(&self.programs, &self.pool)?;
        Family::of(&self.programs, time_for(call), name)
    }

    /// Makes clones stand on their own: the youngest snapshot that one stands on goes over to it,
    /// with all older ones.
    fn free_clones(&self, call: &Call, name: &str, mut family: Family) -> Result<()> {
        for _ in 0..PROMOTIONS {
            let Some(clone) = family.youngest_clone() else {
                return Ok(());
            };
            self.host.log(
                Level::Info,
                format!("{clone} takes over the snapshots of {name} that it needs"),
            );
            self.zfs(call)
                .args(["promote", clone])
                .run()
                .map_err(|e| report::explain(&e, &format!("cannot make {clone} independent")))?;
            family = self.family(call, name)?.unwrap_or_default();
        }
        Err(
            Error::new(ErrorKind::Busy, format!("{name} has too many clones"))
                .remedy("remove some of the volumes that were cloned from it"),
        )
    }

    /// Takes a snapshot.
    pub(crate) fn snapshot(
        &self,
        call: &Call,
        volume: &Wanted,
        snapshot: SnapshotId,
    ) -> Result<Created> {
        pool::ensure_serving(&self.programs, &self.pool)?;
        let full = snapshots::name(&self.name(volume), snapshot);
        self.take(call, &full, &snapshot.to_string())
    }

    fn take(&self, call: &Call, full: &str, id: &str) -> Result<Created> {
        let taken = self
            .zfs(call)
            .args(["snapshot", "-o"])
            .arg(format!("{ID}={id}"))
            .args(["--", full])
            .run();
        match taken {
            Ok(_) => Ok(Created::Created),
            Err(failed) if failed.stderr.contains("dataset already exists") => {
                Ok(Created::AlreadyExists)
            }
            Err(failed) => Err(report::explain(
                &failed,
                &format!("cannot take the snapshot {full}"),
            )),
        }
    }

    /// Removes a snapshot.
    pub(crate) fn remove_snapshot(
        &self,
        call: &Call,
        volume: &Wanted,
        snapshot: SnapshotId,
    ) -> Result<Removed> {
        let full = snapshots::name(&self.name(volume), snapshot);
        let Some(current) = self.look(call, &full)? else {
            return Ok(Removed::AlreadyAbsent);
        };
        let what = format!("cannot remove the snapshot {full}");
        if let Some(clones) = current.get("clones").filter(|c| !c.is_empty() && *c != "-") {
            return Err(Error::new(ErrorKind::Busy, what)
                .cause(format!("it has been cloned: {clones}"))
                .remedy("remove the volumes that were cloned from it first"));
        }
        match self.zfs(call).args(["destroy", "--", &full]).run() {
            Ok(_) => Ok(Removed::Removed),
            Err(failed) if report::is_absent(&failed.stderr) => Ok(Removed::AlreadyAbsent),
            Err(failed) => Err(report::explain(&failed, &what)),
        }
    }

    /// Brings the volume back to a snapshot, which must be its youngest.
    pub(crate) fn rollback(
        &self,
        call: &Call,
        volume: &Wanted,
        snapshot: SnapshotId,
    ) -> Result<()> {
        self.mounts.unmount(volume.id)?;
        let name = self.name(volume);
        let family = self.family(call, &name)?;
        let snapshots = family.ok_or_else(|| self.absent(&name))?.snapshots;
        let full = snapshots::name(&name, snapshot);
        let what = format!("cannot bring {name} back to {full}");
        let Some(position) = snapshots.iter().position(|(found, _)| *found == full) else {
            return Err(Error::not_found(what)
                .cause("there is no such snapshot")
                .remedy("laz volume snapshots shows those that there are"));
        };
        let later: Vec<&str> = snapshots[position + 1..]
            .iter()
            .map(|(found, _)| found.rsplit('@').next().unwrap_or(found))
            .collect();
        if !later.is_empty() {
            return Err(Error::new(ErrorKind::Busy, what)
                .cause(format!(
                    "later snapshots would be lost: {}",
                    later.join(", ")
                ))
                .remedy("remove the later snapshots first, or clone this one"));
        }
        self.zfs(call)
            .args(["rollback", "--", &full])
            .run()
            .map(drop)
            .map_err(|e| report::explain(&e, &what))
    }

    /// Makes the volume with the content of another, or finds it made.
    pub(crate) fn clone(
        &self,
        call: &Call,
        volume: &Wanted,
        source: &CloneSource<VolumeOptions>,
    ) -> Result<Created> {
        let options = &volume.options;
        check(options)?;
        let name = self.made(volume.id);
        if options.is_import() {
            return Err(Error::invalid("a clone cannot take over a dataset")
                .remedy("leave dataset out of the clone's options"));
        }
        if let Some(current) = self.look(call, &name)? {
            self.is_ours(&name, &current, volume)?;
            self.forget_origin(call, volume.id, &current)?;
            self.resize(call, volume)?;
            return Ok(Created::AlreadyExists);
        }
        let (origin, current) = self.existing(call, &source.volume)?;
        let zvol = current.get("type").is_some_and(|kind| kind == "volume");
        if zvol != options.is_zvol() {
            return Err(
                Error::invalid(format!("{origin} and its clone differ in type"))
                    .remedy("leave type out of the clone's options"),
            );
        }
        let own = format!("{origin}{}", snapshots::for_clone(volume.id));
        let from = match source.snapshot {
            Some(snapshot) => snapshots::name(&origin, snapshot),
            None => {
                self.take(call, &own, &volume.id.to_string())?;
                own.clone()
            }
        };
        let mut command = self.zfs(call).args(["clone", "-o"]).arg(stamp(volume.id));
        if zvol {
            let ready = current.get(READY).map_or("-", String::as_str);
            command = command.arg("-o").arg(format!("{READY}={ready}"));
        } else {
            command = command.args(["-o", "canmount=noauto", "-o", "mountpoint=legacy"]);
        }
        let fixed = ["volsize", "volblocksize"];
        for (property, value) in rounded(options) {
            if !fixed.contains(&property.as_str()) {
                command = command.arg("-o").arg(format!("{property}={value}"));
            }
        }
        command.args(["--", &from, &name]).run().map_err(|e| {
            let bounded = options.size.is_some() || options.quota.is_some();
            snapshots::not_cloned(
                report::explain(&e, &format!("cannot clone {from}")),
                bounded,
            )
        })?;
        if source.snapshot.is_none() {
            self.let_go_of(call, &own)?;
        }
        if zvol {
            self.resize(call, volume)?;
        }
        Ok(Created::Created)
    }

    /// The snapshot goes when its clone goes.
    fn let_go_of(&self, call: &Call, snapshot: &str) -> Result<()> {
        match self.zfs(call).args(["destroy", "-d", "--", snapshot]).run() {
            Ok(_) => Ok(()),
            Err(failed) if report::is_absent(&failed.stderr) => Ok(()),
            Err(failed) => Err(report::explain(
                &failed,
                &format!("cannot let go of {snapshot}"),
            )),
        }
    }

    /// Lets go of the snapshot that a clone stands on, if it was taken for the clone: a plugin host
    /// that died over it has not.
    fn forget_origin(&self, call: &Call, id: VolumeId, current: &Current) -> Result<()> {
        let end = snapshots::for_clone(id);
        let origin = current.get("origin").filter(|o| o.ends_with(&end));
        origin.map_or(Ok(()), |origin| self.let_go_of(call, origin))
    }

    /// Takes away what a clone that never came to be has left: its snapshot.
    fn forget_clone(&self, call: &Call, id: VolumeId) -> Result<()> {
        let what = "cannot list the pool's snapshots";
        let output = self
            .zfs(call)
            .args(["list", "-H", "-o", "name", "-t", "snapshot", "-r", "--"])
            .arg(self.pool.as_str())
            .run()
            .map_err(|e| report::explain(&e, what))?;
        let end = snapshots::for_clone(id);
        for snapshot in output.stdout_text().lines().filter(|l| l.ends_with(&end)) {
            self.let_go_of(call, snapshot)?;
        }
        Ok(())
    }

    /// Gives the volume its size.
    pub(crate) fn resize(&self, call: &Call, volume: &Wanted) -> Result<()> {
        let (name, current) = self.existing(call, volume)?;
        let Some(size) = volume.options.size else {
            return Ok(());
        };
        if current.get("type").is_none_or(|kind| kind != "volume") {
            return self.set(call, &name, "refquota", &size.0.to_string());
        }
        let wanted = zvol_size(Some(size));
        let found: u64 = current
            .get("volsize")
            .and_then(|v| v.parse().ok())
            .unwrap_or(0);
        if wanted < found {
            return Err(Error::invalid(format!(
                "{name} cannot be made smaller: it has {}",
                Size(found)
            ))
            .remedy("make a new, smaller volume and copy the files"));
        }
        if wanted > found {
            self.set(call, &name, "volsize", &wanted.to_string())?;
        }
        // Repeated, it does nothing.
        let was_mounted = self.mounts.is_mounted(volume.id)?;
        let (path, source) = self.mount(call, volume)?;
        let grown = zvol::grow(call, &path, &source);
        if !was_mounted {
            self.mounts.unmount(volume.id)?;
        }
        grown
    }
}

/// Refuses properties by which we mount ourselves.
fn check(options: &VolumeOptions) -> Result<()> {
    options.check()?;
    let mut names = options.properties.iter().flat_map(|all| all.0.keys());
    match names.find(|name| OURS.contains(&name.as_str())) {
        Some(name) => Err(
            Error::invalid(format!("the property {name} cannot be set")).remedy(
                "where a volume is mounted is said by mount; how it is encrypted by encryption and key",
            ),
        ),
        None => Ok(()),
    }
}

/// What the options ask for, with a zvol's size as it can be.
fn rounded(options: &VolumeOptions) -> Vec<(String, String)> {
    let mut wanted = options.wanted();
    for (property, value) in &mut wanted {
        if property == "volsize" {
            *value = zvol_size(options.size).to_string();
        }
    }
    wanted
}

fn zvol_size(size: Option<Size>) -> u64 {
    size.map_or(0, |size| size.0).next_multiple_of(ZVOL_UNIT)
}

fn stamp(id: VolumeId) -> String {
    format!("{ID}={id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zvol_has_whole_mebibytes() {
        assert_eq!(zvol_size(Some(Size(1))), 1 << 20);
        assert_eq!(zvol_size(Some(Size(1 << 20))), 1 << 20);
    }

    #[test]
    fn where_it_is_mounted_is_no_property_of_a_volume() {
        let options = |text: &str| serde_json::from_str::<VolumeOptions>(text).unwrap();
        for name in OURS {
            let text = format!("{{\"properties\": {{\"{name}\": \"x\"}}}}");
            assert!(check(&options(&text)).is_err(), "{name}");
        }
        check(&options("{\"properties\": {\"atime\": \"off\"}}")).unwrap();
    }
}
