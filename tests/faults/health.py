"""Whether the lab's cluster is whole: what its engines, agents and lists say, against the site file."""

from __future__ import annotations

import entries
from nodes import Failed

VOTERS = "/v1/operator/raft/configuration"


def problems(cluster, but=()) -> list[str]:
    """Return what keeps a cluster from being whole, empty if nothing does.

    :param cluster: of cluster.py
    :param but: names of nodes whose place in the swarm and in Consul is not judged: an operator has moved them
    """
    off = [name for name in cluster.names if not cluster.is_on(name)]
    if off:
        return [f"no power: {', '.join(off)}"]
    facts, judged = cluster.look(), [name for name in cluster.names if name not in but]
    managers = [name for name in cluster.managers if name in judged]
    found = [f"{n}: swarm {facts[n]['state'] or facts[n]['error']}" for n in judged if facts[n]["state"] != "active"]
    alive = sorted(cluster.names)
    found += [f"{n}: sees {f['alive']} in Consul" for n, f in facts.items() if f["alive"] != alive]
    found += [f"{n}: Consul has no leader" for n, f in facts.items() if not f["leader"]]
    found += [f"{n}: no manager" for n in managers if not facts[n]["control"]]
    found += [f"{n}: a manager" for n in judged if n not in managers and facts[n]["control"]]
    return found or _listed(cluster, judged, managers, but) + _voters(cluster, managers, but)


def _listed(cluster, judged: list[str], managers: list[str], but) -> list[str]:
    try:
        # A moved node may be listed by another name, too.
        seen = [one for one in cluster.nodes_seen() if one["name"] in judged or not but]
    except Failed as error:
        return [str(error)]
    ready = sorted(one["name"] for one in seen if one["state"] == "ready" and one["name"])
    found = [] if ready == sorted(judged) else [f"ready in the swarm: {ready}"]
    if (seats := entries.seats(seen)) != sorted((name, True) for name in managers):
        found.append(f"managers reachable: {seats}")
    wanted = {name: node.get("availability", "keep") for name, node in cluster.site["nodes"].items()}
    for one in seen:
        # `keep` leaves it to the operator, and nobody has paused a node here for good.
        asked = wanted.get(one["name"], "keep").replace("keep", "active")
        if one["name"] in judged and one["state"] == "ready" and one["availability"] != asked:
            found.append(f"{one['name']}: availability {one['availability']}")
    return found


def _voters(cluster, managers: list[str], but) -> list[str]:
    status, answer = cluster.ask(cluster.master, ["consul", "GET", VOTERS, None, "management"])[0]
    if status != 200:
        return [f"Consul's voters: {answer}"]
    voters = sorted(one["Node"] for one in answer["Servers"] if one["Voter"] and one["Node"] not in but)
    return [] if voters == sorted(managers) else [f"Consul's voters: {voters}"]
