"""A Consul server that becomes a client: only when the others keep a quorum, and only when somebody says so."""

from __future__ import annotations

import contextlib
import json
import time

from omega.consul import lock
from omega.consul import servers as consul_servers
from omega.consul.client import ConsulError
from omega.consul.policies import RESTART_LOCK
from omega.consul.restart import TTL

FLAG = "consul_retire"


def is_server(text):
    """Whether the text of a consul.json is a server's; None, or half a file, is nobody's."""
    with contextlib.suppress(TypeError, ValueError, AttributeError):
        return bool(json.loads(text).get("server"))
    return False


def refusal(client, node, flag):
    """
    Why this node may not become a client yet, or None.

    :param flag: the pillar's `consul_retire`: the node's name where the operator wants it
    """
    try:
        servers = consul_servers.read(client)
    except ConsulError as error:
        return f"{node} is a Consul server and shall become a client, but its peers cannot be asked: {error}"
    me = consul_servers.find(servers, node)
    if me is None:
        return None
    others = [server for server in servers if server is not me]
    bad = [str(server) for server in others if not server.good]
    if not others or bad:
        why = "; ".join(bad) or "it is the only one"
        return f"{node} stays a Consul server: without it there would be no sure quorum ({why})"
    if flag != node:
        return (
            f"{node} is one of {len(servers)} Consul servers, and by the site file it would be a client. Left alone: "
            f"retire it with `salt {node} state.apply consul pillar='{{{FLAG}: {node}}}'`, one node at a time, "
            "or give the site three managers again"
        )
    return None


def retire(client, node, write, bound=120.0):
    """
    Leave the Raft peers in good order and come back as a client.

    :param write: called without arguments before the agent leaves; writes the client's configuration. The agent ends
        when it has left, and who started it (Docker's restart policy) starts it again
    :param bound: seconds to wait for the turn, and again for the return
    :raises omega.consul.client.ConsulError: nothing was written, or the agent did not come back
    """
    with lock.hold(client, RESTART_LOCK, node, ttl=TTL, wait=bound, checks=[]):
        problem = refusal(client, node, node)
        if problem:
            raise ConsulError("conflict", problem)
        write()
        client.clone(timeout=30).request("put", "/v1/agent/leave", what=f"taking {node} out of the servers")
        _gone(client, node, bound)


def _gone(client, node, bound):
    end = time.monotonic() + bound
    while True:
        try:
            if consul_servers.find(consul_servers.read(client), node) is None:
                return
            last = "it is still a Raft peer"
        except ConsulError as error:
            if not error.transient:
                raise
            last = str(error)
        if time.monotonic() >= end:
            raise ConsulError("timeout", f"{node} left Consul's servers and is not back after {bound:g} s: {last}")
        time.sleep(consul_servers.POLL)
