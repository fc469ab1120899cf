"""What the site's pillar says about its nodes: the questions every state and module asks."""

from __future__ import annotations

from omega.site import keys

DEFAULT_ROLES = keys.NODE_DEFAULTS["roles"]
# Three servers survive the loss of one; more only slow the log down on SD cards.
SERVERS = 3


def nodes(site: dict) -> dict[str, dict]:
    """Return ``{name: entry}`` of the site's pillar (the value of ``rpiomega``)."""
    return site.get("nodes") or {}


def roles(site: dict, name: str) -> list[str]:
    """Return the list of roles of node ``name``; empty if the site does not know it."""
    entry = nodes(site).get(name)
    return [] if entry is None else list(entry.get("roles", DEFAULT_ROLES))


def with_role(site: dict, role: str) -> list[str]:
    """Return the names that have ``role``, in the order of the site file."""
    return [name for name in nodes(site) if role in roles(site, name)]


def master(site: dict) -> str | None:
    """Return the name of the node with role master, or None."""
    return next(iter(with_role(site, "master")), None)


def consul_servers(site: dict) -> list[str]:
    """Return the names of the Consul servers.

    The master alone while there are fewer than three managers; then the master and the first managers
    of the site file, three in all.
    """
    first = with_role(site, "master")[:1]
    managers = with_role(site, "manager")
    if len(managers) < SERVERS:
        return first
    return (first + [name for name in managers if name not in first])[:SERVERS]


def address(site: dict, name: str) -> str:
    """Return the address of node ``name`` as a string."""
    return str(nodes(site)[name]["address"])
