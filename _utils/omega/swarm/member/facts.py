"""What the decisions about a node's membership are made from, and the one thing that it does next."""

import datetime
from dataclasses import dataclass, field
from typing import Optional

from omega.swarm import check
from omega.swarm.api import Local
from omega.swarm.record import Published, Record


@dataclass(frozen=True)
class Step:
    """The one thing that a node does next."""

    kind: str  # one of omega.swarm.member.steps.STEPS, "done" or "refuse"
    reason: str  # one clause for the reader
    names: tuple = ()  # other nodes that it is about


@dataclass(frozen=True)
class Facts:
    """Everything a decision is made from. Made by keywords only; `of` fills in what one look at this node gives."""

    # What the site says and the caller allows.
    node: str  # this node's name
    role: str  # the role it should have
    address: str  # the address it should have, with or without a port
    managers: tuple = ()  # names of the nodes with role manager, in the site's order
    readdress: bool = False  # a node whose address has changed may leave and join again
    rejoin: bool = False  # a node whose certificate has expired may leave and join again

    # What this node's engine, clock and interfaces say.
    local: Local = field(default_factory=Local)  # its engine's part in a swarm
    now: Optional[datetime.datetime] = None  # its clock
    clock: str = ""  # why that cannot be trusted yet
    has_address: Optional[bool] = None  # whether an interface has `address`; None: not asked
    towards: str = ""  # the address it has towards the managers, where it lacks `address`
    problem: str = ""  # why it must not become a manager
    unlock: str = ""  # of a locked swarm state: "ready" if there is a key to try, else why there is none

    # What Consul contains.
    record: Optional[Record] = None  # the record of the swarm's birth
    holder: str = ""  # who has the lock of the election
    token_cluster: str = ""  # ClusterID that the worker token is of
    token_old: bool = False  # the worker token is not the swarm's
    published: dict = field(default_factory=dict)  # {name: Published}
    unlisted: str = ""  # this node's NodeID, marked by the managers as missing in the swarm's node list
    demoted: dict = field(default_factory=dict)  # {name: NodeID} of managers that others demoted
    stale: bool = False  # Consul has no leader, this is what one server knows
    alive: Optional[frozenset] = None  # names of the nodes that Consul sees alive; None: not asked

    # What other nodes say.
    nodes: tuple = ()  # the swarm's node list, where it was needed
    listening: tuple = ()  # names of managers-to-be that answer on the swarm port
    reach: Optional[dict] = None  # {address: why it cannot be reached, or ""} of the other managers; None: not asked
    blocked: dict = field(default_factory=dict)  # {name: why it cannot be promoted}

    # What this run has done and seen so far.
    expected: frozenset = frozenset()  # names that Consul sees alive, for which a run waits after its bootstrap
    successors_late: bool = False  # it has waited long enough for other managers, before this node steps down
    unaware: bool = False  # others demoted this manager, and its engine has had the time to notice
    restarted: bool = False  # it has restarted the engine

    @classmethod
    def of(cls, want, local, snapshot, **more):
        """
        Return the Facts of one look at this node.

        :param want: omega.swarm.member.run.Wanted
        :param local: omega.swarm.api.Local
        :param snapshot: omega.swarm.record.Snapshot
        :param more: further fields
        """
        return cls(
            node=want.node,
            role=want.role,
            address=want.address,
            managers=tuple(want.managers),
            readdress=want.readdress,
            rejoin=want.rejoin,
            local=local,
            record=snapshot.record,
            holder=snapshot.holder,
            token_cluster=snapshot.token_cluster,
            published=snapshot.published,
            unlisted=snapshot.unlisted.get(want.node, ""),
            demoted=snapshot.demoted,
            stale=snapshot.stale,
            **more,
        )

    @property
    def host(self):
        """`address` without a port."""
        return check.split(self.address)[0]

    @property
    def own(self):
        """This node's published entry; an empty one if there is none."""
        return self.published.get(self.node) or Published()
