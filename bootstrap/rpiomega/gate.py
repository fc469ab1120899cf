"""Whether a site file may be carried out at all: judged by what the boards are, before anything is written on any.

Some refusals are about one board (its key, its disk, its network): the others go on. Those in `refusals` are about the
site file: with it the next `state.apply` would drain, rename or split what runs. Then no board is changed, and the
master keeps the site file it has.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator

from rpiomega import agent, reach
from rpiomega.errors import NodeError, Stopped
from rpiomega.node import job_steps
from rpiomega.node.mark import Mark
from rpiomega.site import Site
from rpiomega.site.document import TOP, Document
from rpiomega.ssh import Pool, Remote
from rpiomega.ssh_errors import SshError

# Seconds that the others wait for a board which does not answer; they always wait for the master's own.
LOOK_BOUND = 20.0
STEP = "site"
NOTHING = {"node": "", "cluster": "", "master": "", "swarm": False, "cached_master": "", "master_finger": ""}
NOTHING |= {"site": "", "accepted": []}
AGAIN = "name it {0} in the site file again; to rename it, `rpiomega remove {0}` first"


class Gate:
    """The look at all boards of a run, side by side, and the one judgement about them."""

    def __init__(self, site: Site, pool: Pool, wait: float, new_master: bool = False, renew: bool = False):
        self.site, self.pool, self.wait = site, pool, wait
        self.new_master, self.renew = new_master, renew
        self._found: dict[str, dict] = {}
        self._remotes: dict[str, Remote] = {}
        self._errors: dict[str, BaseException] = {}
        self._expected: set[str] = set()
        self._changed = threading.Condition()
        self._began = 0.0

    def open(self, logs: dict[str, Callable[[str], None]]) -> None:
        """Begin to look at these nodes; `logs`: node -> where its log lines go."""
        self._expected, self._began = set(logs), time.monotonic()
        for name, log in logs.items():
            threading.Thread(target=self._look, args=(name, log), daemon=True).start()

    def _look(self, name: str, log: Callable[[str], None]) -> None:
        try:
            remote = reach.board(self.pool, self.site, self.site.nodes[name], log, any_mark=True)
            remote.connect(self.wait)
            data = standing(remote)
        except BaseException as error:  # noqa: BLE001 - it belongs to the node's worker
            with self._changed:
                self._errors[name] = error
                self._changed.notify_all()
            return
        with self._changed:
            self._found[name], self._remotes[name] = data, remote
            self._changed.notify_all()

    def passed(self, name: str) -> Remote:
        """Wait until the boards were looked at; return the connection to this one.

        Raise NodeError if the site file is refused, or this node; SshError if it cannot be reached.
        """
        master = self.site.master.name
        with self._changed:
            self._until(lambda: name in self._known(), None)
            if name in self._errors:
                raise self._errors[name]
            self._until(lambda: master not in self._expected or master in self._known(), None)
            left = max(self._began + LOOK_BOUND - time.monotonic(), 0.0)
            self._until(lambda: self._expected <= self._known(), left)
            found = refusals(self.site, self._found, self.new_master, self.renew)
        whole = next((node for node, (_, all_of_it) in found.items() if all_of_it), "")
        if name in found:
            raise found[name][0]
        if whole:
            cause = f"the site file is refused because of {whole}: {found[whole][0].cause}"
            raise NodeError(cause, f"nothing was changed on any node; see {whole}", STEP)
        return self._remotes[name]

    def _known(self) -> set[str]:
        return set(self._found) | set(self._errors)

    def _until(self, done: Callable[[], bool], bound: float | None) -> None:
        deadline = None if bound is None else time.monotonic() + bound
        while not done() and (deadline is None or time.monotonic() < deadline):
            if self.pool.stop.is_set():
                raise Stopped
            self._changed.wait(0.2)


def standing(remote: Remote) -> dict:
    """Return what a connected board is: the data of the step `standing`."""
    try:
        done = agent.run(remote, [job_steps.Standing()], lambda event: None, dry_run=True)
    except SshError as error:
        if error.kind != "python":
            raise
        return {**NOTHING, "start": [remote.at]}  # a board without Python has not been bootstrapped
    return done["standing"]["data"]


def refusals(
    site: Site, found: dict[str, dict], new_master: bool = False, renew: bool = False, leaving: Iterable[str] = ()
) -> dict[str, tuple[NodeError, bool]]:
    """Return node -> (why it is refused, whether that is about the site file as a whole).

    :param found: node -> data of the step `standing`, of those that answer
    :param new_master: boards of another master or cluster may change to this one
    :param renew: a board may carry the mark of another node: its card is a copy
    :param leaving: nodes that are being removed, so they may be missing in the site file
    """
    made: dict[str, tuple[NodeError, bool]] = {}

    def refuse(name: str, cause: str, cure: str, whole: bool = True) -> None:
        made.setdefault(name, (NodeError(cause, cure, STEP), whole))

    for name, data in found.items():
        for cause, cure in _served(site, name, data, new_master, set(leaving)):
            refuse(name, cause, cure)
        for other, theirs in found.items():
            if other != name and theirs["start"] == data["start"]:
                cure = f"correct the `host` or `address` of {name} or {other}"
                refuse(name, f"it is the same board as {other}", cure)
        if not renew:
            for cause, cure in _renamed(site, name, data, found):
                refuse(name, cause, cure)
        finger = found.get(site.master.name, {}).get("master_finger")
        if not new_master and finger is not None and data["cached_master"] not in ("", finger):
            ours = finger or "not made yet"
            cause = f"this minion belongs to another master (key {data['cached_master']}, ours is {ours})"
            cure = "if it is meant to change, run the bootstrap for it with --new-master"
            refuse(name, cause, cure, whole=name == site.master.name)
    return made


def _served(site: Site, name: str, data: dict, new_master: bool, leaving: set[str]) -> Iterator[tuple[str, str]]:
    """Yield what is wrong between the site file and the one that the board serves as a master."""
    served = Document(data["site"]).data if data["site"] else None
    body = served.get(TOP) if isinstance(served, dict) else None
    if not isinstance(body, dict):
        return
    cluster, nodes = str(body.get("cluster", "")), body.get("nodes")
    if cluster != site.cluster:
        if not new_master:
            cure = f"write `cluster: {cluster}` again; to make its boards a new cluster, give --new-master"
            yield f"it is the master of the cluster {cluster}, the site file is that of {site.cluster}", cure
        return
    if name != site.master.name:
        if not new_master:
            cure = f"give the role master to {name} again; to move it: docs/operations.md, The master's card died"
            yield f"it is the master of this cluster, the site file gives that role to {site.master.name}", cure
        return
    for gone in nodes if isinstance(nodes, dict) else ():
        if gone not in site.nodes and gone in data["accepted"] and gone not in leaving:
            cure = f"`rpiomega remove {gone}` takes it out in good order; otherwise write it into the site file again"
            yield f"{gone} is not in the site file any more, but the master still has its key", cure


def _renamed(site: Site, name: str, data: dict, found: dict[str, dict]) -> Iterator[tuple[str, str]]:
    """Yield why a board that is another node cannot be this one."""
    known = data["node"]
    mark = Mark(known, data["cluster"], data["master"])
    if known in ("", name):
        return
    if data["swarm"]:
        cause = f"this board is {known}, a member of the swarm, and cannot become {name} while it is one"
        yield cause, f"{AGAIN.format(known)}; if its card is a copy of {known}'s, --renew-identity"
        return
    if known not in site.nodes or not mark.of(site, known):
        return
    theirs = found.get(known)
    if theirs and theirs["node"] == known and theirs["start"] != data["start"]:
        return  # the card of this board is a copy of that one's
    cure = f"give {name} and {known} a `host` each, where they are now; if its card is a copy, --renew-identity"
    yield f"this board is {known}, not {name}", cure
