"""One virtual Pi: the container, its power switch, and when it counts as booted."""

from __future__ import annotations

import contextlib
import io
import subprocess
import tarfile
import time
from pathlib import Path

import docker
import docker.errors
from docker.models.containers import Container

from omega.core.polling import seeing, until
from rpiomega.lab import engine, network
from rpiomega.lab.engine import LabError
from rpiomega.lab.state import Lab

BOOT_BOUND = 180
DATA = ("/var/lib/docker", "/var/lib/containerd")
# Docker's own lists would hide parts of /proc that a board's dockerd and systemd need.
_OPEN = ["seccomp=unconfined", "apparmor=unconfined"]


def container_name(lab: Lab, node: str) -> str:
    """Return the name of a node's container."""
    return f"{lab.network}-{node}"


def find(client: docker.DockerClient, lab: Lab, node: str) -> Container:
    """Return a node's container; raise LabError if the lab has no such node."""
    if node not in lab.node_names():
        raise LabError(f"{node} is no node of lab {lab.name}: it has {', '.join(lab.node_names())}")
    try:
        return client.containers.get(container_name(lab, node))
    except docker.errors.NotFound:
        raise LabError(f"{node} has no container: `rpiomega lab up --name {lab.name}` makes it") from None


def ensure(client: docker.DockerClient, lab: Lab, node: str, image: str) -> Container:
    """Create a node's container unless it is there, and switch it on."""
    with engine.explained(f"cannot start {node}"):
        try:
            container = client.containers.get(container_name(lab, node))
        except docker.errors.NotFound:
            container = _create(client, lab, node, image)
        if container.status != "running":
            container.start()
        return container


def wait_booted(lab: Lab, node: str, container: Container, bound: float = BOOT_BOUND) -> str:
    """Wait until systemd is up and pi can log in; return systemd's state (`running` or `degraded: units`).

    Raises LabError naming what was waited for and the last thing seen.
    """
    deadline = time.monotonic() + bound
    state = _wait(bound, f"{node}: systemd to finish booting", lambda: _systemd(container))
    _wait(deadline - time.monotonic(), f"{node}: SSH host keys", lambda: host_keys(container))
    return state


def wait_login(lab: Lab, node: str, bound: float = 60) -> None:
    """Wait until pi can log in over SSH and become root without a password."""

    def login():
        done = subprocess.run(
            ["ssh", "-F", str(lab.ssh_config), "-o", "BatchMode=yes", "-o", "ConnectTimeout=5", node, "sudo -n true"],
            capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        return (done.returncode == 0), (done.stderr.strip().splitlines() or ["no answer"])[-1]

    _wait(bound, f"{node}: SSH login as pi", login)


def host_keys(container: Container) -> tuple[list[str], str]:
    """Return the public SSH host keys of a node (empty while it has none), and what was seen."""
    text = engine.run(container, "cat /etc/ssh/ssh_host_*_key.pub", check=False)
    keys = [" ".join(line.split()[:2]) for line in text.splitlines() if line.startswith(("ssh-", "ecdsa-"))]
    return keys, text[-120:]


def kill(container: Container) -> None:
    """Cut a node's power."""
    with engine.explained(f"cannot kill {container.name}"):
        container.reload()
        if container.status == "running":
            container.kill()


def remove(client: docker.DockerClient, container: Container) -> None:
    """Remove a node with its disks."""
    with engine.explained(f"cannot remove {container.name}"):
        container.remove(force=True, v=True)
        _erase(client, container.name)


def _erase(client: docker.DockerClient, name: str) -> None:
    """Remove the volumes of a node's container."""
    for volume in _volumes(name):
        with contextlib.suppress(docker.errors.NotFound):
            client.volumes.get(volume).remove(force=True)


def _create(client, lab: Lab, node: str, image: str) -> Container:
    name, address = container_name(lab, node), lab.leased_address(node)
    # Those of a container that was removed by hand hold the engine of another cluster; a new board has an empty card.
    _erase(client, name)
    modern = docker.utils.version_gte(client.api.api_version, "1.44")
    endpoint = client.api.create_endpoint_config(
        ipv4_address=address, **({"mac_address": network.mac(address)} if modern else {})
    )
    host = client.api.create_host_config(
        cap_add=sorted(set(engine.CAPABILITIES) - set(engine.missing_capabilities())),
        security_opt=_OPEN,
        device_cgroup_rules=["a *:* rwm"],
        tmpfs={"/run": "exec,mode=755", "/run/lock": "exec,mode=1777", "/tmp": "exec,mode=1777"},
        binds={volume: {"bind": path} for volume, path in zip(_volumes(name), DATA, strict=True)},
        # A reboot kills PID 1, which Docker sees as a failure: on-failure is what switches the board on again.
        restart_policy={"Name": "on-failure"},
        log_config=docker.types.LogConfig(type="json-file", config={"max-size": "2m"}),
        network_mode=lab.network,
    )
    host |= {"MaskedPaths": [], "ReadonlyPaths": [], "CgroupnsMode": "private"}
    created = client.api.create_container(
        image,
        ["/usr/local/sbin/pi-init"],
        name=name,
        hostname="raspberrypi",
        tty=True,
        environment={"container": "docker", "RPIOMEGA_CGROUP": f"rpiomega-lab/{lab.name}/{node}"},
        labels={engine.LABEL: lab.name, "rpiomega.node": node},
        stop_signal="SIGRTMIN+3",
        host_config=host,
        networking_config=client.api.create_networking_config({lab.network: endpoint}),
        **({} if modern else {"mac_address": network.mac(address)}),
    )
    container = client.containers.get(created["Id"])
    container.put_archive("/home/pi", _authorized_keys(Path(f"{lab.key}.pub").read_bytes()))
    return container


def _volumes(name: str) -> list[str]:
    return [f"{name}{path.replace('/', '-')}" for path in DATA]


def _authorized_keys(key: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data, mode in ((".ssh", None, 0o700), (".ssh/authorized_keys", key, 0o600)):
            member = tarfile.TarInfo(name)
            member.uid = member.gid = 1000
            member.mode = mode
            member.type = tarfile.REGTYPE if data else tarfile.DIRTYPE
            member.size = len(data or b"")
            tar.addfile(member, io.BytesIO(data) if data else None)
    return buffer.getvalue()


def _systemd(container: Container) -> tuple[str, str]:
    container.reload()
    if container.status != "running":
        tail = container.logs(tail=5).decode(errors="replace").strip().replace("\n", " | ")
        raise LabError(f"{container.name} stopped while booting; its console ends with: {tail[-300:]}")
    seen = engine.run(container, ["systemctl", "is-system-running"], check=False).splitlines()
    state = seen[-1] if seen else "no answer"
    if state == "degraded":
        failed = engine.run(container, "systemctl --failed --plain --no-legend | cut -d' ' -f1", check=False)
        return f"degraded: {' '.join(failed.split())}", state
    return ("running" if state == "running" else ""), state


def _wait(bound: float, what: str, probe):
    return until(seeing(probe), bound, what, failure=lambda late: LabError(late.cause))
