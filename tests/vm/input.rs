//! Bad configuration is refused when it is set, with path, line and the name that was meant.

use anyhow::Result;

use crate::guest::Guest;
use crate::{Case, cases};

pub(crate) const RESTORED: &[Case] = cases![Restored:
    case_22_23_bad_configuration_is_refused_when_it_is_set,
];

fn case_22_23_bad_configuration_is_refused_when_it_is_set(guest: &Guest) -> Result<()> {
    let context = |context: &str| {
        format!("#cloud-config\nlazarette:\n  storage:\n    contexts:\n      {context}\n")
    };
    let deep = format!(
        "#cloud-config\nruncmd: {}1{}\n",
        "[".repeat(40),
        "]".repeat(40)
    );
    let big = format!("#cloud-config\n# {}\n", "x".repeat(1 << 20));
    for (what, text, words) in [
        (
            "a field",
            context("bad: {kind: nfs, servr: x}"),
            &[":5:", "servr", "server"] as &[&str],
        ),
        (
            "a type",
            context("bad: {kind: nfs, server: [x]}"),
            &[":5:", "bad", "server"],
        ),
        (
            "a kind",
            context("bad: {kind: nfz}"),
            &[":5:", "nfz", "nfs"],
        ),
        (
            "a name with a slash",
            context("a/b: {kind: nfs, server: x}"),
            &[":5:", "a/b"],
        ),
        (
            "a name with dots",
            context("..: {kind: nfs, server: x}"),
            &[":5:", ".."],
        ),
        (
            "a name with a comma",
            context("\"a,b\": {kind: nfs, server: x}"),
            &[":5:", "a,b"],
        ),
        (
            "a name with a newline",
            context("\"a\\nb\": {kind: nfs, server: x}"),
            &[":5:"],
        ),
        (
            "a name like an option",
            context("-a: {kind: nfs, server: x}"),
            &[":5:", "-a"],
        ),
        (
            "a name twice",
            context("c: {kind: nfs, server: x}\n      c: {kind: nfs, server: y}"),
            &[":6:", "c"],
        ),
        ("depth", deep, &["32"]),
        ("size", big, &["1 MiB"]),
    ] {
        guest
            .machine()
            .push("/tmp/bad.yml", text.as_bytes(), 0o600)?;
        guest.refused(
            &format!("validate {what}"),
            "laz config validate /tmp/bad.yml",
            words,
        )?;
        guest.refused(&format!("set {what}"), "laz config set /tmp/bad.yml", words)?;
    }
    guest.sh(
        "nothing of it applies, the rest goes on",
        r#"
        ! test -e /var/lib/lazarette/conf/cloud-config.yml || fail "it was kept"
        same "1 2" "$(laz status | grep -c '^nas  ') $(laz status | grep -c '^nas\.')" "contexts and volumes"
        "#,
    )?;
    guest.sh(
        "what is good applies without a reboot, and its removal, too",
        r#"
        cat > /tmp/good.yml <<'END'
#cloud-config
lazarette:
  storage:
    volumes:
      letters: {context: nas, export: /srv/home, path: letters, mount: /mnt/letters, read_only: false}
END
        laz config validate /tmp/good.yml
        laz config set /tmp/good.yml
        until_ok 60 mounted /mnt/letters
        same x "$(docker run --rm -v /mnt/letters:/data busybox sh -c 'echo x > /data/f; cat /data/f')" read
        echo '#cloud-config' | laz config set -
        gone() { ! mounted /mnt/letters; }
        until_ok 60 gone
        nas exec test -e /srv/home/letters/f
        "#,
    )?;
    a_directory_is_set_aside(guest)
}

fn a_directory_is_set_aside(guest: &Guest) -> Result<()> {
    guest.sh(
        "a directory is set aside for volumes, but none that holds something",
        r#"
        view sh -c 'mkdir -p /full && touch /full/file'
        cat > /tmp/roots.yml <<'END'
lazarette:
  storage:
    mount_roots: [/srv, /full]
    contexts: {nas: {kind: nfs, server: nas.test, exports: []}}
    volumes:
      letters: {context: nas, export: /srv/home, path: letters, mount: /srv/old/letters}
      covers: {context: nas, export: /srv/home, path: letters, mount: /full/letters}
END
        laz config set /tmp/roots.yml
        until_ok 60 mounted /srv/old/letters
        until_ok 60 shows '/full.*is not empty'
        view test -e /full/file
        same x "$(docker run --rm -v /srv/old/letters:/data busybox cat /data/f)" "read below /srv"
        ! view touch /srv/old/file 2> /dev/null || fail "the directory beside a volume can be written to"
        kill -9 "$(core_pid)"
        until_ok 60 shows '^letters .* mounted .*/srv/old/letters'
        same 1 "$(view grep -c ' /srv/old/letters ' /proc/thread-self/mountinfo)" "mounts after core was killed"
        echo '#cloud-config' | laz config set -
        gone() { ! mounted /srv/old/letters; }
        until_ok 60 gone
        same "" "$(view ls -A /srv)" "left below /srv"
        "#,
    )
    .map(drop)
}
