"""What a manager does for nodes that wait for it: promote them, or demote one that joins again."""

import time
from dataclasses import replace

from omega.swarm import check
from omega.swarm.api import MANAGER, WORKER, SwarmError, describe
from omega.swarm.member import plan
from omega.swarm.waits import POLL

LISTENING = 10  # seconds until an engine that has just joined listens on all its ports


def promote(engine, node_id):
    """Give a node the role manager; whether that was a change."""
    before, after = engine.update_node(node_id, lambda spec: {**spec, "Role": MANAGER})
    return before.get("Role") != after.get("Role")


def release(engine, store, name, node_id):
    """Demote a manager whose run waits for that, and record it where that node reads it; whether it was a change."""
    changed = demote(engine, node_id)
    store.write_demoted(name, node_id)
    return changed


def take(engine, store, facts, name):
    """Promote a manager-to-be, and forget that it was demoted before; whether it was a change."""
    changed = promote(engine, facts.published[name].node_id)
    if name in facts.demoted:
        store.forget_demoted(name)
    return changed


def demote(engine, node_id):
    """Give a node the role worker; whether that was a change."""
    before, after = engine.update_node(node_id, lambda spec: {**spec, "Role": WORKER})
    return before.get("Role") != after.get("Role")


def not_promotable(facts):
    """
    Return {name: why} of the nodes that wait to be promoted and whose ports cannot be reached from here: a manager is
    dialled at its swarm port by all others. That nothing listens there yet is right; silence is not.
    """
    addresses = {name: facts.published[name].address for name in plan.waiting(facts)}
    return {name: problem for name, problem in check.not_dialable(addresses).items() if problem}


def promote_waiting(engine, store, want):
    """
    Promote, as a manager, every node that waits for it, and demote one whose run waits for that because it has to
    join again. Returns (names promoted, names not yet to be promoted).
    """
    local = engine.local()
    if not local.control or local.leaderless:
        raise SwarmError("no_leader" if local.leaderless else "not_manager", describe(local))
    snap = store.snapshot()
    if not snap.record or snap.record.cluster_id != local.cluster_id:
        raise SwarmError("refused", f"swarm {local.cluster_id} of {want.node} is not the one recorded in Consul")
    facts = plan.Facts(
        want.node,
        MANAGER,
        want.address,
        tuple(want.managers),
        local,
        snap.record,
        published=snap.published,
        demoted=snap.demoted,
    )
    names = plan.candidates(facts)
    if not names and not plan.wishing(facts):
        return [], []
    facts = replace(facts, nodes=tuple(engine.nodes()))
    end = time.monotonic() + LISTENING
    blocked = not_promotable(facts)
    while blocked and time.monotonic() < end:
        time.sleep(POLL)
        blocked = not_promotable(facts)
    facts = replace(facts, blocked=blocked)
    for name in plan.releasable(facts):
        release(engine, store, name, snap.published[name].node_id)
    ready = plan.waiting(facts)
    done = [name for name in ready if take(engine, store, facts, name)]
    return done, [name for name in names if name not in ready]
