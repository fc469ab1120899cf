"""Runs the dump command of a container and writes what it prints to a file."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import time
from typing import Any

from omega.backup.restic_errors import ResticError
from omega.docker.engine import asking

_TAIL = 2000  # characters of stderr that are kept
_RESERVE = 64 * 1024 * 1024  # bytes that stay free on the disk


def arguments(command: str) -> list[str]:
    """Return what the container executes: a JSON list as it is, any other text through its `sh`."""
    if command.lstrip().startswith("["):
        try:
            found = json.loads(command)
        except ValueError:
            found = None
        if isinstance(found, list) and found and all(isinstance(item, str) for item in found):
            return found
    return ["sh", "-c", command]


def write(client: Any, container: Any, command: str, path: str, seconds: float = 6 * 3600) -> dict:
    """Write the command's standard output to `path`, mode 0600; return ``{"path", "size", "sha256", "command"}``.

    :param client: Docker SDK client whose requests may take as long as the command stays silent
    :param container: omega.backup.facts.Container
    :param command: of the label rpiomega.backup.dump
    :param seconds: the bound for the whole dump
    :raises ResticError: dump_failed: it ended with another code than 0, or printed nothing; no_space: the disk is full
    :raises omega.docker.engine.EngineError: the container has gone, or the engine does not answer
    """
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    try:
        return _write(client, container, command, path, seconds)
    except BaseException as error:
        if os.path.exists(path):
            os.unlink(path)
        if isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.ENOSPC:
            raise _full(path, container.name) from error
        raise


def _write(client: Any, container: Any, command: str, path: str, seconds: float) -> dict:
    digest, size, said, end = hashlib.sha256(), 0, b"", time.monotonic() + seconds
    cure = f"run it by hand: `docker exec {container.name} ...`"
    with asking(f"the dump command of container {container.name} cannot be run", "see `docker ps`"):
        made = client.api.exec_create(container.id, arguments(command), stdout=True, stderr=True)
        stream = client.api.exec_start(made["Id"], stream=True, demux=True)
        with open(path, "wb", opener=_private) as file:
            for out, err in stream:
                said = (said + (err or b""))[-_TAIL:]
                if out:
                    _room(file, len(out), container.name)
                    file.write(out)
                    digest.update(out)
                    size += len(out)
                if time.monotonic() > end:
                    raise ResticError("dump_failed", f"the dump of {container.name} took over {seconds:g} s", cure)
        code = client.api.exec_inspect(made["Id"])["ExitCode"]
    why = because(said)
    if code != 0:
        cause = f"the dump command of container {container.name} ended with code {code}{why}"
        raise ResticError("dump_failed", cause, cure)
    if not size:
        cause = f"the dump command of container {container.name} wrote nothing to its standard output{why}"
        raise ResticError("dump_failed", cause, cure)
    return {"path": path, "size": size, "sha256": digest.hexdigest(), "command": command}


def because(said: bytes) -> str:
    """Return ": " and the last line of what a command of the owner's printed, for an error; "" if it printed nothing.

    It goes into state.json, the journal and the owner's terminal: without control codes, and without what looks like a
    password (`scheme://user:secret@host`, `password=secret`).
    """
    lines = said.decode(errors="replace").strip().splitlines()
    if not lines:
        return ""
    text = re.sub(r"(://[^/\s:@]*:)[^/\s]+@", r"\1***@", lines[-1])
    text = re.sub(r"(?i)\b(\w*(?:passw(?:or)?d|pwd|secret|token)\w*\s*[=:]\s*)(\"[^\"]*\"|'[^']*'|\S+)", r"\1***", text)
    return ": " + "".join(char if char.isprintable() else " " for char in text)[:300]


def _room(file: Any, size: int, name: str) -> None:
    free = os.fstatvfs(file.fileno())
    if free.f_bavail * free.f_frsize < size + _RESERVE:
        raise _full(file.name, name)


def _full(path: str, name: str) -> ResticError:
    folder = os.path.dirname(path)
    cause = f"no space in {folder} for the dump of container {name}, with {_RESERVE >> 20} MiB to spare"
    return ResticError("no_space", cause, f"see `df -h {folder}`")


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
