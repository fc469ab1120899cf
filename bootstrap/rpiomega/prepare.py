"""A board before Salt: disk, identity, swap, time zone, locale, SSH. The steps are on the board, the order is here."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable

from rpiomega import agent, known_hosts, reach
from rpiomega.errors import NodeError, Stopped
from rpiomega.node import job_steps
from rpiomega.node.job_steps import JobStep
from rpiomega.site import Node, Site
from rpiomega.ssh import CONNECT_TIMEOUT, Pool, Remote, SshError

# What other nodes say of themselves is waited for as long as one of them may take not to answer.
OTHERS_BOUND = 15.0
Job = Callable[[list[JobStep]], dict[str, dict]]


def steps(site: Site) -> list[JobStep]:
    """Return the steps every board goes through; those the site leaves alone find nothing to do."""
    system = site.system
    found = [job_steps.Rootfs(), job_steps.Swap(system.swap), job_steps.Timezone(system.timezone)]
    if system.ssh_passwords == "keep":
        found.append(job_steps.Sshd("keep", site.users.admin))
    return found


def late_steps(site: Site) -> list[JobStep]:
    """Return the steps that may install a package, so they come after the package sources."""
    return [job_steps.Locale(site.system.locale)]


class Identities:
    """Who has which machine-id and SSH host keys. The first to claim one keeps it; the next is the copy."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[str, dict] = {}
        self._asked: list[threading.Thread] = []

    def ask(self, pool: Pool, site: Site, nodes: list[Node]) -> None:
        """Ask nodes that are not part of this run, in the background; one that does not answer has no say."""
        for node in nodes:
            thread = threading.Thread(target=self._ask, args=(pool, site, node), daemon=True)
            thread.start()
            self._asked.append(thread)

    def _ask(self, pool: Pool, site: Site, node: Node) -> None:
        try:
            remote = reach.board(pool, site, node, any_mark=True)
            remote.connect(0)
            done = agent.run(remote, [job_steps.Identity()], lambda event: None, dry_run=True)
        except (NodeError, Stopped):
            return
        with self._lock:
            self._held[node.name] = done["identity"]["data"]

    def claim(self, name: str, own: dict) -> dict[str, str]:
        """Return what `name` must renew: ``machine_id`` and ``host_keys`` -> the node that has the same.

        Raise NodeError where the copy is a member of a swarm and the other one is not: then that one must renew.
        """
        for thread in self._asked:
            thread.join(timeout=OTHERS_BOUND)
        with self._lock:
            found = {}
            for other, held in self._held.items():
                if own["machine_id"] and held["machine_id"] == own["machine_id"]:
                    found["machine_id"] = other
                if set(held["host_keys"].values()) & set(own["host_keys"].values()):
                    found["host_keys"] = other
            for other in found.values():
                if own["swarm"] and not self._held[other]["swarm"]:
                    cause = f"its card and that of {other} are copies, and this one is a member of a swarm"
                    cure = f"`rpiomega bootstrap {other}` first, which gives {other} an identity of its own"
                    raise NodeError(cause, cure, "machineid")
            if not found:
                self._held[name] = own
            return found


def renew(job: Job, remote: Remote, same: dict[str, str], force: bool) -> dict:
    """Give a copied board an identity of its own, and remember its new host keys here. Return the step's event."""
    done = job([job_steps.MachineId(**same, force=force)])["machineid"]
    keys = done["data"].get("public_keys")
    if keys:
        known_hosts.replace(remote, keys)
    return done


def harden(job: Job, remote: Remote, user: str) -> None:
    """Switch password logins off: key login is proven over a connection of its own before, and again after.

    If it fails after, the change is taken back over the connection that is still open. Raise NodeError.
    """
    proven = prove_key(remote)
    done = job([job_steps.Sshd("off", user, proven)])["sshd"]
    if done["status"] != "changed" or prove_key(remote):
        return
    job([job_steps.Sshd("keep", user)])
    cause = "key login did not work once password logins were off; they are on again"
    raise NodeError(cause, "see `journalctl -u ssh` on the board", "sshd")


def prove_key(remote: Remote) -> bool:
    """Return whether a new connection gets in with a public key and nothing else."""
    line = remote.argv("true")
    # ssh takes the first value of an option.
    line[1:1] = [
        "-o",
        "ControlPath=none",
        "-o",
        "PreferredAuthentications=publickey",
        "-o",
        "PasswordAuthentication=no",
    ]
    try:
        done = subprocess.run(
            line, stdin=subprocess.DEVNULL, capture_output=True, timeout=CONNECT_TIMEOUT * 3, check=False
        )
    except subprocess.TimeoutExpired:
        raise SshError("timeout", f"{remote.at} did not answer within {CONNECT_TIMEOUT * 3} s", "again later") from None
    return done.returncode == 0
