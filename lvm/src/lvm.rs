//! Running LVM's tools: with a configuration of our own, without udev, on some devices only.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{fs, io};

use lazarette_plugin::command::Command;
use lazarette_plugin::{Call, Error, Result};

use crate::device_mapper;
use crate::devices;
use crate::message;
use crate::programs::Programs;
use crate::report::{self, Group, Logical, Physical};

/// How much time there is.
#[derive(Clone, Copy)]
pub(crate) enum Time<'a> {
    /// What a call has left.
    Of(&'a Call),
    /// Until then.
    Until(Instant),
}

impl Time<'_> {
    /// So much from now on.
    pub(crate) fn limit(limit: Duration) -> Self {
        Self::Until(Instant::now() + limit)
    }

    /// What is left.
    pub(crate) fn left(self) -> Duration {
        match self {
            Self::Of(call) => call.remaining(),
            Self::Until(end) => end.saturating_duration_since(Instant::now()),
        }
    }
}

/// LVM's tools with a directory for their configuration.
#[derive(Debug, Clone)]
pub(crate) struct Lvm {
    pub(crate) programs: Programs,
    /// The directory of the device mapper's nodes.
    pub(crate) nodes: PathBuf,
    directory: PathBuf,
    /// What was configured last.
    looked_at: Arc<Mutex<Devices>>,
}

/// The directory of our lvm.conf; in memory, gone with the container.
pub(crate) const DIRECTORY: &str = "/run/lazarette-lvm";

/// Bytes of a report that are kept: some thousand volumes.
const REPORT: usize = 8 << 20;

/// Nothing waits for udev, which does not run in this container; what others have set up on their
/// host does not count here.
const SETTINGS: &str = r#"
activation {
    udev_sync=0
    udev_rules=0
    verify_udev_operations=0
    monitoring=0
    process_priority=0
    retry_deactivation=1
    missing_stripe_filler="error"
    thin_pool_autoextend_threshold=100
    snapshot_autoextend_threshold=100
}
allocation {
    thin_pool_zero=1
    wipe_signatures_when_zeroing_new_lvs=1
}
global {
    event_activation=0
    use_lvmpolld=0
    locking_type=1
    wait_for_locks=1
}
backup {
    backup=0
    archive=0
}
report {
    output_format="basic"
}
"#;

/// Which devices LVM looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Devices {
    /// All block devices.
    All,
    /// These, by any of their paths.
    Only(Vec<PathBuf>),
    /// All but these.
    Except(Vec<PathBuf>),
}

impl Lvm {
    pub(crate) fn new(programs: Programs, directory: &Path) -> Self {
        Self {
            programs,
            nodes: device_mapper::NODES.into(),
            directory: directory.to_owned(),
            looked_at: Arc::new(Mutex::new(Devices::All)),
        }
    }

    /// From now on only `devices` are looked at.
    pub(crate) fn configure(&self, devices: &Devices) -> Result<()> {
        let mut looked_at = self
            .looked_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        self.write(devices)?;
        *looked_at = devices.clone();
        Ok(())
    }

    /// From now on these are looked at, too. Gives what was looked at before.
    ///
    /// # Errors
    /// `Invalid` for a device of another group of the same name, which must not be looked at.
    pub(crate) fn look_also_at(&self, more: &[PathBuf]) -> Result<Devices> {
        let mut looked_at = self
            .looked_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut paths = match &*looked_at {
            Devices::All => return Ok(Devices::All),
            Devices::Except(others) => {
                refuse_any_of(others, more)?;
                return Ok(looked_at.clone());
            }
            Devices::Only(paths) => paths.clone(),
        };
        for path in more {
            if !paths.contains(path) {
                paths.push(path.clone());
            }
        }
        let devices = Devices::Only(paths);
        self.write(&devices)?;
        Ok(std::mem::replace(&mut *looked_at, devices))
    }

