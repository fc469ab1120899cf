"""
What a node has to do next to become the swarm member that its pillar says: pure decisions, no calls.

`decide(facts)` gives the one next Step. The state executes it, looks again and asks again, until the step is
"done" or "refuse". `predict(facts)` runs the same decisions on a copy of the facts in which each step has
succeeded: that is what test=True shows.
"""

from dataclasses import dataclass, field, replace
from typing import Optional

from omega_swarm_docker import MANAGER, WORKER, Local, demotion_problem, describe
from omega_swarm_record import INITIALIZING, READY, VACANT, Published, Record

# Steps that write, in the words of the change they make.
ACTS = ("bootstrap", "complete", "adopt", "publish_token", "join", "publish", "promote", "demote")
# Steps that wait for somebody else; each has its own bound in the state.
WAITS = ("settle", "wait_bootstrap", "wait_initializer", "wait_token", "await_promotion", "linger")
NEW = "(new)"
PREVIOUS = 5  # former NodeIDs an entry remembers


@dataclass(frozen=True)
class Facts:
    """
    Everything a decision rests on.

    managers: names with role manager in the site, in its order; expected: those of them that Consul sees alive
    and that are worth waiting for after a bootstrap; listening: managers-to-be that answer on the swarm port;
    alive: names Consul sees alive, None if not asked; nodes: the swarm's node list, where it was needed.
    """

    node: str
    role: str
    address: str
    managers: tuple = ()
    local: Local = field(default_factory=Local)
    record: Optional[Record] = None
    holder: str = ""
    token_cluster: str = ""
    published: dict = field(default_factory=dict)
    stale: bool = False
    alive: Optional[frozenset] = None
    expected: frozenset = frozenset()
    listening: tuple = ()
    nodes: tuple = ()

    @property
    def own(self):
        """This node's published entry; an empty one if there is none."""
        return self.published.get(self.node) or Published()


@dataclass(frozen=True)
class Step:
    """kind: one of ACTS, WAITS, "done" or "refuse". reason: one clause for the reader."""

    kind: str
    reason: str
    names: tuple = ()


def decide(facts):
    """Return the next Step for these facts."""
    step = _decide(facts)
    if facts.stale and step.kind == "linger":
        return Step("done", step.reason)
    if facts.stale and step.kind not in ("done", "refuse"):
        return Step("refuse", f"{step.reason}: not while Consul has no leader; bring back its servers, run again")
    return step


def _decide(facts):
    local = facts.local
    if facts.role not in (MANAGER, WORKER):
        return Step("refuse", f"{facts.node} has neither role manager nor worker in the site's nodes")
    if not facts.managers:
        return Step("refuse", "no node has role manager in the site's nodes")
    if local.state in ("locked", "error"):
        return Step("refuse", describe(local))
    if local.state == "pending":
        return Step("settle", describe(local))
    if local.state == "active":
        return _member(facts)
    return _outside(facts)


# -- in a swarm ---------------------------------------------------------------------------------------------


def _member(facts):
    local, record = facts.local, facts.record
    if record is None or record.state == VACANT:
        if facts.role == MANAGER and local.control:
            return Step("adopt", f"record the existing swarm {local.cluster_id}")
        return Step("wait_bootstrap", f"in swarm {local.cluster_id}, which no manager has recorded in Consul yet")
    if record.state == INITIALIZING:
        if record.by == facts.node and local.control:
            return Step("complete", f"finish the record of swarm {local.cluster_id}, initialised here before")
        return _other_initializer(facts)
    if not local.cluster_id:
        return Step("refuse", f"the swarm of {facts.node} cannot be told: its node certificate is not readable")
    if local.cluster_id != record.cluster_id:
        return Step(
            "refuse",
            f"{facts.node} is in swarm {local.cluster_id}, but the cluster's swarm is {record.cluster_id}; if that "
            "is a mistake run `docker swarm leave` there (a manager: with its services moved first), then again",
        )
    if local.leaderless:
        return Step("refuse", describe(local))
    return _manager(facts) if local.control else _worker(facts)


