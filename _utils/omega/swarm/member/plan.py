"""
What a node has to do next to become the swarm member that its pillar says: pure decisions, no calls.

`decide(facts)` returns the one next Step. `loop` carries it out, looks again and decides again, until the step is
"done" or "refuse". `predict` runs the same decisions ahead for test=True; `repair_plan` contains those for a node
whose membership is damaged; `steps` is the table of what each step is.
"""

from omega.swarm.api import MANAGER, WORKER, demotion_problem, describe
from omega.swarm.member import repair_plan
from omega.swarm.member.facts import Step
from omega.swarm.record import INITIALIZING, READY, VACANT, Published

PREVIOUS = 5  # former NodeIDs an entry remembers


def decide(facts):
    """Return the next Step for these facts."""
    step = _decide(facts)
    if facts.stale and step.kind == "await_managers":
        return Step("done", step.reason)
    if facts.stale and step.kind not in ("done", "refuse", "settle"):
        return Step("refuse", f"{step.reason}: not while Consul has no leader; bring back its servers, run again")
    return step


def _decide(facts):
    local = facts.local
    if facts.role not in (MANAGER, WORKER):
        return Step("refuse", f"{facts.node} has neither role manager nor worker in the site's nodes")
    if not facts.managers:
        return Step("refuse", "no node has role manager in the site's nodes")
    if facts.record is not None and local.node_id in facts.record.lost:
        return repair_plan.given_up(facts)
    if local.state == "locked":
        return repair_plan.locked(facts)
    if repair_plan.out_of_date(facts):
        return repair_plan.expired(facts)
    if repair_plan.not_listed(facts):
        return repair_plan.removed(facts)
    if local.state == "error":
        return repair_plan.broken(facts)
    if local.state == "pending" and not repair_plan.keeps_old_address(facts):
        return Step("settle", describe(local))
    if local.state in ("active", "pending"):
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
        return Step("refuse", f"the swarm of {facts.node} is not known: its node certificate cannot be read")
    if local.cluster_id != record.cluster_id:
        return Step(
            "refuse",
            f"{facts.node} is in swarm {local.cluster_id}, but the cluster's swarm is {record.cluster_id}; if that "
            f"is a mistake {_leaving(local)}, then again",
        )
    if repair_plan.address_differs(facts):
        step = _for_others(facts) if local.control and not local.leaderless else None
        return step or repair_plan.with_old_address(facts)
    if local.leaderless:
        return repair_plan.without_leader(facts)
    if not local.control and local.certified == facts.own.role_now == MANAGER:
        return Step("settle", f"{facts.node} is a manager by its certificate, and its engine is not up as one yet")
    return _manager(facts) if local.control else _worker(facts)


def _leaving(local):
    if not local.control:
        return "run `docker swarm leave` there"
    # Without --force the engine refuses it to a manager.
    return "move its services and run `docker swarm leave --force` there (its last manager deletes that swarm)"


def _manager(facts):
    if facts.role == WORKER:
        return _surplus_manager(facts)
    if facts.token_cluster != facts.record.cluster_id or facts.token_old:
        return Step("publish_token", "publish the token with which workers join")
    if outdated(facts):
        return Step("publish", "publish this node's membership")
    reason = "; ".join([f"manager of swarm {facts.local.cluster_id}", *held_back(facts)])
    return _for_others(facts) or Step("done", reason)


def _for_others(facts):
    """What this manager does for others; None if nothing."""
    released = releasable(facts)
    if released:
        return Step("release", f"demote {', '.join(released)}, which joins again with its new address", released)
    ready = waiting(facts)
    if ready:
        return Step("promote", f"promote {', '.join(ready)}", ready)
    joining = _joining(facts)
    if joining:
        text = f"promote those that are joining right now: {', '.join(joining)}"
        return Step("await_managers", "; ".join([text, *held_back(facts)]), joining)
    return None


def held_back(facts):
    """Return one clause for each manager-to-be that is not promoted for a reason."""
    reasons = {name: facts.blocked.get(name) or facts.published[name].problem for name in candidates(facts)}
    return [f"{name} is not promoted: {reason}" for name, reason in reasons.items() if reason]


def missed(facts, expected):
    """Return one clause for each of these managers-to-be that has not joined and whose run is not seen."""
    entries = {name: facts.published.get(name, Published()) for name in facts.managers if name in expected}
    missing = [name for name, entry in entries.items() if not entry.role_now and not entry.present]
    return [f"{name} has not joined, though Consul sees it alive: apply the state there" for name in missing]


def _surplus_manager(facts):
    """Step down; but first promote, and wait for, those that become managers by the same change of the site file."""
    ready = waiting(facts)
    if ready:
        return Step("promote", f"promote {', '.join(ready)}, before {facts.node} steps down", ready)
    problem = demotion_problem(facts.nodes, facts.local.node_id)
    alone = all(node.role != MANAGER or node.id == facts.local.node_id for node in facts.nodes)
    awaited = _unproblematic(facts) if alone else _joining(facts)
    unreached = _unreached_managers(facts) if problem else ()
    if unreached and not facts.successors_late:
        text = f"waiting until {', '.join(unreached)} can be reached as a manager, before {facts.node} steps down"
        return Step("await_successor", text, unreached)
    if awaited and not facts.successors_late:
        text = f"waiting to promote {', '.join(awaited)} before {facts.node} steps down"
        return Step("await_successor", text, awaited)
    if problem:
        reasons = [f"{facts.node} stays a manager, though the site says worker: {problem}", *held_back(facts)]
        if awaited:
            reasons.append(f"{', '.join(awaited)} shall be a manager: `sudo salt '*' state.apply` on the master")
        return Step("refuse", "; ".join(reasons))
    return Step("demote", f"demote {facts.node} to worker, as the site says")


