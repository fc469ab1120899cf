"""The steps of a job as the workstation sends them and the board reads them: one definition of each for both sides.

A job is one line of JSON: ``{"steps": [{"step": NAME, "args": {...}}, ...], "dry_run": false}``. What the steps do is
in `rpiomega.node.steps`. Annotations are evaluated (Python 3.9), so they are not strings here.
"""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, ClassVar, Optional, Union, get_args, get_origin, get_type_hints

KINDS: dict[str, type] = {}  # name in a job -> class


@dataclass(frozen=True)
class JobStep:
    """A step without arguments, and the base of the others; `step` is its name in a job."""

    step: ClassVar[str]

    def __init_subclass__(cls, step: str):
        cls.step = step
        KINDS[step] = cls

    def item(self) -> dict[str, Any]:
        """Return the step as it is in a job."""
        return {"step": self.step, "args": dataclasses.asdict(self)}


@dataclass(frozen=True)
class Repository:
    """Salt's apt repository, or a mirror of it."""

    uri: str
    key_url: str
    fingerprint: str


@dataclass(frozen=True)
class SaltWanted:
    """The site's choice of Salt; `source`: auto, onedir or pip."""

    version: str
    source: str
    repository: Repository


@dataclass(frozen=True)
class ServedFile:
    """A file that the master serves to all nodes; `incoming`: where it was uploaded to, empty if the board has it."""

    name: str
    sha256: str
    size: int
    incoming: str = ""


@dataclass(frozen=True)
class Wifi:
    """A wireless network. `psk` is the 256-bit key as 64 hexadecimal digits, never the passphrase."""

    ssid: str
    psk: str = field(repr=False)
    country: str = ""


@dataclass(frozen=True)
class Target:
    """A port of another node to try; `busy`: its own program listens there."""

    to: str
    address: str
    protocol: str
    port: int
    busy: bool


# -- a board before Salt --------------------------------------------------------------------------------------


class Standing(JobStep, step="standing"):
    """What a board is before anything is done to it."""


@dataclass(frozen=True)
class Hostname(JobStep, step="hostname"):
    """`cluster`: written with the name as the board's mark; `nodes`: name -> address of the whole cluster; `renew`:
    also on a copy of a member's card.
    """

    name: str
    cluster: str = ""
    nodes: dict[str, str] = field(default_factory=dict)
    renew: bool = False


class Cmdline(JobStep, step="cmdline"):
    """The kernel's command line."""


class Identity(JobStep, step="identity"):
    """The board's machine-id and host keys, as they are."""


@dataclass(frozen=True)
class MachineId(JobStep, step="machineid"):
    """`machine_id`, `host_keys`: the node that has the same (empty: they are this board's own); `force`: also on a
    member of a swarm. What is missing is made in any case.
    """

    machine_id: str = ""
    host_keys: str = ""
    force: bool = False


@dataclass(frozen=True)
class Rootfs(JobStep, step="rootfs"):
    """`mount`: the mount point that is to grow in the place of ``/`` (tests)."""

    mount: str = ""


@dataclass(frozen=True)
class Swap(JobStep, step="swap"):
    """`swap`: ``keep``, ``off`` or ``zram``."""

    swap: str = "keep"


@dataclass(frozen=True)
class Timezone(JobStep, step="timezone"):
    """`timezone` as in the tz database; empty leaves it as it is."""

    timezone: str = ""


@dataclass(frozen=True)
class Locale(JobStep, step="locale"):
    """`locale` such as ``en_GB.UTF-8``; empty leaves it as it is."""

    locale: str = ""


@dataclass(frozen=True)
class Sshd(JobStep, step="sshd"):
    """`passwords`: ``keep`` or ``off``; `proven`: a key login over a new connection worked."""

    passwords: str
    user: str
    proven: bool = False


@dataclass(frozen=True)
class Clock(JobStep, step="clock"):
    """`now`: the workstation's time as it sends the job (seconds since 1970); `rpiomega.agent` writes it."""

    now: float = 0.0


@dataclass(frozen=True)
class Sources(JobStep, step="sources"):
    """`apt_proxy`, `pip_index`: URLs; `ca`: PEM text. Each may be empty."""

    apt_proxy: str = ""
    pip_index: str = ""
    ca: str = ""


