"""What this host's kernel and container runtime cannot give a virtual Pi, and what follows from it."""

from __future__ import annotations

import json
from pathlib import Path

from docker.models.containers import Container

from rpiomega.lab import engine

MEANING = {
    "ipvs": "no IPVS in the kernel: a service's virtual IP and the ingress mesh do not work (dnsrr and host-mode do)",
    "vxlan": "no VXLAN in the kernel: overlay networks do not work",
    "iptables": "iptables does not work in the nodes: their Docker cannot publish ports",
    "memory": "the memory cgroup is not available to the nodes: no memory limits, the cmdline.txt flag has no effect",
    "clock": "this host's clock is not marked as synchronised: the nodes' clock check cannot pass by itself",
    "overlay": "no overlay file system on the nodes' disks: their Docker is slow (vfs)",
}


def detect(container: Container) -> dict[str, str]:
    """Probe from inside a booted node; return a dict of what is missing -> what that means."""
    probe = (Path(__file__).parent / "files" / "probe.py").read_text()
    missing = json.loads(engine.run(container, ["python3", "-c", probe]))
    found = {name: MEANING[name] for name in missing}
    for name in engine.missing_capabilities():
        found[f"cap_{name.lower()}"] = f"containers cannot have CAP_{name}: services run without what needs it"
    return found
