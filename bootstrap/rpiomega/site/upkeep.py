"""Sections of the site file about keeping the nodes: their clocks, journals, updates, and what the master caches."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rpiomega.site.values import Image, Mirror, PackagePattern, Section, Size, TimeOfDay, TimeServer


class Time(Section):
    """Clocks; the time zone is in `system`."""

    servers: list[TimeServer] = Field([], description="Time servers of the site; empty: the distribution's.")


class Journal(Section):
    """systemd's journal."""

    storage: Literal["keep", "volatile", "persistent"] = Field(
        "keep", description="`volatile`: in memory, which spares the card and ends with a reboot; `keep`: as it is."
    )
    max_use: Size = Field("", description="What it may take of the card or of the memory; empty: systemd's own limit.")


class Upgrades(Section):
    """Unattended updates, one node after the other."""

    security: bool = Field(
        False, description="Install the distribution's security updates each day. Docker and Salt are held out."
    )
    start: TimeOfDay = Field("02:00", description="When the first node of the file begins, in the nodes' time zone.")
    gap: int = Field(30, ge=5, le=1440, description="Minutes until the next node of the file begins.")
    reboot: bool = Field(
        False, description="Reboot after an update that needs it, if every manager of the swarm can be reached."
    )
    hold: list[PackagePattern] = Field([], description="More packages to hold out.")


class Cache(Section):
    """What the master keeps, so that N nodes download it once. A node goes on without it while the master is off."""

    packages: bool = Field(False, description="Debian packages, by apt-cacher-ng on port 3142.")
    images: bool = Field(False, description="Images of Docker Hub, by a pull-through registry on port 5000.")
    image: Image | None = Field(None, description="Run the registry from this image; none: Debian's docker-registry.")
    upstream: Mirror = Field("https://registry-1.docker.io", description="The registry behind it.")
