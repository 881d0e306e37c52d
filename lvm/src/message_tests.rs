use super::*;
use ErrorKind::*;
use lazarette_plugin::command::Exit;
use proptest::prelude::*;
use std::time::Duration;

/// Outputs of LVM 2.03.31, what they mean, and a part of the reason that is shown.
const SEEN: &[(&str, ErrorKind, &str)] = &[
    (
        "  Volume group \"fast\" not found\n  Cannot process volume group fast\n",
        NotFound,
        "\"fast\" not found",
    ),
    (
        "  Failed to find logical volume \"fast/nonsense\"\n",
        NotFound,
        "fast/nonsense",
    ),
    (
        "  Volume group \"fast\" has insufficient free space (615 extents): 25600 required.\n",
        NoSpace,
        "25600 required",
    ),
    (
        "  Number of stripes (3) must not exceed number of physical volumes (2)\n",
        InvalidArgument,
        "Number of stripes (3)",
    ),
    (
        "  Extending 2 mirror images.\n  Insufficient free space: 1400 extents needed, but only 768 available\n",
        NoSpace,
        "only 768 available",
    ),
    (
        "  Rounding up size to full physical extent 12.00 MiB\n  Logical Volume \"lz-1\" already exists in volume group \"fast\"\n",
        AlreadyExists,
        "already exists",
    ),
    (
        "  WARNING: setpriority -18 failed: Permission denied.\n  /sbin/modprobe: execvp failed: No such file or directory\n  raid1: Required device-mapper target(s) not detected in your kernel.\n",
        Internal,
        "raid1: Required",
    ),
    (
        "WARNING: ext4 signature detected on /dev/disk/by-id/virtio-disk3 at offset 1080. Wipe it? [y/n]: [n]\n  Aborted wiping of ext4.\n  1 existing signature left on the device.\n",
        Internal,
        "left on the device",
    ),
];

fn failed(failure: Failure, stderr: &str) -> CommandError {
    CommandError {
        program: "/usr/sbin/lvm".into(),
        arguments: Vec::new(),
        failure,
        stderr: stderr.into(),
    }
}

#[test]
fn every_known_message_has_its_kind_its_reason_and_a_remedy() {
    for &(stderr, kind, reason) in SEEN {
        let error = explain(
            &failed(Failure::Exit(Exit::Code(5)), stderr),
            "cannot do it",
        );
        assert_eq!(error.kind, kind, "{stderr}");
        assert_eq!(error.message, "cannot do it");
        let cause = error.cause.unwrap();
        assert!(cause.contains(reason) && cause.trim() == cause, "{cause}");
        assert!(error.remedy.is_some(), "{stderr}");
    }
}

#[test]
fn where_to_read_on_is_no_reason() {
    let said = "  Something is wrong.\n  WARNING: by the way.\n  Run `lvcreate --help' for more information.\n";
    assert_eq!(
        explain_text(said, "x").cause.as_deref(),
        Some("Something is wrong.")
    );
}

#[test]
fn a_time_out_is_one_and_a_missing_program_is_the_image_s_fault() {
    let late = explain(&failed(Failure::Deadline(Duration::from_secs(9)), ""), "x");
    assert_eq!(late.kind, Timeout);
    let killed = Failure::Exit(Exit::Signal(9));
    let killed = explain(&failed(killed, "  WARNING: by the way.\n"), "x");
    assert!(
        killed.to_string().contains("killed by signal 9"),
        "{killed}"
    );
    let absent = Failure::Start(std::io::ErrorKind::NotFound.into());
    let absent = explain(&failed(absent, ""), "x");
    assert!(absent.to_string().contains("image"), "{absent}");
}

proptest! {
    #[test]
    fn no_message_brings_it_down(text in "\\PC{0,200}") {
        prop_assert!(explain_text(&text, "x").remedy.is_some());
    }
}
