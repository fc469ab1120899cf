"""Section of the site file about backups to Backblaze B2: what is saved, when, for how long, and with which restic."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rpiomega.site.values import (
    BackupBucket,
    BackupMode,
    Pattern,
    ResticVersion,
    SavedPath,
    Section,
    Sha256,
    TimeOfDay,
    Url,
    VolumeName,
)


class Keep(Section):
    """How long snapshots stay. restic counts from the newest snapshot of a group, not from today."""

    daily: int = Field(7, ge=1, le=3650, description="Days for which one snapshot a day stays.")
    weekly: int = Field(4, ge=0, le=520, description="Weeks for which one snapshot a week stays.")
    monthly: int = Field(6, ge=0, le=120, description="Months for which one snapshot a month stays.")


class Drill(Section):
    """Restores for proof: the newest snapshots go to a scratch folder and are compared with what was saved."""

    every: Literal["weekly", "monthly", "off"] = Field("weekly", description='How often; `"off"`: only by hand.')


class Restic(Section):
    """The program that saves and restores, 0.17 or newer."""

    source: Literal["auto", "distribution", "vendor"] = Field(
        "auto",
        description="`distribution`: Debian's package; `vendor`: restic's own binary in /usr/local/bin; `auto`: the "
        "package where it is new enough, else the binary.",
    )
    version: ResticVersion = Field("0.19.1", description="Release of the vendor's binary.")
    sha256: dict[Literal["amd64", "arm64", "arm"], Sha256] = Field(
        {},
        description="SHA-256 of the vendor's `.bz2` file for each architecture, where `version` is not the default.",
    )
    mirror: Url = Field(
        "",
        description="Where the vendor's files are, as `MIRROR/vVERSION/restic_VERSION_linux_ARCHITECTURE.bz2`; empty: "
        "restic's releases on GitHub.",
    )


class Backup(Section):
    """Encrypted backups of every node, one repository of restic for each, in a bucket of Backblaze B2."""

    bucket: BackupBucket = Field("", description="The bucket, made by `rpiomega backup init`; empty: no backups.")
    schedule: TimeOfDay = Field("00:30", description="When a node begins each day, up to an hour later, in its zone.")
    keep: Keep = Keep()
    paths: list[SavedPath] = Field(
        ["/home", "/etc"],
        description="Folders of every node that are saved; volumes of Docker are, without being named.",
    )
    exclude: list[Pattern] = Field([], description="What of `paths` is left out, as patterns of restic.")
    volumes: dict[VolumeName, BackupMode] = Field(
        {},
        description="How a volume is saved: `hot` (as it is), `pause` (its containers are paused; the default), "
        '`dump` (a command of its service\'s label writes it), `"no"`. It overrules the label `rpiomega.backup`.',
    )
    immutable: int = Field(
        0,
        ge=0,
        le=3000,
        description="Days for which nobody can delete an upload, the account's owner included; 0: the keys of the "
        "cluster cannot, the owner can.",
    )
    hidden_days: int = Field(
        30,
        ge=1,
        le=3650,
        description="Days for which the bucket keeps what was pruned, hidden or overwritten: time to notice an attack.",
    )
    max_age: int = Field(
        36, ge=26, le=8760, description="Hours after which a node without a new snapshot is reported as overdue."
    )
    upload: int = Field(0, ge=0, le=10_000_000, description="KiB a second that an upload may take; 0: no limit.")
    download: int = Field(0, ge=0, le=10_000_000, description="KiB a second that a restore may take; 0: no limit.")
    drill: Drill = Drill()
    ping: Url = Field(
        "",
        description="Address called after each run (`/start` before it, `/fail` after a failed one); empty: none.",
    )
    restic: Restic = Restic()
