"""
Consul's servers, as Raft and autopilot see them: who votes, who leads, who is healthy.

`members` and autopilot's Healthy are not enough to judge a server by: one that has just come back is "alive" and
may be healthy long before it votes (measured on 1.8.7: 15 s without min_quorum). Voter is Raft's own word.
"""

from __future__ import annotations

from typing import NamedTuple

from omega.consul.client import ConsulError
from omega.core.polling import NotYet, until


class Server(NamedTuple):
    """One Raft peer; last_index is the newest log entry that autopilot (every 2 s) has seen on it."""

    name: str
    address: str
    voter: bool
    leader: bool
    healthy: bool
    last_index: int

    @property
    def good(self):
        """True for a voter that autopilot calls healthy."""
        return self.voter and self.healthy

    def __str__(self):
        return f"{self.name} is {'a voter' if self.voter else 'no voter yet'}, {'' if self.healthy else 'not '}healthy"


def read(client):
    """
    Return the list of Servers, in Raft's order; needs `operator` read.

    :raises omega.consul.client.ConsulError: "no_leader" without a quorum
    """
    raft = _raft(client)
    # 429 says "not all are healthy" and carries the same body.
    path, what = "/v1/operator/autopilot/health", "reading the health of the servers"
    health = client.request("get", path, what=what, accept=(200, 429))[1]
    known = {server["ID"]: server for server in health.get("Servers") or []}
    found = []
    for peer in raft:
        seen = known.get(peer["ID"], {})
        name = seen.get("Name") or peer["Node"]
        healthy, index = bool(seen.get("Healthy")), seen.get("LastIndex", 0)
        found.append(Server(name, peer["Address"], peer["Voter"], peer["Leader"], healthy, index))
    return found


def peers(client):
    """
    Return the set of the names of the Raft peers; needs `operator` read. A peer that gossip has forgotten has no name
    (agent/consul/operator_raft_endpoint.go) and is not in it.
    """
    return {peer["Node"] for peer in _raft(client)}


def _raft(client):
    path, what = "/v1/operator/raft/configuration", "reading the Raft peers"
    return client.request("get", path, what=what)[1]["Servers"]


def quorum(voters):
    """How many of this many voters decide."""
    return voters // 2 + 1


def find(servers, name):
    """The Server called `name`, or None."""
    return next((server for server in servers if server.name == name), None)


def to_spare(servers):
    """How many of the healthy voters may fail before the quorum is lost; negative without one."""
    voters = [server for server in servers if server.voter]
    return sum(server.healthy for server in voters) - quorum(len(voters))


def wait_good(client, names=(), bound=120.0):
    """
    Wait until every Raft peer is a healthy voter, and `names` are among them; return the Servers.

    :raises omega.consul.client.ConsulError: "timeout" with what was seen last, "denied"
    """

    def good():
        servers = read(client)
        missing = set(names) - {server.name for server in servers}
        bad = [str(server) for server in servers if not server.good]
        if missing or bad:
            raise NotYet("; ".join(bad + [f"{name} is no Raft peer" for name in sorted(missing)]))
        return servers

    late = ConsulError("timeout", f"Consul's servers are not all healthy voters after {bound:g} s")
    return until(good, bound, failure=late)


def is_server(client):
    """Whether the agent asked is a server, not a client; needs `agent` read on itself."""
    return bool(_self(client)["Config"].get("Server"))


def applied_index(client):
    """The newest log entry that this agent's own server has applied; 0 for a client agent."""
    stats = _self(client).get("Stats") or {}
    return int((stats.get("raft") or {}).get("applied_index", 0))


def _self(client):
    return client.request("get", "/v1/agent/self", what="reading this agent's state")[1]