def _manager(facts):
    if facts.role == WORKER:
        return _surplus_manager(facts)
    if facts.token_cluster != facts.record.cluster_id:
        return Step("publish_token", "publish the token with which workers join")
    if outdated(facts):
        return Step("publish", "publish this node's membership")
    ready = waiting(facts)
    if ready:
        return Step("promote", f"promote {', '.join(ready)}", ready)
    late = _late(facts)
    if late:
        return Step("linger", f"promote those that are joining right now: {', '.join(late)}", late)
    return Step("done", f"manager of swarm {facts.local.cluster_id}")


def _surplus_manager(facts):
    problem = demotion_problem(facts.nodes, facts.local.node_id)
    if problem:
        return Step("refuse", f"{facts.node} stays a manager, though the site says worker: {problem}")
    return Step("demote", f"demote {facts.node} to worker, as the site says")


def _worker(facts):
    if outdated(facts):
        return Step("publish", "publish this node's membership")
    if facts.role == MANAGER:
        others = ", ".join(name for name in facts.managers if name != facts.node)
        return Step("await_promotion", f"waiting to be promoted by a manager ({others or 'none in the site'})")
    return Step("done", f"worker of swarm {facts.local.cluster_id}")


def outdated(facts):
    """Whether this node's entry says something else than its engine does."""
    own, local = facts.own, facts.local
    said = (own.node_id, own.cluster_id, own.address, own.role_now)
    return said != (local.node_id, local.cluster_id, facts.address, local.role)


def candidates(facts):
    """Return the names of managers-to-be whose entries say worker of this very swarm."""
    return tuple(
        name
        for name in facts.managers
        if name != facts.node
        and facts.published.get(name, Published()).role_now == WORKER
        and facts.published[name].cluster_id == facts.local.cluster_id
    )


def waiting(facts):
    """
    Return the candidates that a manager may promote now: the swarm's node of the published NodeID has that very
    hostname, answers, and is a worker.
    """
    nodes = {node.id: node for node in facts.nodes}

    def fits(name):
        node = nodes.get(facts.published[name].node_id)
        return node and node.hostname == name and node.ready and node.role == WORKER

    return tuple(name for name in candidates(facts) if fits(name))


def _late(facts):
    """Managers-to-be whose run is going on, or that are expected, and that are no managers yet."""

    def joining(name):
        entry = facts.published.get(name)
        if entry and entry.role_now == MANAGER and entry.cluster_id == facts.local.cluster_id:
            return False
        return name in facts.expected or bool(entry and entry.present)

    return tuple(name for name in facts.managers if name != facts.node and joining(name))


# -- in no swarm --------------------------------------------------------------------------------------------


def _outside(facts):
    record = facts.record
    if facts.local.hostname and facts.local.hostname != facts.node:
        return Step(
            "refuse",
            f"the engine calls this node {facts.local.hostname}, the site {facts.node}; set the hostname "
            f"(`rpiomega bootstrap {facts.node}`), restart Docker, run again",
        )
    if record is not None and record.state == READY:
        if facts.token_cluster != record.cluster_id:
            return Step("wait_token", f"waiting for a manager to publish the token of swarm {record.cluster_id}")
        return Step("join", f"join swarm {record.cluster_id} as worker")
    if record is not None and record.state == INITIALIZING and record.by != facts.node:
        return _other_initializer(facts)
    if facts.role != MANAGER:
        return Step("wait_bootstrap", f"waiting for bootstrap by {_bootstrapper(facts)}")
    if facts.holder and facts.holder != facts.node:
        return Step("wait_bootstrap", f"waiting for bootstrap by {facts.holder}")
    if facts.listening:
        return Step(
            "wait_bootstrap",
            f"{', '.join(facts.listening)} already runs a swarm manager, but Consul holds no record of a swarm: "
            f"waiting for the state to run there",
        )
    return Step("bootstrap", "initialise the swarm, unless another manager-to-be does first")


def _bootstrapper(facts):
    return facts.holder or f"one of {', '.join(facts.managers)}"


