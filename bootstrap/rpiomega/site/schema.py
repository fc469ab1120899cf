"""Shape and defaults of the site file. Rules that span several keys are in `checks`."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_HOST = re.compile(r"|[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?|[0-9A-Fa-f:.]+(%[A-Za-z0-9._-]+)?")
_LOGIN = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_SALT = re.compile(r"\d{4}(\.\d+)?")
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+")
# backblaze.com/docs/cloud-storage-buckets and -application-keys
_BUCKET = re.compile(r"(?!b2-)[A-Za-z0-9-]{6,63}")
_KEY = re.compile(r"[A-Za-z0-9-]{1,100}")
_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_IMAGE = re.compile(r"[a-z0-9][A-Za-z0-9._:/@-]*")


def _address(value: str) -> str:
    try:
        return str(ipaddress.IPv4Address(value))
    except ValueError:
        allowed = "write four numbers from 0 to 255, as 192.168.1.10"
        raise ValueError(f'"{value}" is not an IPv4 address|{allowed}') from None


def _matches(pattern: re.Pattern, what: str, allowed: str):
    def check(value: str) -> str:
        if not pattern.fullmatch(value):
            raise ValueError(f'"{value}" is not {what}|{allowed}')
        return value

    return AfterValidator(check)


def _url(value: str) -> str:
    if value and not re.fullmatch(r"https?://[^\s/]+\S*", value):
        raise ValueError(f'"{value}" is not a web address|write http://HOST:PORT/ or https://HOST/')
    return value


def _signer(value: str) -> str:
    if "-----BEGIN PGP PUBLIC KEY BLOCK-----" in value or re.match(
        r"[^\s#]+\s.*\b(ssh|sk-ssh|ecdsa)-\S+\s+AAAA", value
    ):
        return value
    allowed = "write `NAME ssh-ed25519 AAAA...` in one line, or an armored OpenPGP public key"
    raise ValueError(f'"{value[:40]}" is not a public key of a signer|{allowed}')


Address = Annotated[str, AfterValidator(_address)]
Name = Annotated[str, _matches(_LABEL, "a host name", "1 to 63 small letters, digits and hyphens, no hyphen at an end")]
Host = Annotated[str, _matches(_HOST, "a host name or address", "what you would give to ssh, without the user")]
Interface = Annotated[str, _matches(re.compile(r"[A-Za-z0-9._-]{0,15}"), "an interface", "write eth0 or wlan0")]
Ssid = Annotated[str, _matches(re.compile(r"[^\0\r\n]{1,32}"), "a network's name", "1 to 32 characters")]
Country = Annotated[str, _matches(re.compile(r"([A-Z]{2})?"), "a country code", "two capitals, as GB or DE")]
Login = Annotated[str, _matches(_LOGIN, "a login name", "small letters, digits, _ and -, as in /etc/passwd")]
Package = Annotated[str, _matches(_PACKAGE, "a Debian package name", "small letters, digits, + . and -")]
SaltVersion = Annotated[str, _matches(_SALT, "a Salt release", 'write "3008" for its newest, or "3008.3" for one')]
Image = Annotated[str, _matches(_IMAGE, "an image reference", "write repository:tag")]
Branch = Annotated[str, _matches(re.compile(r"[A-Za-z0-9][\w./-]*"), "a branch name", "write it as git does")]
FileName = Annotated[str, _matches(_FILE, "a bare file name", "letters, digits, . _ and -, no folder")]
BucketName = Annotated[str, _matches(_BUCKET, "a bucket name", "6 to 63 letters, digits and hyphens")]
KeyName = Annotated[str, _matches(_KEY, "a key name", "1 to 100 letters, digits and hyphens")]
Signer = Annotated[str, AfterValidator(_signer)]
Timezone = Annotated[str, _matches(re.compile(r"|[A-Za-z_]+(/[A-Za-z0-9_+-]+)*"), "a time zone", "write Europe/Berlin")]
Locale = Annotated[
    str, _matches(re.compile(r"|C(\.UTF-8)?|[a-z]{2,3}_[A-Z]{2}(\.[\w-]+)?(@\w+)?"), "a locale", "write en_GB.UTF-8")
]
Url = Annotated[str, AfterValidator(_url)]
Role = Literal["master", "manager", "worker"]


class Section(BaseModel):
    """Base of all sections: unknown keys are errors, text is text (3008 is a number, "3008" a release)."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Node(Section):
    """One board. `name` comes from its key in the file; `host` is how SSH reaches it before it has its address.

    `interface` is which one gets the address, where the board's default route does not tell.
    """

    name: Name = ""
    host: Host = ""
    address: Address
    interface: Interface = ""
    roles: Annotated[list[Role], Field(min_length=1)] = ["worker"]

    @property
    def reach(self) -> list[str]:
        """Return the SSH destinations to try, in order."""
        return list(dict.fromkeys(filter(None, [self.host, self.address])))


