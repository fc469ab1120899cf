"""The lab's own site file: the same file a site edits, filled in with the lab's nodes."""

from __future__ import annotations

import yaml

from rpiomega.lab import b2_container, cache
from rpiomega.lab.state import Lab

MANAGERS = 3


def roles(position: int, total: int) -> list[str]:
    """Return the roles of a node: three managers from three nodes on, else the master alone."""
    if position == 0:
        return ["master", "manager"]
    return ["manager"] if total >= MANAGERS and position < MANAGERS else ["worker"]


def write(lab: Lab, consul: dict[str, str] | None = None, repositories: dict[str, dict] | None = None) -> None:
    """Write the lab's site.sls.

    `consul` holds the image and the archive if the lab brings its own, `repositories` those in the vendors' place.
    """
    repositories = repositories or {}
    names = lab.node_names()
    content: dict = {
        "cluster": lab.name,
        "nodes": {
            name: {
                "host": lab.leased_address(name),
                "address": lab.node_address(name),
                "roles": roles(position, len(names)),
            }
            for position, name in enumerate(names)
        },
        "network": {
            "prefix": int(lab.subnet.partition("/")[2]),
            "gateway": lab.address(1),
            "dns": [lab.address(2)],
        },
        "users": {"admin": "pi", "identity": str(lab.key), "known_hosts": str(lab.known_hosts)},
        "salt": {"version": "3008", "source": "auto"},
        "docker": {"source": "vendor" if "docker" in repositories else "distribution"},
        "sources": cache.sources(lab),
    }
    for part, repository in repositories.items():
        content[part]["repository"] = repository
    if lab.b2:
        content["b2"] = {"endpoint": b2_container.endpoint(lab)}
    if consul:
        content["consul"] = consul
    head = f"# Site file of lab `{lab.name}`, written by `rpiomega lab up`.\n"
    lab.site_file.write_text(head + yaml.safe_dump({"rpiomega": content}, sort_keys=False))
