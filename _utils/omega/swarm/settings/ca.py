"""The swarm's CA and join tokens: rotate them, wait until every node has followed, publish the new token."""

import hashlib
import re

from omega.consul.client import ConsulError
from omega.core.polling import NotYet, until, until_clear
from omega.swarm.api import MANAGER, WORKER, SwarmError, describe
from omega.swarm.record import TOKEN
from omega.swarm.waits import closing

ATTEMPTS = 4  # the worker token, read again after each write of it
SETTLE = 30  # seconds in which a new leader hears from every node that is up
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)


def fingerprint(pem):
    """Return a short name of a CA certificate for people: half of the SHA-256 of its text; "" if there is none."""
    found = _CERTIFICATE.search(pem or "")
    return hashlib.sha256("".join(found[1].split()).encode()).hexdigest()[:32] if found else ""


def root_of(attrs):
    """Return the PEM of the CA that the swarm trusts, from the engine's description of the swarm."""
    return (attrs.get("TLSInfo") or {}).get("TrustRoot") or ""


def down(engine, bound=SETTLE):
    """
    Return the hostnames of nodes that do not answer: a rotation ends only when they are back or removed. A new leader
    calls every node "unknown" until it has heard from it, so that is waited for.
    """

    def unknown():
        return [node for node in engine.nodes() if node.state == "unknown" and not node.ready]

    until_clear(unknown, bound, passing=())
    return sorted(node.hostname or node.id for node in engine.nodes() if not node.ready)


def progress(engine):
    """Return (finished, one clause on how far the nodes are) of a rotation of the CA."""
    attrs = engine.cluster()
    nodes = engine.raw_nodes()
    behind = sorted(
        (node.get("Description") or {}).get("Hostname") or node["ID"]
        for node in nodes
        if (node.get("Description") or {}).get("TLSInfo") != attrs.get("TLSInfo")
    )
    if attrs.get("RootRotationInProgress"):
        return False, f"the swarm is still rotating its CA, {_count(nodes, behind)}"
    return not behind, _count(nodes, behind)


def _count(nodes, behind):
    text = f"{len(nodes) - len(behind)} of {len(nodes)} nodes have certificates of it"
    return f"{text}, not {', '.join(behind)}" if behind else text


def wait(engine, bound):
    """
    Wait until every node has a certificate of the swarm's CA.

    :raises SwarmError: "refused" with what was seen last once `bound` seconds have passed
    """

    def finished():
        done, seen = progress(engine)
        if not done:
            raise NotYet(seen)
        return seen

    cure = "it goes on, look again with swarm.ca_status, and remove lost nodes with swarm.remove_node"
    late = SwarmError("refused", f"the CA's rotation has not ended within {bound:g} s", cure)
    # The leader renews its own certificate too, and is away for a moment.
    return until(closing(finished, engine), bound, failure=late)


def refuse_if_down(engine, even_if_down=False):
    """:raises SwarmError: "refused" if a node is down, unless that is accepted."""
    missing = [] if even_if_down else down(engine)
    if missing:
        raise SwarmError(
            "refused",
            f"the CA is not rotated while {', '.join(missing)} cannot be reached: it would not end before they are; "
            "bring them back or remove them (swarm.remove_node), or say even_if_down=True",
        )


def rotate_ca(engine, store, bound=600, even_if_down=False):
    """
    Make the recorded swarm a new CA, wait until every node has a certificate of it, and publish the worker token,
    which names the CA. Returns (fingerprint before, after).

    :raises SwarmError: "refused" for another swarm, with a node down, or after `bound` seconds
    :raises ConsulError: without Consul, before anything is changed
    """
    refuse_if_down(engine, even_if_down)
    cluster_id = _recorded(engine, store)
    before = fingerprint(root_of(engine.cluster()))

    def counted(spec):
        config = spec.get("CAConfig") or {}
        return {**spec, "CAConfig": {**config, "ForceRotate": (config.get("ForceRotate") or 0) + 1}}

    with store.hold_rotation() as lock:
        lock.check()
        engine.update_swarm(counted, what="rotating the CA")
    wait(engine, bound)
    publish_token(engine, store, cluster_id)
    return before, fingerprint(root_of(engine.cluster()))


# -- the token with which workers join ------------------------------------------------------------------------


def token_outdated(engine, store, local, rotating=False):
    """
    Whether Consul has another worker token than the swarm's own; False where the swarm is not the recorded one
    or Consul has none, because then `swarm.member` writes it. `rotating`: the swarm's own is about to change.
    """
    record = store.record()
    if not record or record.cluster_id != local.cluster_id:
        return False
    held = store.token(local.cluster_id)
    return bool(held) and (rotating or held != engine.worker_token())


def _recorded(engine, store):
    """The ClusterID of this engine's swarm, which Consul has to have recorded; it does so for good."""
    local = engine.local()
    if not local.control or local.leaderless:
        raise SwarmError("no_leader" if local.leaderless else "not_manager", describe(local))
    record = store.record()
    if not record or record.cluster_id != local.cluster_id:
        raise SwarmError("refused", f"swarm {local.cluster_id} is not the one recorded in Consul: nothing is changed")
    return local.cluster_id


def publish_token(engine, store, cluster_id, rotate=lambda: None):
    """
    Write the worker token of the recorded swarm to Consul; whether it held another one.

    :param rotate: makes the token a new one; called under the lock, so only with a Consul that takes it
    :raises SwarmError: "conflict" if others rotate it by hand at the same time
    """
    with store.hold_rotation() as lock:
        lock.check()
        rotate()
        outdated = False
        for _ in range(ATTEMPTS):
            value = {"token": engine.worker_token(), "cluster_id": cluster_id}
            entry = store.client.get(TOKEN)
            if entry and entry.json() == value:
                return outdated
            outdated = True
            try:
                lock.write(TOKEN, value, entry.modify_index if entry else 0)
            except ConsulError as error:
                if error.kind != "conflict":  # a node that forms or adopts the swarm writes it without this lock
                    raise
    raise SwarmError("conflict", "others change the worker token at the same time; run again")


def rotate_token(engine, store, role):
    """
    Rotate the join token of `role`; publish it in Consul if it is the workers'. A manager's is not published, so that
    needs no Consul.

    :raises SwarmError: "refused" for another role, or a swarm that is not the recorded one
    :raises ConsulError: without Consul, before anything is changed
    """
    if role not in (WORKER, MANAGER):
        raise SwarmError("refused", f"role {role!r}: must be worker or manager")
    if role == MANAGER:
        engine.rotate_token(role)
    else:
        publish_token(engine, store, _recorded(engine, store), lambda: engine.rotate_token(role))
