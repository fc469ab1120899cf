"""A reboot that is waited for: the board must come back under its own name, at its own address."""

from __future__ import annotations

import time

from omega.core.polling import NotYet, until
from rpiomega import agent
from rpiomega.errors import NodeError
from rpiomega.move import Event
from rpiomega.node import job_steps
from rpiomega.site import Node
from rpiomega.ssh import Remote, SshError

BOUND = 300.0
PAUSE = 1.0
# The boot's id, and when process 1 began: a container has its host's boot id, a board its process 1 always at once.
IDENTITY = "cat /proc/sys/kernel/random/boot_id; cut -d' ' -f22 /proc/1/stat"


def reboot(remote: Remote, node: Node, on_event: Event, managed: bool = True, bound: float = BOUND) -> Remote:
    """Reboot a board and wait until it is back, at most `bound` seconds; return the new connection.

    Raise NodeError if it does not come back, or under another name, or (`managed`: the bootstrap sets addresses)
    without the address of the site file.
    """
    before = identity(remote)
    done = remote.run(remote.as_root("systemd-run --quiet --collect --on-active=1 systemctl reboot"), timeout=30)
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip() or "no reason given"
        raise NodeError(f"it does not reboot: {last}", "run `sudo systemctl reboot` on the board", "reboot")
    remote.end_master()
    began = time.monotonic()
    new = remote.moved(*([node.address] if managed else [remote.at, *node.reach]))
    wait_back(new, before, bound)
    remote.log(f"back {time.monotonic() - began:.0f} s after its reboot")
    status = job_steps.NetworkStatus(address=node.address, interface=node.interface)
    found = agent.run(new, [status], on_event)["network_status"]["data"]
    if managed and node.address not in found["addresses"]:
        have = ", ".join(found["addresses"]) or "none"
        raise NodeError(f"after its reboot it has {have}, not {node.address}", "run the bootstrap again", "reboot")
    if found["hostname"] != node.name:
        cause = f"after its reboot it is called {found['hostname']}"
        raise NodeError(cause, "something restores the old name at boot: see `journalctl -b` on the board", "reboot")
    return new


def wait_back(remote: Remote, before: bytes, bound: float) -> None:
    """Wait until a board answers after a reboot; `before`: its `identity` before. Raise NodeError, Stopped."""
    deadline = time.monotonic() + bound

    def back() -> bool:
        remote.connect(max(deadline - time.monotonic(), 1.0))
        if identity(remote) == before:
            raise NotYet("still the boot of before")
        return True

    def rest(seconds: float) -> None:
        remote.end_master()
        remote.pool.rest(seconds)

    late = NodeError(
        f"not back {bound:.0f} s after its reboot", "look at its screen, or switch it off and on", "reboot"
    )
    until(back, bound, passing=SshError, pause=PAUSE, failure=late, sleep=rest)


def identity(remote: Remote) -> bytes:
    """Return what is another after each boot of the board."""
    return remote.run(IDENTITY, timeout=30).stdout
