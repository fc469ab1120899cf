"""Consul's snapshots: a gzipped tar of meta.json, state.bin and SHA256SUMS (read off 1.8.7)."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import tarfile
import time
import zlib

from omega.consul.client import ConsulError

NAMES = "consul-%Y%m%dT%H%M%SZ.snap"
NAME = re.compile(r"consul-\d{8}T\d{6}Z\.snap")


def save(client, path, stale=False, partial=None):
    """
    Write a snapshot to `path` (root-only, replaced as a whole) and return what `inspect` says of it.

    :param client: with a time-out long enough for the whole state
    :param partial: path on the same file system of the file while it is written; default: beside it
    :raises ConsulError: also if the snapshot does not match its own checksums
    """
    params = [("stale", "1")] if stale else []
    content = client.request("get", "/v1/snapshot", params, what="saving a snapshot", raw=True)[1] or b""
    partial = partial or f"{path}.partial"
    try:
        write_private(partial, content)
        info = inspect(partial)
        os.replace(partial, path)
    except OSError as error:
        raise ConsulError("bad_request", f"Consul snapshot {path}: cannot be written: {error.strerror}") from None
    finally:
        with contextlib.suppress(OSError):
            os.unlink(partial)
    return {**info, "path": path}


def rotate(client, folder, keep, token_file=None, timeout=60.0):
    """
    Write a snapshot named after the time into `folder`, made with mode 0700 if it is missing, and delete the oldest of
    these names beyond `keep`.

    :param token_file: path of a file with the token to use instead of the client's
    :return: what `save` does, and "removed", the names that went
    :raises ConsulError: nothing was deleted then
    """
    if keep < 1:
        raise ConsulError("bad_request", f"Consul snapshots in {folder}: keep is {keep}, must be at least 1")
    token = None
    if token_file:
        try:
            with open(token_file, encoding="utf-8") as file:
                token = file.read().strip()
        except OSError as error:
            raise ConsulError("bad_request", f"Consul token file {token_file}: {error.strerror}") from None
    client = client.clone(timeout, token)
    client.wait_ready(timeout)
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
    except OSError as error:
        raise ConsulError("bad_request", f"Consul snapshots in {folder}: {error.strerror}") from None
    # Always of one name: what runs leave that a power cut ends is one file, not one each.
    partial = os.path.join(folder, "consul.partial")
    info = save(client, os.path.join(folder, time.strftime(NAMES, time.gmtime())), partial=partial)
    removed = [name for name in _names(folder)[:-keep] if name != os.path.basename(info["path"])]
    for name in removed:
        os.unlink(os.path.join(folder, name))
    return {**info, "removed": removed}


def found(folder):
    """`inspect` of every snapshot that `rotate` left in `folder`, oldest first; a damaged one has "message"."""
    rows = []
    for name in _names(folder):
        path = os.path.join(folder, name)
        try:
            rows.append(inspect(path))
        except ConsulError as error:
            rows.append({"path": path, "size": os.path.getsize(path), "index": None, "message": str(error)})
    return rows


def _names(folder):
    try:
        return sorted(name for name in os.listdir(folder) if NAME.fullmatch(name))
    except OSError as error:
        raise ConsulError("not_found", f"Consul snapshots in {folder}: {error.strerror}") from None


def write_private(path, content):
    """Write a file that only its owner may read, from its first byte on."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def inspect(path):
    """{"path", "size", "index", "version"} of a snapshot whose checksums hold, ConsulError otherwise."""
    try:
        with tarfile.open(path, "r:gz") as archive:
            sums = {}
            for line in _member(archive, "SHA256SUMS").read().decode().splitlines():
                digest, _, name = line.partition("  ")
                sums[name] = digest
            meta = json.loads(_member(archive, "meta.json").read())
            for name in ("meta.json", "state.bin"):
                if _digest(_member(archive, name)) != sums.get(name):
                    raise ConsulError("bad_request", f"Consul snapshot {path}: {name} does not match its checksum")
    except FileNotFoundError:
        raise ConsulError("not_found", f"Consul snapshot {path}: no such file") from None
    except (tarfile.TarError, KeyError, EOFError, zlib.error, ValueError, OSError) as error:
        raise ConsulError("bad_request", f"Consul snapshot {path}: damaged or none ({error})") from None
    return {
        "path": path,
        "size": os.path.getsize(path),
        "index": meta.get("Index"),
        "version": meta.get("Version"),
    }


def _member(archive, name):
    """Return a file of an archive, open for reading; raise KeyError if it has no such file."""
    file = archive.extractfile(name)
    if file is None:  # a folder, for instance
        raise KeyError(f"{name} is not a file")
    return file


def _digest(file):
    digest = hashlib.sha256()
    for block in iter(lambda: file.read(1 << 16), b""):
        digest.update(block)
    return digest.hexdigest()


def restore(client, path):
    """Replace all of Consul's state, in the whole cluster, by the snapshot in `path`."""
    inspect(path)
    with open(path, "rb") as file:
        client.request("put", "/v1/snapshot", data=file.read(), what="restoring a snapshot")
