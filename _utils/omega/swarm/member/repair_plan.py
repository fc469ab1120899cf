"""
Decisions for a node whose membership is damaged: locked, certificate expired, address changed, quorum lost, given up.

Facts of the engine (measured on 20.10 unless a source is named):

- The advertised address is fixed when a node joins (swarmkit#642). A manager that restarts with another one never
  finds the leader again: it says "no leader" of itself, while the others see it as ready (its agent still reaches
  them) and as unreachable (they still dial the old address). So others have to demote it.
- A manager that moves without a restart does not even learn that it was demoted: its agent asks its own manager, which
  has no leader. After a restart of the engine it does.
- With an expired certificate the engine's state is "error" and stays so: leave and join again is the way the
  engine names itself (moby#42660).
"""

import ipaddress
import re

from omega.swarm.api import MANAGER, demotion_problem, describe
from omega.swarm.member.facts import Step
from omega.swarm.record import READY

DEMOTION = "demotion"  # what a node can ask for in its published entry (`wish`)
MANUAL = "docs/operations.md"


# -- locked -------------------------------------------------------------------------------------------------


def locked(facts):
    """Step of a manager whose swarm state is locked."""
    if facts.unlock == "ready":
        return Step("unlock", "unlock the swarm state with the kept unlock key")
    return Step("refuse", "; ".join(filter(None, [describe(facts.local), facts.unlock])))


# -- broken -------------------------------------------------------------------------------------------------

_BY_CLOCK = re.compile(r"not valid (before|after)|not yet valid|has expired")  # swarmkit ca/certificates.go, Go's x509


def by_clock(text):
    """Whether an error is about a certificate that a clock finds not valid."""
    return bool(_BY_CLOCK.search(text))


def broken(facts):
    """
    Step of a node whose engine reports its swarm state as broken, with a certificate that is valid now or none.

    A join goes on in the background after 20 s. If it fails there, the engine keeps this state until it leaves, even
    though no manager has accepted the node. An engine that found its certificate not valid when it started does not
    look again either.
    """
    local = facts.local
    if local.unaccepted:
        return Step("abandon", f"give up a join that has failed ({local.error or 'the engine does not say why'})")
    if not local.error:
        # Its node has ended without an error, as that of a worker that becomes a manager may; the engine starts it
        # again within 30 s (moby: daemon/cluster/noderunner.go, enableReconnectWatcher).
        return Step("settle", "the engine starts its part of the swarm again")
    if by_clock(local.error) and local.expires and not facts.restarted:
        return Step(
            "restart",
            f"restart the engine: it started with another clock, and the certificate of {facts.node} is valid by this "
            f"node's clock, {_time(facts.now)}",
        )
    return Step("refuse", describe(local))


# -- certificate --------------------------------------------------------------------------------------------


def out_of_date(facts):
    """Whether the node's certificate is not valid by this node's clock."""
    local = facts.local
    if local.state == "inactive" or facts.now is None or local.expires is None:
        return False
    return not local.begins <= facts.now <= local.expires


def expired(facts):
    """Step of a node whose certificate is not valid."""
    local, clock = facts.local, f"this node's clock says {_time(facts.now)}"
    if facts.now < local.begins:
        return Step(
            "refuse",
            f"the node certificate of {facts.node} is valid from {_time(local.begins)}, but {clock}: the clock is "
            "behind; set it (`timedatectl`), run again",
        )
    text = f"the node certificate of {facts.node} expired at {_time(local.expires)}, {clock}"
    if not facts.rejoin:
        return Step(
            "refuse",
            f"{text}: the swarm does not take it any more; if the clock is right, let the node leave and join again: "
            f"`sudo salt {facts.node} state.single swarm.member name=swarm rejoin=True` ({MANUAL})",
        )
    return _not_rejoining(facts, text) or Step("rejoin", f"leave and join swarm {local.cluster_id} again: {text}")


def _not_rejoining(facts, text):
    why = _may_not_rejoin(facts)
    return Step("refuse", f"{text}: {why}") if why else None


def _may_not_rejoin(facts):
    local, record = facts.local, facts.record
    if record is None or record.state != READY or facts.token_cluster != record.cluster_id:
        return "it cannot leave, because Consul has no swarm and token with which it could join again"
    if record.cluster_id != local.cluster_id:
        return f"it cannot join again: it was in swarm {local.cluster_id}, the cluster's swarm is {record.cluster_id}"
    closed = [problem for problem in (facts.reach or {}).values() if problem]
    others = len(facts.reach or {})
    if others == len(closed):
        why = "; ".join(closed) or f"it is the only manager: see {MANUAL}, Certificate of the only manager"
        return f"it stays as it is, because no other manager can be reached ({why})"
    if local.certified == MANAGER and others - len(closed) <= (others + 1) // 2:
        return (
            f"it stays as it is, because only {others - len(closed)} of {others + 1} managers would keep the swarm, "
            f"and that is no quorum ({'; '.join(closed) or 'two managers have none to lose'}); see {MANUAL}"
        )
    return ""


def _time(moment):
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")


# -- removed from the node list -----------------------------------------------------------------------------


