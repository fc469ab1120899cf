"""The address: static, as the site file says, and never at the price of losing the board.

Three steps make one change. `network` looks (also at the wire), writes, and arms the way back; the workstation sets the
change off and comes back at the new address with `network_confirm`. `network_status` tells what became of it.
"""

from __future__ import annotations

import glob
import ipaddress
import os
import re
import time

from omega.core.polling import until_clear
from rpiomega.node import job_steps, service
from rpiomega.node.board import Board
from rpiomega.node.files import File, apply_all
from rpiomega.node.network import arp, device, ifupdown, links, rollback
from rpiomega.node.network.dhcpcd import Dhcpcd
from rpiomega.node.network.netplan import Netplan
from rpiomega.node.network.networkd import Networkd
from rpiomega.node.network.networkmanager import NetworkManager
from rpiomega.node.network.stack import MARK, Stack, Wanted
from rpiomega.node.step import Diff, Step, StepError
from rpiomega.node.steps import minion

STACKS = (NetworkManager, Netplan, Networkd, Dhcpcd)
# cloud-init merges these by name, the last one counts.
CLOUD = "/etc/cloud/cloud.cfg.d"
CLOUD_NAMES = ("99-rpiomega-network.cfg", "99_rpiomega-network.cfg", "zz-rpiomega-network.cfg")
RANGE = (20, 900)
# Seconds in which the stack in force has to give its old lease up.
LEASE_GONE = 8.0


def owner(board: Board, interface: str) -> Stack:
    """Return what configures an interface now; raise StepError if nothing known does, or two do."""
    found = [stack for stack in (kind(board, interface) for kind in STACKS) if stack.owns()]
    other, boot = ifupdown.stanza(board, interface)
    names = [stack.name for stack in found] + ([f"ifupdown ({other})"] if other and boot and board.has("ifup") else [])
    if found and len(names) > 1:
        cure = f"remove {interface} from {other}" if other else "disable one of them (`systemctl disable --now ...`)"
        raise StepError(f"{' and '.join(names)} both configure {interface}", cure)
    if found:
        return found[0]
    known = ", ".join(kind.name for kind in STACKS)
    cause = f"{interface} is configured by none of {known}"
    if other:
        cause = f"{interface} is configured in {other} (ifupdown), which is not supported"
    cure = "hand it to one of them, or write `network.manage: false` into the site file and set the address yourself"
    raise StepError(cause, cure)


def cloud_file(board: Board) -> str:
    """Return the path of our file for cloud-init: it has to sort after each other one that has a network section."""
    present = [os.path.basename(path) for path in glob.glob(f"{glob.escape(board.path(CLOUD))}/*.cfg")]
    others = [name for name in present if name not in CLOUD_NAMES]
    network = re.compile(r"^network\s*:", re.M)
    last = max((name for name in others if network.search(board.read(f"{CLOUD}/{name}") or "")), default="")
    found = next((name for name in CLOUD_NAMES if name > last), "")
    if not found:
        raise StepError(f"{CLOUD}/{last} configures the network for cloud-init", "remove its section `network`")
    return f"{CLOUD}/{found}"


def refuse_nonsense(wanted: Wanted, others: dict[str, str]) -> None:
    """Raise StepError if the wanted values cannot be right, whatever the board is."""
    address, gateway = ipaddress.ip_address(wanted.address), ipaddress.ip_address(wanted.gateway)
    network = wanted.network
    span = f"{network} holds {network[1]} to {network[-2]}"
    for what, value in (("address", address), ("gateway", gateway)):
        if value not in network:
            raise StepError(f"the {what} {value} is not in {network}", f"correct network.prefix or the {what}")
        if value in (network.network_address, network.broadcast_address):
            raise StepError(f"the {what} {value} is no host address", f"{span}: correct the site file")
    if address == gateway:
        raise StepError(f"{address} is the gateway's address", "give the node another one in the site file")
    for name, other in others.items():
        if other == wanted.address:
            raise StepError(f"{address} is the address of {name} too", "give each node its own in the site file")


def beside(interface: str, leased: list[links.Address]) -> StepError:
    """Return the error for a lease that stays although the files in force say that there is none."""
    clients = links.dhcp_clients(interface)
    cause = f"{interface} has {', '.join(map(str, leased))} beside the static address"
    if not clients:
        return StepError(f"{cause}: another DHCP client gave it", "stop that client, then run the bootstrap again")
    return StepError(f"{cause}, from {', '.join(clients)}", f"disable {clients[0].split()[0]}, run the bootstrap again")


