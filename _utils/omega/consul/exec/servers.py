"""Execution functions for Consul's servers as a group."""

from __future__ import annotations

from omega.consul import servers as consul_servers
from omega.consul.exec.common import data, seconds


def servers(client):
    """
    Consul's servers by Raft and autopilot; needs a token with ``operator`` read.

    :return: ``data``: ``servers``, a list of ``{"name", "address", "voter", "leader", "healthy"}``, and ``to_spare``:
        how many more may fail

    CLI Example:

    .. code-block:: bash

        salt master consul.servers
    """
    return data(_shown(consul_servers.read(client)))


def wait_voters(client, names="", timeout=120):
    """
    Wait until every server is a healthy voter, and those named are among them. "alive" among the members is less:
    a restarted server is that long before it votes.

    :param names: list, or names with commas between
    :param timeout: seconds
    :return: as ``consul.servers``

    CLI Example:

    .. code-block:: bash

        salt master consul.wait_voters names=pi1,pi2,pi3
    """
    names = names.split(",") if isinstance(names, str) else names
    wanted = [name.strip() for name in names if name.strip()]
    return data(_shown(consul_servers.wait_good(client, wanted, seconds(timeout))))


def _shown(found):
    shown = [
        {name: getattr(server, name) for name in ("name", "address", "voter", "leader", "healthy")} for server in found
    ]
    return {"servers": shown, "to_spare": consul_servers.to_spare(found)}


FUNCTIONS = (
    servers,
    wait_voters,
)
