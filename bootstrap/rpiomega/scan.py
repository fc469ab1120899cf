"""`rpiomega scan`: boards on the local network, by mDNS, neighbour table and the makers of their network cards."""

from __future__ import annotations

import ipaddress
import re
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rpiomega import scan_hosts, scan_mdns, ssh_config
from rpiomega.errors import NodeError
from rpiomega.node import mark as marks
from rpiomega.site import Site

_NAMES = re.compile(r"^(raspberrypi|rpi|pi\d|odroid|armbian|rock|nanopi|orangepi)", re.IGNORECASE)
# Raspberry Pi OS and Armbian mark the packages they build.
_BANNERS = re.compile(r"raspbian|\+rpt|\+rpi|armbian", re.IGNORECASE)
LOOK = (
    "tr -d '\\000' </proc/device-tree/model 2>/dev/null; echo; "
    "sed -n 's/^BOARD_NAME=//p' /etc/armbian-release 2>/dev/null | tr -d '\"'; echo; "
    f'. /etc/os-release; echo "$PRETTY_NAME"; uname -m; hostname; {marks.SHOW}'
)


@dataclass
class Found:
    """A host on the network. `ssh`: answers, refused, silent, other; `login`: whether the owner's key gets in."""

    address: str
    names: list[str] = field(default_factory=list)
    mac: str = ""
    maker: str = ""
    ssh: str = ""
    banner: str = ""
    login: str = ""
    model: str = ""
    system: str = ""
    machine: str = ""
    node: str = ""

    @property
    def board(self) -> bool:
        """Return whether this looks like a board worth a bootstrap."""
        named = any(_NAMES.match(name) for name in self.names)
        return bool(self.maker or self.node or self.model or named or _BANNERS.search(self.banner))

    def as_dict(self) -> dict:
        """Return it as JSON data."""
        return asdict(self) | {"board": self.board}


@dataclass(frozen=True)
class Login:
    """How to look into a board. Host keys are not remembered: that is for the bootstrap."""

    user: str
    identity: Path | None = None
    port: int = 22


def scan(networks: list[str], bound: float, login: Login, site: Site | None) -> list[Found]:
    """Return all hosts found, by address. Raise NodeError if there is no network to look at."""
    cards = scan_hosts.interfaces(networks)
    if not cards:
        cause = f"this machine has no address in {', '.join(networks)}" if networks else "no local network found"
        raise NodeError(cause, "give one with --network, as 192.168.1.0/24", "scan")
    nets = [card.network for _, card in cards]
    own = {str(card.ip) for _, card in cards}
    waking = threading.Thread(target=scan_hosts.wake, args=(nets,), daemon=True)
    waking.start()
    heard = scan_mdns.ask(sorted(own), bound / 2, scan_mdns.common())
    waking.join(timeout=bound)
    macs = scan_hosts.neighbours(nets)
    inside = [address for address in heard.names if any(ipaddress.ip_address(address) in net for net in nets)]
    addresses = sorted((set(macs) | set(inside)) - own, key=ipaddress.ip_address)
    questions = [(scan_mdns.reverse(address), scan_mdns.PTR) for address in addresses]
    for address, names in scan_mdns.ask(sorted(own), bound / 2, questions).names.items():
        heard.names.setdefault(address, set()).update(names)
    # An address that a node will have may be another machine's today: only the mark tells.
    nodes = {node.host or node.address: name for name, node in site.nodes.items()} if site else {}
    answers = scan_hosts.banners(addresses, login.port)
    found = [
        Found(
            address,
            names=sorted(heard.names.get(address, ())),
            mac=macs.get(address, ""),
            maker=scan_hosts.maker(macs.get(address, "")),
            ssh=answers[address][0],
            banner=answers[address][1],
            node=nodes.get(address, ""),
        )
        for address in addresses
    ]
    with ThreadPoolExecutor(max_workers=16) as pool:
        list(
            pool.map(
                lambda item: _look(item, login, site), [item for item in found if item.ssh == "answers" and item.board]
            )
        )
    return found


def _look(item: Found, login: Login, site: Site | None = None) -> None:
    """Fill in model and system, if the owner's key gets in, and the node whose mark of this site the board has."""
    options = {
        **ssh_config.plain(),
        "BatchMode": "yes",
        "ConnectTimeout": 4,
        "StrictHostKeyChecking": "no",
        "UserKnownHostsFile": "/dev/null",
        "GlobalKnownHostsFile": "/dev/null",
        "LogLevel": "ERROR",
        "PreferredAuthentications": "publickey",
    }
    line = ["ssh", "-T", "-p", str(login.port), "-l", login.user]
    for key, value in options.items():
        line += ["-o", f"{key}={value}"]
    if login.identity:
        line += ["-i", str(login.identity), "-o", "IdentitiesOnly=yes"]
    try:
        done = subprocess.run(
            [*line, "--", item.address, LOOK], env=ssh_config.environment(), capture_output=True, text=True,
            stdin=subprocess.DEVNULL, timeout=12, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        item.login = "no answer"
        return
    if done.returncode:
        item.login = "key refused" if "Permission denied" in done.stderr else "failed"
        return
    item.login = "key"
    lines = [*(line.strip() for line in done.stdout.splitlines()), "", "", "", "", ""]
    mark = marks.parse("\n".join(lines[5:]))
    if site and mark.node in site.nodes and mark.of(site, mark.node):
        item.node = mark.node
    item.model, item.system, item.machine = lines[0] or lines[1], lines[2], lines[3]
    if lines[4] and lines[4] not in item.names:
        item.names.append(lines[4])
