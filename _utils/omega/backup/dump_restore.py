"""Restore a dump: the command of the container's label reads it from its standard input."""

from __future__ import annotations

import contextlib
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterable
from typing import Any

from omega.backup import compare, dump, fetch
from omega.backup.facts import Container
from omega.backup.pick import RestoreError
from omega.backup.restic import Repository
from omega.backup.settings import Places
from omega.core.polling import until
from omega.docker.engine import asking

LABEL = "rpiomega.backup.restore"
BOUND = 6 * 3600  # seconds
_TAIL = 2000


def target(name: str, manifest: dict, users: Iterable[Container]) -> tuple[Container, str]:
    """Return the running container that restores a dump, and its command.

    :raises RestoreError: in_use: no container runs with the label
    """
    saved = [one for volume in manifest.get("volumes") or () for one in volume.get("containers") or ()]
    for item in users:
        # The labels of a service are known to managers only; the manifest has them from the time of the dump.
        known: dict = next((one for one in saved if one["name"].split(".")[0] == item.name.split(".")[0]), {})
        command = item.labels.get(LABEL) or (known.get("labels") or {}).get(LABEL)
        if command and item.status == "running":
            return item, command
    cure = f"start the service; its container or service needs the label {LABEL}"
    raise RestoreError("in_use", f"it is saved as a dump, and no container with {LABEL} runs", cure, f"volume {name}")


def run(
    repository: Repository, client: Any, row: dict, manifest: dict, users: Iterable[Container], places: Places
) -> None:
    """Restore the dump of a snapshot into the running container.

    :raises RestoreError: damaged: the dump is not what the manifest says; not_restored: the command failed
    """
    noted = manifest["dump"]
    name = (manifest.get("volumes") or [{"name": manifest.get("group")}])[0]["name"]
    item, command = target(name, manifest, users)
    fetch.room(places.state, int(noted["size"]), f"volume {name}")
    scratch = tempfile.mkdtemp(prefix="restore-", dir=places.state)
    try:
        made = fetch.into(repository, row, noted["path"], scratch)
        if compare.sha256(made) != noted["sha256"]:
            raise RestoreError(
                "damaged", "the dump is not what its manifest says", "give another --at", f"volume {name}"
            )
        _feed(client, item, command, made)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _feed(client: Any, item: Container, command: str, path: str) -> None:
    what = f"the restore command of container {item.name}"
    with asking(f"{what} cannot be run", "see `docker ps`"):
        made = client.api.exec_create(item.id, dump.arguments(command), stdin=True, stdout=True, stderr=True)
        stream = client.api.exec_start(made["Id"], socket=True)
        raw = getattr(stream, "_sock", stream)
        raw.settimeout(BOUND)
        said: list[bytes] = []
        # What the command prints is read meanwhile: it would wait for us, and we for it.
        reader = threading.Thread(target=_read, args=(raw, said), daemon=True)
        reader.start()
        try:
            with open(path, "rb") as file, contextlib.suppress(BrokenPipeError, ConnectionResetError):
                while block := file.read(1 << 16):
                    raw.sendall(block)
                raw.shutdown(socket.SHUT_WR)
            reader.join(BOUND)
        finally:
            stream.close()
        code = _code(client, made["Id"])
    if code:
        why = dump.because(b"".join(said))
        cure = f"run it by hand: `docker exec -i {item.name} ...`"
        raise RestoreError("not_restored", f"{what} ended with code {code}{why}", cure)


def _read(raw: Any, said: list[bytes]) -> None:
    """Keep the end of what the command prints (Engine API, ContainerAttach: frames with a header of 8 bytes)."""
    pending = b""
    with contextlib.suppress(OSError):
        while block := raw.recv(1 << 16):
            pending += block
            while len(pending) >= 8 and len(pending) >= 8 + int.from_bytes(pending[4:8], "big"):
                size = int.from_bytes(pending[4:8], "big")
                said[:] = [(b"".join(said) + pending[8 : 8 + size])[-_TAIL:]]
                pending = pending[8 + size :]


def _code(client: Any, identity: str) -> int:
    def ended() -> bool:
        return not client.api.exec_inspect(identity)["Running"]

    until(ended, 30, "the end of the restore command")
    return int(client.api.exec_inspect(identity)["ExitCode"])