class Network(Step):
    """The change, written, with the way back armed; nothing is effective yet.

    `data`: ``stack``, ``interface``, ``before`` (addresses), ``pending`` (token), ``go``, ``left`` (seconds).
    """

    name = job_steps.Network.step
    args: job_steps.Network
    stack: Stack  # both are set by `check`
    wanted: Wanted
    armed = 0.0

    def check(self) -> Diff:
        self._prepare()
        diff = Diff()
        for file in self._files():
            diff += file.diff(self.board)
        have = links.addresses(self.board, self.wanted.interface)
        diff += self._effective(have, bool(diff))
        if rollback.pending(self.board) and not diff:
            diff.add("confirm the address that is in force already")
        self.data["before"] = [found.address for found in have]
        if diff and not any(found.address == self.wanted.address for found in have):
            self._ask_the_wire(have)
        elif diff:
            self._gateway_answers({})
        return diff

    def _prepare(self) -> None:
        args, board = self.args, self.board
        interface = links.choose(board, args.interface, args.address)
        device.refuse(board, interface)
        gateway = args.gateway or next((via for via, name in links.default_routes(board) if name == interface), "")
        if not gateway:
            raise StepError("no gateway is known", "write `gateway:` into section network of the site file")
        wifi = args.wifi if links.wireless(interface) else None
        self.wanted = Wanted(
            interface, args.address, args.prefix, gateway, tuple(args.dns or [gateway]),
            links.wireless(interface), wifi,
        )  # fmt: skip
        refuse_nonsense(self.wanted, args.others)
        self.stack = owner(board, interface)
        self.data.update(stack=self.stack.name, interface=interface)

    def _files(self) -> list[File]:
        wanted = self.stack.files(self.wanted)
        if self.board.exists("/etc/cloud"):
            # Else cloud-init writes its own again when the card meets another board or a new instance.
            wanted.append(File(cloud_file(self.board), f"{MARK}\nnetwork: {{config: disabled}}\n"))
        return wanted

    def _effective(self, have: list[links.Address], anyway: bool) -> Diff:
        """Return how the kernel's addresses differ; `anyway`: the files differ too."""
        diff, wanted = Diff(), self.wanted
        fits = any((found.address, found.prefix) == (wanted.address, wanted.prefix) for found in have)
        leased = [found for found in have if found.dynamic]
        routed = (wanted.gateway, wanted.interface) in links.default_routes(self.board)
        if fits and leased and not anyway and not rollback.pending(self.board):
            raise beside(wanted.interface, leased)
        if not fits or leased:
            now = ", ".join(map(str, have)) or "none"
            diff.add(f"address of {wanted.interface} ({self.stack.name}): {now} -> {wanted.cidr}")
        elif not routed:
            diff.add(f"default route by {wanted.gateway} through {wanted.interface}")
        elif anyway:
            diff.add(f"{wanted.interface} stays at {wanted.cidr}")
        return diff

    def _ask_the_wire(self, have: list[links.Address]) -> None:
        wanted = self.wanted
        for found in have:
            same = (
                ipaddress.ip_address(wanted.address)
                in ipaddress.ip_interface(f"{found.address}/{found.prefix}").network
            )
            if found.dynamic and same and found.prefix != wanted.prefix:
                cause = f"the network's DHCP server says /{found.prefix}, the site file says /{wanted.prefix}"
                raise StepError(cause, f"write `prefix: {found.prefix}`, or correct the DHCP server")
        self.board.log(f"asking the wire for {wanted.address} and {wanted.gateway} (ARP)")
        held = self._look([wanted.address, wanted.gateway], False)
        if wanted.address in held:
            cause = f"{wanted.address} is in use already, by {held[wanted.address]}"
            raise StepError(
                cause, f"give the node another address, or find that device (`ip neigh show {wanted.address}`)"
            )
        self._gateway_answers(held)

    def _gateway_answers(self, held: dict[str, str]) -> None:
        gateway = self.wanted.gateway
        if gateway not in held and gateway not in self._look([gateway], True, self.data["before"][:1]):
            cause = f"nothing answers for the gateway {gateway} on {self.wanted.interface}"
            now = [via for via, name in links.default_routes(self.board) if name == self.wanted.interface]
            hint = f"the board uses {now[0]} now" if now and now[0] != gateway else "is the router on?"
            raise StepError(cause, f"correct network.gateway of the site file; {hint}")

    def _look(self, wanted: list[str], early: bool, own: list[str] | None = None) -> dict[str, str]:
        interface = self._window()
        if not interface:
            self.notes.append(f"{self.wanted.interface} has no link yet: nobody asked whether {wanted[0]} is free")
            return {self.wanted.gateway: ""}
        try:
            return arp.look(interface, links.mac(interface), wanted, (own or [arp.NOBODY])[0], early)
        except OSError as error:
            cause = f"{interface} takes no ARP packets: {error.strerror}"
            raise StepError(cause, "is the cable in, is the Wi-Fi connected?") from None

    def _window(self) -> str:
        """Return the interface that sees the wanted network: a radio not yet connected lets another one look."""
        if links.carrier(self.wanted.interface) or not self.wanted.wifi:
            return self.wanted.interface
        for name in sorted(os.listdir("/sys/class/net")):
            have = links.addresses(self.board, name) if links.carrier(name) else []
            if any(ipaddress.ip_address(found.address) in self.wanted.network for found in have):
                return name
        return ""

    def apply(self) -> None:
        waiting = rollback.pending(self.board)
        if waiting and waiting["target"].partition("/")[0] == links.reached_at():
            # The workstation lost its way between setting off and confirming; it is here at the new address now.
            Confirm(self.board, job_steps.NetworkConfirm(waiting["token"])).apply()
            if not self.check():
                return
        elif waiting:
            self.board.log("an unconfirmed change of an earlier run is taken back first")
            rollback.back(self.board)
        low, high = RANGE
        bound = min(max(self.args.bound, low), high)
        files = [file for file in self._files() if file.diff(self.board)]
        self._reconnect_minion()
        self.armed = time.monotonic()
        self.data["pending"] = rollback.arm(self.board, self.stack, self.wanted, files, bound)
        self.data.update(go=rollback.go_command(), bound=bound)
        apply_all(self.board, files)
        os.sync()

    def _reconnect_minion(self) -> None:
        """Have the step `minion` restart a minion that gets another address."""
        # Its connections from the old one stay open, and silent, until the kernel gives them up minutes later.
        if self.wanted.address not in self.data["before"] and self.board.exists(minion.CONF):
            service.restart_later(self.board, minion.UNIT)

    def verify(self) -> None:
        """Nothing is effective before the workstation sets it off: see that the way back stands."""
        if "pending" not in self.data:
            return
        for file in self._files():
            if file.diff(self.board):
                rollback.back(self.board)
                raise StepError(f"{file.path} is not what was written", "see this node's log")
        timer = self.board.shell.run(["systemctl", "is-active", f"{rollback.TIMER}.timer"])
        if timer.code:
            rollback.back(self.board)
            raise StepError(f"the timer that would go back does not run ({timer.last})", "see this node's log")
        self.data["left"] = self.data["bound"] - (time.monotonic() - self.armed)


