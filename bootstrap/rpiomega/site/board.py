"""Sections of the site file about the boards: who they are, how they are reached, how they are set."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rpiomega.site.values import (
    Address,
    Country,
    Folder,
    Host,
    Interface,
    LabelName,
    Locale,
    Login,
    Name,
    Package,
    Role,
    Section,
    Ssid,
    Timezone,
)


class NodeDocker(Section):
    """Docker on one board, where it differs from the site's."""

    source: Literal["site", "vendor", "distribution"] = Field("site", description="As `docker.source`.")
    data_root: Folder = Field("", description="As `docker.data_root`; empty: the site's.")


class Node(Section):
    """One board. Its key becomes host name, Salt minion ID, and node name in Consul and Swarm."""

    name: Name = ""  # from the node's key, never written below it
    host: Host = Field(
        "", description="How SSH reaches the board now, if not at its address; a name of your ssh_config will do."
    )
    address: Address = Field(description="The IPv4 address the node has, or will have, in the cluster.")
    interface: Interface = Field(
        "", description="Which one gets the address, where the board's default route does not tell."
    )
    roles: list[Role] = Field(
        ["worker"],
        min_length=1,
        description="`master` carries the Salt master (exactly one node); "
        "`manager` is a Swarm manager (1, 3 or 5 nodes), `worker` a Swarm worker: one of these two.",
    )
    packages: list[Package] = Field([], description="Debian packages for this node alone.")
    docker: NodeDocker = NodeDocker()

    availability: Literal["keep", "active", "pause", "drain"] = Field(
        "keep",
        description="Whether the swarm may give it tasks: `active` all, `pause` no new ones, `drain` none; "
        "`keep` leaves it to you.",
    )
    labels: dict[LabelName, str | int] = Field(
        {}, description="Labels of the swarm's node, for the constraints of services."
    )

    @property
    def reach(self) -> list[str]:
        """Return the SSH destinations to try, in order."""
        return list(dict.fromkeys(filter(None, [self.host, self.address])))


class Wifi(Section):
    """The wireless network, for boards without a cable."""

    ssid: Ssid = Field(description="The network's name.")
    country: Country = Field("", description="Where the boards are: it decides which channels they may use.")
    secret_file: str = Field(
        "",
        description="A file that only its owner reads, with the network's secret; else RPIOMEGA_WIFI_SECRET holds it.",
    )


class Network(Section):
    """The network all nodes are in."""

    prefix: int = Field(24, ge=8, le=30, description="Length of the network's prefix.")
    gateway: Address | None = Field(None, description="The router; none: the gateway the board has now.")
    dns: list[Address] = Field([], description="Name servers; empty: the gateway.")
    manage: bool = Field(
        True, description="Give each board its static address; false leaves that to a DHCP server's reservations."
    )
    wifi: Wifi | None = Field(None, description="The wireless network, if boards use one.")
    rollback: int = Field(
        120,
        ge=20,
        le=900,
        description="Seconds until a board takes its old address back if the new one was not confirmed.",
    )


class Users(Section):
    """How the workstation logs in: with a key, and `sudo` without a password. Paths are relative to the site file."""

    admin: Login = Field("pi", description="The user to log in as; also gets the right to use Docker.")
    identity: str = Field("", description="File of a private key; empty: as ssh does it.")
    known_hosts: str = Field("", description="File of the boards' host keys; empty: as ssh does it.")
    port: int = Field(22, ge=1, le=65535, description="The boards' SSH port.")


class System(Section):
    """The board's own settings; an empty text or `keep` leaves them as they are."""

    timezone: Timezone = Field("", description="The time zone.")
    locale: Locale = Field("", description="The locale.")
    swap: Literal["keep", "off", "zram"] = Field(
        "keep", description="Swap: none, or compressed memory; both spare the card."
    )
    ssh_passwords: Literal["keep", "off"] = Field("keep", description="Whether SSH lets people in with passwords.")
