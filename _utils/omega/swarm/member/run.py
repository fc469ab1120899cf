"""
One run of `swarm.member` on one node: what it is to do, what it works with, and what it remembers from step to step.
"""

import time
from dataclasses import dataclass, field
from typing import Any, Callable, Optional

from omega.core import clock as core_clock
from omega.site import nodes as site_nodes
from omega.swarm import check
from omega.swarm.api import MANAGER, WORKER, SwarmError
from omega.swarm.nodes.labels import KEEP
from omega.swarm.waits import Failed

JOINED_EVENT = "rpiomega/swarm/joined"


@dataclass(frozen=True)
class Bounds:
    """Seconds that the parts of a run may take."""

    bootstrap: float = 300  # until another node has initialised the swarm
    # Until a node that recorded its intent and was interrupted comes back: its lock outlives it by TTL and lock-delay.
    initializer: float = 45
    join: float = 120
    promote: float = 120  # until this node is promoted; also: until those that are joining right now are
    gather: float = 30  # after this run recorded the swarm, for managers-to-be that Consul sees alive
    engine: float = 60  # of an engine that does not answer
    consul: float = 15  # of a Consul that does not answer
    clock: float = 90  # until the clock is synchronised, before an init or a join
    notice: float = 20  # until the engine of a manager that was demoted has noticed it


@dataclass(frozen=True)
class Wanted:
    """What the pillar says and the caller allows."""

    node: str
    role: str
    address: str
    managers: dict  # {name: address}
    swarm: dict = field(default_factory=dict)  # settings for `swarm init` and a join
    readdress: bool = False  # a node whose address has changed may leave and join again
    rejoin: bool = False  # a node whose certificate has expired may leave and join again
    min_free_mb: int = 0  # free space below which a node is not taken into the swarm or made a manager

    @property
    def others(self):
        """{name: address} of the managers-to-be but this node."""
        return {name: address for name, address in self.managers.items() if name != self.node}

    @property
    def other_names(self):
        """The names of `others` for a sentence."""
        return " or ".join(self.others) or "a manager"


def wanted(site, node, role=None, address=None, managers=None, swarm=None, **allowed):
    """
    Return the Wanted of `node` from the site's pillar; arguments given win.

    :param allowed: readdress, rejoin, min_free_mb, as in Wanted
    :raises SwarmError: "refused" naming the key that is missing
    """
    entry = site_nodes.nodes(site).get(node) or {}
    if role is None:
        found = [name for name in site_nodes.roles(site, node) if name in (MANAGER, WORKER)]
        if len(found) != 1:
            what = "has both roles manager and worker" if found else "has neither role manager nor worker"
            raise SwarmError("refused", f"{node} {what} in rpiomega:nodes:{node}:roles of the site's pillar")
        role = found[0]
    if managers is None:
        managers = {name: site_nodes.address(site, name) for name in site_nodes.with_role(site, MANAGER)}
    address = address or entry.get("address")
    if not address:
        raise SwarmError("refused", f"no address for {node}: rpiomega:nodes:{node}:address of the site's pillar")
    # Sent with the join, so that a node to be drained or paused gets no task before a manager sets its availability.
    availability = entry.get("availability")
    swarm = {**(swarm or {}), "availability": "" if availability == KEEP else availability}
    return Wanted(node=node, role=role, address=str(address), managers=dict(managers), swarm=swarm, **allowed)


@dataclass
class Run:
    """One run on one node; omega.swarm.member.loop carries it out."""

    engine: Any  # omega.swarm.api.Engine
    store: Any  # omega.swarm.record.Store
    want: Wanted
    bounds: Bounds = field(default_factory=Bounds)
    notify: Callable = lambda node: None  # called with this node's name when it waits for a manager; best effort
    keyring: Any = None  # omega.swarm.settings.key.Keyring with the unlock key, if there may be one
    # Called with this node's name, restarts its engine; returns what went wrong in words, or None.
    restart: Callable = lambda node: "this run has no way to restart it"
    synchronised: Callable = core_clock.synchronised

    # What it returns.
    changes: dict = field(default_factory=dict)
    notes: list = field(default_factory=list)  # clauses for the comment
    warnings: list = field(default_factory=list)

    # What it remembers.
    since: dict = field(default_factory=dict)  # {what it waits for: when that began}
    looked: bool = False  # it has looked at this node before
    present: bool = False  # the other managers see that it is going on
    first_role: Optional[str] = None  # the role this node had published before the run
    clock_trusted: bool = False  # it goes on, though nobody has confirmed the clock
    bootstrapped: float = 0.0  # when it recorded the swarm
    expected: set = field(default_factory=set)  # names of the managers-to-be that it waited for after that
    asked: str = ""  # address of the manager through which it has asked to join
    refused_token: str = ""  # worker token that a manager has refused
    restarted: bool = False  # it has restarted the engine
    successors_late: bool = False  # it has waited long enough for other managers, before this node steps down

    def over(self, what, bound):
        """Return whether `bound` seconds have passed since the first call for `what`."""
        return time.monotonic() - self.since.setdefault(what, time.monotonic()) > bound

    def host_problems(self, facts):
        """Return (problems, warnings) of this host, as omega.swarm.check.host_problems."""
        return check.host_problems(facts.local, self.want.min_free_mb)

    def refuse_unfit(self, facts):
        """Raise Failed if this host is not fit for a swarm."""
        problems = self.host_problems(facts)[0]
        if problems:
            raise Failed(f"{facts.node}: {'; '.join(problems)}")
