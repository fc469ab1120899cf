"""Docker, Salt and what earlier uses of a board have left."""

from __future__ import annotations

from collections.abc import Iterator

from omega.core import engine_fit
from rpiomega.doctor.finding import Finding
from rpiomega.site import Node, Site

# Names of findings, where they are not the key's.
NAMES = {"firewall-backend": "docker-firewall"}


def docker(node: str, facts: dict, swarm: bool) -> Iterator[Finding]:
    """The engine answers, its settings can be read, and a swarm can run on it. No Docker yet is fine."""
    found = facts["docker"]
    daemon, info = found["daemon"], found["info"]
    if "error" in daemon:
        yield Finding(
            node,
            "docker",
            "error",
            f"/etc/docker/daemon.json cannot be read: {daemon['error']}",
            "Docker does not start with it",
            "sudo dockerd --validate --config-file /etc/docker/daemon.json",
        )
    elif found.get("said") or (found["installed"] and not info):
        said = found.get("said", "no socket at /run/docker.sock")
        yield Finding(
            node,
            "docker",
            "error",
            f"Docker is installed and does not answer: {said}",
            "no container runs without it",
            "systemctl status docker; journalctl -u docker -n 30",
        )
    for key, why, cure in engine_fit.problems(daemon, info, swarm):
        what = f"daemon.json has {key}" if key in daemon else f"Docker runs with {key}"
        where = "in docker.daemon of the site file, /etc/docker/daemon.json or `systemctl cat docker`, where it is"
        yield Finding(node, NAMES.get(key, f"docker-{key}"), "error", what, why, f"{cure} {where}")
    if ["driver-type", "io.containerd.snapshotter.v1"] in (info.get("DriverStatus") or []):
        yield Finding(
            node,
            "docker-images",
            "note",
            "Docker keeps its images in containerd",
            "they are in /var/lib/containerd, not below its data root",
            "docker.data_root with move_data moves them, too (docs/docker.md)",
        )
    yield from _swarm(node, found["swarm"])


def _swarm(node: str, swarm: dict) -> Iterator[Finding]:
    state = swarm.get("state", "inactive")
    if state in ("error", "locked", "pending"):
        said = f": {swarm['error']}" if swarm["error"] else ""
        logs = "journalctl -u docker -n 50; sudo salt-call state.apply"
        cure = "sudo docker swarm unlock" if state == "locked" else logs
        yield Finding(
            node,
            "swarm",
            "error",
            f"the swarm's state here is {state}{said}",
            "the node takes no part in the swarm",
            cure,
        )


def leftovers(node: Node, facts: dict, site: Site) -> Iterator[Finding]:
    """Nothing else owns the board's ports, rules and containers."""
    found, name = facts["leftovers"], node.name
    for what in found["software"]:
        yield Finding(
            name,
            "leftover",
            "warning",
            f"{what} is on this board",
            "it owns ports, iptables rules and containers of its own",
            f"uninstall {what}, or use another card",
        )
    packages = found["packages"]
    if {"docker.io", "docker-ce"} <= set(packages):
        yield Finding(
            name,
            "two-dockers",
            "error",
            "docker.io and docker-ce are both installed",
            "two daemons fight for one socket",
            "sudo apt-get remove docker.io",
        )
    if "podman-docker" in packages:
        yield Finding(
            name,
            "two-dockers",
            "error",
            "podman-docker is installed",
            "its `docker` is not Docker",
            "sudo apt-get remove podman-docker",
        )
    if "salt-minion" in packages and found["pip_salt"]:
        yield Finding(
            name,
            "two-salts",
            "error",
            "Salt is installed as package and in /opt/rpiomega/salt",
            "two minions with one id take each other's jobs",
            "keep one: set salt.source in the site file, remove the other",
        )
    if "consul" in found["services"] or "consul" in packages:
        yield Finding(
            name,
            "two-consuls",
            "warning",
            "a Consul of its own is installed as a service",
            "it takes the ports 8300 to 8302 and 8500 of the cluster's",
            "sudo systemctl disable --now consul",
        )
    if node is not site.master and found["services"].get("salt-master") == "active":
        yield Finding(
            name,
            "two-masters",
            "warning",
            f"a Salt master runs here, the site's is {site.master.name}",
            "minions that know this one obey it",
            "sudo systemctl disable --now salt-master",
        )
    for wall in facts["kernel"]["firewall"]:
        yield Finding(
            name,
            "firewall",
            "note",
            f"{wall} is active",
            "it must let the ports of the cluster pass; Docker's rules and its own may undo each other",
            "the port checks below tell what it blocks",
        )


def salt(node: Node, facts: dict, site: Site) -> Iterator[Finding]:
    """A minion that is there belongs to this site."""
    found = facts["identity"]["salt"]
    if not found["minion"]:
        return
    if found.get("id") and found["id"] != node.name:
        yield Finding(
            node.name,
            "minion-id",
            "error",
            f"the minion calls itself {found['id']}{_by(found, 'id')}",
            "pillar and roles go by the name of the site file",
            f"rpiomega bootstrap {node.name}",
        )
    master = found.get("master", "")
    if master and master not in (site.master.address, "127.0.0.1", "localhost", site.master.name):
        yield Finding(
            node.name,
            "minion-master",
            "error",
            f"the minion obeys {master}{_by(found, 'master')}, the site's is {site.master.address}",
            "it takes no orders of this cluster",
            f"rpiomega bootstrap {node.name} --new-master",
        )
    if found.get("file_client") == "local":
        yield Finding(
            node.name,
            "minion-masterless",
            "error",
            f"the minion uses no master's files: file_client is local{_by(found, 'file_client')}",
            "states of this cluster cannot be applied to it",
            f"rpiomega bootstrap {node.name}",
        )
    running = facts["leftovers"]["services"].get("salt-minion")
    if running not in (None, "active", "activating"):
        yield Finding(
            node.name,
            "minion",
            "error",
            f"salt-minion is {running}",
            "the node does not answer the master",
            f"rpiomega bootstrap {node.name}; journalctl -u salt-minion -n 30",
        )


def _by(found: dict, key: str) -> str:
    file = found.get(f"{key}_file")
    return f" ({file})" if file else ""
