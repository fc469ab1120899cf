"""What netplan makes of a set of definitions: its own generator, run on a copy that nothing else reads."""

from __future__ import annotations

import glob
import os
import re
import subprocess
import tempfile
from collections import Counter

from rpiomega.node.board import Board
from rpiomega.node.network.concealed import redact
from rpiomega.node.network.stack import Wanted, family
from rpiomega.node.step import StepError

# Of files with one name the first folder's counts (netplan(5)).
FOLDERS = ("/etc/netplan", "/run/netplan", "/usr/lib/netplan", "/lib/netplan")
LIBEXEC = ("/usr/libexec/netplan", "/usr/lib/netplan", "/lib/netplan")
# Where the generated files say how IPv4 is configured. A lease's settings have no use beside a static address.
_LEASE = {"DHCP", "DHCPv4", "DHCPV4"}
_ADDRESSING = {
    "Network": {"DHCP", "Address", "Gateway", "DNS"},
    "ipv4": {"method", "address", "addresses", "gateway", "dns"},
}
_NM_LEASE = re.compile(r"(dhcp-|ignore-auto-|route-metric$)")


def definitions(board: Board) -> dict[str, str]:
    """Return path -> text of the files that netplan reads, in the order it reads them (by name, bytewise)."""
    found: dict[str, str] = {}
    for folder in FOLDERS:
        for path in glob.glob(f"{glob.escape(board.path(folder))}/*.yaml"):
            found.setdefault(os.path.basename(path), folder)
    return {f"{found[name]}/{name}": board.read(f"{found[name]}/{name}") or "" for name in sorted(found)}


def generate(tree: dict[str, str], cause: str, cure: str) -> dict[str, str]:
    """Return path -> text of what netplan generates from `tree` (path -> text).

    Raise StepError that begins with `cause` and has netplan's first line if it refuses them. Not logged: the files
    hold Wi-Fi keys.
    """
    with tempfile.TemporaryDirectory(dir="/run" if os.access("/run", os.W_OK) else None) as root:
        for path, text in tree.items():
            os.makedirs(os.path.dirname(f"{root}{path}"), mode=0o755, exist_ok=True)
            with open(f"{root}{path}", "w", encoding="utf-8", errors="surrogateescape", newline="") as handle:
                os.fchmod(handle.fileno(), 0o600)
                handle.write(text)
        for argv in _generators(root):
            try:
                done = subprocess.run(
                    argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60,
                    encoding="utf-8", errors="replace", check=False,
                )  # fmt: skip
            except (OSError, subprocess.TimeoutExpired) as error:
                raise StepError(f"{argv[0]} cannot be run: {error}", "run `netplan generate` on the board") from None
            if done.returncode:
                said = done.stdout.replace(root, "").strip().splitlines()
                # netplan 1.x puts warnings (a file's mode, Open vSwitch) before the error.
                line = next((line for line in said if "rror" in line), said[0] if said else "no reason given")
                raise StepError(f"{cause}: {redact(line)}", cure)
        return _read(root)


def _generators(root: str) -> list[list[str]]:
    """Return the generator's command lines; from netplan 1.2 on `configure` writes the backends' files.

    Not `netplan generate --root-dir`: in 1.1 it reloads udev and the system's manager all the same.
    """
    for folder in LIBEXEC:
        if os.path.exists(f"{folder}/generate"):
            found = [f"{folder}/{name}" for name in ("generate", "configure") if os.path.exists(f"{folder}/{name}")]
            return [[program, "--root-dir", root] for program in found]
    return [["netplan", "generate", "--root-dir", root]]


def _read(root: str) -> dict[str, str]:
    found = {}
    for folder, _, names in os.walk(root):
        for path in (os.path.join(folder, name) for name in names):
            inside = path[len(root) :]
            if os.path.isfile(path) and not os.path.islink(path) and not inside.endswith(".yaml"):
                with open(path, encoding="utf-8", errors="surrogateescape") as handle:
                    found[inside] = handle.read()
    return found


