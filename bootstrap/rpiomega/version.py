"""The version of this checkout."""

from __future__ import annotations

from pathlib import Path

import rpiomega
from rpiomega import formula
from rpiomega.errors import NodeError


def text() -> str:
    """Return the version, in a checkout with its commit: ``0.2.0 (commit 8ac603312f0e, with changes)``."""
    package = Path(__file__).resolve().parent
    try:
        here = formula.find(package)
        commit = formula.head(here.root)
    except (NodeError, OSError):
        return rpiomega.__version__
    # An installed package can be in the virtual environment of a checkout that has another commit.
    if here.root.resolve() / "bootstrap" / "rpiomega" != package:
        return rpiomega.__version__
    return f"{rpiomega.__version__} (commit {commit[:12]}{', with changes' if here.dirty else ''})"