class Wifi(Section):
    """The wireless network; its secret stands in a file only its owner reads, or in RPIOMEGA_WIFI_SECRET."""

    ssid: Ssid
    country: Country = ""
    secret_file: str = ""


class Network(Section):
    """The network all nodes are in. With `manage` the bootstrap gives each board its static address.

    `rollback`: seconds after which a board goes back to its old address if the new one was not confirmed.
    """

    prefix: Annotated[int, Field(ge=8, le=30)] = 24
    gateway: Address | None = None
    dns: list[Address] = []
    manage: bool = True
    wifi: Wifi | None = None
    rollback: Annotated[int, Field(ge=20, le=900)] = 120


class Users(Section):
    """How the workstation logs in. Paths are relative to the site file; ``~`` is the home directory."""

    admin: Login = "pi"
    identity: str = ""
    known_hosts: str = ""
    port: Annotated[int, Field(ge=1, le=65535)] = 22


class System(Section):
    """The board's own settings; empty or ``keep`` leaves them as they are."""

    timezone: Timezone = ""
    locale: Locale = ""
    swap: Literal["keep", "off", "zram"] = "keep"
    ssh_passwords: Literal["keep", "off"] = "keep"


class Salt(Section):
    """Release and source of Salt. ``auto``: the project's packages where they exist and answer, else pip."""

    version: SaltVersion = "3008"
    source: Literal["auto", "onedir", "pip"] = "auto"


class Docker(Section):
    """Docker Engine: the vendor's repository or the distribution's package; `daemon` is merged into daemon.json."""

    source: Literal["vendor", "distribution"] = "vendor"
    version: str = ""
    daemon: dict[str, Any] = {}


class Consul(Section):
    """Consul's image, and for sites without a registry a `docker save` archive of it."""

    image: Image = "hashicorp/consul:1.21.5"
    archive: str = ""


class Bucket(Section):
    """A bucket of Backblaze B2, with the settings of state `b2.bucket_present`."""

    type: Literal["allPrivate", "allPublic"] = "allPrivate"
    lifecycle_rules: list[dict[str, str | int]] = []


class ApplicationKey(Section):
    """A key of Backblaze B2; `file` is where its secret goes, among the B2 secrets of the master."""

    capabilities: Annotated[list[str], Field(min_length=1)]
    file: FileName
    bucket: BucketName | None = None
    all_buckets: bool = False
    name_prefix: str = ""
    replace: bool = False


class B2(Section):
    """The Backblaze B2 command on every node; an empty version means the newest.

    `credentials` maps a node, or ``*`` for all others, to a file among the B2 secrets of the master. The master keeps
    `buckets` and `application_keys` with the credentials it has itself. `endpoint` is another service's address.
    """

    enabled: bool = True
    version: str = ""
    endpoint: Url = ""
    credentials: dict[str, FileName] = {}
    buckets: dict[BucketName, Bucket] = {}
    application_keys: dict[KeyName, ApplicationKey] = {}


class Packages(Section):
    """Debian packages every node gets besides the formula's own."""

    extra: list[Package] = []


class Formula(Section):
    """Where the master's formula follows from; without a remote, what the bootstrap brings.

    `branch` may be a tag as well. With `signers` (public keys) only commits signed by one of them are used. The master
    looks `every` so many minutes, and at each `state.apply`.
    """

    remote: str = ""
    branch: Branch = "main"
    signers: list[Signer] = []
    every: Annotated[int, Field(ge=0, le=10080)] = 0


class Swarm(Section):
    """Whether the nodes form a Docker Swarm."""

    enabled: bool = True


class Sources(Section):
    """Package caches, mirrors and extra certificate authorities of the site."""

    apt_proxy: Url = ""
    pip_index: Url = ""
    ca_bundle: str = ""


class Site(Section):
    """The whole file below its top-level key."""

    cluster: Name
    nodes: Annotated[dict[str, Node], Field(min_length=1)]
    network: Network = Network()
    users: Users = Users()
    system: System = System()
    salt: Salt = Salt()
    docker: Docker = Docker()
    consul: Consul = Consul()
    b2: B2 = B2()
    packages: Packages = Packages()
    formula: Formula = Formula()
    swarm: Swarm = Swarm()
    sources: Sources = Sources()

    @property
    def master(self) -> Node:
        """Return the node that carries the Salt master."""
        return next(node for node in self.nodes.values() if "master" in node.roles)

    @property
    def managers(self) -> list[Node]:
        """Return the swarm's managers in the file's order."""
        return [node for node in self.nodes.values() if "manager" in node.roles]