    /// Writes the configuration.
    fn write(&self, devices: &Devices) -> Result<()> {
        let write = || -> io::Result<()> {
            fs::create_dir_all(&self.directory)?;
            let fresh = self.directory.join("lvm.conf.new");
            fs::write(&fresh, settings(devices))?;
            fs::rename(fresh, self.directory.join("lvm.conf"))
        };
        write().map_err(|e| {
            Error::internal(format!(
                "cannot write {}/lvm.conf",
                self.directory.display()
            ))
            .cause(e)
            .remedy("look at laz logs CONTEXT")
        })
    }

    fn command(&self, time: Time<'_>, name: &str) -> Command {
        Command::new(&self.programs.lvm)
            .env("LVM_SYSTEM_DIR", &self.directory)
            // A descriptor of the plugin host's is none of LVM's business.
            .env("LVM_SUPPRESS_FD_WARNINGS", "1")
            .arg(name)
            .deadline(time.left())
            .keep(REPORT)
    }

    /// Runs a command that changes something; `what` names it in errors.
    pub(crate) fn run(&self, time: Time<'_>, what: &str, words: &[&str]) -> Result<()> {
        let (name, arguments) = words.split_first().expect("a command has a name");
        // Cut off, it may leave devices suspended.
        self.command(time, name)
            .args(arguments)
            .to_the_end()
            .run()
            .map(drop)
            .map_err(|failed| message::explain(&failed, what))
    }

