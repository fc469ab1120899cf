"""What overlay networks need of the kernel, tried in a network namespace that vanishes with the command."""

from __future__ import annotations

import os
import platform
import re

from rpiomega.node.board import Board
from rpiomega.node.shell import Result
from rpiomega.node.step import StepError


def read(board: Board, args: dict) -> dict:
    """Return ``vxlan``, ``iptables`` (version, backend, nat), ``legacy_rules``, ``ipvs`` and ``firewall``."""
    return {
        "vxlan": _vxlan(board),
        "iptables": _iptables(board),
        "legacy_rules": _legacy_rules(board),
        "ipvs": _ipvs(board),
        "firewall": _firewalls(board),
        "forward": (board.read("/proc/sys/net/ipv4/ip_forward") or "").strip() == "1",
        "modules": os.path.isdir(board.path(f"/lib/modules/{platform.release()}")),
    }


def _in_namespace(board: Board, *argv: str) -> Result:
    try:
        return board.shell.run(["unshare", "-n", *argv], timeout=8)
    except StepError as error:
        return Result(127, error.cause)


def _vxlan(board: Board) -> dict:
    if not board.has("unshare") or not board.has("ip"):
        return {"works": None, "said": "no unshare or ip command"}
    tried = _in_namespace(board, "ip", "link", "add", "rpodoctor", "type", "vxlan", "id", "4242", "dstport", "4789")
    return {"works": tried.code == 0, "said": tried.last if tried.code else ""}


def _iptables(board: Board) -> dict:
    if not board.has("iptables"):
        return {"version": "", "backend": "", "nat": None, "said": "no iptables command"}
    version = board.shell.run(["iptables", "--version"], timeout=5).output.strip()
    # iptables older than 1.8 knows no other backend and prints none.
    backend = "nf_tables" if "nf_tables" in version else "legacy"
    tried = _in_namespace(board, "iptables", "-t", "nat", "-S")
    return {"version": version, "backend": backend, "nat": tried.code == 0, "said": tried.last if tried.code else ""}


def _legacy_rules(board: Board) -> int:
    """Return how many chains' worth of rules stand in the old tables, which iptables-nft does not show."""
    names = board.read("/proc/net/ip_tables_names") or ""
    if not names.split() or not board.has("iptables-legacy-save"):
        return 0
    output = board.shell.run(["iptables-legacy-save"], timeout=5).output
    return len(re.findall(r"^-A ", output, re.MULTILINE))


def _ipvs(board: Board) -> bool | None:
    """Return whether a service's virtual IP can work; None where neither kernel nor module tree says."""
    if board.exists("/proc/net/ip_vs"):
        return True
    if not os.path.isdir(board.path(f"/lib/modules/{platform.release()}")) or not board.has("modprobe"):
        return None
    return board.shell.run(["modprobe", "-n", "-q", "ip_vs"], timeout=5).code == 0


def _firewalls(board: Board) -> list[str]:
    """Return the firewalls that manage rules of their own now."""
    if not board.has("systemctl"):
        return []
    found = []
    for unit in ("ufw", "firewalld", "nftables"):
        if board.shell.run(["systemctl", "is-active", "-q", unit], timeout=5).code == 0:
            found.append(unit)
    if "ufw" in found and not re.search(r"^\s*ENABLED=[\"']?yes", board.read("/etc/ufw/ufw.conf") or "", re.M):
        found.remove("ufw")
    return found
