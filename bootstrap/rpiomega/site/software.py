"""Sections of the site file about the software on the nodes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rpiomega.site.swarm import Stacks, SwarmSpec
from rpiomega.site.values import (
    AccountFile,
    Branch,
    BucketName,
    DaemonValue,
    DockerVersion,
    FileName,
    Fingerprint,
    Folder,
    Image,
    KeyName,
    Mirror,
    Package,
    Registry,
    Release,
    Remote,
    Role,
    SaltVersion,
    Section,
    Signer,
    Subnet,
    Url,
)


class SaltRepository(Section):
    """Salt's apt repository, for `onedir`: the project's own, or a mirror of it."""

    uri: Url = Field("https://packages.broadcom.com/artifactory/saltproject-deb/", description="Where it is.")
    key_url: Url = Field(
        "https://packages.broadcom.com/artifactory/api/security/keypair/SaltProjectKey/public",
        description="Where its signing key is.",
    )
    fingerprint: Fingerprint = Field(
        "10857FFDD3F91EAE577A21D664CBBC8173D76B3F", description="The one key that is trusted for it."
    )


class DockerRepository(Section):
    """Docker's apt repository, for `vendor`: Docker's own, or a mirror of it."""

    uri: Url = Field(
        "https://download.docker.com/linux", description="Where it is; the distribution's name is appended."
    )
    key_url: Url = Field("https://download.docker.com/linux/debian/gpg", description="Where its signing key is.")
    fingerprint: Fingerprint = Field(
        "9DC858229FC7DD38854AE2D88D81803C0EBFCD88", description="The one key that is trusted for it."
    )


class Salt(Section):
    """Salt itself, as the bootstrap installs it."""

    version: SaltVersion = Field(
        "3008", description='`"3008"` is its newest point release, `"3008.3"` exactly that one.'
    )
    source: Literal["auto", "onedir", "pip"] = Field(
        "auto",
        description="`onedir`: the project's packages (arm64, amd64); `pip`: a venv; `auto`: the first that works.",
    )
    repository: SaltRepository = SaltRepository()


class Docker(Section):
    """Docker Engine."""

    source: Literal["vendor", "distribution"] = Field(
        "vendor", description="Docker's own apt repository, or the distribution's package."
    )
    version: DockerVersion = Field(
        "",
        description="With `vendor` only: `28.5.1` is that release, `28.5` or `28` the newest of them, each held; "
        "empty: the newest when it is installed, not held.",
    )
    repository: DockerRepository = DockerRepository()
    allow_downgrade: bool = Field(
        False, description="Whether an older engine may take over a newer one's data, which Docker does not support."
    )
    mirrors: list[Mirror] = Field([], description="Asked for Docker Hub's images first (`registry-mirrors`).")
    insecure_registries: list[Registry] = Field(
        [], description="Registries without a trusted certificate (`insecure-registries`)."
    )
    data_root: Folder = Field(
        "", description="Where images, containers and volumes are, on a disk of its own; empty: /var/lib/docker."
    )
    move_data: bool = Field(
        False, description="Whether data at the old place moves to a changed `data_root`; without it that is an error."
    )
    daemon: dict[str, DaemonValue] = Field(
        {},
        description="Joins what the owner has in /etc/docker/daemon.json; null leaves a key to that file. Where "
        "neither decides on logs, they are rotated: json-file, three files of 10 MB.",
    )


class Snapshots(Section):
    """Copies of Consul's state that the master keeps for itself (docs/consul.md)."""

    every: int = Field(24, ge=0, le=720, description="Hours between two snapshots; 0: none.")
    keep: int = Field(14, ge=1, le=1000, description="How many to keep.")


class Consul(Section):
    """Consul's agent, a container on every node."""

    image: Image = Field("hashicorp/consul:1.22.7", description="The image, pinned.")
    archive: str = Field(
        "", description="A `docker save` file of it, relative to the site file, for sites without a registry."
    )
    allow_unsupported_upgrade: bool = Field(
        False,
        description="Whether the image may be older than the Consul that runs, or more releases ahead than HashiCorp "
        "supports in one step.",
    )
    dns: bool = Field(False, description="Whether the node's own resolver (systemd-resolved) answers `*.consul` too.")
    snapshots: Snapshots = Snapshots()
    ready_timeout: int = Field(
        300,
        ge=30,
        le=3600,
        description="Seconds a node waits for Consul: the other nodes may still be installing Docker.",
    )
    raft_multiplier: int = Field(
        5, ge=1, le=10, description="Consul's patience with a silent leader: 1 on a good wired network, 5 elsewhere."
    )


