"""What a board is before anything is done to it: whose it is, and which site it serves as a master."""

from __future__ import annotations

import os

from rpiomega.node import job_steps, mark, saltkeys
from rpiomega.node.doctor import identity
from rpiomega.node.step import Diff, Step
from rpiomega.node.steps.formula import SITE
from rpiomega.node.steps.machineid import in_swarm

ACCEPTED = "/etc/salt/pki/master/minions"
MASTER_CONF = "/etc/salt/master.d/rpiomega.conf"


class Standing(Step):
    """Changes nothing.

    `data`: ``node``, ``cluster``, ``master`` (its mark), ``swarm`` (member of one), ``start`` (what no other board
    has), ``cached_master`` (fingerprint of its master's key), ``master_finger``, ``site`` (the site file it serves as a
    master, else empty), ``accepted`` (the minions whose keys it has accepted).
    """

    name = job_steps.Standing.step
    args: job_steps.Standing

    def check(self) -> Diff:
        texts = [self.board.read(mark.PATH) or "", self.board.read(mark.MINION) or ""]
        found = mark.parse("\n".join(texts))
        serves = self.board.exists(MASTER_CONF)
        self.data.update(node=found.node, cluster=found.cluster, master=found.master, swarm=in_swarm(self.board))
        self.data["start"] = self._start()
        self.data["cached_master"] = saltkeys.fingerprint(self.board.read(saltkeys.CACHED_MASTER))
        self.data["master_finger"] = saltkeys.fingerprint(self.board.read(saltkeys.MASTER_PUB))
        self.data["site"] = (self.board.read(SITE) or "") if serves else ""
        folder = self.board.path(ACCEPTED)
        self.data["accepted"] = sorted(os.listdir(folder)) if serves and os.path.isdir(folder) else []
        return Diff()

    def _start(self) -> list[str]:
        """Return boot, start of process 1 and addresses: a container has its host's boot, a copied card's board not."""
        process = (self.board.read("/proc/1/stat") or "").rpartition(")")[2].split()
        addresses = sorted(item["address"] for item in identity.addresses(self.board))
        boot = (self.board.read("/proc/sys/kernel/random/boot_id") or "").strip()
        return [boot, process[19] if len(process) > 19 else "", *addresses]
