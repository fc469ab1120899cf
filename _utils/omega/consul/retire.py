"""
Consul servers that the site file no longer wants: each becomes a client, one after the other, on explicit request.

The commands are a pure function of the site file and of the Raft peers, so every node prints the same ones. New
servers come first; a surplus server leaves only while every other peer is a healthy voter.
"""

from __future__ import annotations

import contextlib
import json

from omega.consul import lock
from omega.consul import servers as consul_servers
from omega.consul.client import ConsulError, unsettled
from omega.consul.policies import RESTART_LOCK
from omega.consul.restart import TTL
from omega.core.polling import NotYet, TimedOut, until
from omega.site import nodes as site_nodes

FLAG = "consul_retire"
# Seconds: an election, the restart of the master's server, a new server's way to its vote (10 s), and the time in
# which the master, in the same apply, grants a right.
PATIENCE = 60.0


def is_server(text):
    """Whether the text of a consul.json is a server's; None, or half a file, is nobody's."""
    with contextlib.suppress(TypeError, ValueError, AttributeError):
        return bool(json.loads(text).get("server"))
    return False


# -- decisions: pure ------------------------------------------------------------------------------------------


def command(node):
    """Return the command that retires the server `node`. The same run demotes it if it shall be a worker."""
    return f"sudo salt {node} state.apply pillar='{{{FLAG}: {node}}}'"


def surplus(site, servers):
    """Return the names of the site's nodes that are Raft peers and shall be clients, in the order of leaving."""
    peers, wanted = {server.name for server in servers}, site_nodes.consul_servers(site)
    return [name for name in reversed(list(site_nodes.nodes(site))) if name in peers and name not in wanted]


def missing(site, servers):
    """Return the names of the site's servers that are no Raft peers yet."""
    peers = {server.name for server in servers}
    return [name for name in site_nodes.consul_servers(site) if name not in peers]


def commands(site, servers):
    """Return the commands, in their order, that make Consul's servers those of the site file; [] if they are that."""
    steps = [f"sudo salt {name} state.apply" for name in missing(site, servers)]
    steps += [command(name) for name in surplus(site, servers)]
    # The master takes the rights of a server from those that have left.
    return [*steps, "sudo salt '*' state.apply"] if steps else []


def following(site, servers):
    """Return the clause that names the commands still to be run; "" if there are none."""
    steps = [f"`{step}`" for step in commands(site, servers)]
    if not steps:
        return ""
    order = "on the master, one after the other" if len(steps) > 1 else "on the master"
    return f"{order}: {', '.join(steps)}"


def uneven(site):
    """Return the clause that warns of an even number of managers; "" where the number is odd."""
    count = len(site_nodes.with_role(site, "manager"))
    if count % 2:
        return ""
    return f"the site file has {count} managers: {count} managers survive no more failures than {count - 1}"


def blocked(site, servers, node):
    """Return why the server `node` may not leave now, with what to do, or None. All other peers must be good."""
    others = [server for server in servers if server.name != node]
    bad, again = [server for server in others if not server.good], f"then again `{command(node)}`"
    absent = missing(site, servers)
    if absent:
        first = " and ".join(f"`sudo salt {name} state.apply`" for name in absent)
        return f"{node} stays a Consul server until {', '.join(absent)} joined Consul's servers: first {first}, {again}"
    if bad:
        known = site_nodes.nodes(site)
        cures = [f"bring {peer.name} back" if peer.name in known else f"`rpiomega remove {peer.name}`" for peer in bad]
        why = f"{node} stays a Consul server, without it the quorum would not be safe ({'; '.join(map(str, bad))})"
        return f"{why}: {', '.join(cures)}, {again}"
    return None


# -- asking and acting ----------------------------------------------------------------------------------------


def refusal(client, site, node, flag, patience=PATIENCE):
    """
    Why this server does not become a client in this run, with the commands that do it; None if it may.

    :param site: the pillar's `rpiomega`
    :param flag: the pillar's `consul_retire`: the node's name where the operator wants it
    :param patience: seconds to ask again while Consul gives no answer, or (with the flag) while a peer is not good
    """

    def decided():
        servers = consul_servers.read(client)
        if consul_servers.find(servers, node) is None:
            return (None,)
        if flag != node:
            return (_proposal(site, servers, node),)
        problem = blocked(site, servers, node)
        if problem:
            raise NotYet(problem)
        return (None,)

    try:
        return until(decided, patience, passing=unsettled)[0]
    except TimedOut as late:
        return _unknown(site, node, late.error) if late.error else late.seen


def _proposal(site, servers, node):
    text = f"{node} is one of {len(servers)} Consul servers, and by the site file it would be a client"
    parts = [f"{text}. Nothing was changed on it. To retire it, {following(site, servers)}"]
    return "; ".join([*parts, *filter(None, [uneven(site)]), "or undo the change of roles in the site file"])


def _unknown(site, node, error):
    text = f"{node} is a Consul server and shall become a client, but its peers cannot be asked: {error}"
    if error.kind == "denied":
        master = f"`sudo salt {site_nodes.master(site)} state.apply`"
        return f"{text}; on the master: {master}, then `sudo salt {node} state.apply`"
    return f"{text}; see `rpiomega status`, then apply again"


def retire(client, site, node, write, restore, bound=120.0):
    """
    Leave the Raft peers in good order and come back as a client; return the clause with the commands still to be run.

    :param write: called without arguments before the agent leaves; writes the client's configuration and returns what
        was there. The agent ends when it has left, and Docker's restart policy starts it again
    :param restore: called with what `write` returned if Consul refuses to let the server go
    :param bound: seconds to wait for the turn, and again for the return
    :raises omega.consul.client.ConsulError: nothing was written, or the agent did not come back
    """
    with lock.hold(client, RESTART_LOCK, node, ttl=TTL, wait=bound, checks=[]):
        problem = refusal(client, site, node, node)
        if problem:
            raise ConsulError("conflict", problem)
        before = write()
        try:
            client.clone(timeout=30).request("put", "/v1/agent/leave", what=f"taking {node} out of the servers")
        except ConsulError as error:
            # Without an answer it may be leaving. Refused, it stays: it must not restart as a client that has a vote.
            if not error.transient:
                restore(before)
                raise
        return following(site, _gone(client, node, bound))


def _gone(client, node, bound):
    """Wait until `node` is no Raft peer; return the Servers that are left."""

    def left():
        servers = consul_servers.read(client)
        if consul_servers.find(servers, node):
            raise NotYet("it is still a Raft peer")
        return servers

    cure = f"see `docker logs rpiomega-consul` on it, then `sudo salt {node} state.apply`"
    late = ConsulError("timeout", f"{node} left Consul's servers and is not back after {bound:g} s", cure)
    return until(left, bound, failure=late)
