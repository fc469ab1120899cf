"""What the user reads at the end of a run."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console
from rich.table import Table

from rpiomega.bulk import Bulk
from rpiomega.errors import NodeError


def console() -> Console:
    """Return the console for standard output; its width is not cut where it is no terminal."""
    return Console() if sys.stdout.isatty() else Console(width=200, force_terminal=False)


def count(number: int, noun: str) -> str:
    """Return a number with its noun: `1 node`, `3 nodes`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def bootstrap(bulk: Bulk, run: Any, error: NodeError | None) -> None:
    """Print diffs (dry run), notes, keys, failures, and what comes next."""
    out = bulk.console
    if run.options.dry_run:
        diffs(bulk)
    notes(bulk)
    keys(out, run.keys)
    failures(bulk, error)
    if error or bulk.failed():
        return
    changed = sum(bool(row.changed) for row in bulk.rows.values())
    longest = max(row.seconds for row in bulk.rows.values())
    would = "would change" if run.options.dry_run else "changed"
    _plain(out, f"{count(len(bulk.rows), 'node')}, {changed} {would}, {longest:.0f} s")
    if any(key.state == "waiting" for key in run.keys):
        _plain(out, "next: `rpiomega accept` here, or `sudo salt-key -A` on the master once the fingerprints match")


def keys(out: Console, found: list) -> None:
    """Print each minion's fingerprint beside the one the master sees."""
    if not found:
        return
    if not out.is_terminal:
        for key in found:
            held = " ".join(key.seen.values()) or "none"
            _plain(out, f"{key.name}: key {key.state}: minion {key.own} master {held}")
        return
    table = Table("node", "key", "on the minion / on the master", box=None)
    for key in found:
        table.add_row(key.name, key.state, f"{key.own}\n" + ("\n".join(key.seen.values()) or "none"))
    out.print(table)


def failures(bulk: Bulk, error: NodeError | None) -> None:
    """Print one block per node that failed: step, cause, next step, log."""
    for row in bulk.failed():
        if row.error:
            _plain(bulk.console, f"{row.name}: {row.error.step}: {row.error.cause}")
            _plain(bulk.console, f"  next: {row.error.cure}")
            _plain(bulk.console, f"  log:  {row.log_file}")
        else:
            _plain(bulk.console, f"{row.name}: {row.state} during {row.step or 'nothing yet'}: run the command again")
    if error:
        _plain(bulk.console, f"{error.step or 'master'}: {error.cause}\n  next: {error.cure}")


def notes(bulk: Bulk) -> None:
    """Print each note once, with the nodes it is about."""
    found: dict[str, list[str]] = {}
    for row in bulk.rows.values():
        for note in row.notes:
            found.setdefault(note, []).append(row.name)
    for note, names in found.items():
        _plain(bulk.console, f"note: {note} ({', '.join(names)})")


def diffs(bulk: Bulk) -> None:
    """Print the unified diffs of all nodes."""
    for row in bulk.rows.values():
        for step, lines in row.diffs.items():
            _plain(bulk.console, f"--- {row.name}: {step}")
            for line in lines:
                _plain(bulk.console, line)


def _plain(out: Console, text: str) -> None:
    out.file.write(text + "\n")  # as it is: rich would turn a diff's tabs into spaces


def age(seconds: float) -> str:
    """Return a time span for people: ``5 min``, ``7 h``, ``3 d``."""
    seconds = max(seconds, 0)
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.0f} d"


def size(number: float) -> str:
    """Return a number of bytes for people, in powers of ten: ``12 B``, ``3.4 MB``, ``120 GB``."""
    units = ["B", "kB", "MB", "GB", "TB"]
    while number >= 1000 and len(units) > 1:
        number, units = number / 1000, units[1:]
    return f"{number:.0f} {units[0]}" if units[0] == "B" or number >= 100 else f"{number:.1f} {units[0]}"


def printable(text: str) -> str:
    """Return a text in one line that any terminal prints: a file's name may have bytes that are no text."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode() for char in text
    )
