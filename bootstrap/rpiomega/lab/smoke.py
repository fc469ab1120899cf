"""The smoke service: one task per node behind a host-mode port, on an overlay network of its own.

Every node must answer with its own name, and every task must reach every other through the overlay. Neither
needs IPVS in the kernel: the port is the host's, and names resolve to tasks (dnsrr).
"""

from __future__ import annotations

import functools
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from omega.core.polling import seeing, until, until_clear
from rpiomega.lab import archives, remote
from rpiomega.lab.engine import LabError
from rpiomega.lab.state import Lab

NAME = "rpiomega-smoke"
PORT = 8099
_SERVE = "hostname > /www/index.html; exec httpd -f -p 8080 -h /www"


@contextmanager
def service(lab: Lab) -> Iterator[None]:
    """Run the smoke service while the body runs; nothing of it stays in the swarm."""
    master = lab.node_names()[0]
    archive = next(lab.folder.glob(f"{archives.SMOKE.replace('/', '-').replace(':', '-')}-*"), None)
    if archive is None:
        raise LabError(f"{lab.folder} holds no archive of {archives.SMOKE}: `rpiomega lab up --name {lab.name}`")
    for node in lab.node_names():
        remote.send(lab, node, archive, "/tmp/rpiomega-smoke.tar.gz")
    remote.run_everywhere(lab, "sudo docker load -q -i /tmp/rpiomega-smoke.tar.gz && rm /tmp/rpiomega-smoke.tar.gz")
    _remove(lab, master)
    remote.run(lab, master, f"sudo docker network create --driver overlay {NAME}")
    try:
        remote.run(
            lab,
            master,
            f"sudo docker service create --quiet --detach --name {NAME} --mode global --network {NAME} "
            f"--endpoint-mode dnsrr --publish mode=host,published={PORT},target=8080 --stop-grace-period 1s "
            f"--no-resolve-image --hostname '{{{{.Node.Hostname}}}}' {archives.SMOKE} sh -c {remote.quote(_SERVE)}",
        )
        yield
    finally:
        _remove(lab, master)


def answers(lab: Lab, bound: float = 90) -> dict[str, str]:
    """Return node -> what its host-mode port says; wait until each says its own name.

    Raises LabError naming the node that does not.
    """
    deadline = time.monotonic() + bound
    found: dict[str, str] = {}
    for node in lab.node_names():
        url = f"http://{lab.node_address(node)}:{PORT}/"
        what = f"{node}: the smoke service's answer at {url}"
        found[node] = _page(deadline, node, functools.partial(_get, url), what)
    return found


def overlay_traffic(lab: Lab, bound: float = 90) -> dict[tuple[str, str], str]:
    """Fetch the page of each node's task from each other node's task, over the overlay network.

    Returns (from node, to node) -> the page; raises LabError naming the pair that fails.
    """
    deadline = time.monotonic() + bound
    tasks = {node: _task(lab, node) for node in lab.node_names()}
    pages = {}
    for source, (container, _) in tasks.items():
        for target, (_, address) in tasks.items():
            if source == target:
                continue
            command = f"sudo docker exec {container} wget -q -T 5 -O - http://{address}:8080/"
            fetch = functools.partial(remote.run, lab, source, command, check=False)
            what = f"traffic of the overlay network from {source} to {target} ({address})"
            pages[source, target] = _page(deadline, target, fetch, what)
    return pages


def _page(deadline: float, name: str, fetch: Callable[[], str], what: str) -> str:
    """Return what `fetch` returns once it is the name of a node; LabError with the last page if it never is."""

    def probe() -> tuple[str, str]:
        page = fetch()
        return page if page == name else "", page

    return until(seeing(probe), deadline - time.monotonic(), what, failure=lambda late: LabError(late.cause))


def _task(lab: Lab, node: str) -> tuple[str, str]:
    """Return the container ID and the overlay address of the node's task."""
    container = remote.run(lab, node, f"sudo docker ps -q --filter label=com.docker.swarm.service.name={NAME}")
    if not container:
        raise LabError(f"{node}: no task of the smoke service runs")
    networks = json.loads(remote.run(lab, node, f"sudo docker inspect {container.split()[0]}"))[0]["NetworkSettings"]
    return container.split()[0], networks["Networks"][NAME]["IPAddress"]


def _remove(lab: Lab, master: str) -> None:
    remote.run(lab, master, f"sudo docker service rm {NAME}", check=False)
    command = f"sudo docker network rm {NAME} >/dev/null; sudo docker network ls -q --filter name={NAME}"
    if until_clear(lambda: remote.run(lab, master, command, check=False), 60):
        raise LabError(f"{master}: network {NAME} cannot be removed: `docker network inspect {NAME}` says who uses it")


def _get(url: str) -> str:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # the lab's addresses are local
    try:
        with opener.open(url, timeout=5) as answer:
            return answer.read().decode(errors="replace").strip()
    except (urllib.error.URLError, OSError) as err:
        return str(getattr(err, "reason", err))