class Confirm(Step):
    """Takes the way back away."""

    name = job_steps.NetworkConfirm.step
    args: job_steps.NetworkConfirm

    def check(self) -> Diff:
        diff = Diff()
        diff.add("keep the new address")
        return diff

    def apply(self) -> None:
        with rollback.held():
            waiting = rollback.pending(self.board)
            if not waiting or waiting["token"] != self.args.token:
                why = rollback.outcome(self.board).get("why", "another run has taken the change over")
                raise StepError(f"too late: {why}", "run the bootstrap again")
            address, _, prefix = waiting["target"].partition("/")
            came = links.reached_at()
            if came and came != address:
                raise StepError(f"the board was reached at {came}, not at {address}", "see this node's log")
            have = links.addresses(self.board, waiting["interface"])
            if not any((found.address, found.prefix) == (address, int(prefix)) for found in have):
                now = ", ".join(map(str, have)) or "none"
                raise StepError(f"{waiting['interface']} has {now}, not {waiting['target']}", "see this node's log")
            self._no_lease(waiting["interface"])
            rollback.disarm(self.board)

    def _no_lease(self, interface: str) -> None:
        """Raise StepError if a lease stays beside the new address: each later run would see a change again."""

        def leased() -> list[links.Address]:
            return [found for found in links.addresses(self.board, interface) if found.dynamic]

        left = until_clear(leased, LEASE_GONE)
        if left:
            raise beside(interface, left)

    def verify(self) -> None:
        if rollback.pending(self.board):
            raise StepError("the change is still not confirmed", "see this node's log")


class Status(Step):
    """Changes nothing. `data`: ``hostname``, ``addresses``, ``pending``, ``outcome``."""

    name = job_steps.NetworkStatus.step
    args: job_steps.NetworkStatus

    def check(self) -> Diff:
        waiting, outcome = rollback.pending(self.board), rollback.outcome(self.board)
        self.data["hostname"] = os.uname().nodename
        self.data["pending"] = waiting["token"] if waiting else ""
        self.data["outcome"] = outcome if outcome.get("token") == self.args.token else {}
        interface = links.choose(self.board, self.args.interface, self.args.address)
        self.data["addresses"] = [found.address for found in links.addresses(self.board, interface)]
        return Diff()
