"""
The table of all steps of `swarm.member`: what carries each out, its bound, and what it results in.

`omega.swarm.member.plan` decides which step comes next; "done" and "refuse" end a run and are no steps.
"""

import time
from dataclasses import dataclass
from typing import Callable, Union

from omega.swarm.api import MANAGER, WORKER
from omega.swarm.member import bootstrap, join, outcome, repair, roles, waiting
from omega.swarm.member.outcome import NEW
from omega.swarm.waits import POLL


@dataclass(frozen=True)
class Act:
    """A step that writes."""

    do: Callable  # carries it out: (run, facts, step)
    after: Callable  # returns the Facts after it: (facts, step)
    # Returns the changes that test=True shows: (facts before the first step, step).
    change: Callable = lambda facts, step: {}


@dataclass(frozen=True)
class Wait:
    """A step that waits for another node, for this node's engine or for its clock."""

    bound: str  # the field of Bounds
    after: Callable  # as in Act
    change: Callable = lambda facts, step: {}  # as in Act
    cure: Callable = lambda run, facts: ""  # returns what to do next, once the bound has passed
    meanwhile: Callable = lambda run, facts, step, first: None  # called at each look within the bound
    expired: Callable = waiting.fail  # called once the bound has passed: (run, facts, step, this Wait)

    def seconds(self, run):
        """Return the bound in this run."""
        return getattr(run.bounds, self.bound)

    def do(self, run, facts, step):
        """Pause within the bound; after it return what `expired` does: None to look again, else the last Step."""
        first = step.kind not in run.since
        if run.over(step.kind, self.seconds(run)):
            return self.expired(run, facts, step, self)
        self.meanwhile(run, facts, step, first)
        time.sleep(POLL)
        return None


def _changed(key, old, new):
    return {key: {"old": old, "new": new}}


def _found(facts, _step):
    return _changed("swarm", "not recorded", f"manager of {facts.local.cluster_id}")


def _moved(facts, _step):
    return _changed("address", facts.local.address, facts.address)


STEPS: dict[str, Union[Act, Wait]] = {
    # A swarm for the cluster.
    "bootstrap": Act(
        bootstrap.bootstrap,
        outcome.bootstrapped,
        lambda facts, step: _changed("swarm", "inactive", f"manager of {NEW}, initialised here"),
    ),
    "complete": Act(bootstrap.complete, outcome.recorded, _found),
    "adopt": Act(bootstrap.adopt, outcome.recorded, _found),
    "publish_token": Act(
        bootstrap.publish_token,
        outcome.token_published,
        lambda facts, step: _changed("worker token", facts.token_cluster or None, "published"),
    ),
    "wait_bootstrap": Wait(
        "bootstrap",
        outcome.others_bootstrapped,
        cure=lambda run, facts: "see the result of the state on the managers, then run again",
    ),
    "wait_initializer": Wait("initializer", outcome.others_bootstrapped),
    # Its members.
    "await_clock": Wait("clock", outcome.clock_trusted, cure=waiting.set_clock, expired=waiting.trust_clock),
    "wait_token": Wait("promote", outcome.token_published),
    "join": Act(
        join.join,
        outcome.joined,
        lambda facts, step: _changed("swarm", "inactive", f"member of {outcome.cluster_of(facts)}"),
    ),
    "settle": Wait("join", outcome.settled, cure=waiting.see_connections, meanwhile=waiting.leave_if_unaccepted),
    "publish": Act(
        bootstrap.publish,
        outcome.published,
        lambda facts, step: _changed("published", facts.own.role_now or None, facts.role),
    ),
    # Roles.
    "promote": Act(roles.promote, outcome.promoted, lambda facts, step: {"promoted": list(step.names)}),
    "release": Act(roles.demote_others, outcome.released, lambda facts, step: {"demoted": list(step.names)}),
    "demote": Act(roles.demote_own, outcome.demoted, lambda facts, step: _changed("role", MANAGER, WORKER)),
    "await_promotion": Wait(
        "promote",
        outcome.promoted_itself,
        lambda facts, step: _changed("role", WORKER, MANAGER),
        cure=waiting.be_promoted,
        meanwhile=waiting.request_managers,
    ),
    "await_managers": Wait(
        "promote",
        outcome.managers_joined,
        meanwhile=waiting.remember_expected,
        expired=waiting.end_without_managers,
    ),
    "await_successor": Wait("promote", outcome.succeeded, expired=waiting.decide_without_successors),
    # Repairs.
    "unlock": Act(repair.unlock, outcome.unlocked, lambda facts, step: _changed("swarm state", "locked", "unlocked")),
    "abandon": Act(
        repair.abandon,
        outcome.abandoned,
        lambda facts, step: _changed("swarm state", "a join that failed", "inactive"),
    ),
    "restart": Act(
        repair.restart, outcome.restarted, lambda facts, step: _changed("engine", facts.local.error, "restarted")
    ),
    "rejoin": Act(repair.rejoin, outcome.left, lambda facts, step: _changed("certificate", "expired", NEW)),
    "reenter": Act(repair.reenter, outcome.left, lambda facts, step: _changed("NodeID", facts.local.node_id, NEW)),
    "readdress": Act(repair.readdress, outcome.left, _moved),
    "await_demotion": Wait(
        "promote", outcome.left, _moved, cure=waiting.be_demoted, meanwhile=waiting.request_demotion
    ),
    "await_engine": Wait("promote", outcome.left, _moved, cure=lambda run, facts: waiting.SEE_ENGINE),
}
