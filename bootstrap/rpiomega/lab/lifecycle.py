"""Bringing a lab up, looking at it, taking it down."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import docker
import docker.errors
from docker.models.volumes import Volume

from rpiomega.lab import (
    archives,
    b2_container,
    cache,
    engine,
    folders,
    image,
    limits,
    network,
    pi,
    sitefile,
    state,
    vendor,
)
from rpiomega.lab.engine import LabError
from rpiomega.lab.state import Lab

Report = image.Report


def up(client: docker.DockerClient, lab: Lab, report: Report) -> Lab:
    """Make everything of the lab that is missing, and return it with all nodes booted."""
    with folders.alone(report):
        node_image, archived = _prepare(client, lab, report)
    with ThreadPoolExecutor() as pool:
        names = lab.node_names()
        report(f"starting {len(names)} virtual Pis ({lab.release}, {lab.stack}) on {lab.subnet}")
        nodes = dict(zip(names, pool.map(lambda n: pi.ensure(client, lab, n, node_image), names), strict=True))
        states = dict(zip(names, pool.map(lambda n: pi.wait_booted(lab, n, nodes[n]), names), strict=True))
        state.write_ssh(lab, {name: pi.host_keys(nodes[name])[0] for name in names})
        list(pool.map(lambda n: pi.wait_login(lab, n), names))
    for name, seen in states.items():
        if seen != "running":
            report(f"{name} is {seen}")
    lab.limits = limits.detect(nodes[names[0]])
    lab.save()
    _place(lab, archived[0], archived[1], vendor.repositories(client, lab) if lab.vendor else {})
    return lab


def bring_up(
    report: Report,
    name: str,
    nodes: int | None,
    release: str | None,
    stack: str | None = None,
    docker: str | None = None,
    salt: str | None = None,
    b2: bool | None = None,
) -> Lab:
    """Return the lab of that name, up; what is not given stays as it is there."""
    known = state.load(name) or Lab(name)
    if release and known.subnet and release != known.release:
        raise LabError(f"lab {name} is {known.release}: `rpiomega lab down --name {name}` first")
    if stack and known.subnet and stack != known.stack:
        raise LabError(f"lab {name} has {known.stack}: `rpiomega lab down --name {name}` first")
    known.release = release or known.release
    known.stack = stack or known.stack
    if nodes and known.subnet and nodes < known.nodes:
        raise LabError(f"lab {name} has {known.nodes} nodes and does not shrink: `lab down --name {name}` first")
    known.nodes = nodes or known.nodes
    served = set(known.vendor.split())
    for part, chosen, ours in (("docker", docker, "vendor"), ("salt", salt, "onedir")):
        served = served | {part} if chosen == ours else served - {part} if chosen else served
    known.vendor = " ".join(sorted(served))
    known.b2 = known.b2 if b2 is None else b2
    return up(engine.connect(), known, report)


def _prepare(client, lab: Lab, report: Report) -> tuple[str, list[archives.Archive]]:
    """Make images, archives, network and helpers; return the nodes' image and the archives they need."""
    with ThreadPoolExecutor() as pool:
        image.ensure_base(client, lab.release, report)
        makers = (image.ensure_cache, archives.consul, archives.smoke)
        jobs: list[Future] = [pool.submit(make, client, lab.release, report) for make in makers]
        vendors = lab.vendor and pool.submit(image.ensure_vendor, client, lab.release, report, "salt" in lab.vendor)
        b2_image = lab.b2 and pool.submit(image.ensure_b2, client, lab.release, report)
        node_image = image.ensure_pi(client, lab.release, report, lab.stack)
        helper_image, *archived = [job.result() for job in jobs]
    network.ensure(client, lab)
    state.make_key(lab)
    lab.save()
    network.ensure_router(client, lab, helper_image)
    cache.ensure(client, lab, helper_image)
    if vendors:
        vendor.ensure(client, lab, vendors.result())
    if b2_image:
        report(f"stand-in for B2 at {b2_container.endpoint(lab)}")
        b2_container.ensure(client, lab, b2_image.result())
    return node_image, archived


def _place(lab: Lab, consul: archives.Archive, smoke: archives.Archive, vendors: dict[str, dict]) -> None:
    """Put the image archives beside the site file, and write that."""
    for archive in (consul, smoke):
        target = lab.folder / archive.path.name
        if not target.exists():
            shutil.copyfile(archive.path, target)
    repositories = {part: found["repository"] for part, found in vendors.items()}
    sitefile.write(lab, {"image": consul.image, "archive": consul.path.name}, repositories)


