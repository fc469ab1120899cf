"""What a lab keeps on disk: `.lab/<name>/` with its SSH key, known hosts, site file and facts about itself."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rpiomega.lab.engine import LabError

ROOT = Path(os.environ.get("RPIOMEGA_LAB_DIR") or Path(__file__).resolve().parents[3] / ".lab")
_NAME = re.compile(r"[a-z][a-z0-9]{0,15}")
_DIAL = Path(__file__).with_name("dial.py")
FIRST_HOST, FIRST_STATIC = 10, 110


@dataclass
class Lab:
    """One lab. `subnet` is empty until the network exists; `limits` is what this host cannot give its Pis.

    `vendor`: whose repositories are served: "docker", "docker salt", or "" for none (the distribution's Docker then).
    `b2`: whether a stand-in for Backblaze B2 runs.
    """

    name: str
    release: str = "trixie"
    nodes: int = 3
    subnet: str = ""
    stack: str = "networkmanager"
    vendor: str = "docker"
    b2: bool = False
    limits: dict[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """The lab's folder on disk."""
        return ROOT / self.name

    @property
    def results(self) -> Path:
        """Where suites keep what they measured on the lab; it outlives the lab. No lab can have that name."""
        return ROOT / f"{self.name}-results"

    @property
    def key(self) -> Path:
        """The private key that logs in as pi on every node."""
        return self.folder / "id_ed25519"

    @property
    def ssh_config(self) -> Path:
        """An OpenSSH configuration that knows every node by its name."""
        return self.folder / "ssh_config"

    @property
    def known_hosts(self) -> Path:
        """The nodes' SSH host keys, read from the nodes themselves and not from the network."""
        return self.folder / "known_hosts"

    @property
    def site_file(self) -> Path:
        """The lab's own site file."""
        return self.folder / "site.sls"

    @property
    def network(self) -> str:
        """Name of the lab's Docker network; its containers' names start with it too."""
        return f"rpiomega-{self.name}"

    def node_names(self) -> list[str]:
        """Return the nodes' names in order; the first is the master."""
        return ["rpiomega-master", *(f"rpiomega-{number}" for number in range(2, self.nodes + 1))]

    def address(self, number: int) -> str:
        """Return an address of the lab's network: 1 is this machine, 2 DHCP and DNS, 3 the cache, 4 the vendors,
        5 the stand-in for B2.
        """
        return self.subnet.split("/")[0].rpartition(".")[0] + f".{number}"

    def leased_address(self, name: str) -> str:
        """Return the address that DHCP gives the named node, until the bootstrap gives it its own."""
        return self.address(FIRST_HOST + 1 + self.node_names().index(name))

    def node_address(self, name: str) -> str:
        """Return the static address that the site file has for the named node."""
        return self.address(FIRST_STATIC + 1 + self.node_names().index(name))

    def save(self) -> None:
        """Write lab.json, making the folder first if need be."""
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / "lab.json.new"
        temporary.write_text(json.dumps(asdict(self), indent=1) + "\n")
        temporary.replace(self.folder / "lab.json")

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


def check_name(name: str) -> str:
    """Return a lab's name; raise LabError if it is not one."""
    if not _NAME.fullmatch(name):
        raise LabError(f"`{name}` is no name for a lab: use up to 16 small letters and digits, a letter first")
    return name


def load(name: str) -> Lab | None:
    """Return the lab of that name, or None if this checkout has none."""
    path = ROOT / check_name(name) / "lab.json"
    try:
        # A lab from before there were repositories keeps the Docker it has.
        return Lab(**{"vendor": "", **json.loads(path.read_text())})
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as err:
        raise LabError(f"{path} cannot be read ({err}): `rpiomega lab down --name {name}`, then up") from err


def existing(name: str) -> Lab:
    """Return the lab of that name; raise LabError if there is none."""
    lab = load(name)
    if lab is None:
        raise LabError(f"there is no lab `{name}` here: `rpiomega lab up --name {name}` makes one")
    return lab


def make_key(lab: Lab) -> None:
    """Make the lab's SSH key unless it is there."""
    if lab.key.exists():
        return
    if not shutil.which("ssh-keygen"):
        raise LabError("ssh-keygen is missing: `apt-get install openssh-client`")
    lab.folder.mkdir(parents=True, exist_ok=True)
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"rpiomega lab {lab.name}", "-f", str(lab.key)]
    subprocess.run(command, check=True)


def write_ssh(lab: Lab, host_keys: dict[str, list[str]]) -> None:
    """Write ssh_config and known_hosts; `host_keys` maps a node's name to its public host keys."""
    lines, known = [], []
    for name in lab.node_names():
        static, leased = lab.node_address(name), lab.leased_address(name)
        # A node is at its own address once it has been bootstrapped; what answers there must show the node's key.
        lines += [f"Host {name}", f"    HostName {leased}", f"    HostKeyAlias {name}", "    ProxyUseFdpass yes"]
        lines += [f'    ProxyCommand "{sys.executable}" -I "{_DIAL}" {static} {leased}']
        known += [f"{name},{leased} {key}" for key in host_keys.get(name, [])]
    if lab.known_hosts.exists():
        # What the bootstrap has written down of the nodes' own addresses.
        own = {lab.node_address(name) for name in lab.node_names()}
        known += [line for line in lab.known_hosts.read_text().splitlines() if line.split(" ")[0] in own]
    lines += [
        "Host *",
        "    User pi",
        f'    IdentityFile "{lab.key}"',
        "    IdentitiesOnly yes",
        f'    UserKnownHostsFile "{lab.known_hosts}"',
        "    StrictHostKeyChecking yes",
        "    ConnectTimeout 10",
        "    LogLevel ERROR",
    ]
    lab.ssh_config.write_text("\n".join(lines) + "\n")
    lab.known_hosts.write_text("\n".join(known) + "\n")
