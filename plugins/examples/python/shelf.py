#!/usr/bin/env python3
"""A storage plugin that is a process of its own: it speaks the wire protocol (docs/plugin-abi.md).

Volumes of the kind `shelf` are directories of one host directory, the context's `directory`. It needs
nothing but Python's standard library.

Usage: shelf.py [--socket FILE] [--mounts DIR]
       shelf.py describe
"""

import array
import ctypes
import json
import os
import shutil
import signal
import socket
import struct
import sys
import threading
import uuid

MANIFEST = {
    "kind": "shelf",
    "version": "1.0.0",
    "context_schema": {
        "type": "object",
        "additionalProperties": False,
        "required": ["directory"],
        "properties": {
            "directory": {
                "type": "string",
                "pattern": "^/",
                "description": "The directory, in the container, that holds the volumes.",
            }
        },
    },
    "volume_schema": {"type": "object", "additionalProperties": False, "properties": {}},
    "capabilities": ["create"],
    "privileges": {"capabilities": ["SYS_ADMIN"], "writable": ["/mnt"]},
}
PROTOCOL = {"major": 1, "minor": 1}
LARGEST_BODY = 1 << 20

LIBC = ctypes.CDLL(None, use_errno=True)
MS_BIND, MS_NOSUID, MS_NODEV, MS_REMOUNT = 0x1000, 2, 4, 0x20
UMOUNT_NOFOLLOW = 8
SYS_OPEN_TREE = 428  # the same number on every architecture
OPEN_TREE_CLONE, OPEN_TREE_CLOEXEC, AT_FDCWD = 1, os.O_CLOEXEC, -100


class Refused(Exception):
    """An error as core takes it; `kind` is one of those in docs/plugin-abi.md."""

    def __init__(self, kind, message, cause=None, remedy=None):
        super().__init__(message)
        self.reply = {"kind": kind, "message": message}
        if cause:
            self.reply["cause"] = str(cause)
        if remedy:
            self.reply["remedy"] = remedy


def checked(result, what):
    """The result of a call of the C library, or an error that says what it was for."""
    if result < 0:
        error = ctypes.get_errno()
        kind = "busy" if error == 16 else "internal"
        raise Refused(kind, f"cannot {what}", os.strerror(error))
    return result


def mount(source, target, flags):
    result = LIBC.mount(os.fsencode(source), os.fsencode(target), None, flags, None)
    checked(result, f"mount {target}")


def detached(path):
    """A copy of the mount at `path` that hangs nowhere, as a descriptor."""
    flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC
    result = LIBC.syscall(SYS_OPEN_TREE, AT_FDCWD, os.fsencode(path), flags)
    return checked(result, f"clone the mount {path}")


def fs_type(path):
    """The type of the file system mounted at `path`, from the mount table; None if none is."""
    found = None
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        for line in table:
            left, right = line.split(" - ", 1)
            if left.split()[4] == path:
                found = right.split()[0]
    return found


class Shelf:
    """An open context. Core may call it from several connections' worth of calls at once."""

    def __init__(self, config, mounts):
        self.directory = config["directory"]
        self.mounts = mounts
        self.lock = threading.Lock()
        if not os.path.isdir(self.directory):
            raise Refused("not_found", f"there is no directory {self.directory}", remedy="make it")

    def place(self, volume_id):
        # Parsed, so that it cannot be a path.
        name = str(uuid.UUID(volume_id))
        return os.path.join(self.directory, name), os.path.join(self.mounts, name)

    def create(self, volume):
        data, _ = self.place(volume["id"])
        try:
            os.mkdir(data, 0o755)
        except FileExistsError:
            return "already_exists"
        return "created"

    def remove(self, volume):
        self.unmount(volume["id"])
        data, _ = self.place(volume["id"])
        if not os.path.isdir(data):
            return "already_absent"
        shutil.rmtree(data)
        return "removed"

    def mount(self, volume):
        data, target = self.place(volume["id"])
        if not os.path.isdir(data):
            raise Refused("not_found", "the volume's directory is gone", remedy="remove the volume")
        os.makedirs(target, mode=0o700, exist_ok=True)
        if fs_type(target) is None:
            mount(data, target, MS_BIND)
            mount("none", target, MS_BIND | MS_REMOUNT | MS_NOSUID | MS_NODEV)
        return {"path": target, "fs_type": fs_type(target), "source": data}

    def unmount(self, volume_id):
        _, target = self.place(volume_id)
        if fs_type(target) is not None:
            checked(LIBC.umount2(os.fsencode(target), UMOUNT_NOFOLLOW), f"unmount {target}")
        if os.path.isdir(target):
            os.rmdir(target)

    def call(self, method, params):
        """The reply's value, and a descriptor or None."""
        with self.lock:
            if method == "create":
                return self.create(params["volume"]), None
            if method == "remove":
                return self.remove(params["volume"]), None
            if method == "mount":
                mounted = self.mount(params["volume"])
                return mounted, detached(mounted["path"])
            if method == "unmount":
                return self.unmount(params["id"]), None
            if method == "list":
                return [], None
            if method == "health":
                return {"state": "healthy"}, None
            if method == "close":
                return None, None
        raise Refused("unsupported", f"shelf volumes cannot {method.replace('_', ' ')}")