def _unreached_managers(facts):
    """Managers that the leader does not reach, on nodes that answer: their engines have just been promoted."""
    return tuple(
        node.hostname
        for node in facts.nodes
        if node.role == MANAGER and node.ready and not node.reachable and node.hostname not in ("", facts.node)
    )


def _unproblematic(facts):
    """Managers-to-be that have not published why they cannot be one. Their runs may begin later than this one."""
    others = [name for name in facts.managers if name != facts.node]
    return tuple(name for name in others if not facts.published.get(name, Published()).problem)


def _worker(facts):
    if outdated(facts):
        return Step("publish", "publish this node's membership")
    if facts.role == MANAGER and facts.problem:
        return Step("refuse", f"it stays a worker: {facts.problem}")
    if facts.role == MANAGER:
        others = ", ".join(name for name in facts.managers if name != facts.node)
        return Step("await_promotion", f"waiting to be promoted by a manager ({others or 'none in the site'})")
    return Step("done", f"worker of swarm {facts.local.cluster_id}")


def outdated(facts):
    """Whether this node's entry differs from what its engine says."""
    own, local = facts.own, facts.local
    published = (own.node_id, own.cluster_id, own.address, own.role_now, own.problem, own.wish)
    return published != (local.node_id, local.cluster_id, facts.address, local.role, facts.problem, "")


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
    hostname, answers, and is a worker, and nothing is known that speaks against it.
    """
    nodes = {node.id: node for node in facts.nodes}

    def fits(name):
        node, entry = nodes.get(facts.published[name].node_id), facts.published[name]
        fit = node and node.hostname == name and node.ready and node.role == WORKER
        return fit and not entry.problem and name not in facts.blocked

    return tuple(name for name in candidates(facts) if fits(name))


def demotion_requests(facts):
    """Return the names of nodes whose run waits to be demoted."""
    return tuple(
        name
        for name, entry in facts.published.items()
        if name != facts.node
        and entry.wish == repair_plan.DEMOTION
        and entry.present
        and entry.cluster_id == facts.local.cluster_id
    )


def releasable(facts):
    """
    Return those of `demotion_requests` that are managers by their NodeID and can be demoted without a loss of the
    quorum, or that have been demoted by hand, which nobody has recorded for their engines.
    """
    nodes = {node.id: node for node in facts.nodes}

    def may(name):
        node = nodes.get(facts.published[name].node_id)
        if not node or node.hostname != name:
            return False
        if node.role != MANAGER:
            return facts.demoted.get(name) != node.id
        return not demotion_problem(facts.nodes, node.id)

    return tuple(name for name in demotion_requests(facts) if may(name))[:1]


def _joining(facts):
    """Managers-to-be whose run is going on, or that are expected, and that are no managers yet."""

    def is_joining(name):
        entry = facts.published.get(name)
        if entry and entry.problem:
            return False
        if entry and entry.role_now == MANAGER and entry.cluster_id == facts.local.cluster_id:
            return bool(entry.wish and entry.present)
        return name in facts.expected or bool(entry and entry.present)

    return tuple(name for name in facts.managers if name != facts.node and is_joining(name))


# -- in no swarm --------------------------------------------------------------------------------------------


def _outside(facts):
    record = facts.record
    if facts.local.hostname and facts.local.hostname != facts.node:
        return Step(
            "refuse",
            f"the engine calls this node {facts.local.hostname}, the site {facts.node}; set the hostname "
            f"(`rpiomega bootstrap {facts.node}`), restart Docker, run again",
        )
    if facts.has_address is False:
        return repair_plan.without_address(facts)
    if record is not None and record.state == READY:
        if facts.token_cluster != record.cluster_id:
            return Step("wait_token", f"waiting for a manager to publish the token of swarm {record.cluster_id}")
        return _clock_first(facts) or Step("join", f"join swarm {record.cluster_id} as worker")
    if record is not None and record.state == INITIALIZING and record.by != facts.node:
        return _other_initializer(facts)
    if facts.role != MANAGER:
        return Step("wait_bootstrap", f"waiting for bootstrap by {_bootstrapper(facts)}")
    if facts.holder and facts.holder != facts.node:
        return Step("wait_bootstrap", f"waiting for bootstrap by {facts.holder}")
    if facts.listening:
        return Step(
            "wait_bootstrap",
            f"{', '.join(facts.listening)} already runs a swarm manager, but Consul has no record of a swarm: "
            f"waiting for the state to run there",
        )
    return _clock_first(facts) or Step("bootstrap", "initialise the swarm, unless another manager-to-be does first")


def _clock_first(facts):
    return Step("await_clock", f"waiting until the clock is synchronised: {facts.clock}") if facts.clock else None


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


# -- what it publishes --------------------------------------------------------------------------------------


def entry_of(facts, wish=""):
    """Return the Published that this node should have written."""
    local, own = facts.local, facts.own
    previous = own.previous
    if own.node_id and own.node_id != local.node_id:
        previous = (*previous, own.node_id)[-PREVIOUS:]
    return Published(
        node_id=local.node_id,
        cluster_id=local.cluster_id,
        address=facts.address,
        role_now=local.role,
        previous=previous,
        present=own.present,
        problem=facts.problem,
        wish=wish,
    )
