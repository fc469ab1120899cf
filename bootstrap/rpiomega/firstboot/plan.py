"""What the first boot must bring about, whatever reads it: from the site file, once."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from rpiomega.errors import NodeError
from rpiomega.move import wifi_settings
from rpiomega.node.job_steps import Wifi
from rpiomega.site import Node, Site

# What the first account of Raspberry Pi OS is in (pi-gen, stage2/01-sys-tweaks): those that an image has.
GROUPS = ("adm", "dialout", "cdrom", "audio", "users", "sudo", "video", "games", "plugdev", "input", "gpio", "spi",
          "i2c", "netdev", "render")  # fmt: skip

_KEY = re.compile(r"(ssh-(ed25519|rsa)|ecdsa-sha2-\S+|sk-\S+) [A-Za-z0-9+/=]+( [^\r\n]*)?")


@dataclass(frozen=True)
class Plan:
    """A node's first boot. `wifi` has a derived key; None means cable."""

    name: str
    user: str
    keys: list[str]
    interface: str
    address: str = ""
    prefix: int = 24
    gateway: str = ""
    dns: list[str] = field(default_factory=list)
    wifi: Wifi | None = field(default=None, repr=False)
    timezone: str = ""
    locale: str = ""

    @property
    def static(self) -> bool:
        """Return whether the board gets its address here and not by DHCP."""
        return bool(self.address)


def make(site: Site, node: Node, base: Path, key_file: Path | None = None) -> Plan:
    """Return the plan of a node; `base` is the site file's folder. Raise NodeError (no key, no Wi-Fi secret)."""
    network, wifi = site.network, wifi_settings(site, base)
    # Without a gateway or name server a static address would cut the board off from its packages.
    static = network.manage and bool(network.gateway) and bool(network.dns)
    return Plan(
        name=node.name,
        user=site.users.admin,
        keys=public_keys(site, base, key_file),
        interface=node.interface or ("wlan0" if wifi else "eth0"),
        address=node.address if static else "",
        prefix=network.prefix,
        gateway=str(network.gateway or ""),
        dns=list(network.dns),
        wifi=wifi,
        timezone=site.system.timezone,
        locale=site.system.locale,
    )


def public_keys(site: Site, base: Path, key_file: Path | None) -> list[str]:
    """Return the owner's public keys: `key_file`, else the one beside users.identity, else the usual ones."""
    identity = site.users.identity
    if key_file:
        candidates = [key_file]
    elif identity:
        candidates = [Path(f"{(base / Path(identity).expanduser())}.pub")]
    else:
        home = Path.home() / ".ssh"
        candidates = [home / name for name in ("id_ed25519.pub", "id_ecdsa.pub", "id_rsa.pub")]
    for path in candidates:
        if not path.exists():
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        if "PRIVATE KEY" in text:
            raise NodeError(f"{path} is a private key", f"give the public one: {path}.pub", "firstboot")
        found = [line.strip() for line in text.splitlines() if _KEY.fullmatch(line.strip())]
        if found:
            return found
        raise NodeError(f"{path} holds no SSH public key", "make one with `ssh-keygen -t ed25519`", "firstboot")
    looked = ", ".join(str(path) for path in candidates)
    raise NodeError(f"no public key (looked for {looked})", "make one with `ssh-keygen -t ed25519`, or --key FILE",
                    "firstboot")  # fmt: skip