class Server:
    """One plugin, one context, one connection at a time."""

    def __init__(self, mounts):
        self.mounts = mounts
        self.instance = str(uuid.uuid4())
        self.context = None

    def serve(self, path):
        if os.path.exists(path):
            os.unlink(path)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        os.chmod(path, 0o600)
        listener.listen()
        while True:
            connection, _ = listener.accept()
            try:
                self.converse(connection)
            except (OSError, ValueError, KeyError) as error:
                print(f"the connection is over: {error}", file=sys.stderr, flush=True)
            finally:
                connection.close()

    def converse(self, connection):
        hello = receive(connection)
        if hello is None or hello["type"] != "hello":
            raise ValueError("it did not begin with hello")
        send(
            connection,
            {
                "type": "hello",
                "protocol": PROTOCOL,
                "manifest": MANIFEST,
                "instance": self.instance,
                "open": self.context is not None,
            },
        )
        if hello["protocol"]["major"] != PROTOCOL["major"]:
            raise ValueError(f"core speaks protocol {hello['protocol']}")
        while (message := receive(connection)) is not None:
            # Calls are short here; one that may take long belongs in a thread, so that a `cancel`
            # is heard meanwhile.
            if message["type"] == "call":
                self.answer(connection, message)

    def answer(self, connection, message):
        reply = {"type": "reply", "id": message["id"], "fd": False}
        descriptor = None
        try:
            params = message.get("params") or {}
            if message["method"] == "open":
                self.context = Shelf(params["config"], self.mounts)
                reply["ok"] = None
            elif self.context is None:
                raise Refused("plugin", "no context is open")
            else:
                reply["ok"], descriptor = self.context.call(message["method"], params)
        except Refused as refused:
            reply["error"] = refused.reply
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            reply["error"] = {"kind": "invalid_argument", "message": f"bad parameters: {error}"}
        except OSError as error:
            reply["error"] = {"kind": "internal", "message": str(error)}
        reply["fd"] = descriptor is not None
        send(connection, reply, descriptor)
        if descriptor is not None:
            os.close(descriptor)


def receive(connection):
    """The next message, or None at the end."""
    header = exactly(connection, 4)
    if header is None:
        return None
    (length,) = struct.unpack("<I", header)
    if length > LARGEST_BODY:
        raise ValueError(f"a frame of {length} bytes")
    return json.loads(exactly(connection, length) or b"")


def exactly(connection, count):
    data = b""
    while len(data) < count:
        more = connection.recv(count - len(data))
        if not more:
            return None
        data += more
    return data


def send(connection, message, descriptor=None):
    """A frame; a descriptor goes with its first byte."""
    body = json.dumps(message).encode()
    frame = struct.pack("<I", len(body)) + body
    ancillary = []
    if descriptor is not None:
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))]
    sent = connection.sendmsg([frame], ancillary)
    connection.sendall(frame[sent:])


def main(arguments):
    if arguments == ["describe"]:
        print(json.dumps(MANIFEST))
        return
    options = {"--socket": "/run/lazarette/plugin.sock", "--mounts": "/mnt"}
    for name, value in zip(arguments[::2], arguments[1::2]):
        if name not in options:
            sys.exit(f"{name} is not an option\n{__doc__}")
        options[name] = value
    # As a container's first process it ends by a signal only if it says so.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    Server(options["--mounts"]).serve(options["--socket"])


if __name__ == "__main__":
    main(sys.argv[1:])
