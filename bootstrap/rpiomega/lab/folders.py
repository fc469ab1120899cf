"""Where downloads are kept between labs, and how files get there whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path


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


def remove_cache() -> None:
    """Remove the lab's downloads."""
    shutil.rmtree(cache_folder(), ignore_errors=True)
