"""What a run of `swarm.member` would do if each step succeeds: the decisions of `plan`, for test=True."""

from dataclasses import replace

from omega.swarm.api import MANAGER, WORKER, Local, Node
from omega.swarm.member.plan import decide, entry_of
from omega.swarm.record import READY, Published, Record

NEW = "(new)"


def predict(facts, limit=12):
    """Return the Steps a run would take if each succeeds, the last one "done" or "refuse"."""
    steps: list = []
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
    return replace(facts, token_cluster=facts.record.cluster_id, token_old=False)


def _after_join(facts, _step):
    cluster = facts.record.cluster_id if facts.record else NEW
    return replace(facts, local=replace(facts.local, state="active", cluster_id=cluster or NEW, node_id=NEW))


def _after_settle(facts, step):
    local = facts.local
    if not local.joined and local.state == "pending":
        return _after_join(facts, step)
    return replace(facts, local=replace(local, state="active", error="", control=local.certified == MANAGER))


def _after_publish(facts, _step):
    return replace(facts, published={**facts.published, facts.node: entry_of(facts)})


def _after_promote(facts, step):
    promoted = {name: replace(facts.published[name], role_now=MANAGER, present=False) for name in step.names}
    ids = {entry.node_id for entry in promoted.values()}
    nodes = [replace(node, role=MANAGER, reachable=True) if node.id in ids else node for node in facts.nodes]
    return replace(facts, published={**facts.published, **promoted}, nodes=tuple(nodes))


def _after_linger(facts, step):
    gone = {name: Published(role_now=MANAGER, cluster_id=facts.local.cluster_id) for name in step.names}
    return replace(facts, published={**facts.published, **gone})


def _after_await_successor(facts, step):
    known = {name: replace(facts.published.get(name, Published()), node_id=f"{NEW} {name}") for name in step.names}
    nodes = [Node(entry.node_id, name, MANAGER, "active", "ready", reachable=True) for name, entry in known.items()]
    others = [node for node in facts.nodes if node.hostname not in known]
    facts = replace(facts, published={**facts.published, **known}, nodes=(*others, *nodes))
    return _after_linger(_after_promote(facts, step), step)


def _after_await_promotion(facts, _step):
    return replace(facts, local=replace(facts.local, control=True))


def _after_demote(facts, _step):
    return replace(facts, local=replace(facts.local, control=False))


def _after_unlock(facts, _step):
    return replace(facts, local=replace(facts.local, state="active", control=True))


def _after_abandon(facts, _step):
    return replace(facts, local=Local(hostname=facts.local.hostname))


def _after_restart(facts, _step):
    local = replace(facts.local, state="active", error="")
    if facts.demoted.get(facts.node) == local.node_id:
        local = replace(local, control=False, certified=WORKER)
    elif local.certified == MANAGER:
        local = replace(local, control=True)
    return replace(facts, local=local, restarted=True)


def _after_await_clock(facts, _step):
    return replace(facts, clock="")


def _after_leave(facts, _step):
    local = Local(hostname=facts.local.hostname)
    return replace(facts, local=local, published={**facts.published, facts.node: entry_of(facts)})


_after_rejoin = _after_reenter = _after_readdress = _after_await_demotion = _after_await_engine = _after_leave


def _after_release(facts, step):
    gone = {name: replace(facts.published[name], role_now=MANAGER, wish="") for name in step.names}
    return replace(facts, published={**facts.published, **gone})


def _after_wait(facts, _step):
    cluster = facts.local.cluster_id or NEW
    return replace(facts, record=Record(READY, "", 0, cluster), token_cluster=cluster, holder="", listening=())


_after_wait_bootstrap = _after_wait_initializer = _after_wait


def _after_wait_token(facts, _step):
    return replace(facts, token_cluster=facts.record.cluster_id)


def changes(facts, steps):
    """Return the changes that these predicted steps would make, keyed as a run's changes are."""
    found: dict = {}
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
        elif step.kind == "release":
            found["demoted"] = list(step.names)
        elif step.kind == "unlock":
            found["swarm state"] = {"old": "locked", "new": "unlocked"}
        elif step.kind == "rejoin":
            found["certificate"] = {"old": "expired", "new": NEW}
        elif step.kind == "reenter":
            found["NodeID"] = {"old": facts.local.node_id, "new": NEW}
        elif step.kind == "abandon":
            found["swarm state"] = {"old": "a join that failed", "new": "inactive"}
        elif step.kind == "restart":
            found["engine"] = {"old": facts.local.error, "new": "restarted"}
        elif step.kind in ("readdress", "await_demotion", "await_engine"):
            found["address"] = {"old": facts.local.address, "new": facts.address}
        elif step.kind == "promote":
            found["promoted"] = list(step.names)
        elif step.kind == "publish_token":
            found["worker token"] = {"old": facts.token_cluster or None, "new": "published"}
        elif step.kind == "publish":
            found["published"] = {"old": facts.own.role_now or None, "new": facts.role}
    return found
