"""What is wrong with the cluster, why it matters, and the cure. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from rpiomega.doctor import backup, system
from rpiomega.doctor.finding import Finding, ordered
from rpiomega.status.picture import Picture

APPLY = "on the master: sudo salt '{name}' state.apply"


def judge(picture: Picture) -> list[Finding]:
    """Return the findings, the worst first."""
    found = [
        *_reach(picture),
        *_one_swarm(picture),
        *_quorums(picture),
        *_unknown_nodes(picture),
        *_unfinished(picture),
    ]
    for name in picture.facts:
        found += [*_services(picture, name), *_swarm_role(picture, name), *_consul_member(picture, name)]
        found += _card(picture, name)
        found += backup.check(name, picture.facts[name].get("backup", {}), picture.site)
    return ordered(found)


def _all(names: list[str]) -> str:
    return " and on ".join(names)


def _reach(picture: Picture) -> Iterator[Finding]:
    for name, error in picture.unreached.items():
        yield Finding(name, "reach", "error", error.cause, "nothing is known of this node", error.cure)


def _one_swarm(picture: Picture) -> Iterator[Finding]:
    others = {known: names for known, names in picture.cluster_ids.items() if known != picture.cluster_id}
    for known, names in others.items():
        yield Finding(
            names[0],
            "one-swarm",
            "error",
            f"{', '.join(names)} manage another swarm ({known}) than the cluster's ({picture.cluster_id})",
            "services of the two swarms know nothing of each other",
            f"move its services, then on {_all(names)}: sudo docker swarm leave --force (deletes that swarm), then "
            f"on the master: sudo salt -L '{','.join(names)}' state.apply",
        )
    if picture.record.get("state") == "initializing":
        by = picture.record.get("by", "")
        yield Finding(
            by,
            "record",
            "error",
            f"{by} began to make the swarm and did not finish",
            "the other nodes wait for it, so that there are never two swarms",
            APPLY.format(name=by),
        )


def _quorums(picture: Picture) -> Iterator[Finding]:
    master = picture.site.master.name
    for what, quorum, leader, matters in (
        ("swarm", picture.swarm, picture.swarm_leader, "running services go on, but nothing is scheduled or changed"),
        ("Consul", picture.consul, picture.consul_leader, "no node can join or be promoted; the swarm itself goes on"),
    ):
        check = f"{what.lower()}-quorum"
        if quorum.total and not (quorum.holds and leader):
            yield Finding(
                master,
                check,
                "error",
                f"{what} has no leader: {quorum.up} of {quorum.total} voters answer, {quorum.needed} are needed",
                matters,
                f"bring back {quorum.needed - quorum.up} of them: power, network, then rpiomega doctor"
                if not quorum.holds
                else "wait a minute for the election, then rpiomega status; if it goes on: rpiomega doctor",
            )
        elif quorum.total >= 3 and quorum.to_lose == 0:
            yield Finding(
                master,
                check,
                "warning",
                f"{what}: {quorum.up} of {quorum.total} voters answer, no further one may fail",
                "the next failure stops all changes",
                "bring back the missing ones before any restart or upgrade",
            )


def _unknown_nodes(picture: Picture) -> Iterator[Finding]:
    for node in picture.swarm_nodes:
        if node["name"] == node["id"] and node["state"] != "ready":
            continue
        said = picture.facts.get(node["name"], {}).get("swarm", {})
        # Without an engine, or with a locked or broken one, a node cannot tell which entry is its own.
        tells = said.get("node_id") or said.get("state") == "inactive"
        foreign = bool(tells) and node["id"] != said["node_id"]
        # The engine removes no manager.
        demotion = f"docker node demote {node['id']} && " if node["manager"] else ""
        if node["name"] in picture.site.nodes and not (foreign or node["is_former"]):
            yield from _misnamed(node)
        elif node["name"] not in picture.site.nodes:
            yield Finding(
                node["name"],
                "unknown-node",
                "warning",
                f"the swarm has a node {node['name']} ({node['id']}, {node['state']}) that the site file lacks",
                "it may run services and reads what they read",
                f"{_eviction(picture, node, demotion)}; to keep it, add it to the site file and bootstrap it",
            )
        elif node["state"] == "down":
            yield Finding(
                node["name"],
                "old-entry",
                "warning",
                f"the swarm keeps an old entry {node['id']} of {node['name']}, which is down",
                "it counts as a node that should come back",
                f"on a manager: {demotion}docker node rm {node['id']}",
            )
        elif said.get("node_id"):
            yield Finding(
                node["name"],
                "twin",
                "warning",
                f"the swarm has a second node {node['name']} ({node['id']}, {node['state']}), which is not the one at "
                f"{picture.site.nodes[node['name']].address}",
                "it runs services and reads what they read under a name you trust",
                f"if it stays, on a manager: docker node update --availability drain {node['id']}; if it is a copy of "
                f"the card of {node['name']} in another board, switch that off and wait until it is down, then "
                f"{demotion}docker node rm {node['id']}",
            )


def _card(picture: Picture, name: str) -> Iterator[Finding]:
    """What stops a node's work; doctor names the rest."""
    found = system.file_systems(name, picture.facts[name].get("file_systems", {}))
    return (one for one in found if one.severity == "error")


