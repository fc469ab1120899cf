"""
What the managers do for the whole swarm: pure decisions, no calls.

`plan(facts)` returns which entries of the swarm's node list are changed or removed, whether the join tokens are due for
rotation, and what a person should know. The run carries it out and plans again, until the plan is empty.

An entry is known by the NodeID that a node of the site has published (omega.swarm.owner), not by its hostname.
"""

import datetime
from dataclasses import dataclass, field, replace
from typing import Callable, Optional

from omega.site import nodes as site_nodes
from omega.swarm import owner
from omega.swarm.api import MANAGER, WORKER, Node, demotion_problem
from omega.swarm.nodes import labels as spec

# Seconds after which a join that left an entry without a hostname has ended: `swarm.member` gives up after 120.
JOIN_ENDS = 600


@dataclass(frozen=True)
class Rotation:
    """NodeIDs of all nodes, and of the managers, at the last rotation of the join tokens."""

    cluster_id: str = ""
    nodes: frozenset = frozenset()
    managers: frozenset = frozenset()

    def value(self):
        """The JSON value to write."""
        return {"cluster_id": self.cluster_id, "nodes": sorted(self.nodes), "managers": sorted(self.managers)}


@dataclass(frozen=True)
class Facts:
    """Everything a plan is made from. Made by keywords only."""

    site: dict  # the pillar's `rpiomega`
    cluster_id: str  # the engine's swarm
    nodes: tuple  # the swarm's node list
    now: Optional[datetime.datetime] = None  # this node's clock
    # What Consul contains.
    published: dict = field(default_factory=dict)  # {name: omega.swarm.record.Published}
    alive: dict = field(default_factory=dict)  # {name: address} of the nodes that it sees alive, where they are needed
    unlisted: dict = field(default_factory=dict)  # {name: NodeID} that it marks as missing in the node list
    rotation: Rotation = field(default_factory=Rotation)  # the last one
    token_known: bool = True  # it contains the very token with which workers join now


@dataclass(frozen=True)
class Update:
    """`change` (a decoded spec -> the new one) is applied to one node; `why` is one clause."""

    node: Node
    change: Callable
    why: str


@dataclass(frozen=True)
class Removal:
    """The entry of a node that has left or was re-created; `why` is one clause."""

    node: Node
    why: str


@dataclass
class Plan:
    """findings: one line each, for the reader; warnings: those of them that a person has to act on."""

    updates: list = field(default_factory=list)
    removals: list = field(default_factory=list)
    forget: list = field(default_factory=list)  # names whose key in Consul has served its purpose
    mark: dict = field(default_factory=dict)  # {name: NodeID} that the swarm's node list lacks; the node reads it
    unmark: list = field(default_factory=list)  # names whose mark does not hold any more
    findings: list = field(default_factory=list)
    warnings: list = field(default_factory=list)
    rotate: tuple = ()  # roles whose tokens are due
    early: str = ""  # the finding if they are rotated before every node has joined
    republish: bool = False  # Consul contains another worker token than the swarm
    awaited: tuple = ()  # what a run that has time may wait for, one clause each

    @property
    def acts(self):
        """Whether there is anything to write."""
        changed = self.updates or self.removals or self.forget or self.mark or self.unmark
        return bool(changed or self.rotate or self.republish)

    def warn(self, line):
        """Add a finding that a person has to act on."""
        self.findings.append(line)
        self.warnings.append(line)


def plan(facts, waits=False):
    """
    Return the Plan for these facts.

    :param waits: the join tokens are rotated only once the nodes that are joining right now have joined, so that a wave
        of joins needs one rotation
    """
    found = Plan()
    for node in facts.nodes:
        _judge(facts, node, found)
    leaving = {removal.node.id for removal in found.removals}
    staying = [node for node in facts.nodes if node.id not in leaving]
    for name, entry in facts.published.items():
        if name not in site_nodes.nodes(facts.site) and not _refers(facts, name, entry, staying):
            found.forget.append(name)
    _not_listed(facts, found)
    _tokens(facts, found, waits)
    return found


def asks_who_is_alive(facts):
    """Whether a decision about these facts rests on which nodes Consul sees alive."""
    in_order = all(_owner(facts, node) in site_nodes.nodes(facts.site) for node in facts.nodes)
    return not in_order or bool(due(facts, Plan()))


def with_alive(facts, alive):
    """Return the facts with the answer of Consul."""
    return replace(facts, alive=alive)


def member(facts, name):
    """Return the swarm's Node that the site's or a former node `name` has published, None if there is none."""
    return next((node for node in facts.nodes if name and _owner(facts, node) == name), None)


