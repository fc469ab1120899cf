"""Ports between nodes, tested by packets that really travel.

Where nothing listens yet, a short-lived listener does; where the real service listens, TCP connects to it. A UDP
service that is busy does not answer unknown senders, so there the target looks for the packet itself: on the network
card (a packet socket) and behind its own firewall. The latter by connection tracking: an entry is confirmed only once
the packet has passed the INPUT chain (nf_conntrack_confirm, linux/net/netfilter/nf_conntrack_proto.c).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import glob
import os
import re
import secrets
import select
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor

MAGIC = b"rpio"
TCP_BOUND = 3.0
UDP_TRIES, UDP_PAUSE = 4, 0.5
ETH_P_IP = 0x0800
SO_ATTACH_FILTER = 26
CONNTRACK = "/proc/net/nf_conntrack"


class Listeners:
    """Listens where nothing does. `busy` is (protocol, port) -> who holds it; `problems` what could not be opened."""

    def __init__(self, ports: list[tuple[str, int]]):
        self.busy: dict[tuple[str, int], str] = {}
        self.problems: dict[tuple[str, int], str] = {}
        self.seen: set[tuple[str, int, int]] = set()
        self._sockets: dict[socket.socket, str] = {}
        self._end = threading.Event()
        for protocol, port in ports:
            self._open(protocol, port)
        if any(protocol == "udp" for protocol, _ in self.busy):
            self._sniff()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _open(self, protocol: str, port: int) -> None:
        channel = socket.socket(socket.AF_INET, socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM)
        try:
            if protocol == "tcp":
                # Connections of the last run may linger; with UDP this option would share the port.
                channel.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            channel.bind(("0.0.0.0", port))
            if protocol == "tcp":
                channel.listen(32)
        except OSError as error:
            channel.close()
            if error.errno == errno.EADDRINUSE:
                self.busy[protocol, port] = holder(protocol, port)
            else:
                self.problems[protocol, port] = str(error.strerror)
            return
        channel.setblocking(False)
        self._sockets[channel] = protocol

    def _sniff(self) -> None:
        """See packets of ours on their way to busy UDP ports; the kernel drops all others before they reach us."""
        try:
            channel = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_IP))
        except OSError as error:
            for key in self.busy:
                if key[0] == "udp":
                    self.problems[key] = f"no packet socket: {error.strerror}"
            return
        # The word behind a 20-byte IP and an 8-byte UDP header is our mark, or the packet is none of ours.
        code = [(0x20, 0, 0, 28), (0x15, 0, 1, int.from_bytes(MAGIC, "big")), (0x06, 0, 0, 0xFFFF), (0x06, 0, 0, 0)]
        program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in code))
        channel.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HL", len(code), ctypes.addressof(program)))
        channel.setblocking(False)
        self._sockets[channel] = "packet"

    def _serve(self) -> None:
        while not self._end.is_set():
            readable, _, _ = select.select(list(self._sockets), [], [], 0.1)
            for channel in readable:
                with contextlib.suppress(OSError):
                    self._answer(channel, self._sockets[channel])

    def _answer(self, channel: socket.socket, protocol: str) -> None:
        if protocol == "tcp":
            channel.accept()[0].close()
        elif protocol == "udp":
            data, sender = channel.recvfrom(256)
            if data.startswith(MAGIC):
                channel.sendto(data, sender)
        else:
            packet = channel.recv(256)
            source, (sport, dport) = socket.inet_ntoa(packet[12:16]), struct.unpack("!HH", packet[20:24])
            if packet[9] == socket.IPPROTO_UDP:
                self.seen.add((source, sport, dport))

    def close(self) -> None:
        """Free all ports."""
        self._end.set()
        self._thread.join(timeout=2)
        for channel in self._sockets:
            channel.close()

    def report(self, address: str) -> dict:
        """Return ``seen`` and ``passed`` ([source, source port, port]); passed is None without connection tracking."""
        busy = [port for protocol, port in self.busy if protocol == "udp"]
        return {"seen": sorted(self.seen), "passed": _passed(address, busy) if busy else []}


def _passed(address: str, ports: list[int]) -> list[tuple[str, int, int]] | None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
        # Proof that connections are tracked here at all: a packet of our own must show up.
        channel.connect((address or "127.0.0.1", ports[0]))
        channel.send(MAGIC)
        own = channel.getsockname()[1]
        time.sleep(0.05)
        try:
            with open(CONNTRACK, encoding="ascii", errors="replace") as handle:
                text = handle.read()
        except OSError:
            return None
    entries = parse_conntrack(text)
    if not any(sport == own for _, sport, _ in entries):
        return None
    return sorted(entry for entry in entries if entry[2] in ports)


def parse_conntrack(text: str) -> set[tuple[str, int, int]]:
    """Return (source, source port, port) of each tracked UDP flow, in its original direction."""
    found = re.findall(r"^.*?\budp\b.*?\bsrc=(\S+) dst=\S+ sport=(\d+) dport=(\d+)", text, re.MULTILINE)
    return {(source, int(sport), int(dport)) for source, sport, dport in found}


def holder(protocol: str, port: int) -> str:
    """Return the command that holds a port, ``the kernel`` where none does (VXLAN)."""
    inodes = set()
    for path in (f"/proc/net/{protocol}", f"/proc/net/{protocol}6"):
        with contextlib.suppress(OSError), open(path, encoding="ascii") as table:
            for line in list(table)[1:]:
                words = line.split()
                listening = protocol == "udp" or words[3] == "0A"
                if listening and int(words[1].rpartition(":")[2], 16) == port:
                    inodes.add(words[9])
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for path in glob.iglob("/proc/[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if os.readlink(path) in wanted:
                with open(f"/proc/{path.split('/')[2]}/comm", encoding="utf-8") as handle:
                    return handle.read().strip()
    return "the kernel"


def connect(targets: list[dict]) -> list[dict]:
    """Try every target ({"to", "address", "port", "protocol"}) side by side; return them with ``result`` and ``sport``.

    `result`: ``open``, ``refused``, ``silent`` (no answer within the bound), or what the system said.
    """
    if not targets:
        return []
    with ThreadPoolExecutor(max_workers=min(64, len(targets))) as pool:
        return list(pool.map(_one, targets))


def _one(target: dict) -> dict:
    try:
        found = _tcp(target) if target["protocol"] == "tcp" else _udp(target)
    except (TimeoutError, socket.timeout):  # two classes before Python 3.10
        found = {"result": "silent"}
    except ConnectionRefusedError:
        found = {"result": "refused"}
    except OSError as error:
        found = {"result": error.strerror or str(error)}
    return {**target, **found}


def _tcp(target: dict) -> dict:
    with socket.create_connection((target["address"], target["port"]), timeout=TCP_BOUND):
        return {"result": "open"}


def _udp(target: dict) -> dict:
    nonce = MAGIC + secrets.token_bytes(12)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
        channel.connect((target["address"], target["port"]))
        channel.settimeout(UDP_PAUSE)
        sport = channel.getsockname()[1]
        for _ in range(2 if target.get("busy") else UDP_TRIES):
            try:
                channel.send(nonce)
                if channel.recv(256) == nonce:
                    return {"result": "open", "sport": sport}
            except (TimeoutError, socket.timeout):
                continue
            except OSError as error:
                return {"result": "refused" if error.errno == errno.ECONNREFUSED else error.strerror, "sport": sport}
    return {"result": "silent", "sport": sport}
