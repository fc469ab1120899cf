"""Where downloads are kept between labs, and how files get there whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from omega.core import files
from omega.core.polling import TimedOut
from rpiomega.lab.engine import LabError


def cache_folder() -> Path:
    """Return the folder of the lab's downloads; RPIOMEGA_CACHE moves it."""
    top = os.environ.get("RPIOMEGA_CACHE")
    path = (Path(top) if top else Path.home() / ".cache" / "rpiomega") / "lab"
    path.mkdir(parents=True, exist_ok=True)
    return path


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path that becomes `path` if the body succeeds, and is removed if not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(temporary.stat().st_mode | 0o444)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def alone(
    report: Callable[[str], None], bound: float = 1800, name: str = "lock", who: str = "`lab up` or `lab down`"
) -> Iterator[None]:
    """Keep other labs of this user from making images or moving the cache meanwhile; `name` and `who`: or others.

    Raises LabError if another one takes longer than `bound` seconds.
    """
    with (cache_folder() / name).open("w") as file:
        try:
            files.lock(file, 0)
        except TimedOut:
            report(f"waiting for another {who} on this machine")
            files.lock(file, bound, LabError(f"another {who} has held {file.name} for {bound:.0f} s"))
        yield


def remove_cache() -> None:
    """Remove the lab's downloads."""
    shutil.rmtree(cache_folder(), ignore_errors=True)
