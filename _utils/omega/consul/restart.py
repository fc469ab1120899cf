"""
One Consul server at a time: what a server does around its own restart, so that the cluster keeps its quorum.

All servers may want to restart at the same moment (a new image or setting, applied everywhere at once). Each takes a
lock in Consul, looks whether the others can do without it, restarts, and gives the lock back only when Raft calls
it a voter again and it has caught up. The lock's session has no health check: it must outlive the agent it was
made through, which a session tied to serfHealth does not; its TTL frees the lock of a node that never comes back.
"""

from __future__ import annotations

import contextlib
import time

from omega.consul import lock
from omega.consul import servers as consul_servers
from omega.consul.client import ConsulError, denied, unsettled
from omega.consul.policies import RESTART_LOCK
from omega.core.polling import NotYet, until

TTL = 120
LEADER_BOUND = 45.0  # an election after a leader's restart takes up to 18 s (measured, raft_multiplier 5)
AGENT_BOUND = 10.0


def in_turn(client, node, restart, bound=300.0, ails=None):
    """
    Call `restart` when the cluster can do without this server for a moment, and wait until it is back.

    :param client: omega.consul.client.Client of this node's agent, with `operator` read
    :param node: this node's name
    :param restart: called without arguments; returns what went wrong in words, or None
    :param bound: seconds to wait for the turn, and again for the return
    :param ails: returns what the restarted program says of its trouble, or ""
    :return: (what went wrong or None, a remark worth showing or "")
    """
    try:
        servers, remark = _look(client, bound)
    except ConsulError as error:
        return f"{node} was not restarted: {error}", ""
    me = consul_servers.find(servers, node)
    if not me or not me.voter or sum(server.voter for server in servers) == 1:
        return restart(), remark
    try:
        with _turn(client, node, bound):
            seen = _spared(client, node, bound)
            problem = restart()
            if problem is None:
                _returned(client, node, max(server.last_index for server in seen), bound, ails)
            return problem, f"restarted while {len(seen) - 1} other servers kept the quorum"
    except ConsulError as error:
        return str(error), ""


@contextlib.contextmanager
def _turn(client, node, bound):
    """The lock. A formula that needs a new right is refused until the master, in the same apply, has granted it."""
    with contextlib.ExitStack() as stack:

        def held():
            return stack.enter_context(lock.hold(client, RESTART_LOCK, node, ttl=TTL, wait=bound, checks=[]))

        until(held, bound, passing=denied, failure=lambda late: late.error)
        yield


def _look(client, bound):
    """(servers, remark): none where this node is no server, or there is no quorum to protect; the remark says that."""
    began = time.monotonic()
    limits = {"no_leader": LEADER_BOUND, "unreachable": AGENT_BOUND, "timeout": bound, "denied": bound}

    def passing(error):
        return isinstance(error, ConsulError) and time.monotonic() - began < min(limits.get(error.kind, 0), bound)

    def looked():
        return (consul_servers.read(client), "") if consul_servers.is_server(client) else ([], "")

    try:
        return until(looked, bound, passing=passing, failure=lambda late: late.error)
    except ConsulError as error:
        # A token may be unknown only until the master has registered it; then it is somebody's mistake.
        # An agent slow to answer says nothing of the quorum, and all may be slow at the same moment.
        if error.kind not in ("no_leader", "unreachable"):
            raise
        return [], f"no quorum to protect, so without taking turns ({error})"


def _spared(client, node, bound):
    """Wait until the cluster keeps its quorum without this server; return the servers."""

    def spared():
        servers = consul_servers.read(client)
        others = [server for server in servers if server.voter and server.name != node]
        bad = [server for server in others if not server.healthy]
        # Of two voters neither can be spared: with nothing else wrong that is a short outage, and no loss.
        if bad and len(others) - len(bad) < consul_servers.quorum(len(others) + 1):
            raise NotYet("; ".join(map(str, bad)))
        return servers

    cause, cure = f"{node} was not restarted: Consul would lose its quorum", "bring that server back, apply again"
    return until(spared, bound, failure=ConsulError("conflict", cause, cure))


def _returned(client, node, index, bound, ails):
    """Wait until this server votes, is healthy and has applied what the cluster had when it left."""

    def returned():
        me = consul_servers.find(consul_servers.read(client), node)
        applied = consul_servers.applied_index(client)
        if not me or not me.good or applied < index:
            raise NotYet(f"{me or 'it is no Raft peer'}, applied entry {applied} of {index}")
        return True

    def failure(late):
        seen = "; ".join(filter(None, [late.seen, ails() if ails else ""]))
        cause = f"{node} was restarted and is not back as a healthy voter after {bound:g} s ({seen})"
        cure = "no other server restarts until it is: see `docker logs rpiomega-consul` on it"
        return ConsulError("timeout", cause, cure)

    # A server that has just started knows no token until it has read its log (measured on 1.8.7).
    until(returned, bound, passing=unsettled, failure=failure)