def _eviction(picture: Picture, node: dict, demotion: str) -> str:
    ours = f"if it was a node of yours: rpiomega remove {node['name']}; else "
    if node["name"] in picture.published:
        return f"rpiomega remove {node['name']}"
    ours = "" if picture.published else ours  # Consul does not say whose keys it holds
    if node["state"] == "down":
        return f"{ours}on a manager: {demotion}docker node rm {node['id']}"
    return (
        f"{ours}on a manager: {demotion}docker node update --availability drain {node['id']}, then switch that machine "
        f"off and: docker node rm {node['id']}"
    )


def _misnamed(node: dict) -> Iterator[Finding]:
    if node["hostname"] and node["hostname"].casefold() != node["name"].casefold():
        yield Finding(
            node["name"],
            "hostname",
            "warning",
            f"it calls itself {node['hostname']}; by its NodeID it is {node['name']}",
            "placement by node.hostname does not find it",
            f"on the node: sudo hostnamectl set-hostname {node['name']} (the swarm sees it within a minute)",
        )


def _unfinished(picture: Picture) -> Iterator[Finding]:
    """Entries that joins added whose engine never got its certificate."""
    found = [node["id"] for node in picture.swarm_nodes if node["name"] == node["id"] and node["state"] != "ready"]
    if found:
        yield Finding(
            picture.site.master.name,
            "unfinished-join",
            "note",
            f"the swarm has entries without a hostname: {', '.join(found)}",
            "a join that is under way adds one, and one that broke off leaves it; it gets no tasks",
            "10 minutes after it began, the managers remove it at their next apply, or on the master: sudo salt '*' "
            f"swarm.reconcile_nodes; at once, if no node is joining, on a manager: docker node rm {' '.join(found)}",
        )


def _services(picture: Picture, name: str) -> Iterator[Finding]:
    services = picture.facts[name]["services"]
    wanted = ["salt-minion", *(["salt-master"] if "master" in picture.site.nodes[name].roles else [])]
    for unit in wanted:
        if not services.get(unit):
            yield Finding(
                name,
                unit,
                "error",
                f"{unit} is not running",
                "states cannot be applied to this node" if unit == "salt-minion" else "no state can be applied",
                f"rpiomega bootstrap {name}, or on the node: sudo systemctl start {unit}",
            )


def _swarm_role(picture: Picture, name: str) -> Iterator[Finding]:
    swarm = picture.facts[name]["swarm"]
    wanted = "manager" in picture.site.nodes[name].roles
    cure = APPLY.format(name=name)
    if picture.unlisted(name):
        # A manager's state is left only by force, which is for a person to type.
        leave = f"on {name}: sudo docker swarm leave --force; " if swarm["manager"] else ""
        look = "" if leave else "sudo salt '*' swarm.reconcile_nodes, then "
        yield Finding(
            name,
            "unlisted",
            "error",
            f"the swarm's node list has no entry {swarm['node_id']} of it: somebody removed it",
            "it gets no tasks, though its own engine does not see that",
            f"{leave}on the master: {look}sudo salt '{name}' state.apply (it leaves and joins again)",
        )
        return
    if swarm["state"] != "active":
        what = {"": "the Docker Engine does not answer", "inactive": "not in the swarm"}.get(swarm["state"])
        what = what or f"the swarm's state here is {swarm['state']}"
        detail = f" ({swarm['error']})" if swarm["error"] else ""
        yield Finding(name, "swarm", "error", what + detail, "it takes no work", cure)
        return
    if swarm["manager"] != wanted:
        is_now, shall = ("manager", "worker") if swarm["manager"] else ("worker", "manager")
        yield Finding(
            name, "role", "warning", f"{is_now}, the site file says {shall}", "the quorum is not what was planned", cure
        )
    address = picture.site.nodes[name].address
    if swarm["address"] != address:
        yield Finding(
            name,
            "address",
            "warning",
            f"the swarm knows it at {swarm['address']}, the site file says {address}",
            "a node's address cannot change while it is a member",
            _readdress(picture, name, swarm),
        )
    if swarm["manager"] and swarm["error"]:
        yield Finding(name, "swarm", "error", swarm["error"], "the engine reports a problem", f"rpiomega doctor {name}")


def _readdress(picture: Picture, name: str, swarm: dict) -> str:
    managers = [node for node in picture.swarm_nodes if node["manager"]]
    if swarm["manager"] and len(managers) < 2:
        return f"write {swarm['address']} into the site file, or see docs/operations.md, address of the only manager"
    again = f"sudo salt '{name}' state.single swarm.member name=swarm readdress=True"
    return f"rpiomega bootstrap {name} gives it that address; then on the master: {again}"


def _consul_member(picture: Picture, name: str) -> Iterator[Finding]:
    consul = picture.facts[name]["consul"]
    if consul["error"]:
        what, cure = f"Consul's agent: {consul['error']}", APPLY.format(name=name)
        yield Finding(name, "consul", "error", what, "the node cannot take part in elections or join", cure)
    elif picture.members.get(name, {}).get("state") != "alive":
        yield Finding(
            name,
            "consul",
            "error",
            f"the other nodes see its Consul agent as {picture.members.get(name, {}).get('state', 'absent')}",
            "it cannot join the swarm or be promoted",
            f"rpiomega doctor {name} tries the ports between the nodes",
        )