def label(facts, node):
    """Return how an entry is named to the reader: as the node it is, else by its hostname and NodeID."""
    return _owner(facts, node) or f"{owner.shown(node)} ({node.id})"


def _owner(facts, node):
    return owner.current(facts.published, node, site_nodes.nodes(facts.site))


def _refers(facts, name, entry, nodes):
    """Whether the key of `name` says whose one of these entries is, and no other key does."""
    mine = [node for node in nodes if node.id in (entry.node_id, *entry.previous)]
    return any((_owner(facts, node) or _former_owner(facts, node) or name) == name for node in mine)


def _former_owner(facts, node):
    return owner.former(facts.published, node, site_nodes.nodes(facts.site))


# -- one node -----------------------------------------------------------------------------------------------


def _judge(facts, node, found):
    name, before = _owner(facts, node), _former_owner(facts, node)
    if name:
        (_known if name in site_nodes.nodes(facts.site) else _surplus)(facts, node, name, found)
    elif before:
        _former(facts, node, before, found)
    elif not node.hostname and not node.ready:
        _unfinished_join(facts, node, found)
    elif _publishers(facts, node):
        names = " and ".join(_publishers(facts, node))
        found.warn(
            f"{owner.shown(node)} ({node.id}) is left as it is: {names} have published this NodeID, and its hostname "
            f"is that of none: apply the states on {names}, each then publishes its own"
        )
    elif node.hostname in site_nodes.nodes(facts.site) and _seen_in_consul(facts, node):
        found.findings.append(f"{node.hostname} has joined and not published its NodeID yet: apply the states on it")
    else:
        _unknown(node, node.hostname in site_nodes.nodes(facts.site), found)


def _publishers(facts, node):
    return [name for name, entry in facts.published.items() if entry.node_id == node.id]


def _seen_in_consul(facts, node):
    """
    Whether Consul shows that the machine at this node's address is the site's node of that name: its agent there has
    that node's own token. So a node is not held back between its join and its publication.
    """
    return node.ready and facts.alive.get(node.hostname) == node.address != ""


def _known(facts, node, name, found):
    former = _formers(facts, node, name)
    change = spec.settings(facts.site, name, former)
    if node.hostname and not owner.same_host(name, node.hostname):
        found.warn(
            f"{name} calls itself {node.hostname}: it counts as {name}, whose NodeID it has, but placement by "
            f"node.hostname does not find it; on that board: `sudo hostnamectl set-hostname {name}` (the swarm sees it "
            "within a minute)"
        )
    why = "as the site file says"
    if former:
        why = f"with what its old entry {former[0].id} had"
    elif spec.HELD in node.labels:
        why = "it is a known node of the site"
    _update(node, change, why, found)


def _formers(facts, node, name):
    """Return the entries that the node `name` had before its present one, `node`."""
    return [old for old in facts.nodes if node.ready and old.state == "down" and _former_owner(facts, old) == name]


def _update(node, change, why, found):
    if change(spec.of(node)) != spec.of(node):
        found.updates.append(Update(node, change, why))


def _surplus(facts, node, name, found):
    line = f"{name} is not in the site file any more: `rpiomega remove {name}` takes it out of the cluster"
    found.warn(f"{line}; until then it is drained" if node.ready else f"{line}; it is down")
    _update(node, spec.holding(spec.DRAIN), "not in the site file any more", found)


def _unknown(node, in_site, found):
    line = f"{owner.shown(node)} ({node.id}, {node.address or 'no address'}, {node.state}) is in the swarm, but "
    if in_site:
        line += f"the site's {node.hostname} has not published this NodeID: it gets no new tasks until it does"
        line += f"; if it is not that board, or an old entry of it: {_eviction(node)}"
    else:
        line += "no node of the site has published its NodeID: it gets no new tasks; to keep it, add it to the site "
        line += f"file and bootstrap it; to remove it: {_eviction(node)}"
    found.warn(line)
    _update(node, spec.holding(spec.PAUSE), "unknown to the site", found)


def _eviction(node):
    if node.state == "down":
        demoted = f"docker node demote {node.id} && " if node.role == MANAGER else ""  # the engine refuses otherwise
        return f"`{demoted}docker node rm {node.id}` on a manager"
    demoted = f"docker node demote {node.id} && " if node.role == MANAGER else ""  # else it could not leave either
    return (
        f"`{demoted}docker node update --availability drain {node.id}` on a manager (what runs there moves away), "
        f"`docker swarm leave` on that machine or switch it off, then `docker node rm {node.id}`"
    )