def not_listed(facts):
    """
    Whether the managers do not find this node in the swarm's node list, as after `docker node rm --force`. Its own
    engine does not see that: it says "active" until it restarts, "pending" from then on. A manager that lists the nodes
    is one of them, whatever an old mark says (the engine removes no member of Raft).
    """
    local, record = facts.local, facts.record
    marked = facts.unlisted != "" and facts.unlisted == local.node_id and local.state != "inactive"
    here = record is not None and record.state == READY and record.cluster_id == local.cluster_id
    return marked and here and not (local.state == "active" and _can_act(local))


def removed(facts):
    """Step of a node that the swarm's node list lacks: it gets no tasks and cannot come back under its NodeID."""
    local = facts.local
    text = f"the swarm's managers have no entry {local.node_id} of {facts.node}: somebody removed it"
    if local.control:
        return Step(
            "refuse",
            f"{text}, and its engine still has a manager's state: run `docker swarm leave --force` there (it deletes "
            "that node's copy of the swarm, the other managers keep theirs), then apply again",
        )
    return _not_rejoining(facts, text) or Step("reenter", f"leave and join swarm {local.cluster_id} again: {text}")


# -- address ------------------------------------------------------------------------------------------------


def address_differs(facts):
    """Whether the swarm knows this node at another address than the site's, or the board does not have that one."""
    if facts.has_address is False:
        return True
    try:
        return ipaddress.ip_address(facts.local.address) != ipaddress.ip_address(facts.host)
    except ValueError:  # an interface's name is as good, but cannot be compared
        return False


def keeps_old_address(facts):
    """Whether an engine that is "pending" is a member with another address: it may stay so for minutes."""
    return facts.local.joined and facts.record is not None and facts.record.state == READY and address_differs(facts)


def without_address(facts):
    """Step of a node whose board does not have the site's address."""
    has = f"; towards the managers it has {facts.towards}" if facts.towards else ""
    at = f", and the swarm knows it at {facts.local.address}" if facts.local.address else ""
    return Step(
        "refuse",
        f"the site says {facts.address} for {facts.node}, but no interface of it has that address{has}{at}; correct "
        f"the address in the site file, or give the board the site's (`rpiomega bootstrap {facts.node}`)",
    )


def with_old_address(facts):
    """Step of a member whose address changed."""
    if facts.has_address is False:
        return without_address(facts)
    local = facts.local
    text = f"the swarm knows {facts.node} at {local.address}, the site and the board say {facts.address}"
    refused = _may_readdress(facts)
    if refused:
        return Step("refuse", f"{text}: {refused}")
    if not facts.readdress:
        return Step(
            "refuse",
            f"{text}: the swarm cannot change it in place; let the node leave and join again: `sudo salt {facts.node} "
            f"state.single swarm.member name=swarm readdress=True` ({MANUAL}), or give it {local.address} back",
        )
    if _manages(local) and not _can_act(local):
        if not facts.demoted or facts.demoted.get(facts.node) != local.node_id:
            return Step("await_demotion", f"{text}: waiting to be demoted by a manager, to join again")
        if facts.unaware and not facts.restarted:
            return Step(
                "restart", f"{text}: a manager has demoted it, and its engine does not notice: restart the engine"
            )
        return Step("await_engine", f"{text}: a manager has demoted it, waiting until its engine notices")
    return Step("readdress", f"leave and join again as {facts.address}: {text}")


def _manages(local):
    return local.control or local.certified == MANAGER


def _can_act(local):
    return local.state == "active" and local.control and not local.leaderless


def _may_readdress(facts):
    local = facts.local
    if _manages(local) and len(local.managers) < 2:
        return (
            f"it is the only manager, so this cannot be repaired without you: give it {local.address} back, or see "
            f"{MANUAL}, address of the only manager"
        )
    if not _can_act(local):
        return ""
    missing = sorted(
        name
        for name in facts.managers
        if name != facts.node and not any(node.hostname == name and node.reachable for node in facts.nodes)
    )
    if missing:
        return f"it joins again only while all other managers can be reached; {', '.join(missing)} cannot, run again"
    return demotion_problem(facts.nodes, local.node_id)


# -- quorum -------------------------------------------------------------------------------------------------


def without_leader(facts):
    """
    Step of a manager without a leader: managers that reach a quorum of each other elect one (10 to 20 s, swarmkit
    manager/state/raft), fewer never do. Without its certificate the node's state is not certain enough to wait.
    """
    if facts.reach is None:
        return Step("refuse", describe(facts.local))
    closed = [problem for problem in facts.reach.values() if problem]
    total = len(facts.reach) + 1
    there, needed = total - len(closed), total // 2 + 1
    count = f"{there} of {total} managers can be reached, {needed} needed"
    if there >= needed and facts.local.joined:
        return Step("settle", f"waiting for the swarm to elect a leader; {count} ({facts.local.error})")
    text = f"{describe(facts.local)}; {count}"
    if closed:
        text += f": {'; '.join(closed)}; if they are lost for ever, see {MANUAL}, quorum lost for ever"
    return Step("refuse", text)


def given_up(facts):
    """Step of a former manager that was given up when the swarm lost its quorum for ever."""
    return Step(
        "refuse",
        f"{facts.node} was given up when the swarm was re-created from {facts.record.by} ({facts.record.at}); the "
        "state of its engine is of the time before and must not meet the swarm again: run `docker swarm leave --force` "
        "there, then apply again",
    )
