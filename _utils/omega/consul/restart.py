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
from omega.consul.client import ConsulError
from omega.consul.policies import RESTART_LOCK

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
    end = time.monotonic() + bound
    with contextlib.ExitStack() as stack:
        while True:
            try:
                stack.enter_context(lock.hold(client, RESTART_LOCK, node, ttl=TTL, wait=bound, checks=[]))
                break
            except ConsulError as error:
                if error.kind != "denied" or time.monotonic() >= end:
                    raise
            time.sleep(consul_servers.POLL)
        yield


def _look(client, bound):
    """(servers, remark): none where this node is no server, or there is no quorum to protect; the remark says that."""
    start = time.monotonic()
    limits = {"no_leader": LEADER_BOUND, "unreachable": AGENT_BOUND, "timeout": bound, "denied": bound}
    while True:
        try:
            return (consul_servers.read(client), "") if consul_servers.is_server(client) else ([], "")
        except ConsulError as error:
            if error.kind not in limits:
                raise
            if time.monotonic() - start >= min(limits[error.kind], bound):
                # A token may be unknown only until the master has registered it; then it is somebody's mistake.
                # An agent slow to answer says nothing of the quorum, and all may be slow at the same moment.
                if error.kind in ("denied", "timeout"):
                    raise
                return [], f"no quorum to protect, so without taking turns ({error})"
        time.sleep(consul_servers.POLL)


def _spared(client, node, bound):
    """Wait until the cluster keeps its quorum without this server; return the servers."""
    end = time.monotonic() + bound
    while True:
        try:
            servers = consul_servers.read(client)
            others = [server for server in servers if server.voter and server.name != node]
            bad = [server for server in others if not server.healthy]
            voters = len(others) + 1
            # Of two voters neither can be spared: with nothing else wrong that is a short outage, and no loss.
            if not bad or len(others) - len(bad) >= consul_servers.quorum(voters):
                return servers
            last = "; ".join(map(str, bad))
        except ConsulError as error:
            if not error.transient:
                raise
            last = str(error)
        if time.monotonic() >= end:
            raise ConsulError(
                "conflict",
                f"{node} was not restarted: Consul would lose its quorum ({last}); bring that server back, apply again",
            )
        time.sleep(consul_servers.POLL)


def _returned(client, node, index, bound, ails):
    """Wait until this server votes, is healthy and has applied what the cluster had when it left."""
    end = time.monotonic() + bound
    while True:
        try:
            me = consul_servers.find(consul_servers.read(client), node)
            applied = consul_servers.applied_index(client)
            if me and me.good and applied >= index:
                return
            last = f"{me or 'it is no Raft peer'}, applied entry {applied} of {index}"
        except ConsulError as error:
            # A server that has just started knows no token until it has read its log (measured on 1.8.7).
            if not error.transient and error.kind != "denied":
                raise
            last = str(error)
        if time.monotonic() >= end:
            said = ails() if ails else ""
            raise ConsulError(
                "timeout",
                f"{node} was restarted and is not back as a healthy voter after {bound:g} s "
                f"({last}{'; ' if said else ''}{said}); no other server restarts until it is: see "
                "`docker logs rpiomega-consul` on it",
            )
        time.sleep(consul_servers.POLL)
