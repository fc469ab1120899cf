"""Brings a board to its static address: never without a way back, and never without coming back to see.

The board writes the new configuration and starts a timer that undoes it. Over a new connection, to the new address
and to the very host key known from the old one, the timer is taken away. Whatever else happens, the board goes back.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

from omega.core.polling import TimedOut, until
from rpiomega import agent, known_hosts
from rpiomega.errors import NodeError, Stopped
from rpiomega.node import job_steps
from rpiomega.site import Node, Site
from rpiomega.ssh import Remote, SshError

SECRET = "RPIOMEGA_WIFI_SECRET"
# Kept of the board's bound for the confirmation itself.
MARGIN = 5.0
# How long a board may take to undo the change after its bound has passed.
UNDO = 90.0
Event = Callable[[dict], None]


def step(site: Site, node: Node, base: Path) -> job_steps.Network:
    """Return the job's step for a node; `base` is the site file's folder. Raise NodeError if Wi-Fi lacks its secret."""
    network = site.network
    return job_steps.Network(
        address=node.address,
        prefix=network.prefix,
        gateway=network.gateway or "",
        dns=network.dns,
        interface=node.interface,
        wifi=wifi_settings(site, base),
        others={name: other.address for name, other in site.nodes.items() if other is not node},
        bound=network.rollback,
    )


def settle(remote: Remote, on_event: Event, job: job_steps.Network, dry_run: bool = False) -> tuple[Remote, str]:
    """Run the `network` step, and if it arms a change, see it through.

    Return the connection to go on with and a sentence for the user (empty if nothing changed). Raise NodeError saying
    which of the outcomes it was: refused before anything changed, taken back by the board, or no answer at all.
    """
    address = job.address
    data = agent.run(remote, [job], on_event, dry_run)["network"]["data"]
    if not data.get("pending"):
        if not dry_run:
            known_hosts.remember_address(remote, address)
        return remote, ""
    before, goes_back = ", ".join(data["before"]) or "none", time.monotonic() + data["left"]
    try:
        new = _go(remote, address, data["go"], goes_back - MARGIN)
        agent.run(new, [job_steps.NetworkConfirm(data["pending"])], on_event)
    except NodeError as error:
        raise _undone(remote, job, data, error, goes_back + UNDO, on_event) from None
    known_hosts.remember_address(remote, address)
    if address in data["before"]:
        return new, f"address {address} is static now ({data['stack']}), confirmed"
    return new, f"address {before} -> {address} ({data['stack']}), confirmed there"


def _go(remote: Remote, address: str, command: str, deadline: float) -> Remote:
    """Set the change off and return a connection to the new address, to the same host key."""
    try:
        done = remote.run(remote.as_root(command), timeout=15)
    except SshError as error:
        remote.log(f"no word after setting off ({error}): looking at the new address all the same")
    else:
        if done.returncode:
            last = done.stderr.decode(errors="replace").strip() or "no reason given"
            raise NodeError(f"the change could not be set off: {last}", "run the bootstrap again")
    remote.end_master()
    new = remote.moved(address)
    new.connect(max(deadline - time.monotonic(), 1.0))
    return new


def _undone(
    remote: Remote, job: job_steps.Network, data: dict, error: NodeError, deadline: float, on_event: Event
) -> NodeError:
    """Wait for the board at its old address; return the error that says which way it went."""
    address, log = job.address, remote.log
    remote.end_master()
    at = remote.at
    old = remote.moved(at)
    log(f"{address} was not confirmed ({error}): waiting for the board to go back to {at}")

    def went() -> dict | None:
        asked = job_steps.NetworkStatus(data["pending"], data["interface"])
        try:
            old.connect(max(deadline - time.monotonic(), 1.0))
            return agent.run(old, [asked], on_event)["network_status"]["data"]["outcome"]
        except NodeError as failure:
            log(f"looking at {at}: {failure}")
            raise

    try:
        outcome = until(went, deadline - time.monotonic(), passing=NodeError, pause=1.0, sleep=old.pool.rest)
    except Stopped:
        return error
    except TimedOut as late:
        cause = f"it answers neither at {address} ({error.cause}) nor at {at} ({late.seen})"
        if not late.error:
            cause = f"{address} not confirmed ({error.cause}); the board answers at {at}, and has not gone back"
        cure = "switch the board off and on: it starts with the configuration it had before"
        return NodeError(cause, cure, "network")
    cause = f"{address} not confirmed ({error.cause}); the board went back to {at} by itself: {outcome['why']}"
    if outcome["failure"]:
        cause += f" (on the way back: {outcome['failure']})"
    cure = f"see that this machine can reach {address} (same network, no firewall), correct the site file, run again"
    return NodeError(cause, cure, "network")


def wifi_settings(site: Site, base: Path) -> job_steps.Wifi | None:
    """Return the wireless settings with the key derived here: the passphrase itself goes nowhere.

    The derivation is IEEE 802.11i's (PBKDF2 with HMAC-SHA1, the SSID as salt, 4096 rounds, 256 bits).
    """
    wifi = site.network.wifi
    if wifi is None:
        return None
    secret = os.environ.get(SECRET) or _secret_file(base, wifi.secret_file)
    if len(secret) == 64 and all(letter in "0123456789abcdefABCDEF" for letter in secret):
        psk = secret.lower()
    elif 8 <= len(secret.encode()) <= 63:
        psk = hashlib.pbkdf2_hmac("sha1", secret.encode(), wifi.ssid.encode(), 4096, 32).hex()
    else:
        cause = f"the Wi-Fi secret has {len(secret.encode())} bytes"
        raise NodeError(cause, "a passphrase has 8 to 63, a key 64 hexadecimal digits", "network")
    return job_steps.Wifi(wifi.ssid, psk, wifi.country)


def _secret_file(base: Path, name: str) -> str:
    path = base / Path(name).expanduser()
    if not name:
        raise NodeError(f"no Wi-Fi secret: {SECRET} is empty", "name a file in network.wifi.secret_file", "network")
    try:
        mode, text = path.stat().st_mode, path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        cause = f"{path} cannot be read: {getattr(error, 'strerror', 'it is not UTF-8 text')}"
        raise NodeError(cause, "check network.wifi.secret_file", "network") from None
    if stat.S_IMODE(mode) & 0o077:
        raise NodeError(f"{path} can be read by others", f"chmod 600 {path}", "network")
    return text.rstrip("\r\n")
