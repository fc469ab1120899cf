"""Rules of the section `backup` that span several keys of the site file."""

from __future__ import annotations

from collections.abc import Iterator

from rpiomega.site.backup import Restic
from rpiomega.site.errors import Problem
from rpiomega.site.schema import Site

DOCKER = "/var/lib/docker"  # where the engine's data is, unless the site says otherwise
NO_FILES = ("/proc", "/sys", "/dev", "/run")  # what the kernel shows there, or what a reboot empties
# Keys with these rights could delete snapshots; what of B2's capabilities deletes, or makes such a key:
# backblaze.com/docs/cloud-storage-application-key-capabilities
DELETES = {"deleteFiles", "deleteBuckets", "writeKeys", "bypassGovernance", "writeBuckets", "writeBucketRetentions"}


def problems(site: Site) -> Iterator[Problem]:
    """Yield what is wrong with the backups of a site whose single values are all right."""
    yield from _paths(site)
    backup = site.backup
    if backup.immutable > backup.hidden_days:
        cause = f"B2 keeps a file for immutable ({backup.immutable}) days, so hidden_days frees nothing before"
        yield Problem(("backup", "hidden_days"), f"{backup.hidden_days}: {cause}", f"{backup.immutable} or more")
    if backup.restic.version != Restic().version and backup.restic.source != "distribution":
        if not backup.restic.sha256:
            cause = f"no checksum of restic {backup.restic.version} is known"
            cure = "add backup.restic.sha256, {arm64: ...}, from SHA256SUMS of that release"
            yield Problem(("backup", "restic", "version"), cause, cure)
    elif backup.restic.sha256:
        cause = "it is read for another version of the vendor's binary than the default only"
        yield Problem(("backup", "restic", "sha256"), cause, "delete it, or give that version")
    if backup.bucket:
        yield from _bucket(site)


def warnings(site: Site) -> Iterator[str]:
    """Yield what weakens the backups of a valid site."""
    for name, key in site.b2.application_keys.items():
        rights = sorted(DELETES & set(key.capabilities))
        if site.backup.bucket and key.all_buckets and rights and not site.backup.immutable:
            yield (
                f"b2.application_keys.{name} has {', '.join(rights)} for all buckets, so whoever takes over the master "
                "can delete the backups: give it one bucket, or set backup.immutable"
            )


def _bucket(site: Site) -> Iterator[Problem]:
    bucket = site.backup.bucket
    # B2 compares bucket names without regard to capitals.
    for name in site.b2.buckets:
        if name.lower() == bucket.lower():
            cause = f"`rpiomega backup init` sets up {bucket} with rules of its own (backup.bucket)"
            yield Problem(("b2", "buckets", name), cause, "delete it here")
    for name, key in site.b2.application_keys.items():
        rights = sorted(DELETES & set(key.capabilities))
        if (key.bucket or "").lower() == bucket.lower() and rights:
            cause = f"{', '.join(rights)} for {bucket}, so whoever takes over the master can delete the backups"
            yield Problem(("b2", "application_keys", name, "capabilities"), cause, "leave these rights out")


def _paths(site: Site) -> Iterator[Problem]:
    roots = {site.docker.data_root or DOCKER} | {node.docker.data_root or DOCKER for node in site.nodes.values()}
    left_out = {pattern.rstrip("/") for pattern in site.backup.exclude}
    for number, path in enumerate(site.backup.paths):
        key = ("backup", "paths", number)
        for root in sorted(roots):
            if _within(path, root):
                cause = f"{path} is Docker's data, which changes while it is copied"
                yield Problem(key, cause, "delete it: volumes are saved one by one, as backup.volumes says")
            elif _within(root, path) and root not in left_out:
                cause = f"{path} contains Docker's data, {root}, which changes while it is copied"
                yield Problem(key, cause, f"add {root} to backup.exclude, or name the folders below {path}")
        for folder in NO_FILES:
            if _within(path, folder):
                yield Problem(key, f"{path} is no folder of files that stay", "delete it")


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")
