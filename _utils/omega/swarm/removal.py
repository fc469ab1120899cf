"""What is left of a node in the swarm, and its removal: never of an entry that answers, never below quorum."""

from __future__ import annotations

from omega.swarm import owner
from omega.swarm.api import MANAGER, WORKER, SwarmError, demotion_problem
from omega.swarm.record import NODES, UNLISTED, Published
from omega.swarm.waits import wait

DEMOTED = 30.0  # seconds until a demoted manager is out of the Raft membership


def look(engine, store, name):
    """
    Return what the swarm and Consul know of node `name`: {"cluster_id", "published" (None or its NodeID, "" if it has
    left), "entries": [{id, state, role, availability, recorded, refused}]}. recorded: the node itself published that
    NodeID; refused: why it must not be taken out of the managers, "" if it may.

    :param engine: Engine of a manager
    :param store: omega.swarm.record.Store
    """
    published = store.snapshot().published
    entry = published.get(name)
    own = entry or Published()
    nodes = engine.nodes()
    return {
        "cluster_id": engine.local().cluster_id,
        "published": None if entry is None else own.node_id,
        "entries": [
            {
                "id": node.id,
                "state": node.state,
                "role": node.role,
                "availability": node.availability,
                "recorded": _whose(published, node) == name,
                "refused": demotion_problem(nodes, node.id) if node.role == MANAGER else "",
            }
            for node in nodes
            if (_whose(published, node) or node.hostname) == name
        ],
    }


def drop(engine, store, name, dead=False, timeout=60):
    """
    Remove the entries of node `name` that it published itself, and its key in Consul; returns their NodeIDs.

    :param dead: also the entry of the NodeID it published last, though it has not said that it left
    :param timeout: seconds until the swarm sees them as down
    :raises SwarmError: "refused" if one answers, if it has not left, or if the quorum would be lost
    """
    published = store.snapshot().published
    entry = published.get(name)
    if entry is None:
        return []
    wanted = [node for node in engine.nodes() if _whose(published, node) == name]
    if not dead and any(node.id == entry.node_id for node in wanted):
        why = f"{name} has not said that it left the swarm: apply swarm.absent there, or give dead=True if it is lost"
        raise SwarmError("refused", why)
    for node in wanted:
        _until_down(engine, node, timeout)
        remove(engine, node)
    store.client.delete(NODES + name)
    store.client.delete(UNLISTED + name)
    store.forget_demoted(name)
    return [node.id for node in wanted]


def _whose(published, node):
    return owner.current(published, node) or owner.former(published, node)


def _until_down(engine, node, bound):
    def state():
        return next((other.state for other in engine.nodes() if other.id == node.id and other.state != "down"), "")

    last = wait(state, bound, engine)
    if last:
        why = f"node {node.id} of {owner.shown(node)} is not down after {bound:g} s ({last}), only then is it removed"
        raise SwarmError("refused", f"{why}: switch the board off, or let it leave by swarm.absent")


def remove(engine, node):
    """
    Remove one entry (Node), demoted first if it is a manager's; whether this call did. The engine refuses it for a node
    that answers and for a member of Raft: nothing is forced.
    """
    try:
        if node.role == MANAGER:
            refused = demotion_problem(engine.nodes(), node.id)
            if refused:
                raise SwarmError("refused", f"the entry {node.id} of {owner.shown(node)} stays: {refused}")
            engine.update_node(node.id, lambda spec: {**spec, "Role": WORKER})
        _until_no_raft_member(engine, node.id)
        engine.remove_node(node.id)
    except SwarmError as error:
        if error.kind != "not_found":
            raise
        return False
    return True


def _until_no_raft_member(engine, node_id):
    # The engine shows a ManagerStatus as long as the node is a member (swarmkit: manager/role_manager.go).
    last = wait(lambda: engine.inspect_node(node_id).get("ManagerStatus") and "in Raft", DEMOTED, engine)
    if last:
        raise SwarmError("refused", f"node {node_id} is demoted, and after {DEMOTED:g} s still: {last}; run again")
