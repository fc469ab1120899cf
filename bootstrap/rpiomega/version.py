"""The version of this checkout."""

from __future__ import annotations

from pathlib import Path

import rpiomega
from rpiomega import formula
from rpiomega.errors import NodeError


def text() -> str:
    """Return the version, in a checkout with its commit: ``0.2.0 (commit 8ac603312f0e, with changes)``."""
    try:
        here = formula.find(Path(__file__).parent)
    except (NodeError, OSError):
        return rpiomega.__version__
    return f"{rpiomega.__version__} (commit {here.commit[:12]}{', with changes' if here.dirty else ''})"
