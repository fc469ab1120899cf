"""Faults of a whole cluster, on one lab. `make faults` runs them; their own files say what each row does.

A test is named after its row of faults.yaml (test_f21_...). What has passed with the product's files as they are is not
run again: results are kept in .lab/faults-results/results.json. Environment: RPIOMEGA_FAULTS_ONLY=F21,G01 runs these in
any case, RPIOMEGA_FAULTS_FRESH=1 all.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from pathlib import Path

import pytest

logging.getLogger("urllib3").setLevel(logging.WARNING)
HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

# ruff: noqa: E402 - the files beside this one are found by the line above.
import invariants
import leaks
import results
import shown
from cluster import HEAL_BOUND, Cluster
from inject import Injector
from nodes import TROUBLE
from repair import repair

OUTCOME, SHOWN = pytest.StashKey(), pytest.StashKey()
# Rows that take the swarm apart come last.
LAST = ("test_losses.py", "test_forming.py")


def pytest_configure(config):
    config.stash[SHOWN] = shown.Shown(config, HERE.relative_to(results.ROOT).as_posix())
    config.pluginmanager.register(config.stash[SHOWN], "faults-shown")


def pytest_collection_modifyitems(config, items):
    # Other suites have tests named after rows, too, and may be collected together with the checkers of this one.
    rows = [item for item in items if item.path.parent == HERE and "fault" in item.fixturenames]
    if not rows:
        return
    try:
        known = {results.row_of(item.name) for item in rows}
        only = results.chosen(os.environ.get("RPIOMEGA_FAULTS_ONLY", ""), known)
    except ValueError as error:
        raise pytest.UsageError(f"RPIOMEGA_FAULTS_ONLY: {error}") from None
    if os.environ.get("RPIOMEGA_FAULTS_FRESH"):
        results.forget()
    results.prune({item.name for item in rows})
    done, old = results.standing(results.load())
    for item in rows:
        if not only and item.name in old:
            again = f"{item.name} passed at {old[item.name]}; the product's files changed since, so it runs again"
            config.stash[SHOWN].say(again)

    def wanted(item):
        if item not in rows:
            return not only
        return results.row_of(item.name) in only if only else item.name not in done

    kept = [item for item in items if wanted(item)]
    config.hook.pytest_deselected(items=[item for item in items if not wanted(item)])
    items[:] = sorted(kept, key=lambda item: LAST.index(item.path.name) if item.path.name in LAST else -1)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.when == "call":
        item.stash[OUTCOME] = report
    return report


@pytest.fixture(scope="session")
def cluster(request):
    """The lab `faults`, whole and with a service on every node. It stays for the next run."""
    made = Cluster(request.config.stash[SHOWN].say)
    made.ensure()
    leaks.watch_events(made)
    leaks.follow(made)
    return made


@pytest.fixture(scope="session")
def group(cluster):
    """After the last row of a run: the invariants that cost more (I2 everywhere, I3, I5)."""
    ran: list[str] = []
    yield ran
    if ran:
        began = time.monotonic()
        problems = invariants.check_group(cluster)
        key = f"after {', '.join(ran)}"
        entry = {"outcome": results.FAILED if problems else results.PASSED}
        entry |= {"problems": problems, "took": round(time.monotonic() - began)}
        results.save(key, entry, cluster.commit())
        assert not problems, "\n".join(problems)


class Fault(Injector):
    """What a row's test works with: the faults to inject, and what it measures."""

    def __init__(self, cluster, row):
        super().__init__(cluster)
        self.row, self.bound = row, row["bound_s"]
        self.seconds = None  # until the criterion held
        self.measured: dict = {}  # anything else worth a line in the report
        self.lost = "nothing"
        self.injected = ""
        self.thoroughly = False  # check the group's invariants after this row too
        self._began = None

    def begins(self, what: str) -> None:
        """Say what was injected; the clock of the recovery starts now."""
        self.injected, self._began = what, time.monotonic()

    def since(self) -> float:
        """Seconds since the fault."""
        return time.monotonic() - self._began

    def recovers(self, what: str, look, bound: float | None = None):
        """Wait until `look()` is true, within the row's bound since the fault began; note the seconds."""
        bound = self.bound if bound is None else bound
        seen = self.cluster.wait(f"{self.row['id']}: {what}", max(0.0, bound - self.since()), look)
        self.seconds = round(self.since(), 1)
        return seen


@pytest.fixture
def fault(request, cluster, group):
    """A row's fault on a whole cluster; afterwards it is healed, the invariants are checked, the result is recorded."""
    row = results.table()[results.row_of(request.node.name)]
    wrong = cluster.problems()
    repaired = repair(cluster, wrong, cluster.say) if wrong else []
    before = invariants.baseline(cluster)
    found = Fault(cluster, row)
    yield found
    report = request.node.stash.get(OUTCOME, None)
    problems = close(cluster, found, before)
    if report is not None and report.skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        results.save(request.node.name, {"row": row["id"], "outcome": results.SKIPPED, "reason": reason})
        return
    if report is not None and report.passed:
        problems += late(found)
    passed = report is not None and report.passed and not problems
    group.extend([row["id"]] if passed and row["id"] not in group else [])
    results.save(
        request.node.name,
        {
            "row": row["id"],
            "outcome": results.PASSED if passed else results.FAILED,
            "seconds": found.seconds,
            "bound": row["bound_s"],
            "injected": found.injected,
            "lost": found.lost,
            "measured": found.measured,
            "repaired": repaired,
            "problems": problems + ([] if report is None or report.passed else [str(report.longrepr)[-800:]]),
        },
        cluster.commit(),
    )
    assert not problems, "\n".join(problems)


def late(found) -> list[str]:
    """A row that has measured no time, or one above its bound, has not passed."""
    if found.seconds is None:
        return ["the row's test has measured no time"]
    over = found.seconds > found.bound
    return [f"it took {found.seconds:g} s of the row's {found.bound:g} s"] if over else []


def close(cluster, found, before) -> list[str]:
    """Heal, wait until the cluster is whole, check the invariants; return what does not hold."""
    try:
        problems = [f"not healed: {text}" for text in found.heal()]
        found.join_network_again()
        whole = cluster.wait_healthy(HEAL_BOUND)
        found.measured.setdefault("whole again after healing, s", round(whole, 1))
        problems += invariants.check(cluster, before, found.touched, found.operator, found.bound)
        return problems + (invariants.check_group(cluster) if found.thoroughly else [])
    except TROUBLE as error:
        return [f"after the fault: {error}"]
