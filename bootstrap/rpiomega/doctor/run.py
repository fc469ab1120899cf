"""Examine all nodes side by side: everyone listens, then everyone connects, then everyone is judged."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from rpiomega import agent, reach
from rpiomega.bulk import Bulk, Row
from rpiomega.doctor import judge, ports
from rpiomega.doctor.finding import Finding, ordered
from rpiomega.errors import NodeError, Stopped
from rpiomega.node import job_steps
from rpiomega.site import Site
from rpiomega.ssh import Pool, Remote

LISTEN_BOUND = 30.0
# A node that is slow to come up is left out of the port tests; it does not hold up the others.
STRAGGLER = 8.0
EXAMINE_BOUND = 30.0


@dataclass
class Doctor:
    """One examination. After `run`, the facts are in `facts`, the port tries in `tried`."""

    site: Site
    pool: Pool
    wait: float = 0.0
    facts: dict[str, dict] = field(default_factory=dict)
    listened: dict[str, dict] = field(default_factory=dict)
    held: dict[str, dict] = field(default_factory=dict)
    tried: dict[str, list[dict]] = field(default_factory=dict)

    def run(self, bulk: Bulk) -> bool:
        """Examine the nodes of `bulk`; return False if interrupted."""
        self._changed = threading.Condition()
        self._expected, self._out = set(bulk.rows), set[str]()
        self._connected: set[str] = set()
        return bulk.run(self._node, self._stop)

    def findings(self, bulk: Bulk) -> list[Finding]:
        """Return all findings, the worst first; a node that could not be examined is one as well."""
        found = judge.judge(self.site, self.facts)
        found += ports.judge(self.tried, self.held, self.listened)
        for row in bulk.failed():
            if row.error:
                found.append(
                    Finding(row.name, "reach", "error", row.error.cause, "it could not be examined", row.error.cure)
                )
        return ordered(found)

    def _stop(self) -> None:
        self.pool.cancel()
        with self._changed:
            self._changed.notify_all()

    def _node(self, row: Row) -> None:
        try:
            self._examine(row)
        finally:
            with self._changed:
                self._out.add(row.name)
                self._changed.notify_all()

    def _examine(self, row: Row) -> None:
        row.start("ssh")
        remote = reach.board(self.pool, self.site, self.site.nodes[row.name], row.log, any_mark=True)
        remote.connect(self.wait)
        part = _Part(remote, row, self._steps(row.name), self._on_event)
        part.start()
        try:
            self._until(lambda: row.name in self.listened or part.ended, LISTEN_BOUND, row, "its listeners")
            if row.name in self.listened:
                self._connect(remote, row)
            self._until(lambda: row.name in self.facts or part.ended, EXAMINE_BOUND, row, "its facts")
        finally:
            part.release()
        if part.error:
            raise part.error

    def _steps(self, node: str) -> list[job_steps.JobStep]:
        return [
            job_steps.Listen([[*each] for each in ports.listening(self.site, node)]),
            job_steps.Examine(self.site.sources.apt_proxy),
            job_steps.Hold(),
        ]

    def _on_event(self, row: Row, event: dict) -> None:
        if event["event"] == "done":
            with self._changed:
                if event["step"] == "examine":
                    facts = event["data"]
                    facts["clock"]["offset"] = round(facts["now"] - time.time(), 2)
                    self.facts[row.name] = facts
                elif event["step"] == "listen":
                    self.listened[row.name] = event["data"]
                elif event["step"] == "hold":
                    self.held[row.name] = event["data"]
                self._changed.notify_all()
        row.event(event)

    def _connect(self, remote: Remote, row: Row) -> None:
        """Wait for the others' listeners, try them, and wait until the others have tried ours."""
        everyone = self._expected
        self._quietly(lambda: everyone <= set(self.listened) | self._out, STRAGGLER)
        row.start("ports")
        done = agent.run(remote, [job_steps.Connect(self._targets(row.name))], row.event, dry_run=True)
        with self._changed:
            self.tried[row.name] = done["connect"]["data"]["results"]
            self._connected.add(row.name)
            self._changed.notify_all()
        self._quietly(lambda: set(self.listened) <= self._connected | self._out, STRAGGLER)

    def _targets(self, source: str) -> list[job_steps.Target]:
        found = []
        for need in ports.needs(self.site):
            listen = self.listened.get(need.target)
            key = [need.protocol, need.port]
            if need.source != source or listen is None or key in [item[:2] for item in listen["problems"]]:
                continue
            busy = key in [item[:2] for item in listen["busy"]]
            found.append(
                job_steps.Target(need.target, self._address(need.target, listen), need.protocol, need.port, busy)
            )
        return found

    def _address(self, node: str, listen: dict) -> str:
        """Return where a node is now: the site's address if it has that, else its first."""
        wanted, held = self.site.nodes[node].address, [item["address"] for item in listen["addresses"]]
        return wanted if wanted in held or not held else held[0]

    def _until(self, done: Callable, bound: float, row: Row, what: str) -> None:
        if not self._quietly(done, bound):
            raise NodeError(f"waited {bound:.0f} s for {what}", f"see the log {row.log_file}")

    def _quietly(self, done: Callable, bound: float) -> bool:
        with self._changed:
            reached = self._changed.wait_for(lambda: done() or self.pool.stop.is_set(), bound)
        if self.pool.stop.is_set():
            raise Stopped
        return reached


class _Part:
    """The board's part that listens and examines while another one connects; it ends when it is released."""

    def __init__(self, remote: Remote, row: Row, steps: list[job_steps.JobStep], on_event: Callable):
        self.error: BaseException | None = None
        self.ended = False
        self._remote, self._row, self._steps, self._on_event = remote, row, steps, on_event
        self._released = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Start it."""
        self._thread.start()

    def _run(self) -> None:
        try:
            agent.run(self._remote, self._steps, lambda event: self._on_event(self._row, event), dry_run=True)
        except BaseException as error:  # noqa: BLE001 - it belongs to the node's worker
            # Closing its input ends the part early, which it reports as a cancellation.
            if not self._released:
                self.error = error
        finally:
            self.ended = True
            self._on_event(self._row, {"event": "ended"})

    def release(self) -> None:
        """Let it free its ports, tell what it saw, and end."""
        self._released = True
        self._remote.hang_up()
        self._thread.join(timeout=10)
