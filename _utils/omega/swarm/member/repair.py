"""The steps of `swarm.member` that repair a damaged membership; the decisions are in `repair_plan`."""

from dataclasses import replace

from omega.swarm.api import SwarmError
from omega.swarm.member import plan
from omega.swarm.member.look import look
from omega.swarm.member.roles import step_down
from omega.swarm.waits import CONTEND, Failed

NEW_MEMBERSHIP = "of a new membership"


def unlock(run, facts, _step):
    """Unlock the swarm state with a kept key."""
    refused = "no key"
    for key in run.keyring.keys() if run.keyring else ():
        try:
            run.engine.unlock(key)
        except SwarmError as error:
            if error.kind not in ("api", "locked"):
                raise
            refused = str(error)
            continue
        run.changes["swarm state"] = {"old": "locked", "new": f"unlocked with the key in {run.keyring.path}"}
        return
    raise Failed(
        f"{facts.node}: the key in {run.keyring.path} does not unlock the swarm state ({refused}); another "
        "manager shows the right one: `docker swarm unlock-key`; run `docker swarm unlock` on this node with it"
    )


def rejoin(run, facts, _step):
    """Leave with an expired certificate; the next step joins again."""
    _leave(run, facts)
    expired = facts.local.expires.strftime("%Y-%m-%d %H:%M:%S UTC")
    run.changes["certificate"] = {"old": f"expired at {expired}", "new": NEW_MEMBERSHIP}


def reenter(run, facts, _step):
    """Leave with a NodeID that the node list lacks; the next step joins again."""
    _leave(run, facts)
    run.changes["NodeID"] = {"old": facts.local.node_id, "new": NEW_MEMBERSHIP}


def readdress(run, facts, _step):
    """Leave with the old address, a manager after its demotion; the next step joins again with the new one."""
    if not facts.local.control:
        _leave_old_address(run, facts)
        return
    with run.store.hold(CONTEND) as lock:  # one manager at a time: the next one sees this one missing
        facts = look(run)
        if plan.decide(facts).kind == "readdress":
            lock.check()
            step_down(run, facts)
            _leave_old_address(run, facts)


def _leave_old_address(run, facts):
    _leave(run, facts)
    run.changes["address"] = {"old": facts.local.address, "new": facts.address}


def _leave(run, facts):
    """Leave by the engine's own rules, after the NodeID is kept for those who remove the old entry."""
    local = replace(facts.local, state="inactive", control=False)
    entry = plan.entry_of(replace(facts, local=local))
    if not entry.node_id:
        entry = replace(entry, node_id=facts.own.node_id)
    run.store.publish(entry)
    run.engine.leave()


def abandon(run, _facts, _step):
    """Leave after a join that has failed in the background."""
    local = run.engine.local()
    if local.state == "error" and local.unaccepted:  # not one that has been accepted since
        run.engine.leave()
        run.changes["swarm state"] = {"old": f"a join that failed ({local.error})", "new": "inactive"}


def restart(run, facts, step):
    """Restart this node's engine, once."""
    run.restarted = True
    problem = run.restart(facts.node)
    if problem:
        cure = "run `sudo systemctl restart docker` there, then apply again"
        raise Failed(f"{facts.node}: {step.reason}; that failed ({problem}): {cure}")
    run.changes["engine"] = {"old": facts.local.error, "new": "restarted"}
