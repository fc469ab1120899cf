"""What operators do while the nemesis strikes: by hand, in the site file, or with Consul's snapshots.

Each move is a method of Operator, named as in KINDS of nemesis.py with `_` for a space. What it leaves behind needs an
apply, and sometimes what the apply prints: `settle`, once the faults are healed.
"""

from __future__ import annotations

import json
import re

from cluster import Cluster, failures
from nodes import FOLDER, SALT_PYTHON, TROUBLE, Failed

SITE = "/srv/rpiomega/pillar/site.sls"
KEPT = f"{FOLDER}/site.sls"
BOUND = 240
NAME = "kitchen"
# What an operator types because a state prints it, of those that force nothing: on the master, on the node itself.
ON_MASTER = re.compile(r"(?:sudo )?salt (?:'\*'|[\w-]+) state\.apply(?: \w+)?(?: pillar='\{consul_retire: [\w-]+\}')?")
ON_NODE = re.compile(r"(?:sudo )?(?:docker swarm leave|systemctl restart docker|hostnamectl set-hostname [\w-]+)")


def printed(wrong: dict) -> list[tuple[str, str]]:
    """Return (node, command) of what failed states print for an operator to do, each once, in their order.

    :param wrong: node -> comments, as of `failures`; node is "" where the command is for the master
    """
    found: list[tuple[str, str]] = []
    for node, comments in wrong.items():
        for command in re.findall(r"`([^`]+)`", " ".join(comments) if isinstance(comments, list) else ""):
            where = "" if ON_MASTER.fullmatch(command) else node if ON_NODE.fullmatch(command) else None
            if where is not None and (where, command) not in found:
                found.append((where, command))
    return found


class Operator:
    """The moves of one episode. `moved`: names of the nodes whose place they changed; `forced`: NodeIDs removed."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.worker = cluster.workers[-1]
        self.moved: set[str] = set()
        self.forced: set[str] = set()
        self._edited = self._renamed = False

    # -- by hand -------------------------------------------------------------------------------------------

    def leave(self, node: str) -> None:
        """Have a node leave the swarm."""
        self.moved.add(node)
        self.cluster.run(node, "docker swarm leave", 60)

    def node_rm(self, node: str) -> None:
        """Remove the entry of a node that is alive."""
        found = [one["id"] for one in self.cluster.nodes_seen() if one["name"] == node]
        self.moved.add(node)
        self.forced.update(found)
        self.cluster.run(self.cluster.leading(), f"docker node rm --force {' '.join(found)}", 60)

    def demote(self, node: str) -> None:
        """Make a manager a worker in the swarm, though the site file calls it a manager."""
        self.moved.add(node)
        by = next(name for name in [self.cluster.leading(), *self.cluster.managers] if name != node)
        self.cluster.run(by, f"docker node demote {node}", 60)

    def rename(self, node: str) -> None:
        """Give a node another host name; its engine reports it from its next start on."""
        self.moved.add(node)
        self._renamed = True
        self.cluster.run(node, f"hostnamectl set-hostname {NAME} && systemctl restart docker", 120)

    def rotate(self, _node: str) -> None:
        """Make the workers' join token new; what Consul holds is then an older one."""
        self.cluster.run(self.cluster.leading(), "docker swarm join-token --rotate --quiet worker >/dev/null", 60)

    def snapshot(self, _node: str) -> None:
        """Put Consul back to what it is."""
        self.cluster.run(self.cluster.master, f"{SALT_PYTHON} {FOLDER}/snapshot.py {self.cluster.master}", 120)

    # -- in the site file ----------------------------------------------------------------------------------

    def role(self, node: str) -> None:
        """Make a worker a manager in the master's site; the next apply promotes it."""
        self._edit({node: ["manager"]})

    def swap(self, node: str) -> None:
        """Make a worker a manager and the last manager a worker, in one edit of the master's site."""
        self._edit({node: ["manager"], self.cluster.managers[-1]: ["worker"]})

    def _edit(self, roles: dict[str, list[str]]) -> None:
        if self._edited:
            return  # what is kept is the site as it was
        self._edited = True
        self.moved.update(roles)
        program = (
            "import json, yaml\n"
            f"site = yaml.safe_load(open('{KEPT}'))\n"
            f"for name, roles in json.loads('{json.dumps(roles)}').items():\n"
            "    site['rpiomega']['nodes'][name]['roles'] = roles\n"
            f"open('{SITE}', 'w').write(yaml.safe_dump(site, sort_keys=False))\n"
        )
        self.cluster.put(self.cluster.master, f"{FOLDER}/edit.py", program)
        self.cluster.run(self.cluster.master, f"cp -p {SITE} {KEPT} && {SALT_PYTHON} {FOLDER}/edit.py")

    # -- afterwards ----------------------------------------------------------------------------------------

    def settle(self, note) -> dict | None:
        """Undo what is in the site and the names, wait until the other nodes are whole, apply, do what is printed.

        :param note: gets what each apply came to: `note("apply", failures=..., moved=..., whole=...)`
        :return: node -> failures of the last apply, which has to succeed; None if nothing had been moved
        """
        if self._edited:
            self.cluster.run(self.cluster.master, f"test ! -e {KEPT} || mv {KEPT} {SITE}")
        if self._renamed:
            back = f"hostnamectl set-hostname {self.worker} && systemctl restart docker"
            self.cluster.run(self.worker, back, 120)
        if not self.moved:
            return None
        self.cluster.wait("the nodes that nobody moved to be whole", BOUND, self._others_whole)
        self.cluster.wait_salt(self.cluster.names)
        wrong = failures(self.cluster.apply(sls="swarm"))
        note("apply", failures=wrong, moved=sorted(self.moved), whole=self._whole())
        if not wrong:
            return wrong
        for node, command in printed(wrong):
            try:
                self.cluster.run(node or self.cluster.master, command, 600)
            except TROUBLE as error:
                note("cure", command=command, node=node or self.cluster.master, why=str(error)[:300])
            else:
                note("cure", command=command, node=node or self.cluster.master, why="")
        self.cluster.wait_salt(self.cluster.names)
        return failures(self.cluster.apply(sls="swarm"))

    def _others_whole(self) -> bool:
        if found := self.cluster.problems(self.moved):
            raise Failed("; ".join(found))
        return True

    def _whole(self) -> bool:
        try:
            self.cluster.wait_healthy(60)
        except TROUBLE:
            return False
        return True
