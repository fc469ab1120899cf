"""Many nodes side by side: a bound on how many at once, a live table or plain lines, a log per node."""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from rpiomega.errors import NodeError, Stopped

STYLES = {"failed": "red", "done": "green", "stopped": "yellow"}


class Row:
    """What is known about one node; its methods are called by the node's worker."""

    def __init__(self, name: str, log_file: Path, say: Callable[[str], None], tell: Callable[[dict], None]):
        self.name = name
        self.tell = tell
        self.step = ""
        self.detail = ""  # how far the step is
        self.state = "waiting"
        self.error: NodeError | None = None
        self.changed: list[str] = []
        self.notes: list[str] = []
        self.diffs: dict[str, list[str]] = {}
        self.began = self.ended = 0.0
        self.log_file = log_file
        self._group = ""
        self._say = say
        log_file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._log = os.fdopen(os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "a", encoding="utf-8")

    def log(self, line: str) -> None:
        """Write a line to the node's log file."""
        self._log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")
        self._log.flush()

    def start(self, step: str) -> None:
        """Say that a step begins."""
        self.step, self.detail = step, ""
        self.log(f"== {step}")

    def event(self, event: dict) -> None:
        """Take an event of the board's part."""
        self.tell({"node": self.name, **event})
        kind, step = event["event"], event.get("step", "")
        if kind == "log":
            self.log(event["text"])
        elif kind == "start":
            self.start(step)
        elif kind == "progress":
            self._progress(event)
        elif kind == "done":
            self._done(step, event)
        elif kind in ("failed", "cancelled"):
            self.log(f"{kind} {step}: {event.get('cause', '')}; {event.get('cure', '')}")

    def _done(self, step: str, event: dict) -> None:
        self.log(f"{step}: {event['status']} ({event['seconds']} s)")
        for line in event["diff"]:
            self.log(f"  {line}")
        if event["status"] != "ok":
            self.changed.append(step)
            self.diffs.setdefault(step, []).extend(event["diff"])
            self._say(f"{self.name}: {step}: {event['status']} ({event['seconds']} s)")
        for note in event["notes"]:
            if note not in self.notes:
                self.notes.append(note)

    def _progress(self, event: dict) -> None:
        """Take how far a step is: the live table shows all of it, lines one for each group."""
        group = " ".join(str(event[key]) for key in ("what", "group") if event.get(key))
        if group != self._group:
            self._group = group
            self.log(f"{event.get('step', '')}: {group}")
            self._say(f"{self.name}: {group}")
        percent = event.get("percent")
        self.detail = f"{group} {percent:.0f} %" if percent else group

    def close(self) -> None:
        """Close the log."""
        self._log.close()

    @property
    def seconds(self) -> float:
        """Return how long the node has been worked on."""
        return (self.ended or time.monotonic()) - self.began if self.began else 0.0


