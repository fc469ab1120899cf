"""The steps of `swarm.member` that make the cluster's swarm, or record one that there is."""

import time

from omega.consul.client import ConsulError
from omega.swarm.api import MANAGER, WORKER, SwarmError
from omega.swarm.member import plan
from omega.swarm.record import INITIALIZING, READY, VACANT
from omega.swarm.settings import ca
from omega.swarm.waits import CONTEND, Failed, logged, until_led


def bootstrap(run, facts, _step):
    """Initialise the swarm as the holder of the election lock, with the intent recorded before and the result after."""
    run.refuse_unfit(facts)
    try:
        with run.store.hold(CONTEND) as lock:
            record = run.store.record()
            if _of_others(record, facts):
                return
            record = run.store.write_record(lock, INITIALIZING, before=record)
            lock.check()
            _init(run, lock, record)
            _finish(run, lock, record, "initialised")
    except ConsulError as error:
        if error.kind != "timeout" or run.over("wait_bootstrap", run.bounds.bootstrap):
            raise


def _of_others(record, facts):
    """Whether the record is final or another node's attempt."""
    return record and (record.state == READY or record.state == INITIALIZING and record.by != facts.node)


def _init(run, lock, record):
    try:
        run.engine.init(run.want.address, **run.want.swarm)
    except SwarmError as error:
        if error.kind != "api":  # no answer: the engine may still carry it out, so the intent stays
            raise
        if run.engine.local().state != "inactive":
            raise SwarmError("conflict", str(error)) from None  # it has carried out an earlier one: look again
        run.store.write_record(lock, VACANT, before=record)
        raise


def _finish(run, lock, record, how):
    """Write the ClusterID of the swarm that this node manages; then what the others need to join."""
    local = until_led(run.engine, run.bounds.join, "swarm init", Failed)
    run.store.write_record(lock, READY, local.cluster_id, record)
    run.changes["swarm"] = {"old": "inactive", "new": f"manager of {local.cluster_id}, {how} here"}
    run.bootstrapped = time.monotonic()
    run.store.write_token(run.engine.worker_token(), local.cluster_id)
    with logged("rotating the manager token"):
        run.engine.rotate_token(MANAGER)


def complete(run, facts, _step):
    """Finish this node's own record, after a run that was interrupted."""
    _record_own(run, facts, "initialised before")


def adopt(run, facts, _step):
    """Record the swarm that this node manages and Consul does not know."""
    _record_own(run, facts, "found")


def _record_own(run, facts, how):
    with run.store.hold(run.bounds.bootstrap) as lock:
        record = run.store.record()
        if not _of_others(record, facts):
            _finish(run, lock, record, how)


def publish_token(run, facts, _step):
    """Write the worker token to Consul, where nodes that join read it."""
    ca.publish_token(run.engine, run.store, facts.record.cluster_id)
    run.changes["worker token"] = {"old": facts.token_cluster or None, "new": f"of {facts.record.cluster_id}"}


def publish(run, facts, _step):
    """Write this node's membership to Consul."""
    entry = plan.entry_of(facts)
    run.store.publish(entry)
    before = facts.own.role_now or run.first_role
    old = run.changes.get("published", {"old": before})["old"]
    run.changes["published"] = {"old": old, "new": entry.role_now}
    if facts.local.role == MANAGER and facts.own.role_now == WORKER:
        run.changes["role"] = {"old": WORKER, "new": MANAGER}
