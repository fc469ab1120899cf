"""What operators do while the nemesis strikes: a node leaves, a role changes and changes back, Consul is restored."""

from __future__ import annotations

from cluster import Cluster, failures
from nodes import FOLDER, SALT_PYTHON, Failed

SITE = "/srv/rpiomega/pillar/site.sls"
KEPT = f"{FOLDER}/site.sls"
BOUND = 240


class Operator:
    """The moves of one episode. What they leave behind needs an apply: `settle`, once the faults are healed."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.worker = cluster.workers[-1]
        self.moved = self.flipped = False

    def leave(self) -> None:
        """Have the worker leave the swarm."""
        self.moved = True
        self.cluster.run(self.worker, "docker swarm leave", 60)

    def role(self) -> None:
        """Make the worker a manager in the master's site; the next apply promotes it."""
        if self.flipped:
            return  # it is one already, and what is kept is the site as it was
        self.moved = self.flipped = True
        edit = (
            f"import yaml; site = yaml.safe_load(open('{KEPT}')); "
            f"site['rpiomega']['nodes']['{self.worker}']['roles'] = ['manager']; "
            f"open('{SITE}', 'w').write(yaml.safe_dump(site, sort_keys=False))"
        )
        self.cluster.run(self.cluster.master, f'cp -p {SITE} {KEPT} && {SALT_PYTHON} -c "{edit}"')

    def snapshot(self) -> None:
        """Put Consul back to what it is."""
        self.cluster.run(self.cluster.master, f"{SALT_PYTHON} {FOLDER}/snapshot.py {self.cluster.master}", 120)

    def settle(self) -> dict | None:
        """Undo the role, wait until only the worker's place is wrong, apply; return node -> failures, None if not."""
        if self.flipped:
            self.cluster.run(self.cluster.master, f"test ! -e {KEPT} || mv {KEPT} {SITE}")
        if not self.moved:
            return None
        self.cluster.wait("all but the worker to be whole", BOUND, self._all_but_the_worker)
        self.cluster.wait_salt(self.cluster.names)
        return failures(self.cluster.apply(sls="swarm"))

    def _all_but_the_worker(self) -> bool:
        found = self.cluster.problems()
        if any(not text.startswith(f"{self.worker}: ") for text in found):
            raise Failed("; ".join(found))
        return True
