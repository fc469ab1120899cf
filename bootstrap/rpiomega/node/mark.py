"""The mark of a board: the cluster and the node it was made. Written on the board, read by the workstation over SSH."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

PATH = "/etc/rpiomega/node.json"
# What the bootstrap has always written; boards of before have no other mark.
MINION = "/etc/salt/minion.d/rpiomega.conf"
# A shell's commands that print both, for `parse`.
SHOW = f"cat {PATH} 2>/dev/null; echo; grep -s -e '^id:' -e '^master:' {MINION}; true"
_ID = re.compile(r"^id:\s*'?([^'\n]+?)'?\s*$", re.MULTILINE)
_MASTER = re.compile(r"^master:\s*'?([^'\s]+)'?\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Mark:
    """`node` is empty where the board is nobody's; `cluster` is, where only Salt's configuration (`master`) tells."""

    node: str = ""
    cluster: str = ""
    master: str = ""

    def of(self, site: Any, name: str) -> bool:
        """Return whether this is the mark of a site for its node `name`."""
        if self.node != name:
            return False
        return self.cluster == site.cluster if self.cluster else self.master == site.master.address


def parse(text: str) -> Mark:
    """Given the text of the mark's file and of the minion's configuration, in one or in two, return the mark."""
    node = cluster = ""
    for line in text.splitlines():
        try:
            found = json.loads(line) if line.startswith("{") else None
        except ValueError:
            continue
        if isinstance(found, dict) and isinstance(found.get("node"), str) and isinstance(found.get("cluster"), str):
            node, cluster = found["node"], found["cluster"]
    identity, master = _ID.search(text), _MASTER.search(text)
    return Mark(node or (identity[1] if identity else ""), cluster, master[1] if master else "")


def text(cluster: str, node: str) -> str:
    """Return the text of the mark's file."""
    return json.dumps({"cluster": cluster, "node": node}) + "\n"
