"""Shape and defaults of the site file, the one place for both. Rules that span several keys are in `checks`.

After a change: ``python -m rpiomega.site.reference --all``, which tells docs/site.md and the formula.
"""

from __future__ import annotations

from pydantic import Field

from rpiomega.site.backup import Backup
from rpiomega.site.board import Network, Node, System, Users
from rpiomega.site.software import B2, Consul, Docker, Formula, Packages, Salt, Sources, Swarm
from rpiomega.site.upkeep import Cache, Journal, Time, Upgrades
from rpiomega.site.values import Name, Section

__all__ = ["Consul", "Node", "Site"]


class Site(Section):
    """The whole file below its top-level key."""

    cluster: Name = Field(description="Short name of the cluster.")
    nodes: dict[str, Node] = Field(min_length=1, description="One entry per board.")
    network: Network = Network()
    users: Users = Users()
    system: System = System()
    salt: Salt = Salt()
    docker: Docker = Docker()
    consul: Consul = Consul()
    b2: B2 = B2()
    backup: Backup = Backup()
    packages: Packages = Packages()
    formula: Formula = Formula()
    swarm: Swarm = Swarm()
    sources: Sources = Sources()
    cache: Cache = Cache()
    upgrades: Upgrades = Upgrades()
    time: Time = Time()
    journal: Journal = Journal()

    @property
    def master(self) -> Node:
        """Return the node that carries the Salt master."""
        return next(node for node in self.nodes.values() if "master" in node.roles)

    @property
    def managers(self) -> list[Node]:
        """Return the swarm's managers in the file's order."""
        return [node for node in self.nodes.values() if "manager" in node.roles]
