"""One picture of the cluster out of what every node says. Pure: facts in, picture out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from rpiomega.errors import NodeError
from rpiomega.site import Site


@dataclass
class Quorum:
    """Voters of one consensus: how many there are, how many answer, how many more may fail."""

    total: int = 0
    up: int = 0

    @property
    def needed(self) -> int:
        """Return how many must answer."""
        return self.total // 2 + 1

    @property
    def holds(self) -> bool:
        """Return whether decisions can be made."""
        return self.total > 0 and self.up >= self.needed

    @property
    def to_lose(self) -> int:
        """Return how many more may fail before the quorum is lost."""
        return max(0, self.up - self.needed) if self.holds else 0


@dataclass
class Picture:
    """The cluster. `facts` holds what each node said, `unreached` why others said nothing."""

    site: Site
    facts: dict[str, dict]
    unreached: dict[str, NodeError]
    cluster_id: str = ""
    cluster_ids: dict[str, list[str]] = field(default_factory=dict)
    swarm_leader: str = ""
    swarm: Quorum = field(default_factory=Quorum)
    swarm_nodes: list[dict] = field(default_factory=list)
    consul_leader: str = ""
    consul: Quorum = field(default_factory=Quorum)
    members: dict[str, dict] = field(default_factory=dict)
    record: dict = field(default_factory=dict)
    published: dict[str, dict] = field(default_factory=dict)

    @property
    def consul_stale(self) -> bool:
        """Return whether what Consul said may be out of date, because it has no leader."""
        return bool(self.members) and not self.consul_leader

    def unlisted(self, name: str) -> bool:
        """Return whether a node's engine is in the swarm as far as it knows, and the managers do not list it."""
        swarm = self.facts.get(name, {}).get("swarm", {})
        here = swarm.get("state") in ("active", "pending") and swarm["node_id"]
        same = not swarm.get("cluster_id") or swarm["cluster_id"] == self.cluster_id
        return bool(here and same and self.swarm_nodes) and not any(
            node["id"] == swarm["node_id"] for node in self.swarm_nodes
        )


def compose(site: Site, facts: dict[str, dict], unreached: dict[str, NodeError]) -> Picture:
    """Return the picture.

    `facts`: node -> data of the step `cluster_status`; `unreached`: node -> what its answer failed with.
    """
    picture = Picture(site, facts, unreached)
    _swarm(picture)
    _consul(picture)
    return picture


def _swarm(picture: Picture) -> None:
    managers = {name: fact for name, fact in picture.facts.items() if fact["swarm"]["manager"]}
    for name, fact in managers.items():
        # Without a leader the engine does not say which swarm it manages.
        if fact["swarm"]["cluster_id"]:
            picture.cluster_ids.setdefault(fact["swarm"]["cluster_id"], []).append(name)
    picture.record = next((fact["consul"]["record"] for fact in picture.facts.values() if fact["consul"]["record"]), {})
    recorded = picture.record.get("cluster_id") or ""
    most = max(picture.cluster_ids, key=lambda known: len(picture.cluster_ids[known]), default="")
    picture.cluster_id = recorded if recorded in picture.cluster_ids else most or recorded
    seen = [managers[name].get("nodes") for name in picture.cluster_ids.get(picture.cluster_id, [])]
    said = (fact["consul"].get("published") for fact in picture.facts.values())
    picture.published = next((published for published in said if published), {})
    picture.swarm_nodes = [_named(picture, node) for node in next((nodes for nodes in seen if nodes), [])]
    if picture.swarm_nodes:
        voters = [node for node in picture.swarm_nodes if node["manager"]]
        picture.swarm = Quorum(len(voters), sum(node["reachable"] for node in voters))
        picture.swarm_leader = next((node["name"] for node in voters if node["leader"]), "")
    elif recorded or any(fact["swarm"]["state"] not in ("", "inactive") for fact in picture.facts.values()):
        # Without a leader no manager lists the nodes: the site says how many there should be.
        up = sum(fact["swarm"]["cluster_id"] in ("", picture.cluster_id) for fact in managers.values())
        picture.swarm = Quorum(max(len(picture.site.managers), up), up)


def _named(picture: Picture, node: dict) -> dict:
    """Return an entry of the swarm's list under the name of the node that it is, by NodeID; `hostname` is its own word.

    `is_former` tells an entry that the node had before.
    """
    hostname = "" if node["name"] == node["id"] else node["name"]
    entry = {**node, "hostname": hostname, "is_former": False}
    names = [name for name, fact in picture.facts.items() if fact["swarm"]["node_id"] == node["id"]]
    names = names or [name for name, said in picture.published.items() if said["node_id"] == node["id"]]
    if not names:
        names = [name for name, said in picture.published.items() if node["id"] in said["previous"]]
        entry["is_former"] = bool(names)
    if len(names) > 1:
        names = [name for name in names if name.casefold() == hostname.casefold()]
    return {**entry, "name": names[0]} if len(names) == 1 else {**entry, "is_former": False}


def _consul(picture: Picture) -> None:
    said = {name: fact["consul"] for name, fact in picture.facts.items() if fact["consul"]["members"]}
    if not said:
        return
    leaders = Counter(consul["leader"] for consul in said.values() if consul["leader"])
    address = leaders.most_common(1)[0][0] if leaders else ""
    # The node that hears most members has the best view; with a leader, its own word counts.
    best = max(said.values(), key=lambda consul: sum(m["state"] == "alive" for m in consul["members"].values()))
    picture.members = best["members"]
    names = {member["address"]: name for name, member in picture.members.items()}
    picture.consul_leader = names.get(address, address)
    servers = [name for name, member in picture.members.items() if member["server"] and member["state"] != "left"]
    voters = [names.get(peer, peer) for peer in best["peers"]] or servers
    up = sum(picture.members.get(name, {}).get("state") == "alive" for name in voters)
    picture.consul = Quorum(len(voters), up)
