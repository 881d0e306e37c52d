//! What `mount` hands out.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use lazarette_core::VolumeId;
use lazarette_core::message::Method;
use rustix::fs::{
    AtFlags, Mode, OFlags, StatVfsMountFlags, StatxAttributes, StatxFlags, fstatvfs, openat, statx,
};

use super::{Found, Named, failed, needs, skipped};
use crate::kit::Kit;
use crate::report::Verdict;
use crate::subject::Failed;

pub(super) const CHECKS: &[Named] = &[
    Named::open(
        "mounts.root",
        "the descriptor is the root of a mount that is attached nowhere",
        root,
    ),
    Named::open(
        "mounts.path",
        "`path` is below the directory of mounts, and a mount of `fs_type`",
        path,
    ),
    Named::open("mounts.safe", "mounts are nosuid and nodev", safe),
    Named::open(
        "mounts.data",
        "what is written can be read, here and in the plugin",
        data,
    ),
    Named::open(
        "mounts.twice",
        "a repeated `mount` hands out the same, and stacks nothing",
        twice,
    ),
    Named::open(
        "mounts.unmount",
        "`unmount` answers null, also when repeated and for what is not mounted",
        unmount,
    ),
    Named::open(
        "mounts.keeps",
        "data outlives an unmount and a mount",
        keeps,
    ),
    Named::open(
        "mounts.outlives",
        "a descriptor works on after `unmount`",
        outlives,
    ),
];

/// Writes a file at the top of a volume.
pub(super) fn write(volume: &OwnedFd, name: &str, bytes: &[u8]) -> Result<(), Failed> {
    let flags =
        OFlags::CREATE | OFlags::TRUNC | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = openat(volume, name, flags, Mode::from_raw_mode(0o600))
        .map_err(|e| Failed::new(format!("a file cannot be made in the volume: {e}")))?;
    let mut file = File::from(file);
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    written.map_err(|e| Failed::new(format!("a file in the volume cannot be written: {e}")))
}

/// Reads a file at the top of a volume; none if there is none.
pub(super) fn read(volume: &OwnedFd, name: &str) -> Result<Option<Vec<u8>>, Failed> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = match openat(volume, name, flags, Mode::empty()) {
        Ok(file) => file,
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(e) => return failed(format!("a file in the volume cannot be opened: {e}")),
    };
    let mut bytes = Vec::new();
    File::from(file)
        .take(1 << 20)
        .read_to_end(&mut bytes)
        .map_err(|e| Failed::new(format!("a file in the volume cannot be read: {e}")))?;
    Ok(Some(bytes))
}

/// The ID of the mount that `fd` is on.
fn mount_id(fd: &OwnedFd) -> Result<u64, Failed> {
    use std::os::fd::AsRawFd;
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd()))?;
    let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:"));
    id.and_then(|id| id.trim().parse().ok())
        .ok_or_else(|| Failed::new("the kernel does not tell the mount of a descriptor"))
}

fn root(kit: &mut Kit) -> Found {
    let volume = kit.made()?;
    let (_, fd) = kit.mount(&volume)?;
    let facts = statx(&fd, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)
        .map_err(|e| Failed::new(format!("the descriptor cannot be looked at: {e}")))?;
    if u32::from(facts.stx_mode) & 0o170_000 != 0o040_000 {
        return failed("the descriptor is no directory");
    }
    if !facts.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
        return failed(
            "the descriptor is a directory, not the root of a mount; use open_tree with OPEN_TREE_CLONE",
        );
    }
    let id = mount_id(&fd)?;
    if kit.facts()?.mounts.iter().any(|row| row.id == id) {
        return failed("the descriptor is the plugin's own mount, not a detached clone of it");
    }
    Ok(Verdict::Passed)
}

fn path(kit: &mut Kit) -> Found {
    let volume = kit.made()?;
    let (mounted, _fd) = kit.mount(&volume)?;
    if !mounted.path.starts_with(kit.subject.mounts()) || mounted.path == kit.subject.mounts() {
        return failed(format!(
            "{} is not below {}",
            mounted.path.display(),
            kit.subject.mounts().display()
        ));
    }
    if let Some(below) = &mounted.subdirectory {
        let plain = |part| matches!(part, std::path::Component::Normal(_));
        if below.as_os_str().is_empty() || !below.components().all(plain) {
            return failed(format!(
                "`subdirectory` {below:?} is not relative, or leads out"
            ));
        }
    }
    let facts = kit.facts()?;
    let Some(row) = facts.at(&mounted.path).last().copied() else {
        return failed(format!("nothing is mounted at {}", mounted.path.display()));
    };
    let found = row.fs_type.to_string_lossy();
    if found != mounted.fs_type.as_str() {
        return failed(format!(
            "`fs_type` is {}, but the mount table says {found}",
            mounted.fs_type
        ));
    }
    Ok(Verdict::Passed)
}