@dataclass(frozen=True)
class Network(JobStep, step="network"):
    """`gateway`, `interface` empty: those in use; `dns` empty: the gateway; `others`: name -> address of all other
    nodes; `bound`: seconds until the board goes back to what it had.
    """

    address: str
    prefix: int
    gateway: str = ""
    dns: list[str] = field(default_factory=list)
    interface: str = ""
    wifi: Optional[Wifi] = None
    others: dict[str, str] = field(default_factory=dict)
    bound: int = 120


@dataclass(frozen=True)
class NetworkConfirm(JobStep, step="network_confirm"):
    """`token`: of the change, from step `network`. Sent over a connection to the new address: that is the proof."""

    token: str


@dataclass(frozen=True)
class NetworkStatus(JobStep, step="network_status"):
    """`token` of a change, or empty; `interface`, or the `address` by which it is found."""

    token: str = ""
    interface: str = ""
    address: str = ""


# -- Salt -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Inventory(JobStep, step="inventory"):
    """`salt`: the site's choice; for the master `files` and the formula's `branch`."""

    salt: SaltWanted
    files: list[ServedFile] = field(default_factory=list)
    branch: str = "main"


@dataclass(frozen=True)
class Salt(JobStep, step="salt"):
    """`kind`: onedir or pip; for onedir the `repository`; for pip the build's `key`, its `archive` with `sha256` if
    there is one, and `pack`: whether to pack the build for others.
    """

    kind: str
    version: str
    master: bool = False
    repository: Optional[Repository] = None
    key: str = ""
    archive: str = ""
    sha256: str = ""
    pack: bool = False


@dataclass(frozen=True)
class SiteFile(JobStep, step="site"):
    """`site`: the site file's text."""

    site: str


@dataclass(frozen=True)
class Formula(JobStep, step="formula"):
    """`site`: the site file's text; without a `remote`, the `commit` and the path of a `bundle` that has it (empty if
    the board has the commit).
    """

    branch: str
    site: str
    remote: str = ""
    commit: str = ""
    bundle: str = ""
    files: list[ServedFile] = field(default_factory=list)


@dataclass(frozen=True)
class Master(JobStep, step="master"):
    """`kind` of Salt: onedir or pip."""

    kind: str


@dataclass(frozen=True)
class Minion(JobStep, step="minion"):
    """`master`: its address; `master_finger`: of its key (on the master itself, step `master` knows it); `kind` of
    Salt; `new_master`: forget another master's key.
    """

    id: str
    master: str
    kind: str
    master_finger: str = ""
    new_master: bool = False


class Finger(JobStep, step="finger"):
    """The fingerprint of the minion's key."""


@dataclass(frozen=True)
class Keys(JobStep, step="keys"):
    """`fingers`: minion -> fingerprint on the minion, may be empty; `bound`: seconds until the master has them all."""

    fingers: dict[str, str]
    bound: float = 0.0


@dataclass(frozen=True)
class Accept(JobStep, step="accept"):
    """`fingers`: minion -> fingerprint proven on the minion."""

    fingers: dict[str, str]


@dataclass(frozen=True)
class Answering(JobStep, step="answering"):
    """`minions`: name -> address; `bound`: seconds until they all answer their master."""

    minions: dict[str, str]
    bound: float


@dataclass(frozen=True)
class Synced(JobStep, step="synced"):
    """`minions`: name -> address."""

    minions: dict[str, str]


# -- status and doctor ----------------------------------------------------------------------------------------


class ClusterStatus(JobStep, step="cluster_status"):
    """What `rpiomega status` shows of a node."""


@dataclass(frozen=True)
class Examine(JobStep, step="examine"):
    """`apt_proxy` of the site, or empty."""

    apt_proxy: str = ""


@dataclass(frozen=True)
class Listen(JobStep, step="listen"):
    """`ports`: [protocol, port] each."""

    ports: list[list]


class Hold(JobStep, step="hold"):
    """The end of `listen`."""


@dataclass(frozen=True)
class Connect(JobStep, step="connect"):
    """`targets`: ports of other nodes."""

    targets: list[Target]


class Modules(JobStep, step="modules"):
    """The kernel modules of overlay networks."""


# -- backups --------------------------------------------------------------------------------------------------


class BackupState(JobStep, step="backup_state"):
    """What a node knows of its backups."""


