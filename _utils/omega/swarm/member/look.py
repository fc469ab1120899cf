"""What one look at this node, Consul and the other managers gives: the Facts of a run of `swarm.member`."""

import datetime
import os
import time
from dataclasses import replace

from omega.consul.client import ConsulError
from omega.core import files
from omega.swarm import check, clock
from omega.swarm.api import MANAGER, WORKER
from omega.swarm.member import plan, repair_plan
from omega.swarm.member.facts import Facts
from omega.swarm.member.join import addresses
from omega.swarm.member.roles import not_promotable
from omega.swarm.record import INITIALIZING, Snapshot
from omega.swarm.waits import Failed


def look(run):
    """Return the Facts of this moment: one /info and one read of Consul; more only where a decision needs it."""
    local = run.engine.local()
    has_address = _has_address(run, local)
    snapshot = _snapshot(run, local, has_address)
    facts = Facts.of(
        run.want,
        local,
        snapshot,
        now=datetime.datetime.now(datetime.timezone.utc),
        has_address=has_address,
        successors_late=run.successors_late,
        restarted=run.restarted,
    )
    return _more(run, _damage(run, facts), snapshot.token)


def _has_address(run, local):
    """Whether this host has the site's address; None if the engine is another host's."""
    if local.hostname != os.uname().nodename:
        return None
    return check.has_address(check.split(run.want.address)[0])


def _snapshot(run, local, has_address):
    """What Consul says. Its agent, too, has to listen at the site's address: a board without that cannot ask it."""
    try:
        return run.store.snapshot(stale_allowed=local.state == "active")
    except ConsulError as error:
        if has_address is not False or error.kind != "unreachable":
            raise
        facts = Facts.of(run.want, local, Snapshot(), towards=_towards(run.want))
        raise Failed(f"{facts.node}: {repair_plan.without_address(facts).reason}; {error}") from None


def _towards(want):
    """The address that this host has towards the managers."""
    hosts = [check.split(address)[0] for address in want.others.values()]
    return next(filter(None, map(check.address_towards, hosts)), "")


def _damage(run, facts):
    """The facts with what is needed to judge a damaged membership; nothing is asked for a sound one."""
    local = facts.local
    if local.state == "locked":
        facts = replace(facts, unlock=_unlock_state(run.keyring))
    if facts.has_address is False:
        facts = replace(facts, towards=_towards(run.want))
    if local.leaderless:
        managers = [peer for peer in local.managers if check.split(peer)[0] != local.address]
    elif repair_plan.out_of_date(facts) or repair_plan.not_listed(facts):
        managers = addresses(facts, run.want) if facts.record else []
    else:
        return facts
    return replace(facts, reach=check.managers_unreachable(managers))


def _unlock_state(keyring):
    """Return "ready" if there is a key to try, else why there is none."""
    if not keyring or not keyring.keys():
        where = f" (no key is kept in {keyring.path})" if keyring else ""
        return f"another manager shows the key: `docker swarm unlock-key`{where}"
    if (files.mode_of(keyring.path) or 0) & 0o077:
        return f"{keyring.path} is not used, because others than root can read it: chmod 600 it, run again"
    return "ready"


def _more(run, facts, token):
    """The facts with what the decision that they lead to needs."""
    local, record, consul = facts.local, facts.record, run.store.client
    if facts.demoted.get(facts.node, "") == local.node_id != "":
        # Demoted before this run began, its engine has had its time.
        facts = replace(facts, unaware=not run.looked or run.over("demoted", run.bounds.notice))
    run.looked = True
    if facts.role == MANAGER and local.role == WORKER:
        facts = replace(facts, problem="; ".join(run.host_problems(facts)[0]))
    if local.state == "active" and local.control and not local.leaderless and _needs_nodes(facts):
        facts = replace(facts, nodes=tuple(run.engine.nodes()))
        facts = replace(facts, blocked=not_promotable(facts))
    if record and record.state == INITIALIZING and facts.holder != record.by != facts.node:
        facts = replace(facts, alive=frozenset(consul.alive()))
    if run.bootstrapped and time.monotonic() - run.bootstrapped < run.bounds.gather:
        facts = replace(facts, expected=frozenset(consul.alive()))
    if plan.decide(facts).kind == "bootstrap":
        facts = replace(facts, listening=check.answering(run.want.others))
    kind = plan.decide(facts).kind
    if kind in ("bootstrap", "join") and not run.clock_trusted:
        return replace(facts, clock=clock.doubt(facts, run.synchronised()))
    # Others wait for this run, perhaps with a token that somebody has rotated; the managers check it later anyway.
    if kind in ("await_managers", "promote", "release") and facts.role == MANAGER and token:
        facts = replace(facts, token_old=token != run.engine.worker_token())
    return facts


def _needs_nodes(facts):
    waits = plan.candidates(facts) or plan.demotion_requests(facts)
    return facts.role == WORKER or waits or repair_plan.address_differs(facts)