def _other_initializer(facts):
    by = facts.record.by
    if facts.holder == by != facts.node or (by in facts.published and facts.published[by].present):
        return Step("wait_bootstrap", f"waiting for bootstrap by {by}")
    message = (
        f"{by} may hold a swarm: it recorded that it initialises one and has not finished; recover {by} and "
        f"apply the state there, or, if {by} is lost for ever, run swarm.bootstrap_takeover {by} on a manager"
    )
    if facts.alive is not None and by not in facts.alive:
        return Step("refuse", message)
    return Step("wait_initializer", message)


# -- prediction ---------------------------------------------------------------------------------------------


def predict(facts, limit=12):
    """Return the Steps a run would take if each succeeds, the last one "done" or "refuse"."""
    steps = []
    while len(steps) < limit:
        step = decide(facts)
        steps.append(step)
        if step.kind in ("done", "refuse"):
            break
        facts = _after(facts, step)
    return steps


def _after(facts, step):
    return globals()[f"_after_{step.kind}"](facts, step)


def _after_bootstrap(facts, _step):
    record = Record(READY, facts.node, 0, NEW)
    local = replace(facts.local, state="active", control=True, cluster_id=NEW, node_id=NEW)
    return replace(facts, record=record, local=local, token_cluster=NEW)


def _after_record(facts, _step):
    return replace(facts, record=Record(READY, facts.node, 0, facts.local.cluster_id))


_after_adopt = _after_complete = _after_record


def _after_publish_token(facts, _step):
    return replace(facts, token_cluster=facts.record.cluster_id)


def _after_join(facts, _step):
    cluster = facts.record.cluster_id if facts.record else NEW
    return replace(facts, local=replace(facts.local, state="active", cluster_id=cluster or NEW, node_id=NEW))


_after_settle = _after_join


def _after_publish(facts, _step):
    local = facts.local
    entry = Published(local.node_id, local.cluster_id, facts.address, local.role, present=facts.own.present)
    return replace(facts, published={**facts.published, facts.node: entry})


def _after_promote(facts, step):
    promoted = {name: replace(facts.published[name], role_now=MANAGER, present=False) for name in step.names}
    return replace(facts, published={**facts.published, **promoted})


def _after_linger(facts, step):
    gone = {name: Published(role_now=MANAGER, cluster_id=facts.local.cluster_id) for name in step.names}
    return replace(facts, published={**facts.published, **gone})


def _after_await_promotion(facts, _step):
    return replace(facts, local=replace(facts.local, control=True))


def _after_demote(facts, _step):
    return replace(facts, local=replace(facts.local, control=False))


def _after_wait(facts, _step):
    cluster = facts.local.cluster_id or NEW
    return replace(facts, record=Record(READY, "", 0, cluster), token_cluster=cluster, holder="", listening=())


_after_wait_bootstrap = _after_wait_initializer = _after_wait


def _after_wait_token(facts, _step):
    return replace(facts, token_cluster=facts.record.cluster_id)


def changes(facts, steps):
    """Return the changes that these predicted steps would make, keyed as a run's changes are."""
    found = {}
    for step in steps:
        if step.kind == "bootstrap":
            found["swarm"] = {"old": "inactive", "new": f"manager of {NEW}, initialised here"}
        elif step.kind in ("adopt", "complete"):
            found["swarm"] = {"old": "not recorded", "new": f"manager of {facts.local.cluster_id}"}
        elif step.kind == "join":
            cluster = facts.record.cluster_id if facts.record else NEW
            found["swarm"] = {"old": "inactive", "new": f"member of {cluster or NEW}"}
        elif step.kind == "await_promotion":
            found["role"] = {"old": WORKER, "new": MANAGER}
        elif step.kind == "demote":
            found["role"] = {"old": MANAGER, "new": WORKER}
        elif step.kind == "promote":
            found["promoted"] = list(step.names)
        elif step.kind == "publish_token":
            found["worker token"] = {"old": facts.token_cluster or None, "new": "published"}
        elif step.kind == "publish":
            found["published"] = {"old": facts.own.role_now or None, "new": facts.role}
    return found


def entry_of(facts):
    """Return the Published that this node should have written."""
    local, own = facts.local, facts.own
    previous = own.previous
    if own.node_id and own.node_id != local.node_id:
        previous = (*previous, own.node_id)[-PREVIOUS:]
    return Published(local.node_id, local.cluster_id, facts.address, local.role, previous, own.present)
