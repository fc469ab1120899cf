"""What an earlier use of the board left, that would get in the way."""

from __future__ import annotations

import re

from rpiomega.node.board import Board

# Path -> what it is. Each stands for software that owns ports, iptables rules or containers.
PATHS = {
    "/usr/local/bin/k3s": "k3s",
    "/etc/kubernetes/kubelet.conf": "Kubernetes (kubelet)",
    "/snap/bin/microk8s": "MicroK8s",
    "/snap/bin/docker": "Docker as a snap",
    "/usr/bin/nomad": "Nomad",
}
# Two engines, or two Salts, on one board: whichever comes first in the path answers.
PACKAGES = ("docker.io", "docker-ce", "podman-docker", "docker-ce-rootless-extras", "consul", "salt-minion", "nftables")


def read(board: Board, args: dict) -> dict:
    """Return ``software``, ``packages`` (installed ones of interest), ``pip_salt`` and ``services``."""
    software = [what for path, what in PATHS.items() if board.exists(path)]
    services = {}
    for unit in ("consul", "salt-master", "salt-minion", "docker", "k3s", "k3s-agent"):
        if board.has("systemctl"):
            shown = board.shell.run(["systemctl", "show", "-p", "LoadState", "-p", "ActiveState", unit], timeout=5)
            values = dict(line.split("=", 1) for line in shown.output.splitlines() if "=" in line)
            if values.get("LoadState") == "loaded":
                services[unit] = values.get("ActiveState", "")
    return {
        "software": software,
        "packages": _packages(board),
        "pip_salt": board.exists("/opt/rpiomega/salt/bin/salt-minion"),
        "services": services,
    }


def _packages(board: Board) -> list[str]:
    status = board.read("/var/lib/dpkg/status") or ""
    found = []
    for name in PACKAGES:
        stanza = re.search(rf"^Package: {re.escape(name)}\nStatus: (\S+ \S+ \S+)", status, re.MULTILINE)
        if stanza and stanza.group(1).endswith(" installed"):
            found.append(name)
    return found