    fn report(&self, time: Time<'_>, name: &str, columns: &str, more: &[&str]) -> Result<String> {
        let output = self
            .command(time, name)
            .args(["--reportformat", "json", "--units", "b", "--nosuffix"])
            .args(["--binary", "-o", columns])
            .args(more)
            .output()
            .map_err(|failed| message::explain(&failed, "LVM does not answer"))?;
        if output.truncated {
            return Err(Error::internal("LVM's report is too long")
                .remedy("use fewer logical volumes in a volume group"));
        }
        let json = output.stdout_text();
        // LVM ends with 5 for missing devices and the like, and reports all the same.
        if output.exit.success() || json.contains("\"report\"") {
            return Ok(json);
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(message::explain_text(&said, "LVM cannot report"))
    }

    /// The volume groups on the devices that are looked at.
    pub(crate) fn groups(&self, time: Time<'_>) -> Result<Vec<Group>> {
        report::groups(&self.report(time, "vgs", Group::COLUMNS, &[])?)
    }

    /// The physical volumes; of one that is there twice, both.
    pub(crate) fn physicals(&self, time: Time<'_>) -> Result<Vec<Physical>> {
        let reported = self.report(time, "pvs", Physical::COLUMNS, &["-a"])?;
        let mut physicals = report::physicals(&reported)?;
        // With -a come duplicates, and devices that are no physical volumes.
        physicals.retain(|p| !p.uuid.is_empty());
        Ok(physicals)
    }

    /// The logical volumes of `group`, with their parts.
    pub(crate) fn logicals(&self, time: Time<'_>, group: &str) -> Result<Vec<Logical>> {
        let reported = self.report(time, "lvs", Logical::COLUMNS, &["-a", "--", group])?;
        report::logicals(&reported)
    }

    /// The group of that name and UUID and its logical volumes, with their parts; `None` if there is
    /// no such group.
    pub(crate) fn whole(
        &self,
        time: Time<'_>,
        name: &str,
        uuid: &str,
    ) -> Result<Option<(Group, Vec<Logical>)>> {
        let columns = format!("{},{}", Logical::COLUMNS, Group::COLUMNS);
        let reported = self.report(time, "lvs", &columns, &["-a", "--", name])?;
        if let Some(whole) = report::whole(&reported, uuid)? {
            return Ok(Some(whole));
        }
        // It has no logical volume, or is gone: both look the same.
        let group = self.groups(time)?.into_iter().find(|g| g.uuid == uuid);
        Ok(group.map(|group| (group, Vec::new())))
    }

    /// The node of a logical volume, as LVM names it.
    pub(crate) fn node(&self, group: &str, name: &str) -> PathBuf {
        self.nodes.join(device_mapper::name_of(group, name))
    }
}

/// Refuses what is in `others`, by whatever path.
fn refuse_any_of(others: &[PathBuf], wanted: &[PathBuf]) -> Result<()> {
    let nodes: Vec<_> = others.iter().map(|o| devices::node(o)).collect();
    let is_other = |path: &&PathBuf| {
        devices::node(path).is_ok_and(|node| nodes.iter().flatten().any(|other| *other == node))
    };
    let Some(path) = wanted.iter().find(is_other) else {
        return Ok(());
    };
    let what = format!("the device {} cannot be taken", path.display());
    Err(Error::invalid(what)
        .cause("it belongs to another volume group of the same name")
        .remedy("choose another one, or remove that volume group by hand"))
}

fn settings(devices: &Devices) -> String {
    let mut text = SETTINGS.to_owned();
    text.push_str("devices {\n    obtain_device_list_from_udev=0\n");
    text.push_str("    external_device_info_source=\"none\"\n    use_devicesfile=0\n");
    text.push_str("    issue_discards=1\n");
    let filter = |verdict: char, paths: &[PathBuf]| {
        let mut filter = String::new();
        for path in paths {
            let escaped = escape(&path.to_string_lossy());
            write!(filter, "\"{verdict}|^{escaped}$|\",").expect("a String takes all");
        }
        filter
    };
    match devices {
        Devices::All => {}
        Devices::Only(paths) => {
            let filter = filter('a', paths);
            text.push_str(&format!("    global_filter=[{filter}\"r|.*|\"]\n"));
        }
        // What no pattern matches is looked at.
        Devices::Except(paths) => {
            let filter = filter('r', paths);
            text.push_str(&format!(
                "    global_filter=[{}]\n",
                filter.trim_end_matches(',')
            ));
        }
    }
    text.push_str("}\n");
    text
}

/// `path` as a regular expression in LVM's quotes. Paths of devices have no other characters that
/// mean something than these.
fn escape(path: &str) -> String {
    let mut escaped = String::new();
    for character in path.chars() {
        match character {
            '.' | '+' | '{' | '}' => {
                escaped.push('[');
                escaped.push(character);
                escaped.push(']');
            }
            _ => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_devices_that_are_named_are_looked_at() {
        let text = settings(&Devices::Only(vec![
            "/dev/disk/by-id/virtio-disk1".into(),
            "/dev/disk/by-id/nvme-eui.00+1".into(),
        ]));
        let wanted = "global_filter=[\"a|^/dev/disk/by-id/virtio-disk1$|\",\
            \"a|^/dev/disk/by-id/nvme-eui[.]00[+]1$|\",\"r|.*|\"]";
        assert!(text.contains(wanted), "{text}");
        assert!(!settings(&Devices::All).contains("filter"));
        let text = settings(&Devices::Except(vec!["/dev/sdb".into(), "/dev/sdc".into()]));
        let wanted = "global_filter=[\"r|^/dev/sdb$|\",\"r|^/dev/sdc$|\"]\n";
        assert!(text.contains(wanted), "{text}");
    }

    #[test]
    fn what_is_looked_at_too_is_added_once_and_can_be_taken_back() {
        let directory = tempfile::tempdir().unwrap();
        let lvm = Lvm::new(Programs::default(), directory.path());
        let one = Devices::Only(vec!["/dev/one".into()]);
        lvm.configure(&one).unwrap();
        assert_eq!(lvm.look_also_at(&["/dev/two".into()]).unwrap(), one);
        let both = lvm.look_also_at(&["/dev/two".into()]).unwrap();
        assert_eq!(
            both,
            Devices::Only(vec!["/dev/one".into(), "/dev/two".into()])
        );
        let text = fs::read_to_string(directory.path().join("lvm.conf")).unwrap();
        let wanted = "global_filter=[\"a|^/dev/one$|\",\"a|^/dev/two$|\",\"r|.*|\"]";
        assert!(text.contains(wanted), "{text}");
    }

    #[test]
    fn nothing_waits_for_udev() {
        let text = settings(&Devices::All);
        for setting in [
            "udev_sync=0",
            "udev_rules=0",
            "obtain_device_list_from_udev=0",
        ] {
            assert!(text.contains(setting), "{setting}");
        }
    }
}
