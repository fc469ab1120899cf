"""Named phases with their durations."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import click


class Phases:
    """Announces each phase as it starts, remembers how long it took."""

    def __init__(self):
        self.durations: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time the body as the named phase."""
        click.secho(f"== {name}", bold=True)
        start = time.monotonic()
        try:
            yield
        finally:
            self.durations[name] = time.monotonic() - start

    def summary(self) -> str:
        """Return the durations in one line."""
        parts = [f"{name} {seconds:.0f} s" for name, seconds in self.durations.items()]
        return f"durations: {', '.join(parts)}; total {sum(self.durations.values()):.0f} s"
