"""
Bring this node into the swarm as its pillar says: look, decide (omega.swarm.member.plan), act, look again.

Every wait has a bound of its own (Bounds) and ends with what was seen last. A daemon that restarts or a Consul
without a leader for a moment is retried within a bound; nothing is ever forced.
"""

import logging
import time

from omega.consul.client import ConsulError
from omega.swarm.api import MANAGER, SwarmError
from omega.swarm.member import plan
from omega.swarm.member import predict as prediction
from omega.swarm.member.look import look
from omega.swarm.member.steps import STEPS, Act
from omega.swarm.waits import POLL, Failed, logged, not_there_yet

log = logging.getLogger(__name__)

LONGEST_CALL = 5  # seconds of one request to a daemon that does not answer, rounded up


def apply(run):
    """
    Do what is needed; return (result, comment). What was changed is in `run.changes`, also after a failure.

    :param run: omega.swarm.member.run.Run
    """
    try:
        return _apply(run)
    except (Failed, SwarmError, ConsulError) as error:
        return False, str(error)
    finally:
        with logged("ending this node's presence in Consul"):
            run.store.end_presence()
        run.engine.close()


def predict(run):
    """
    Return what `apply` would do now: (result, comment, changes) for test=True. Writes nothing.

    :raises SwarmError, ConsulError: where there is no engine or no Consul (yet), and where waiting does not help
    """
    try:
        facts = _look_patiently(run)
    except Failed as error:
        return False, str(error), {}
    finally:
        run.engine.close()
    problems, run.warnings = run.host_problems(facts)
    if problems and facts.local.state == "inactive":
        return False, f"{facts.node}: {'; '.join(problems)}", {}
    steps = prediction.predict(facts)
    *ahead, last = steps
    if last.kind == "refuse" and not any(isinstance(STEPS[step.kind], Act) for step in ahead):
        return False, f"{facts.node}: {last.reason}", {}
    changes = prediction.changes(facts, steps)
    if not changes:
        return True, _comment(run, last, facts), {}
    reasons = "; then ".join(step.reason for step in ahead)
    return None, f"{facts.node} would: {reasons}", changes


def _look_patiently(run):
    """`look`, again while a daemon that restarts, an election or a Consul without a leader passes."""
    while True:
        began = time.monotonic()
        try:
            facts = look(run)
            step = plan.decide(facts)
            if step.kind != "settle" or not facts.local.leaderless:
                return facts
            STEPS[step.kind].do(run, facts, step)  # what a run does then depends on the node list
        except (SwarmError, ConsulError) as error:
            if not_there_yet(error):
                raise
            _pause(run, error, began)


def _apply(run):
    while True:
        began = time.monotonic()
        try:
            facts = look(run)
            step = plan.decide(facts)
            if run.asked and facts.local.state == "active":  # the engine went on in the background
                new = f"member of {facts.local.cluster_id}, joined through {run.asked}"
                run.changes.setdefault("swarm", {"old": "inactive", "new": new})
            if step.kind not in STEPS:
                run.warnings = run.host_problems(facts)[1]
                run.notes += plan.missed(facts, run.expected)
                return step.kind == "done", _comment(run, step, facts)
            _show_presence(run, facts)
            last = STEPS[step.kind].do(run, facts, step)
            if last:
                return last.kind == "done", _comment(run, last, facts)
            run.since.pop("engine", None)
            run.since.pop("consul", None)
        except (SwarmError, ConsulError) as error:
            _pause(run, error, began)


def _comment(run, step, facts):
    text = f"{facts.node}: {step.reason}"
    if facts.stale:
        text += " (read stale: Consul has no leader, bring back its servers)"
    return "; ".join([text, *run.notes])


def _pause(run, error, began):
    """Let the next try come after a pause; Failed if one as long as this one would end past the bound."""
    # A lock that was lost or a key that somebody else wrote first: look again, the decision may be another one.
    if not error.transient and error.kind not in ("lost", "conflict"):
        raise error
    is_engine = isinstance(error, SwarmError)
    kind, bound = ("engine", run.bounds.engine) if is_engine else ("consul", run.bounds.consul)
    now = time.monotonic()
    took = min(now - began, LONGEST_CALL)  # the rest of a step went well
    since = run.since.setdefault(kind, now - took)
    if now + took - since > bound:
        raise Failed(f"{run.want.node}: {error} (tried for {now - since:.0f} s)")
    log.info("%s: %s; trying again", run.want.node, error)
    run.engine.close()
    time.sleep(2 * POLL)


def _show_presence(run, facts):
    """Show the other managers that this run goes on: they wait for it and promote this node."""
    if facts.role != MANAGER or run.present:
        return
    run.store.show_presence()
    run.first_role = facts.own.role_now or None
    known = facts.local.control or facts.local.state in ("locked", "pending", "error")
    known = known and not facts.local.unaccepted
    run.store.publish(facts.own if known and facts.own.node_id else plan.entry_of(facts))
    run.present = True
