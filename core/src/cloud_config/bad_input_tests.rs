//! Each mistake a user can make, with the line, the path and the words that are told.

use super::load_tests::one;

/// Each bad input of a kind, with the line, the path and the words that must be told.
pub(super) const BAD: &[(&str, &str, u64, &str, &[&str])] = &[
    (
        "unknown field of a context",
        "lazarette:\n  storage:\n    contexts:\n      nas:\n        kind: nfs\n        server: a\n        servr: b\n",
        7,
        "lazarette.storage.contexts.nas.servr",
        &["unknown field `servr`", "did you mean `server`?"],
    ),
    (
        "unknown field of a volume, near one of ours",
        "lazarette:\n  storage:\n    contexts: {nas: {kind: nfs, server: a}}\n    volumes:\n      db:\n        context: nas\n        requird: true\n",
        7,
        "lazarette.storage.volumes.db.requird",
        &["did you mean `required`?"],
    ),
    (
        "unknown field of a volume, near one of the kind's",
        "lazarette:\n  storage:\n    contexts: {nas: {kind: nfs, server: a}}\n    volumes:\n      db: {context: nas,\n        exprt: /x}\n",
        6,
        "lazarette.storage.volumes.db.exprt",
        &["did you mean `export`?"],
    ),
    (
        "unknown field at the top",
        "hostname: a\nlazarete: {}\n",
        2,
        "lazarete",
        &["unknown field `lazarete`", "did you mean `lazarette`?"],
    ),
    (
        "unknown field without a neighbour",
        "network:\n  zzzzzz: 1\n",
        2,
        "network.zzzzzz",
        &[
            "unknown field",
            "known here: `hosts`, `interfaces`, `nameservers`, `search`",
        ],
    ),
    (
        "wrong type: a number for text",
        "\nhostname: 5\n",
        2,
        "hostname",
        &[
            "expected text, found the number 5",
            "put it in quotes: \"5\"",
        ],
    ),
    (
        "wrong type: text for true or false",
        "lazarette:\n  storage:\n    contexts:\n      nas:\n        kind: nfs\n        server: a\n        hard: nope\n",
        7,
        "lazarette.storage.contexts.nas.hard",
        &["expected true or false, found the text \"nope\""],
    ),
    (
        "wrong type: text for a whole number that may be null",
        "lazarette:\n  storage:\n    contexts:\n      nas:\n        kind: nfs\n        server: a\n        timeo: soon\n",
        7,
        "lazarette.storage.contexts.nas.timeo",
        &["expected a whole number, found the text \"soon\""],
    ),
    (
        "wrong type: text for a list",
        "lazarette:\n  storage:\n    contexts:\n      nas:\n        kind: nfs\n        server: a\n        exports: /srv\n",
        7,
        "lazarette.storage.contexts.nas.exports",
        &["expected a list, found the text \"/srv\"", "write [/srv]"],
    ),
    (
        "wrong type: a list for a map",
        "lazarette:\n  storage:\n    contexts:\n    - nas\n",
        3,
        "lazarette.storage.contexts",
        &["expected a map, found a list"],
    ),
    (
        "wrong value: a version as a number",
        "lazarette:\n  storage:\n    contexts:\n      nas:\n        kind: nfs\n        server: a\n        vers: 4.2\n",
        7,
        "lazarette.storage.contexts.nas.vers",
        &["`4.2`", "found the number 4.2", "put it in quotes"],
    ),
    (
        "wrong value: not one of the versions",
        "lazarette:\n  storage:\n    contexts:\n      nas:\n        kind: nfs\n        server: a\n        vers: '4.3'\n",
        7,
        "lazarette.storage.contexts.nas.vers",
        &["expected one of `3`, `4.1`, `4.2`, found the text \"4.3\""],
    ),
    (
        "wrong value: too small",
        "lazarette:\n  storage:\n    contexts:\n      nas:\n        kind: nfs\n        server: a\n        timeo: 0\n",
        7,
        "lazarette.storage.contexts.nas.timeo",
        &["must be 1 or more, found the number 0"],
    ),
    (
        "missing field",
        "lazarette:\n  storage:\n    contexts:\n      nas:\n        kind: nfs\n",
        4,
        "lazarette.storage.contexts.nas",
        &["`server` is missing", "The server's name"],
    ),
    (
        "missing kind",
        "lazarette:\n  storage:\n    contexts:\n      nas: {server: a}\n",
        4,
        "lazarette.storage.contexts.nas",
        &["`kind` is missing"],
    ),
    (
        "an empty context",
        "lazarette:\n  storage:\n    contexts:\n      nas:\n",
        4,
        "lazarette.storage.contexts.nas",
        &["expected a map, found nothing"],
    ),
    (
        "unknown kind",
        "lazarette:\n  storage:\n    contexts:\n      nas:\n        kind: nsf\n        server: a\n",
        5,
        "lazarette.storage.contexts.nas.kind",
        &[
            "unknown kind `nsf`",
            "did you mean `nfs`?",
            "known here: `hello`, `nfs`",
        ],
    ),
    (
        "unknown kind without a neighbour",
        "lazarette:\n  storage:\n    contexts:\n      nas: {kind: ceph-rbd}\n",
        4,
        "lazarette.storage.contexts.nas.kind",
        &["unknown kind `ceph-rbd`; known here: `hello`, `nfs`"],
    ),
    (
        "duplicate name",
        "lazarette:\n  storage:\n    contexts:\n      nas: {kind: nfs, server: a}\n      nas: {kind: nfs, server: b}\n",
        5,
        "lazarette.storage.contexts.nas",
        &["`nas` is given twice (first on line 4)"],
    ),
    (
        "volume of a context that is not there",
        "lazarette:\n  storage:\n    contexts: {nas: {kind: nfs, server: a}}\n    volumes:\n      db:\n        context: nsa\n",
        6,
        "lazarette.storage.volumes.db.context",
        &["unknown context `nsa`", "did you mean `nas`?"],
    ),
    (
        "context name with a slash",
        "lazarette:\n  storage:\n    contexts:\n      a/b: {kind: nfs, server: a}\n",
        4,
        "lazarette.storage.contexts.\"a/b\"",
        &[
            "context name \"a/b\": must not contain '/'",
            "lower-case letters",
        ],
    ),
    (
        "context name with two dots",
        "lazarette:\n  storage:\n    contexts:\n      ..: {kind: nfs, server: a}\n",
        4,
        "lazarette.storage.contexts.\"..\"",
        &["must not begin with '.'"],
    ),
    (
        "context name with a comma",
        "lazarette:\n  storage:\n    contexts:\n      'a,b': {kind: nfs, server: a}\n",
        4,
        "lazarette.storage.contexts.\"a,b\"",
        &["must not contain ','"],
    ),
    (
        "volume name with a newline",
        "lazarette:\n  storage:\n    contexts: {nas: {kind: nfs, server: a}}\n    volumes:\n      \"a\\nb\": {context: nas}\n",
        5,
        "lazarette.storage.volumes.\"a\\nb\"",
        &["volume name \"a\\nb\": must not contain '\\n'"],
    ),
    (
        "volume name with a leading dash",
        "lazarette:\n  storage:\n    contexts: {nas: {kind: nfs, server: a}}\n    volumes:\n      -v: {context: nas}\n",
        5,
        "lazarette.storage.volumes.-v",
        &["must not begin with '-'"],
    ),
    (
        "option text with a comma",
        "lazarette:\n  storage:\n    contexts:\n      nas:\n        kind: nfs\n        server: a,soft\n",
        6,
        "lazarette.storage.contexts.nas.server",
        &["option text \"a,soft\": must not contain ','"],
    ),
    (
        "option text in a list with a leading dash",
        "lazarette:\n  storage:\n    contexts:\n      nas:\n        kind: nfs\n        server: a\n        exports:\n        - /a\n        - -o\n",
        9,
        "lazarette.storage.contexts.nas.exports[1]",
        &["must not begin with '-'"],
    ),
    (
        "a text that lacks what its pattern wants at the beginning",
        "lazarette:\n  storage:\n    contexts:\n      nas: {kind: nfs, server: a, root: srv}\n",
        4,
        "lazarette.storage.contexts.nas.root",
        &["\"srv\" must begin with '/'"],
    ),
    (
        "a text with something that its pattern does not want",
        "lazarette:\n  storage:\n    contexts:\n      nas: {kind: nfs, server: a, root: '/a,b'}\n",
        4,
        "lazarette.storage.contexts.nas.root",
        &["\"/a,b\" must not contain ','"],
    ),
    (
        "mount path outside /mnt",
        "lazarette:\n  storage:\n    contexts: {nas: {kind: nfs, server: a}}\n    volumes:\n      db:\n        context: nas\n        mount: /etc\n",
        7,
        "lazarette.storage.volumes.db.mount",
        &["must lie below /mnt"],
    ),
    (
        "mount path that climbs",
        "lazarette:\n  storage:\n    contexts: {nas: {kind: nfs, server: a}}\n    volumes:\n      db:\n        context: nas\n        mount: /mnt/../etc\n",
        7,
        "lazarette.storage.volumes.db.mount",
        &["must not contain '.' or '..'"],
    ),
    (
        "mount path over a context's own",
        "lazarette:\n  storage:\n    contexts: {nas: {kind: nfs, server: a}}\n    volumes:\n      db:\n        context: nas\n        mount: /mnt/nas\n",
        7,
        "lazarette.storage.volumes.db.mount",
        &["where the volumes of context `nas` are mounted"],
    ),
    (
        "mount path twice",
        "lazarette:\n  storage:\n    contexts: {nas: {kind: nfs, server: a}}\n    volumes:\n      a: {context: nas, mount: /mnt/x}\n      b: {context: nas, mount: /mnt/x}\n",
        6,
        "lazarette.storage.volumes.b.mount",
        &["where volume `a` is mounted already"],
    ),
    (
        "mount path inside another volume",
        "lazarette:\n  storage:\n    contexts: {nas: {kind: nfs, server: a}}\n    volumes:\n      a: {context: nas}\n      b: {context: nas, mount: /mnt/nas/a/x}\n",
        6,
        "lazarette.storage.volumes.b.mount",
        &["lies inside volume `a`"],
    ),
    (
        "mount path below a directory that is not set aside",
        "lazarette:\n  storage:\n    mount_roots: [/srv]\n    contexts: {nas: {kind: nfs, server: a}}\n    volumes:\n      db: {context: nas, mount: /srvs/db}\n",
        6,
        "lazarette.storage.volumes.db.mount",
        &["must lie below /mnt or a directory of storage.mount_roots"],
    ),
    (
        "a directory of the system set aside for volumes",
        "lazarette:\n  storage:\n    mount_roots: [/srv, /usr/share]\n",
        3,
        "lazarette.storage.mount_roots[1]",
        &["\"/usr/share\": it belongs to the system", "such as /srv"],
    ),
    (
        "everything set aside for volumes",
        "lazarette:\n  storage:\n    mount_roots: [/]\n",
        3,
        "lazarette.storage.mount_roots[0]",
        &["no absolute path of a directory below /"],
    ),
    (
        "a path that climbs set aside for volumes",
        "lazarette:\n  storage:\n    mount_roots: [/srv/../etc]\n",
        3,
        "lazarette.storage.mount_roots[0]",
        &["must not contain '.' or '..'"],
    ),
    (
        "/mnt set aside for volumes",
        "lazarette:\n  storage:\n    mount_roots: [/mnt/fast]\n",
        3,
        "lazarette.storage.mount_roots[0]",
        &["below /mnt anyway"],
    ),
    (
        "directories inside each other set aside for volumes",
        "lazarette:\n  storage:\n    mount_roots: [/srv/a, /srv/b, /srv]\n",
        3,
        "lazarette.storage.mount_roots[2]",
        &["it and /srv/a lie inside each other"],
    ),
    (
        "an address without a prefix length",
        "network:\n  interfaces:\n    eth0:\n      addresses: [192.0.2.7]\n",
        4,
        "network.interfaces.eth0.addresses[0]",
        &["write one such as 192.0.2.7/24"],
    ),
    (
        "no address",
        "network:\n  interfaces:\n    eth0:\n      gateway: 192.0.2.300\n",
        4,
        "network.interfaces.eth0.gateway",
        &["expected an IP address, found the text \"192.0.2.300\""],
    ),
    (
        "an mtu out of range",
        "network:\n  interfaces:\n    eth0:\n      mtu: 9\n",
        4,
        "network.interfaces.eth0.mtu",
        &["between 68 and 65535"],
    ),
    (
        "an interface name that is too long",
        "network:\n  interfaces:\n    a-very-long-interface: {dhcp: true}\n",
        3,
        "network.interfaces.a-very-long-interface",
        &["1 to 15 characters"],
    ),
    (
        "no host name",
        "hostname: a b\n",
        1,
        "hostname",
        &["is not a host name"],
    ),
    (
        "an empty command",
        "runcmd:\n- [a]\n- []\n",
        3,
        "runcmd[1]",
        &["must not be empty"],
    ),
    (
        "a tag",
        "modules:\n- !foo bar\n",
        2,
        "modules[0]",
        &["a value with a tag cannot be used here"],
    ),
    (
        "a number that is not finite",
        "lazarette:\n  docker:\n    wait_seconds: .inf\n",
        3,
        "lazarette.docker.wait_seconds",
        &["not finite"],
    ),
    (
        "bad syntax",
        "a: 1\nb: [1, 2\nc: }\n",
        3,
        "",
        &["is not YAML"],
    ),
    (
        "a key that is no text",
        "lazarette:\n  plugins:\n    keys: [1]\n",
        3,
        "lazarette.plugins.keys[0]",
        &["expected text"],
    ),
    (
        "a list at the top",
        "- a\n",
        1,
        "",
        &["must be a map of fields, found a list"],
    ),
    (
        "a second document",
        "hostname: a\n---\nhostname: b\n",
        2,
        "",
        &["a second document begins here"],
    ),
];

