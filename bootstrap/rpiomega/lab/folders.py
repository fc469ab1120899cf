"""Where downloads are kept between labs, and how files get there whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

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
        deadline = time.monotonic() + bound
        said = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not said:
                    report(f"waiting for another {who} on this machine")
                    said = True
                if time.monotonic() > deadline:
                    raise LabError(f"another {who} holds {file.name} for {bound:.0f} s") from None
                time.sleep(0.2)
        yield


def remove_cache() -> None:
    """Remove the lab's downloads."""
    shutil.rmtree(cache_folder(), ignore_errors=True)