@dataclass(frozen=True)
class BackupStart(JobStep, step="backup_start"):
    """`what`: ``backup`` or ``drill``."""

    what: str


@dataclass(frozen=True)
class BackupFollow(JobStep, step="backup_follow"):
    """`what`: ``backup`` or ``drill``; `before`: the marker of the result before it, from step `backup_start`."""

    what: str
    before: str = ""


class BackupList(JobStep, step="backup_list"):
    """The snapshots of a node's repository."""


@dataclass(frozen=True)
class BackupSecrets(JobStep, step="backup_secrets"):
    """`files`: path below the master's secrets/backup -> content; `replace`: path -> ID of the key there that the new
    content may replace.
    """

    files: dict[str, str] = field(default_factory=dict, repr=False)
    replace: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class BackupKit(JobStep, step="backup_kit"):
    """`hash`: of the recovery kit that was checked, at `checked` (seconds since 1970); empty: only look."""

    hash: str = ""
    checked: int = 0


@dataclass(frozen=True)
class MasterFile:
    """A file or folder of a master's backup. `content`: Base64; `target`: of a link; owners by name."""

    path: str
    kind: str  # file, folder, link
    mode: int = 0
    user: str = "root"
    group: str = "root"
    content: str = field(default="", repr=False)
    target: str = ""


@dataclass(frozen=True)
class MasterRestore(JobStep, step="master_restore"):
    """`files`: what a new master gets; `force`: also over files with other content, which are kept."""

    files: list[MasterFile] = field(default_factory=list, repr=False)
    force: bool = False


@dataclass(frozen=True)
class RestoreStart(JobStep, step="restore_start"):
    """`name`: of this request, new for each; `what`: ``file``, ``volume`` or ``node``; `path`: of the file, or the
    volume's name, or empty; `to`: a folder for the file, or empty; `at`: seconds since 1970, 0 for the newest snapshot.
    """

    name: str
    what: str
    path: str
    to: str = ""
    at: float = 0.0
    preview: bool = False
    force: bool = False


@dataclass(frozen=True)
class RestoreFollow(JobStep, step="restore_follow"):
    """`name`: of the request, as in `RestoreStart`."""

    name: str


def read(item: Any) -> JobStep:
    """Return a step of a job from its JSON. Raise ValueError that names the step and the argument that is wrong."""
    name = item.get("step") if isinstance(item, dict) else None
    if name not in KINDS:
        raise ValueError(f"there is no step {name}")
    return made(name, item.get("args", {}))


def made(name: str, arguments: dict) -> JobStep:
    """Return the step `name` with these arguments. Raise ValueError as `read`."""
    return _value(KINDS[name], arguments, f"step {name}")


def _value(kind: Any, value: Any, at: str) -> Any:
    """Return a value of JSON as the annotation `kind` says; ValueError if it is not of that kind."""
    origin, inside = get_origin(kind), get_args(kind)
    if origin is Union:  # Optional
        return None if value is None else _value(inside[0], value, at)
    if dataclasses.is_dataclass(kind) and isinstance(value, dict):
        return _fields(kind, value, at)
    if origin is list and isinstance(value, (list, tuple)):
        return [_value(inside[0], each, f"{at}[{index}]") for index, each in enumerate(value)]
    if origin is dict and isinstance(value, dict):
        return {_value(inside[0], key, at): _value(inside[1], each, f"{at}.{key}") for key, each in value.items()}
    if kind is float and type(value) is int:
        return float(value)
    if kind is list and isinstance(value, (list, tuple)):
        return list(value)
    if type(value) is not kind:
        raise ValueError(f"{at}: {type(value).__name__} where {getattr(kind, '__name__', kind)} belongs")
    return value


def _fields(kind: Any, given: dict, at: str) -> Any:
    hints = get_type_hints(kind)
    fields = {each.name: each for each in dataclasses.fields(kind)}
    needed = {n for n, f in fields.items() if f.default is f.default_factory is dataclasses.MISSING}
    for what, names in (("unknown", given.keys() - fields), ("missing", needed - given.keys())):
        if names:
            raise ValueError(f"{at}: {what}: {', '.join(sorted(names))}")
    return kind(**{name: _value(hints[name], value, f"{at}, {name}") for name, value in given.items()})
