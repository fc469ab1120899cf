"""The facts after each step of `swarm.member`, if it succeeds: functions of (facts, step), for test=True."""

from dataclasses import replace

from omega.swarm.api import MANAGER, WORKER, Local, Node
from omega.swarm.member.plan import entry_of
from omega.swarm.record import READY, Published, Record

NEW = "(new)"


def bootstrapped(facts, _step):
    """This node manages a new swarm."""
    record = Record(READY, facts.node, 0, NEW)
    local = replace(facts.local, state="active", control=True, cluster_id=NEW, node_id=NEW)
    return replace(facts, record=record, local=local, token_cluster=NEW)


def others_bootstrapped(facts, _step):
    """Another node has made a swarm."""
    cluster = facts.local.cluster_id or NEW
    return replace(facts, record=Record(READY, "", 0, cluster), token_cluster=cluster, holder="", listening=())


def recorded(facts, _step):
    """The swarm of this node is the cluster's."""
    return replace(facts, record=Record(READY, facts.node, 0, facts.local.cluster_id))


def token_published(facts, _step):
    """Consul contains the token with which workers join."""
    return replace(facts, token_cluster=facts.record.cluster_id, token_old=False)


def clock_trusted(facts, _step):
    """The clock is synchronised."""
    return replace(facts, clock="")


def joined(facts, _step):
    """This node is a worker of the cluster's swarm."""
    return replace(facts, local=replace(facts.local, state="active", cluster_id=cluster_of(facts), node_id=NEW))


def cluster_of(facts):
    """Return the ClusterID of the cluster's swarm."""
    return (facts.record.cluster_id if facts.record else "") or NEW


def settled(facts, step):
    """The engine is up, or has joined."""
    local = facts.local
    if not local.joined and local.state == "pending":
        return joined(facts, step)
    return replace(facts, local=replace(local, state="active", error="", control=local.certified == MANAGER))


def published(facts, _step):
    """Consul contains this node's entry."""
    return replace(facts, published={**facts.published, facts.node: entry_of(facts)})


def promoted(facts, step):
    """The nodes of the step are managers."""
    others = {name: replace(facts.published[name], role_now=MANAGER, present=False) for name in step.names}
    ids = {entry.node_id for entry in others.values()}
    nodes = [replace(node, role=MANAGER, reachable=True) if node.id in ids else node for node in facts.nodes]
    return replace(facts, published={**facts.published, **others}, nodes=tuple(nodes))


def released(facts, step):
    """The nodes of the step are demoted, and have joined again."""
    others = {name: replace(facts.published[name], role_now=MANAGER, wish="") for name in step.names}
    return replace(facts, published={**facts.published, **others})


def managers_joined(facts, step):
    """The nodes of the step have joined and are managers."""
    others = {name: Published(role_now=MANAGER, cluster_id=facts.local.cluster_id) for name in step.names}
    return replace(facts, published={**facts.published, **others})


def succeeded(facts, step):
    """The nodes of the step are managers that can be reached."""
    known = {name: replace(facts.published.get(name, Published()), node_id=f"{NEW} {name}") for name in step.names}
    nodes = [Node(entry.node_id, name, MANAGER, "active", "ready", reachable=True) for name, entry in known.items()]
    others = [node for node in facts.nodes if node.hostname not in known]
    facts = replace(facts, published={**facts.published, **known}, nodes=(*others, *nodes))
    return managers_joined(promoted(facts, step), step)


def promoted_itself(facts, _step):
    """This node is a manager."""
    return replace(facts, local=replace(facts.local, control=True))


def demoted(facts, _step):
    """This node is a worker."""
    return replace(facts, local=replace(facts.local, control=False))


def unlocked(facts, _step):
    """This node is a manager whose state is not locked."""
    return replace(facts, local=replace(facts.local, state="active", control=True))


def abandoned(facts, _step):
    """This node is in no swarm."""
    return replace(facts, local=Local(hostname=facts.local.hostname))


def left(facts, step):
    """This node is in no swarm, and has published that."""
    return published(abandoned(facts, step), step)


def restarted(facts, _step):
    """The engine has started with this clock, and has noticed a demotion."""
    local = replace(facts.local, state="active", error="")
    if facts.demoted.get(facts.node) == local.node_id:
        local = replace(local, control=False, certified=WORKER)
    elif local.certified == MANAGER:
        local = replace(local, control=True)
    return replace(facts, local=local, restarted=True)