fn safe(kit: &mut Kit) -> Found {
    let volume = kit.made()?;
    let (_, fd) = kit.mount(&volume)?;
    let flags = fstatvfs(&fd)
        .map_err(|e| Failed::new(format!("statvfs: {e}")))?
        .f_flag;
    for (flag, name) in [
        (StatVfsMountFlags::NOSUID, "nosuid"),
        (StatVfsMountFlags::NODEV, "nodev"),
    ] {
        if !flags.contains(flag) {
            return failed(format!("the mount is not {name}"));
        }
    }
    Ok(Verdict::Passed)
}

fn data(kit: &mut Kit) -> Found {
    let volume = kit.made()?;
    let (mounted, fd) = kit.mount(&volume)?;
    let bytes: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    write(&fd, ".laz-check-data", &bytes)?;
    if read(&fd, ".laz-check-data")?.as_ref() != Some(&bytes) {
        return failed("what is read is not what was written");
    }
    let mut seen = mounted.path.clone();
    seen.extend(mounted.subdirectory.as_deref());
    seen.push(".laz-check-data");
    let pid = kit
        .subject
        .pid()
        .ok_or_else(|| Failed::new("the plugin is gone"))?;
    let inside = std::fs::read(crate::subject::below_root(pid, &seen));
    rustix::fs::unlinkat(&fd, ".laz-check-data", AtFlags::empty()).map_err(std::io::Error::from)?;
    match inside {
        Ok(found) if found == bytes => Ok(Verdict::Passed),
        Ok(_) => failed("the plugin's own mount shows other bytes"),
        Err(e) => failed(format!(
            "the descriptor is not of what is mounted at `path`: {e}"
        )),
    }
}

fn twice(kit: &mut Kit) -> Found {
    let volume = kit.made()?;
    let (one, first) = kit.mount(&volume)?;
    write(&first, ".laz-check-twice", b"1")?;
    let (two, second) = kit.mount(&volume)?;
    if one != two {
        return failed(format!(
            "the second `mount` answers {two:?}, the first {one:?}"
        ));
    }
    if read(&second, ".laz-check-twice")?.is_none() {
        return failed("the second `mount` hands out something else");
    }
    rustix::fs::unlinkat(&second, ".laz-check-twice", AtFlags::empty())
        .map_err(std::io::Error::from)?;
    let stacked = kit.facts()?.at(&one.path).len();
    if stacked != 1 {
        return failed(format!(
            "{stacked} mounts lie on {} after two calls",
            one.path.display()
        ));
    }
    Ok(Verdict::Passed)
}

fn unmount(kit: &mut Kit) -> Found {
    let volume = kit.made()?;
    kit.unmount(&volume)?;
    let (_, fd) = kit.mount(&volume)?;
    drop(fd);
    kit.unmount(&volume)?;
    kit.unmount(&volume)?;
    kit.silent(Method::Unmount {
        id: VolumeId::random(),
    })?;
    let (_, fd) = kit.mount(&volume)?;
    write(&fd, ".laz-check-unmount", b"1")?;
    rustix::fs::unlinkat(&fd, ".laz-check-unmount", AtFlags::empty())
        .map_err(std::io::Error::from)?;
    Ok(Verdict::Passed)
}

fn keeps(kit: &mut Kit) -> Found {
    if !kit.settings.keeps_data {
        return skipped("the settings say that it does not (`keeps_data`)");
    }
    let volume = kit.made()?;
    let (_, fd) = kit.mount(&volume)?;
    write(&fd, ".laz-check-keeps", b"kept")?;
    drop(fd);
    kit.unmount(&volume)?;
    let (_, fd) = kit.mount(&volume)?;
    if read(&fd, ".laz-check-keeps")?.as_deref() != Some(b"kept".as_slice()) {
        return failed(
            "what was written is gone after an unmount and a mount (`keeps_data` is false for such storage)",
        );
    }
    rustix::fs::unlinkat(&fd, ".laz-check-keeps", AtFlags::empty())
        .map_err(std::io::Error::from)?;
    Ok(Verdict::Passed)
}

fn outlives(kit: &mut Kit) -> Found {
    needs!(kit, Create);
    let volume = kit.made()?;
    let (_, fd) = kit.mount(&volume)?;
    write(&fd, "held", b"on")?;
    kit.unmount(&volume)?;
    if read(&fd, "held")?.as_deref() != Some(b"on".as_slice()) {
        return failed(
            "a volume that was handed on is empty after `unmount`: containers would lose it",
        );
    }
    Ok(Verdict::Passed)
}
