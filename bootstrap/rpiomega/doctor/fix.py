"""`--fix`: what can be cured without asking anybody: reversible, without a restart, without a loss."""

from __future__ import annotations

import threading

from rpiomega import agent, reach
from rpiomega.bulk import Bulk, Row
from rpiomega.doctor.finding import Finding
from rpiomega.node import job_steps
from rpiomega.site import Site
from rpiomega.ssh import Pool

# In this order: first what the others need.
STEPS = (job_steps.Clock(), job_steps.Cmdline(), job_steps.Modules())


class Fixer:
    """Runs the steps the findings name; `done` is node -> steps that changed something."""

    def __init__(self, site: Site, pool: Pool, findings: list[Finding]):
        self.site, self.pool = site, pool
        self.wanted: dict[str, list[str]] = {}
        for found in findings:
            if found.fix and found.fix not in self.wanted.setdefault(found.node, []):
                self.wanted[found.node].append(found.fix)
        self.done: dict[str, list[str]] = {}
        self._lock = threading.Lock()

    def run(self, bulk: Bulk) -> bool:
        """Fix the nodes of `bulk`; return False if interrupted."""
        return bulk.run(self._node, self.pool.cancel)

    def _node(self, row: Row) -> None:
        remote = reach.board(self.pool, self.site, self.site.nodes[row.name], row.log, any_mark=True)
        remote.connect(0)
        steps = [step for step in STEPS if step.step in self.wanted.get(row.name, [])]
        done = agent.run(remote, steps, row.event)
        changed = [step.step for step in steps if done[step.step]["status"] == "changed"]
        with self._lock:
            self.done[row.name] = changed
