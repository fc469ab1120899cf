"""What a board must be able to ask: a time server, the name server, its package sources. Each is really asked."""

from __future__ import annotations

import glob
import os
import re
import socket
import ssl
import struct
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from omega.core import apt_sources as reader
from omega.core import dropin
from rpiomega.node import files
from rpiomega.node.board import Board

BOUND = 5.0
# Seconds from 1900 (NTP, RFC 5905) to 1970 (Unix).
NTP_EPOCH = 2208988800


def clock(board: Board, args: dict) -> dict:
    """Return ``synchronised``, ``service`` (may it, is it on), and the first time server that answers, or why none."""
    state = _properties(board, "show")
    found: dict = {
        "synchronised": state.get("NTPSynchronized") == "yes",
        "can": state.get("CanNTP") == "yes",
        "on": state.get("NTP") == "yes",
        "timezone": state.get("Timezone", ""),
        "server": "",
        "refused": {},
    }
    if found["synchronised"] or board.container():
        return found
    for server in servers(board)[:3]:
        offset, reason = ask_time(server)
        if offset is not None:
            found["server"], found["server_offset"] = server, round(offset, 2)
            break
        found["refused"][server] = reason
    return found


def servers(board: Board) -> list[str]:
    """Return the time servers the board is configured for, in order of preference."""
    found = []
    # Asked while the service is off, timedatectl waits for it in vain.
    running = board.shell.run(["systemctl", "is-active", "-q", "systemd-timesyncd"], timeout=5).code == 0
    shown = _properties(board, "show-timesync") if running else {}
    for key in ("ServerName", "LinkNTPServers", "SystemNTPServers", "FallbackNTPServers"):
        found += shown.get(key, "").split()
    chrony = ["/etc/chrony/chrony.conf", *glob.glob(board.path("/etc/chrony/sources.d/*.sources"))]
    for path in chrony:
        found += re.findall(r"^\s*(?:pool|server|peer)\s+(\S+)", board.read(path) or "", re.MULTILINE | re.IGNORECASE)
    drop_ins = sorted(glob.glob(board.path("/etc/systemd/timesyncd.conf.d/*.conf")), key=os.path.basename)
    for path in [board.path("/etc/systemd/timesyncd.conf"), *drop_ins]:
        assigned = dropin.settings(files.read(path) or "")
        found += [word for key, value in assigned if key in ("Time.NTP", "Time.FallbackNTP") for word in value.split()]
    return list(dict.fromkeys(found)) or ["0.debian.pool.ntp.org"]


def ask_time(server: str) -> tuple[float | None, str]:
    """Ask a server by SNTP (RFC 5905, client mode); return how far this clock is ahead of it, or None and why."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(server, 123, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as channel:
            channel.settimeout(2)
            channel.connect(address)
            sent = time.time()
            channel.send(b"\x23" + 47 * b"\0")  # version 4, client
            answer = channel.recv(512)
            received = time.time()
    except OSError as error:
        return None, error.strerror or str(error) or "no answer within 2 s"
    if len(answer) < 48:
        return None, "it sent something else than NTP"
    seconds, fraction = struct.unpack("!II", answer[40:48])
    return (sent + received) / 2 - (seconds - NTP_EPOCH + fraction / 2**32), ""


def _properties(board: Board, verb: str) -> dict[str, str]:
    if not board.has("timedatectl"):
        return {}
    output = board.shell.run(["timedatectl", verb], timeout=8).output
    return dict(line.split("=", 1) for line in output.splitlines() if "=" in line)


def sources(board: Board, args: dict) -> dict:
    """Return ``dns`` (host -> address or why not), ``apt`` (URL -> "" or why not), ``proxy`` and ``nameservers``.

    Arguments: `apt_proxy` of the site, which counts before the board's own.
    """
    found = apt_sources(board)
    proxy = args.get("apt_proxy") or _proxy(board)
    urls = list(dict.fromkeys(found))[:6]
    hosts = list(dict.fromkeys(filter(None, (urlsplit(url).hostname for url in ([proxy] if proxy else urls)))))
    with ThreadPoolExecutor(max_workers=12) as pool:
        names = {host: pool.submit(_resolve, host) for host in hosts}
        fetched = {url: pool.submit(_fetch, url, proxy) for url in urls}
        return {
            "proxy": proxy,
            "nameservers": re.findall(r"^nameserver\s+(\S+)", board.read("/etc/resolv.conf") or "", re.MULTILINE),
            "dns": {host: future.result() for host, future in names.items()},
            "apt": {url: future.result() for url, future in fetched.items()},
        }


def apt_sources(board: Board) -> list[str]:
    """Return the address of the release file of each enabled package source."""
    try:
        files = reader.read(board.root)
    except OSError:
        files = {}
    found = [
        (uri, suite)
        for path, text in files.items()
        for entry in reader.entries(path, text)
        if entry.enabled and "deb" in entry.types
        for uri in entry.uris
        for suite in entry.suites[:1]
    ]
    return [_release(uri, suite) for uri, suite in found if uri.startswith(("http://", "https://"))]


def _release(uri: str, suite: str) -> str:
    # A suite that ends with a slash is a path of its own (sources.list(5)).
    base = uri.rstrip("/")
    return f"{base}/{suite}InRelease" if suite.endswith("/") else f"{base}/dists/{suite}/InRelease"


def _proxy(board: Board) -> str:
    if not board.has("apt-config"):
        return ""
    output = board.shell.run(["apt-config", "dump", "--format", "%v%n", "Acquire::http::Proxy"], timeout=5).output
    return output.strip()


def _resolve(host: str) -> str:
    try:
        return str(socket.getaddrinfo(host, 80, type=socket.SOCK_STREAM)[0][4][0])
    except OSError as error:
        return f"error: {error.strerror}"


def _fetch(url: str, proxy: str) -> str:
    """Return an empty string if the URL answers, otherwise why not."""
    through = {"http": proxy, "https": proxy} if proxy else {}
    opener = urllib.request.build_opener(urllib.request.ProxyHandler(through))
    try:
        with opener.open(urllib.request.Request(url, method="HEAD"), timeout=BOUND):
            return ""
    except urllib.error.HTTPError as error:
        return f"HTTP {error.code}"
    except urllib.error.URLError as error:
        reason = error.reason
        if isinstance(reason, ssl.SSLCertVerificationError):
            return f"certificate: {reason.verify_message}"
        return getattr(reason, "strerror", None) or str(reason)
    except (OSError, ValueError) as error:
        return str(error) or type(error).__name__
