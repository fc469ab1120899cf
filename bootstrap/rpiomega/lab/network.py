"""The lab's network: a Docker bridge on a free private subnet, with a container that serves DHCP and DNS.

A board gets its first address from the router at home; so does a virtual Pi. The router's leases are fixed:
each slot of the network has one MAC address.
"""

from __future__ import annotations

import ipaddress
import json
import subprocess

import docker
import docker.errors

from rpiomega.lab import engine
from rpiomega.lab.engine import LabError
from rpiomega.lab.image import archive
from rpiomega.lab.state import FIRST_HOST, Lab

SLOTS = 40
CANDIDATES = [f"192.168.{third}.0/24" for third in range(140, 240)]


def mac(address: str) -> str:
    """Return the MAC address of the network card that owns `address`."""
    return "02:42:" + ":".join(f"{int(part):02x}" for part in address.split("."))


def ensure(client: docker.DockerClient, lab: Lab) -> None:
    """Create the lab's network if it is not there, and note its subnet in `lab`."""
    try:
        network = client.networks.get(lab.network)
        lab.subnet = network.attrs["IPAM"]["Config"][0]["Subnet"]
        return
    except docker.errors.NotFound:
        pass
    used = _used(client)
    refusal = "all of them are in use"
    for subnet in CANDIDATES:
        if any(ipaddress.ip_network(subnet).overlaps(other) for other in used):
            continue
        pool = docker.types.IPAMConfig(pool_configs=[docker.types.IPAMPool(subnet=subnet)])
        try:
            client.networks.create(
                lab.network, driver="bridge", ipam=pool, labels={engine.LABEL: lab.name}, check_duplicate=True
            )
        except docker.errors.APIError as err:
            refusal = err.explanation or str(err)
            if "overlap" in refusal.lower():
                continue
            break
        lab.subnet = subnet
        return
    raise LabError(f"no subnet for the lab's network between {CANDIDATES[0]} and {CANDIDATES[-1]}: {refusal}")


def ensure_router(client: docker.DockerClient, lab: Lab, image: str) -> None:
    """Start the container that serves DHCP and DNS to the lab."""
    name = f"{lab.network}-router"
    command = [
        "dnsmasq", "--keep-in-foreground", "--log-facility=-", "--user=root", "--no-hosts", "--bind-dynamic",
        "--dhcp-authoritative", "--no-ping", "--leasefile-ro", f"--dhcp-range={lab.address(0)},static",
        f"--dhcp-option=option:router,{lab.address(1)}", f"--dhcp-option=option:dns-server,{lab.address(2)}",
    ]  # fmt: skip
    for slot in range(1, SLOTS + 1):
        address = lab.address(FIRST_HOST + slot)
        command.append(f"--dhcp-host={mac(address)},{address},12h")
    start_service(client, lab, name, image, command, lab.address(2), cap_add=["NET_ADMIN", "NET_RAW"])


def start_service(
    client, lab: Lab, name: str, image: str, command, address: str, files: dict[str, bytes] | None = None, **options
) -> None:
    """Create or start a helper container of the lab, on its network at `address`; `files`: path -> content, put into
    a new one.
    """
    with engine.explained(f"cannot start {name}"):
        try:
            container = client.containers.get(name)
            if container.status == "running":
                return
        except docker.errors.NotFound:
            config = client.api.create_networking_config(
                {lab.network: client.api.create_endpoint_config(ipv4_address=address)}
            )
            container = client.containers.create(
                image, command, name=name, network=lab.network, networking_config=config["EndpointsConfig"],
                labels={engine.LABEL: lab.name}, restart_policy={"Name": "unless-stopped"}, init=True, **options,
            )  # fmt: skip
            if files:
                container.put_archive("/", archive(files))
        container.start()


def remove(client: docker.DockerClient, lab_network: str) -> bool:
    """Remove the lab's network; return whether there was one."""
    try:
        with engine.explained(f"cannot remove network {lab_network}"):
            client.networks.get(lab_network).remove()
        return True
    except LabError as err:
        if isinstance(err.__cause__, docker.errors.NotFound):
            return False
        raise


def _used(client) -> list[ipaddress.IPv4Network]:
    """Subnets that Docker or this machine's routing table know."""
    found = []
    for network in client.networks.list():
        for config in network.attrs.get("IPAM", {}).get("Config") or []:
            found.append(config.get("Subnet", ""))
    try:
        routes = subprocess.run(["ip", "-json", "-4", "route"], capture_output=True, check=True, timeout=10).stdout
        found += [route["dst"] for route in json.loads(routes or "[]") if route.get("dst") != "default"]
    except (OSError, subprocess.SubprocessError, ValueError):
        pass  # no iproute2: Docker refuses an overlap itself
    networks = []
    for text in found:
        try:
            networks.append(ipaddress.ip_network(text, strict=False))
        except ValueError:
            continue
    return [network for network in networks if network.version == 4]