def status(client: docker.DockerClient, lab: Lab) -> list[dict]:
    """Return one dict per node: node, address, roles, power, systemd, image."""
    rows = []
    names = lab.node_names()
    for position, name in enumerate(names):
        row = {"node": name, "address": lab.node_address(name), "roles": sitefile.roles(position, len(names))}
        try:
            container = pi.find(client, lab, name)
        except LabError:
            rows.append(row | {"power": "absent", "systemd": "", "image": ""})
            continue
        on = container.status == "running"
        systemd = engine.run(container, ["systemctl", "is-system-running"], check=False) if on else ""
        tag = (container.attrs.get("Config") or {}).get("Image", "")
        rows.append(row | {"power": "on" if on else "off", "systemd": systemd, "image": tag})
    return rows


def down(client: docker.DockerClient, name: str) -> list[str]:
    """Remove everything a lab made but images and download cache; return what was removed.

    Works by Docker's labels, so it also clears what an interrupted `up` left or another checkout made.
    """
    state.check_name(name)
    found = client.containers.list(all=True, ignore_removed=True, filters={"label": f"{engine.LABEL}={name}"})
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda container: pi.remove(client, container), found))
    removed = [container.name for container in found]
    for volume in _volumes(client, name):  # of containers that were removed by hand
        volume.remove(force=True)
        removed.append(f"volume {volume.name}")
    with folders.alone(lambda line: None):
        cache.leave(client, f"rpiomega-{name}")
    if network.remove(client, f"rpiomega-{name}"):
        removed.append(f"network rpiomega-{name}")
    removed += _remove_cgroups(name)
    lab = Lab(name)
    if lab.folder.exists():
        lab.remove()
        removed.append(str(lab.folder))
    return removed


def purge(client: docker.DockerClient) -> list[str]:
    """Remove the download cache and the images."""
    cache.purge(client)
    folders.remove_cache()
    return ["download cache", *image.remove_all(client)]


def leftovers(client: docker.DockerClient, name: str) -> list[str]:
    """Return what is still there of a lab: containers, volumes, networks, cgroup folders, files."""
    prefix = f"rpiomega-{name}"
    found = [
        f"container {c.name}"
        for c in client.containers.list(all=True, ignore_removed=True)
        if c.name.startswith(f"{prefix}-")
    ]
    found += [f"volume {volume.name}" for volume in _volumes(client, name)]
    found += [f"network {n.name}" for n in client.networks.list() if n.name == prefix]
    found += [f"cgroup {path}" for path in _cgroups(name)]
    return found + ([str(Lab(name).folder)] if Lab(name).folder.exists() else [])


def _volumes(client: docker.DockerClient, name: str) -> list[Volume]:
    """Return the disks of a lab's nodes: a lab's name holds no hyphen."""
    return [volume for volume in client.volumes.list() if volume.name.startswith(f"rpiomega-{name}-")]


def describe(lab: Lab, rows: list[dict]) -> str:
    """Return a lab as JSON text."""
    keep = {"name": lab.name, "release": lab.release, "subnet": lab.subnet, "limits": lab.limits}
    files = {"site": str(lab.site_file), "ssh_config": str(lab.ssh_config)}
    return json.dumps(keep | {"files": files, "nodes": rows}, indent=2)


def _cgroups(name: str) -> list[Path]:
    """Cgroup folders of a lab where the runtime leaves a container's v2 cgroup at the root of the hierarchy."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    roots = [Path(fields[1]) for fields in mounts if fields[2] == "cgroup2"]
    return [root / "rpiomega-lab" / name for root in roots if (root / "rpiomega-lab" / name).is_dir()]


def _remove_cgroups(name: str) -> list[str]:
    removed = []
    for top in _cgroups(name):
        folders = sorted((path for path in top.rglob("*") if path.is_dir()), reverse=True)
        try:
            for folder in [*folders, top]:
                folder.rmdir()
        except OSError as err:
            raise LabError(f"cannot remove cgroup {top}: {err.strerror}; as root: rmdir it bottom-up") from err
        removed.append(f"cgroup {top}")
    return removed