def _unfinished_join(facts, node, found):
    """
    An entry that no engine has ever reported to: the manager adds it with the request for a certificate, before the
    joining engine has that (swarmkit ca/server.go). It can have no tasks, so it is not paused.
    """
    age = (facts.now - node.created).total_seconds() if facts.now and node.created else 0
    if age < JOIN_ENDS:
        found.findings.append(
            f"an entry without a hostname ({node.id}, {node.state}) is of a join that has not ended; it is removed if "
            f"that is so {JOIN_ENDS // 60} minutes after it began"
        )
        return
    found.removals.append(Removal(node, f"its join has not ended in {age / 60:.0f} minutes, no engine reports as it"))


def _not_listed(facts, found):
    """Nodes whose engine says that they are in this swarm, and whose NodeID its node list lacks."""
    listed = {node.id for node in facts.nodes}
    gone = {
        name: entry.node_id
        for name, entry in facts.published.items()
        if name in site_nodes.nodes(facts.site)
        and entry.node_id
        and entry.role_now
        and entry.cluster_id == facts.cluster_id
        and entry.node_id not in listed
    }
    found.mark = {name: node_id for name, node_id in gone.items() if facts.unlisted.get(name) != node_id}
    found.unmark = [name for name in facts.unlisted if name not in gone]
    for name, node_id in gone.items():
        found.warn(
            f"{name} is in the swarm as its own engine says, but the node list has no entry {node_id} (somebody "
            f"removed it): it gets no tasks; on the master: `sudo salt {name} state.apply`, it leaves and joins again"
        )


def _former(facts, node, name, found):
    entry, replacement = facts.published[name], member(facts, name)
    if node.state != "down":
        if replacement is not None:
            found.awaited += (f"the old entry {node.id} of {name} to be seen as down",)
            found.warn(
                f"{name} has a second entry {node.id}, which the swarm sees as {node.state}: it is not removed; if it "
                f"stays, another board runs with an older copy of the card of {name}: take that off"
            )
        return
    if replacement is not None and not replacement.ready:
        found.findings.append(f"the old entry {node.id} of {name} stays until {name} is back")
        return
    if replacement is None and entry.node_id:
        return
    refused = demotion_problem(facts.nodes, node.id) if node.role == MANAGER else ""
    if refused:
        found.warn(f"the old entry {node.id} of {name} stays, it counts as a manager: {refused}")
        return
    why = f"{name} is now {replacement.id}" if replacement else f"{name} has left"
    found.removals.append(Removal(node, why))


def _role(site, name):
    return MANAGER if MANAGER in site_nodes.roles(site, name) else WORKER


# -- tokens -------------------------------------------------------------------------------------------------


def after(facts, found):
    """Return the Rotation that the swarm would have if its tokens were rotated after this plan."""
    removed = {removal.node.id for removal in found.removals}
    # An entry without a hostname is no member yet; as it becomes one the set is another.
    nodes = [node for node in facts.nodes if node.id not in removed and (node.hostname or node.ready)]
    managers = frozenset(node.id for node in nodes if node.role == MANAGER)
    return Rotation(facts.cluster_id, frozenset(node.id for node in nodes), managers)


def missing(facts):
    """Return the names of the site's nodes that Consul sees alive and that are not in the swarm as they should be."""
    found = []
    for name in site_nodes.nodes(facts.site):
        role, node = _role(facts.site, name), member(facts, name)
        if name in facts.alive and (node is None or not node.ready or (role == MANAGER and node.role != MANAGER)):
            found.append(name)
    return tuple(found)


def due(facts, found):
    """Return the roles whose tokens were last rotated before a node joined, left, or was promoted or demoted."""
    now, last = after(facts, found), facts.rotation
    other = last.cluster_id != facts.cluster_id
    roles = (WORKER,) if other or now.nodes != last.nodes else ()
    return roles + ((MANAGER,) if other or now.managers != last.managers else ())


def _tokens(facts, found, waits):
    roles = due(facts, found)
    names = missing(facts) if roles else ()
    if names and waits:
        found.awaited += tuple(f"{name} to be in the swarm as the site says" for name in names)
        roles = ()
    elif names:
        # A node that cannot join must not keep a leaked token alive; one that is joining reads the token at each try.
        found.early = (
            f"{', '.join(names)}: alive in Consul, but not in the swarm as the site says; the join tokens are "
            "rotated all the same: apply the states there"
        )
    found.rotate = roles
    found.republish = not facts.token_known and WORKER not in roles


def read_rotation(data):
    """Return the Rotation of its JSON value."""
    data = data or {}
    nodes, managers = (frozenset(data.get(key) or ()) for key in ("nodes", "managers"))
    return Rotation(data.get("cluster_id") or "", nodes, managers)