def entries(text: str) -> Counter:
    """Return the entries of a generated file: a (section, key, value) each; a whole section for a route or rule."""
    found: Counter = Counter()
    for block in re.split(r"^(?=\[)", text, flags=re.M):
        lines = [line.strip() for line in block.splitlines() if line.strip() and not line.lstrip().startswith("#")]
        if not lines:
            continue
        section = lines[0].strip("[]")
        if section in ("Route", "Address", "RoutingPolicyRule"):
            found[section, "", "\n".join(sorted(lines[1:]))] += 1
            continue
        for line in lines[1:]:
            key, _, value = line.partition("=")
            # NetworkManager numbers addresses and routes.
            found[section, re.sub(r"^(address|route|routing-rule)\d+", r"\1", key), value] += 1
    return found


def of(name: str, path: str) -> bool:
    """Return whether a generated file configures the addresses of the definition `name`."""
    base = os.path.basename(path)
    keyfile = base.startswith((f"netplan-{name}.", f"netplan-{name}-")) and base.endswith(".nmconnection")
    return base == f"10-netplan-{name}.network" or keyfile


def refuse_loss(before: dict, after: dict, name: str, wanted: Wanted, gone: set[str]) -> None:
    """Raise StepError if netplan's output loses or gains more than what was meant, or lacks the wanted address.

    `gone`: the values that were taken out on purpose.
    """
    cure = f"write `network.manage: false` into the site file and set the address of {wanted.interface} yourself"
    own = [path for path in after if of(name, path)]
    for path, text in before.items():
        if path in own:
            lost = entries(text) - entries(after[path])
        elif not path.endswith((".network", ".netdev", ".link", ".nmconnection")):
            continue  # what to wait for at boot, and wpa_supplicant's file, follow from these
        else:
            lost = Counter() if after.get(path) == text else Counter({("file", "", path): 1})
        for section, key, value in sorted(lost):
            if not _meant(section, key, value, gone, wanted):
                what = f"[{section}] {key}{'=' if key else ''}{redact(value)}".replace("\n", " ")
                raise StepError(f"netplan's {os.path.basename(path)} would lose {what}", cure)
    for path in own:
        _refuse_beside(os.path.basename(path), entries(after[path]), wanted, cure)
    if not own:
        raise StepError(f"netplan makes nothing for {name} of the result", cure)


def _meant(section: str, key: str, value: str, gone: set[str], wanted: Wanted) -> bool:
    if section in _LEASE or (section == "ipv4" and _NM_LEASE.match(key)):
        return True
    if wanted.wifi and (section, key) == ("wifi-security", "psk"):
        return True
    if key in ("DHCP", "method"):
        return section in ("Network", "ipv4")
    words = set(re.split(r"[\s,;=]+", value)) - {""}
    if section == "Route" or (section == "ipv4" and key.startswith("route")):
        return bool(words & gone) and not any(family(word) == 6 for word in words - {"::/0"})
    if section == "Address" or key in _ADDRESSING.get(section, ()):
        # NetworkManager's lists are one value: what was in them with the address is looked for word by word.
        return all(word in gone or family(word) == 4 and word == wanted.gateway for word in words)
    return False


def _refuse_beside(file: str, found: Counter, wanted: Wanted, cure: str) -> None:
    """Raise StepError if a generated file does not have the wanted address, or has a lease beside it."""
    if file.endswith(".network"):
        leases = [value for section, key, value in found if (section, key) == ("Network", "DHCP")]
        lease = any(value in ("yes", "true", "ipv4") for value in leases)
        fits = ("Network", "Address", wanted.cidr) in found
    else:
        lease = ("ipv4", "method", "auto") in found
        fits = any(section == "ipv4" and key == "address" and value.split(",")[0] == wanted.cidr
                   for section, key, value in found)  # fmt: skip
    if lease or not fits:
        what = "asks for a lease" if lease else f"lacks {wanted.cidr}"
        raise StepError(f"of these definitions netplan makes a {file} that {what}", cure)
