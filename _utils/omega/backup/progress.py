"""What a run does now, in a file of /run that others follow: written whole, at most twice a second."""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import Any

from omega.core import files

_PAUSE = 0.5


class Progress:
    """The file `progress.json` of one run."""

    def __init__(self, path: str, run: str) -> None:
        self.path = path
        self.content: dict[str, Any] = {"id": run, "what": "", "group": "", "percent": 0}
        self.content.update(bytes_done=0, bytes_total=0, files_done=0, since=int(time.time()))
        self._written = 0.0

    def at(self, what: str, group: str = "", total: int = 0) -> None:
        """Begin another part of the run.

        :param what: one word of: clock, repository, plan, survey, dump, prepare, save
        :param total: bytes that it is about
        """
        self.content.update(what=what, group=group, percent=0, bytes_done=0, files_done=0, bytes_total=total)
        self._write(force=True)

    def event(self, status: dict) -> None:
        """Take a status line of restic, which without a scan of its own knows no total."""
        done = int(status.get("bytes_done") or 0)
        total = max(int(self.content["bytes_total"]), int(status.get("total_bytes") or 0))
        share = min(100, 100 * done // total) if total else 0
        files_done = int(status.get("files_done") or 0)
        self.content.update(percent=share, bytes_done=done, bytes_total=total, files_done=files_done)
        self._write()

    def _write(self, force: bool = False) -> None:
        now = time.monotonic()
        if force or now - self._written >= _PAUSE:
            self._written = now
            with contextlib.suppress(OSError):  # a picture for others: a run does not fail for a /run that is full
                files.write(self.path, json.dumps(self.content), 0o600)

    def close(self) -> None:
        """Remove the file."""
        files.remove(self.path)


def read(path: str) -> dict[str, Any] | None:
    """Return what a run does now, None if there is no such file."""
    if not os.path.exists(path):
        return None
    try:
        return dict(json.loads(files.read(path) or "{}"))
    except ValueError:
        return None