class Bucket(Section):
    """A bucket of Backblaze B2."""

    type: Literal["allPrivate", "allPublic"] = Field("allPrivate", description="Who may read its files.")
    lifecycle_rules: list[dict[str, str | int]] | None = Field(
        None, description="When old files go, in B2's own words; `[]`: never; not given: as it is."
    )


class ApplicationKey(Section):
    """A key of Backblaze B2 with no more rights than it needs."""

    capabilities: list[str] = Field(
        min_length=1, description="What it may do, in B2's words: `listFiles`, `readFiles`..."
    )
    file: FileName = Field(description="Where its secret goes, among the B2 secrets of the master.")
    bucket: BucketName | None = Field(None, description="The one bucket it opens.")
    all_buckets: bool = Field(False, description="It opens every bucket, instead of one.")
    name_prefix: str = Field("", description="It opens only files whose names begin so.")
    replace: bool = Field(False, description="If its rights are not these, make a new one and revoke the old.")


class B2(Section):
    """The Backblaze B2 command on every node, and what the master keeps in the account."""

    enabled: bool = Field(
        True, description="Whether the nodes get the command; false takes the account away and leaves the command."
    )
    version: Release = Field("5.0.2", description="Its release; empty: the newest when it is installed.")
    endpoint: Url = Field("", description="Another service's address; empty: Backblaze.")
    credentials: dict[str, AccountFile] = Field(
        {},
        description='Which node (`"*"`: all others) may use which account: a file in the master\'s '
        "/etc/rpiomega/secrets/b2 with two lines, `key_id: ...` and `key: ...`, mode 0600.",
    )
    buckets: dict[BucketName, Bucket] = Field({}, description="Buckets the master keeps.")
    application_keys: dict[KeyName, ApplicationKey] = Field({}, description="Keys the master keeps.")


class Packages(Section):
    """Debian packages."""

    extra: list[Package] = Field([], description="What every node gets besides the formula's own.")
    roles: dict[Role, list[Package]] = Field({}, description="What only the nodes of a role get.")


class Formula(Section):
    """Where the master's checkout of this formula follows from."""

    remote: Remote = Field("", description="A git remote; empty: what `rpiomega bootstrap` brings.")
    branch: Branch = Field("main", description="A branch or a tag.")
    signers: list[Signer] = Field(
        [], description="Public keys, one of which must have signed a commit before it is used; empty: not asked for."
    )
    every: int = Field(
        0, ge=0, le=10080, description="Minutes between two looks at the remote; 0: only with `state.apply`."
    )


class Swarm(Section):
    """Docker Swarm."""

    enabled: bool = Field(True, description="Whether the nodes form a swarm.")
    bootstrap_timeout: int = Field(
        300,
        ge=30,
        le=3600,
        description="Seconds a node waits for the first manager, which may still be installing Docker.",
    )
    promote_timeout: int = Field(120, ge=30, le=3600, description="Seconds a manager-to-be waits to be promoted.")
    min_free_mb: int = Field(
        500, ge=0, le=1000000, description="MiB that must be free before a node joins the swarm or becomes a manager."
    )
    readdress: bool = Field(
        False, description="Whether a node whose address changed leaves and joins again, as a new node of the swarm."
    )
    data_path_addr: str = Field(
        "", description="Interface, as eth1, for the traffic between containers; empty: that of the node's address."
    )
    data_path_port: int | None = Field(
        None, ge=1024, le=49151, description="UDP port of that traffic, for a new swarm only; none: 4789."
    )
    default_addr_pool: list[Subnet] = Field([], description="Subnets for overlay networks, for a new swarm only.")
    subnet_size: int | None = Field(
        None, ge=8, le=29, description="Prefix length of each overlay network, for a new swarm only; none: 24."
    )
    spec: SwarmSpec = SwarmSpec()
    stacks: Stacks = Field({}, description="Stacks the managers keep.")
    labels: Literal["merge", "replace"] = Field(
        "merge",
        description="`merge`: labels a node got by hand stay; `replace`: it has those of the site file, and no others.",
    )


class Sources(Section):
    """Caches and mirrors of the site, set up on every node before anything is downloaded."""

    apt_proxy: Url = Field("", description="A package cache, as http://HOST:PORT.")
    pip_index: Url = Field("", description="The simple index of a PyPI mirror.")
    ca_bundle: str = Field("", description="PEM file with extra certificate authorities, relative to the site file.")
