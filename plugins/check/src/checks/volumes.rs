//! Making and taking away volumes, each call as often as a crash may repeat it.

use lazarette_core::message::Method;

use super::{Found, Named, failed, needs};
use crate::kit::Kit;
use crate::report::Verdict;

pub(super) const CHECKS: &[Named] = &[
    Named::open(
        "volumes.create",
        "`create` says `created`, and `already_exists` when it is repeated",
        create,
    ),
    Named::open(
        "volumes.remove",
        "`remove` says `removed`, and `already_absent` when it is repeated or there was nothing",
        remove,
    ),
    Named::open(
        "volumes.nothing-left",
        "a removed volume leaves no mount and no directory",
        nothing_left,
    ),
    Named::open(
        "volumes.again",
        "a removed volume can be made again, and is empty",
        again,
    ),
    Named::open(
        "volumes.apart",
        "removing one volume leaves the others alone",
        apart,
    ),
    Named::open(
        "volumes.remember",
        "a volume is there after the context was closed and opened, and is recognised",
        remember,
    ),
];

fn create(kit: &mut Kit) -> Found {
    needs!(kit, Create);
    let volume = kit.made()?;
    kit.says(
        Method::Create {
            volume: volume.clone(),
        },
        "already_exists",
    )?;
    kit.mount(&volume)?;
    kit.says(
        Method::Create {
            volume: volume.clone(),
        },
        "already_exists",
    )?;
    kit.unmount(&volume)?;
    kit.says(Method::Create { volume }, "already_exists")?;
    Ok(Verdict::Passed)
}

fn remove(kit: &mut Kit) -> Found {
    needs!(kit, Create);
    let volume = kit.fresh();
    kit.says(
        Method::Remove {
            volume: volume.clone(),
        },
        "already_absent",
    )?;
    kit.says(
        Method::Create {
            volume: volume.clone(),
        },
        "created",
    )?;
    kit.says(
        Method::Remove {
            volume: volume.clone(),
        },
        "removed",
    )?;
    kit.says(
        Method::Remove {
            volume: volume.clone(),
        },
        "already_absent",
    )?;
    kit.forget(volume.id);
    Ok(Verdict::Passed)
}

fn nothing_left(kit: &mut Kit) -> Found {
    needs!(kit, Create);
    let volume = kit.made()?;
    drop(kit.mount(&volume)?);
    kit.remove(&volume)?;
    match kit.facts()?.named(&volume.id.to_string()).first() {
        None => Ok(Verdict::Passed),
        Some(left) => failed(format!("after `remove`, {left} is left")),
    }
}

fn again(kit: &mut Kit) -> Found {
    needs!(kit, Create);
    let volume = kit.made()?;
    let (_, fd) = kit.mount(&volume)?;
    super::mounts::write(&fd, "before", b"old")?;
    drop(fd);
    kit.unmount(&volume)?;
    kit.says(
        Method::Remove {
            volume: volume.clone(),
        },
        "removed",
    )?;
    kit.says(
        Method::Create {
            volume: volume.clone(),
        },
        "created",
    )?;
    let (_, fd) = kit.mount(&volume)?;
    if super::mounts::read(&fd, "before")?.is_some() {
        return failed("a volume that was removed and made again still holds the old data");
    }
    Ok(Verdict::Passed)
}

fn apart(kit: &mut Kit) -> Found {
    needs!(kit, Create);
    let (one, two) = (kit.made()?, kit.made()?);
    let (_, fd) = kit.mount(&two)?;
    super::mounts::write(&fd, "mine", b"two")?;
    kit.remove(&one)?;
    if super::mounts::read(&fd, "mine")?.as_deref() != Some(b"two".as_slice()) {
        return failed("removing one volume took another one's data");
    }
    kit.says(Method::Create { volume: two }, "already_exists")?;
    Ok(Verdict::Passed)
}

fn remember(kit: &mut Kit) -> Found {
    needs!(kit, Create);
    let volume = kit.made()?;
    match kit.try_call(Method::Close)?.result {
        Ok(_) => {}
        // In use by its own volume: it stays open, which is safe.
        Err(error) if error.kind == lazarette_core::ErrorKind::Busy => {}
        Err(error) => return failed(format!("close: {error}")),
    }
    kit.open()?;
    kit.says(
        Method::Create {
            volume: volume.clone(),
        },
        "already_exists",
    )?;
    kit.mount(&volume)?;
    Ok(Verdict::Passed)
}