class Bulk:
    """Runs a function per node and shows how it goes."""

    def __init__(self, names: Iterable[str], log_folder: Path, jobs: int, console: Console):
        self.console = console
        self.live = console.is_terminal
        self.on_event: Callable[[dict], None] | None = None
        self.rows = {name: Row(name, log_folder / f"{name}.log", self._line, self._tell) for name in names}
        self.jobs = jobs
        self._lock = threading.Lock()
        self._unheard: Future = Future()  # done once the reader of the output has gone away

    def run(self, work: Callable[[Row], None], on_interrupt: Callable[[], None]) -> bool:
        """Call `work(row)` for every node, `jobs` at a time, in the order given; return False if interrupted.

        NodeError ends that node alone. Ctrl-C, or a reader of the output that goes away (``| head``), calls
        `on_interrupt` and waits until all workers have ended.
        """
        with ThreadPoolExecutor(max_workers=self.jobs) as workers:
            futures = []
            try:
                for row in self.rows.values():
                    futures.append(workers.submit(self._one, work, row))
                with self._display():
                    self._until_ended(futures)
            except KeyboardInterrupt:
                self._out(self.console.print, "interrupted: the boards end what must not be cut short")
                on_interrupt()
                for future in futures:
                    future.cancel()
                wait(futures)
                return False
        return True

    def _until_ended(self, futures: list[Future]) -> None:
        pending = set(futures)
        while pending:
            pending -= wait({*pending, self._unheard}, return_when=FIRST_COMPLETED).done
            if self._unheard.done():
                raise KeyboardInterrupt

    def _one(self, work: Callable[[Row], None], row: Row) -> None:
        row.began, row.state = time.monotonic(), "running"
        row.log(f"=== run of {time.strftime('%Y-%m-%d %H:%M:%S %z')}")
        try:
            work(row)
            row.state = "done"
            self._line(f"{row.name}: done ({row.seconds:.1f} s)")
        except NodeError as error:
            error.step = error.step or row.step
            row.error, row.state = error, "failed"
            row.log(f"FAILED {error.step}: {error}")
            self._line(f"{row.name}: {error.step}: FAILED: {error.cause}")
        except Stopped:
            row.state = "stopped"
            row.log("stopped by the user")
        except Exception as error:  # noqa: BLE001 - one node's trouble must not end the others
            row.log(traceback.format_exc())
            row.error = NodeError(f"{type(error).__name__}: {error}", "this is a defect of rpiomega", row.step)
            row.state = "failed"
        finally:
            row.ended = time.monotonic()
            end = {"node": row.name, "event": "end", "state": row.state, "seconds": round(row.seconds, 1)}
            if row.error:
                end |= {"step": row.error.step, "cause": row.error.cause, "cure": row.error.cure}
            self._tell(end)

    def failed(self) -> list[Row]:
        """Return the rows that did not end well."""
        return [row for row in self.rows.values() if row.state != "done"]

    def aside(self, names: Iterable[str] = (), jobs: int = 0) -> Bulk:
        """Close this one and return another that shows its progress on standard error, by default all nodes at once.

        For commands whose standard output is their result, or whose nodes depend on each other.
        """
        folder = next(iter(self.rows.values())).log_file.parent
        self.close()
        terminal = sys.stderr.isatty()
        console = Console(stderr=True) if terminal else Console(stderr=True, width=200, force_terminal=False)
        names = list(names or self.rows)
        return Bulk(names, folder, jobs or len(names), console)

    def close(self) -> None:
        """Close all logs."""
        for row in self.rows.values():
            row.close()

    def _tell(self, event: dict) -> None:
        """Pass an event to the caller's handler; log lines of commands are for the log alone."""
        if self.on_event and event["event"] != "log":
            self._out(self.on_event, {"time": round(time.time(), 3), **event})

    def _line(self, text: str) -> None:
        if not self.live:
            self._out(self.console.print, text, markup=False, highlight=False, soft_wrap=True)

    def _out(self, write: Callable, *what: Any, **how: Any) -> None:
        with self._lock:
            if self._unheard.done():
                return
            try:
                write(*what, **how)
            except (BrokenPipeError, SystemExit):  # rich makes the one into the other
                self._unheard.set_result(None)

    def _display(self) -> Any:
        if not self.live:
            return _Nothing()
        return Live(get_renderable=self._table, console=self.console, refresh_per_second=4)

    def _table(self) -> Table:
        table = Table("node", "step", "state", "changed", "s", box=None)
        for row in self.rows.values():
            state = f"[{STYLES[row.state]}]{row.state}[/]" if row.state in STYLES else row.state
            step = f"{row.step} {row.detail}".strip()
            table.add_row(row.name, step, state, " ".join(row.changed), f"{row.seconds:.0f}")
        return table


class _Nothing:
    def __enter__(self) -> _Nothing:
        return self

    def __exit__(self, *_: object) -> None:
        pass
