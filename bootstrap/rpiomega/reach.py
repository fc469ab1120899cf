"""Which machine is a node: an address alone says nothing, for another machine may have it today.

A node is reached at its `host`, and at its `address` once it has moved there. The address counts only where the machine
there shows the host key of `host`, or where it carries this site's mark for this node (`rpiomega.node.mark`). Each
command asks here, so none of them works on a machine that only happens to have the address.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from rpiomega import known_hosts, ssh_config
from rpiomega.node import mark as marks
from rpiomega.site import Node, Site
from rpiomega.ssh import Pool, Remote
from rpiomega.ssh_errors import SshError

# One line, which a login script's own output cannot be taken for. Both commands exist wherever there is an sshd.
LOOK = (
    f"printf 'rpiomega-look %s %s\\n' \"$(cat /proc/sys/kernel/random/boot_id)\" "
    f"\"$(cut -d' ' -f22 /proc/1/stat)\"; {marks.SHOW}"
)


@dataclass(frozen=True)
class Seen:
    """A machine that let us in: the start it is running since (no two machines have the same), and its mark."""

    start: str
    mark: marks.Mark


@dataclass(frozen=True)
class Probe:
    """What is at an address: the fingerprint of its host key (empty: nothing answers), and what it is.

    `error`: why it did not let us in.
    """

    finger: str = ""
    seen: Seen | None = None
    error: SshError | None = None


def seen(text: str) -> Seen:
    """Given what `LOOK` prints, return what it says."""
    lines = text.splitlines()
    start = next((line for line in lines if line.startswith("rpiomega-look ")), "")
    return Seen(start, marks.parse(text))


def board(
    pool: Pool, site: Site, node: Node, log: Callable[[str], None] = lambda line: None, any_mark: bool = False
) -> Board:
    """Return the connection to a node of a site, not connected yet.

    :param any_mark: also accept a machine with the mark of another node: a copied card has it, and the bootstrap and
        the doctor judge that themselves
    """
    found = Board(pool, node.reach, log, site=site, node=node, any_mark=any_mark)
    pool.add(found)
    found.carry()
    return found


@dataclass
class Board(Remote):
    """A node over SSH. `seen`: what is known of the machine, once connected."""

    site: Site = None  # type: ignore[assignment]
    node: Node = None  # type: ignore[assignment]
    any_mark: bool = False
    seen: Seen | None = None

    def carry(self) -> None:
        """Let the node's address take the settings that ssh_config has for its `host`: port, jump host, key.

        Not where ssh_config has settings for the address itself, nor where a ProxyCommand leads to one machine only.
        """
        host, address = self.node.host, self.node.address
        if not host or host == address or ssh_config.fixed_proxy(self._owner(host)):
            return
        plain, other = self._owner(address), self._owner("rpiomega.invalid")
        if {**plain, "hostname": [], "host": []} == {**other, "hostname": [], "host": []}:
            self.via = {address: host}

    def answering(self, timeout: float, errors: list[SshError]) -> str:
        """Return where the node is; see the module. Raise SshError where another machine has its address."""
        host, address = self.node.host, self.node.address
        if not host or host == address:
            return self._first([address], timeout, errors)
        if self._same_key(host, address):
            return self._first([address, host], timeout, errors)
        with ThreadPoolExecutor(1) as other:
            probing = other.submit(self._probe, address, timeout)
            mine = self._look(host, timeout, errors)
            there = probing.result()
        at, cause = choose(self.node.name, self.site, mine, there, self._proven(host, address, there, mine, timeout))
        if cause:
            raise SshError("identity", cause, self._cure(mine))
        if at == "address":
            if mine and there.seen and mine.start != there.seen.start:
                self.pool.warn(f"{host} is another machine now than {self.node.name}: delete its `host`")
            return self._first([address], timeout, errors)
        if mine:
            self._refuse_other(host, mine)
            return host
        if there.error:
            errors.append(there.error)
        return self._renamed(host, timeout)

    def _renamed(self, host: str, timeout: float) -> str:
        """Return the node's mDNS name, where the bootstrap has set it and could not go on: the first one is gone."""
        renamed = f"{self.node.name}.local"
        if not host.endswith(".local") or host == renamed:
            return ""
        self.via = {**self.via, renamed: host}
        there = self._probe(renamed, timeout)
        at, _ = choose(self.node.name, self.site, None, there, self._proven(host, renamed, there, None, timeout))
        if there.finger and at == "address":
            self.seen = there.seen
            return renamed
        return ""

    def _first(self, destinations: list[str], timeout: float, errors: list[SshError]) -> str:
        for at in destinations:
            found = self._look(at, timeout, errors)
            if not found:
                continue
            self._refuse_other(at, found)
            self.seen = found
            return at
        return ""

    def _look(self, at: str, timeout: float, errors: list[SshError]) -> Seen | None:
        try:
            self.seen = seen(self.ask(LOOK, at, timeout))
        except SshError as error:
            errors.append(error)
            return None
        return self.seen

    def _refuse_other(self, at: str, found: Seen) -> None:
        name = found.mark.node
        if self.any_mark or name in ("", self.node.name) or not found.mark.of(self.site, name):
            return
        if name in self.site.nodes:
            cure = f"give {self.node.name} and {name} a `host` each: where they are reached now"
            raise SshError("identity", f"{at} is {name}, not {self.node.name}", cure)

    def _same_key(self, host: str, address: str) -> bool:
        """Return whether known_hosts has one key for both, and no two of a kind: then the key is an identity."""
        keys = [
            known_hosts.keys(ssh_config.known_as(shown), self.files(shown) + ssh_config.files(shown, "global"))
            for shown in (self.effective(host), self.effective(address))
        ]
        kinds = [kind for kind, _ in keys[0] | keys[1]]
        return bool(keys[0] & keys[1]) and len(kinds) == len(set(kinds))

    def _probe(self, address: str, timeout: float) -> Probe:
        """Return who is at the address now. Nothing is remembered of it, and no known key is asked for."""
        digest = hashlib.sha256(f"{self.node.name} {address}".encode()).hexdigest()[:16]
        file = Path(self.pool.folder, f"probe-{digest}")
        file.unlink(missing_ok=True)
        options = {
            "HostKeyAlias": "probe",
            "UserKnownHostsFile": file,
            "GlobalKnownHostsFile": "/dev/null",
            "StrictHostKeyChecking": "accept-new",
            "HashKnownHosts": "no",
            "UpdateHostKeys": "no",
            "CheckHostIP": "no",
            "ControlMaster": "no",
            "ControlPath": "none",
            **ssh_config.no_key_command(),
        }
        try:
            found, error = seen(self.ask(LOOK, address, timeout, options)), None
        except SshError as failure:
            found, error = None, failure
        return Probe(known_hosts.fingerprint(file) if file.exists() else "", found, error)

    def _proven(self, host: str, address: str, there: Probe, mine: Seen | None, timeout: float) -> bool:
        """Return whether the machine at the address shows the host key of `host`, and is the one that is there."""
        if not there.finger or (mine and there.seen and mine.start != there.seen.start):
            return False
        shown = self.effective(host)
        asked = Remote(self.pool, [address], self.log, alias=ssh_config.known_as(shown), via=self.via)
        try:
            asked.ask("true", address, timeout, {"ControlMaster": "no", "ControlPath": "none"})
        except SshError as error:
            return error.kind == "auth"  # the host key comes before the login
        return True

    def _cure(self, mine: Seen | None) -> str:
        name, host, address = self.node.name, self.node.host, self.node.address
        if mine:
            return f"give {name} an address that nobody has, or take {address} from that machine"
        return (
            f"if the machine at {address} is {name}, delete `host: {host}` from the site file; else give {name} an "
            f"address that nobody has"
        )


def choose(name: str, site: Site, mine: Seen | None, there: Probe, proven: bool) -> tuple[str, str]:
    """Return which of its two places is the node: ("host" or "address", ""), or ("", why neither is).

    :param mine: the machine at the node's `host`; None if it lets nobody in
    :param there: what is at its address
    :param proven: that has the host key of `host`
    """
    if not there.finger:
        return "host", ""
    own = there.seen and there.seen.mark.node == name and there.seen.mark.of(site, name)
    if proven or own:
        return "address", ""
    node = site.nodes[name]
    who = f"{node.address} is in use by another machine"
    mark = there.seen.mark if there.seen else None
    other = mark.node if mark else ""
    if mark and other in site.nodes and other != name and mark.of(site, other):
        who = f"{node.address} is in use by {other}"
    elif not mine:
        who = (
            f"{node.host} does not let us in, and {node.address} is in use by a machine that is not known to be {name}"
        )
    return "", f"{who} (host key {there.finger})"