/// The same where signatures stay required, although of nobody: that lets no plugin in.
const CLOSED: &[(&str, &str, u64, &str, &[&str])] = &[
    (
        "a key that is none",
        "lazarette:\n  plugins:\n    require_signature: true\n    keys:\n    - RWRwV20vixiIyny+7qTubRGSM1lu+YgCXrfTrjcZ52Veurm8HP9Kl7qE\n    - RWxx\n",
        6,
        "lazarette.plugins.keys[1]",
        &[
            "is no public key of minisign",
            "second line of minisign.pub",
        ],
    ),
    (
        "signatures required of nobody",
        "lazarette:\n  plugins:\n    require_signature: true\n",
        3,
        "lazarette.plugins.require_signature",
        &["no key is given", "keys: [RW"],
    ),
    (
        "signatures required of an empty list",
        "lazarette:\n  plugins:\n    keys: []\n    require_signature: true\n",
        4,
        "lazarette.plugins.require_signature",
        &["no key is given"],
    ),
    (
        "unknown field about plugins",
        "lazarette:\n  plugins:\n    require_signatures: true\n",
        3,
        "lazarette.plugins.require_signatures",
        &["did you mean `require_signature`?"],
    ),
];

#[test]
fn bad_input_is_told_with_line_path_and_remedy() {
    for (what, text, line, path, words) in BAD.iter().chain(CLOSED) {
        let problems = one(text).problems;
        let found = problems
            .iter()
            .find(|p| p.path == *path && words.iter().all(|word| p.message.contains(word)));
        let Some(found) = found else {
            panic!("{what}: wanted {path} {words:?}, got {problems:#?}");
        };
        assert_eq!(found.line, Some(*line), "{what}: {found}");
        assert_eq!(found.source, "cloud-config.yml", "{what}");
        assert_eq!(
            problems.len(),
            1,
            "{what}: one mistake, one problem: {problems:#?}"
        );
    }
}
