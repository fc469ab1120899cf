"""Changes of roles: what a manager does for nodes that wait for it, and how a manager steps down."""

import time
from dataclasses import replace

from omega.core.polling import until, until_clear
from omega.swarm import check
from omega.swarm.api import MANAGER, WORKER, SwarmError, describe
from omega.swarm.member import plan
from omega.swarm.member.facts import Facts
from omega.swarm.waits import POLL, Failed

LISTENING = 10  # seconds until an engine that has just joined listens on all its ports


def set_role(engine, node_id, role):
    """Give a node that role; return whether that was a change."""
    before, after = engine.update_node(node_id, lambda spec: {**spec, "Role": role})
    return before.get("Role") != after.get("Role")


# -- of others ----------------------------------------------------------------------------------------------


def accept(engine, store, facts, name):
    """Promote a manager-to-be, and delete the mark that it was demoted before; return whether it was a worker."""
    changed = set_role(engine, facts.published[name].node_id, MANAGER)
    if name in facts.demoted:
        store.forget_demoted(name)
    return changed


def release(engine, store, name, node_id):
    """Demote a manager whose run waits for that, and record it where that node reads it."""
    set_role(engine, node_id, WORKER)
    store.write_demoted(name, node_id)


def promote_waiting(engine, store, want):
    """
    Promote, as a manager, every node that waits for it, and demote one whose run waits for that because it has to
    join again. Return (names promoted, names not yet to be promoted).

    :raises SwarmError: "no_leader", "not_manager", or "refused" if the swarm is not the one recorded in Consul
    """
    local = engine.local()
    if not local.control or local.leaderless:
        raise SwarmError("no_leader" if local.leaderless else "not_manager", describe(local))
    snapshot = store.snapshot()
    if not snapshot.record or snapshot.record.cluster_id != local.cluster_id:
        raise SwarmError("refused", f"swarm {local.cluster_id} of {want.node} is not the one recorded in Consul")
    facts = Facts.of(want, local, snapshot)
    names = plan.candidates(facts)
    if not names and not plan.demotion_requests(facts):
        return [], []
    facts = replace(facts, nodes=tuple(engine.nodes()))
    facts = replace(facts, blocked=until_clear(lambda: not_promotable(facts), LISTENING))
    for name in plan.releasable(facts):
        release(engine, store, name, facts.published[name].node_id)
    ready = plan.waiting(facts)
    done = [name for name in ready if accept(engine, store, facts, name)]
    return done, [name for name in names if name not in ready]


def not_promotable(facts):
    """
    Return {name: why} of the nodes that wait to be promoted and whose ports cannot be reached from this node: a manager
    is dialled at its swarm port by all others. That nothing listens there yet is right; silence is not.
    """
    addresses = {name: facts.published[name].address for name in plan.waiting(facts)}
    return {name: problem for name, problem in check.not_dialable(addresses).items() if problem}


# -- steps of `swarm.member` --------------------------------------------------------------------------------


def promote(run, facts, step):
    """Promote the nodes of the step."""
    for name in step.names:
        if accept(run.engine, run.store, facts, name):
            run.changes.setdefault("promoted", []).append(name)
    time.sleep(POLL)


def demote_others(run, facts, step):
    """Demote the nodes of the step, whose runs wait for that."""
    for name in step.names:
        release(run.engine, run.store, name, facts.published[name].node_id)
        run.changes.setdefault("demoted", []).append(name)
    time.sleep(POLL)


def demote_own(run, facts, _step):
    """Make this manager a worker."""
    step_down(run, facts)
    run.changes["role"] = {"old": MANAGER, "new": WORKER}
    count = len(facts.managers)
    if count % 2 == 0:
        run.notes.append(f"{count} managers survive no more failures than {count - 1}")


def step_down(run, facts):
    """Demote this node and wait until its engine is no manager any more."""
    set_role(run.engine, facts.local.node_id, WORKER)

    def failure(late):
        # The engine lets no manager go that the quorum needs, whatever its role is (swarmkit: CanRemoveMember).
        cause = f"demoted, but still a manager after {late.bound:g} s: the others have to be a quorum without it"
        return Failed(cause, "bring them back and run again", facts.node)

    until(lambda: not run.engine.local().control, run.bounds.promote, passing=(), failure=failure)
