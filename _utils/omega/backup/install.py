"""restic on this node: the distribution's package where it is new enough, else the vendor's binary by its SHA-256."""

from __future__ import annotations

import bz2
import hashlib
import http.client
import json
import os
import re
import ssl
import subprocess
import tempfile
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass

from omega.backup.restic import OLDEST
from omega.core import apt, files
from omega.core.errors import Failure
from omega.docker import packages

PROGRAM = "/usr/local/bin/restic"
STAMP = "/usr/local/lib/rpiomega/restic.json"  # which of PROGRAM's contents this module wrote
RELEASES = "https://github.com/restic/restic/releases/download"
NEWEST_TESTED = "0.19.1"
# Of the .bz2 files, from the release's SHA256SUMS.
SHA256 = {
    "0.19.1": {
        "amd64": "f415415624dcc452f2a02b8c33641791a8c6d6d3b65bbb3543fcf9a25151585c",
        "arm64": "a5f64aaab53d51e311fa3829124c5b703f2d14cf187d8640b6be3b2b49376465",
        "arm": "1edc5f67b0dd0d028586ab28c34b4da7522eabce933b3f6cd04f9ea184c2a502",
    },
}
ARCHITECTURES = {"amd64": "amd64", "arm64": "arm64", "armhf": "arm", "armel": "arm"}  # Debian's name: the vendor's
SECONDS = 60  # without a byte
LARGEST = 256 << 20  # bytes, unpacked; 0.19.1 has 30 MB
CHUNK = 1 << 18
VENDOR = "write `backup: {restic: {source: vendor}}` in the site file"


class InstallError(Failure):
    """restic cannot be had; the text says what to do next."""


@dataclass(frozen=True)
class Facts:
    """What is on the node: `packaged` and `offered` are versions of the distribution, "" if there is none."""

    architecture: str  # as dpkg writes it
    suite: str
    packaged: str
    offered: str
    stamp: Mapping[str, str]  # version, archive and binary (SHA-256) of what this module wrote; {} if nothing
    binary: str  # SHA-256 of what is at PROGRAM, "" if there is nothing


@dataclass(frozen=True)
class Plan:
    """What to do: install a package, or the binary `version` of `url`; `retire`: move a foreign PROGRAM away."""

    package: str = ""
    version: str = ""
    url: str = ""
    archive: str = ""
    remove: bool = False  # the binary that this module wrote earlier
    retire: bool = False

    @property
    def changes(self) -> dict[str, str]:
        """Return what a state reports of this plan."""
        found = {"restic": f"package {self.package}"} if self.package else {}
        if self.url:
            found["restic"] = f"{self.version} of the vendor"
        if self.remove:
            found[PROGRAM] = "removed"
        if self.retire:
            found[PROGRAM] = "kept as a copy, replaced"
        return found


def plan(source: str, version: str, sha256: Mapping[str, str], mirror: str, facts: Facts) -> Plan:
    """Return what brings a new enough restic to the node. Pure.

    :param source: auto, distribution or vendor
    :param version: of the vendor's binary
    :param sha256: {architecture: SHA-256 of the .bz2 file}, for a version that is not in SHA256
    :param mirror: address that has the vendor's releases; "": RELEASES
    :raises InstallError: the distribution has none that is new enough, or no binary or checksum is known
    """
    ours = bool(facts.binary) and facts.stamp.get("binary") == facts.binary
    foreign = bool(facts.binary) and not ours
    if source != "vendor" and max(numbers(facts.packaged), numbers(facts.offered)) >= OLDEST:
        # PROGRAM is before /usr/bin on the PATH, and would be the restic that runs.
        new = facts.offered if numbers(facts.packaged) < OLDEST else ""
        return Plan(package=new, remove=ours, retire=foreign)
    if source == "distribution":
        newest = facts.packaged or facts.offered
        have = f"{facts.suite} has restic {newest}" if newest else f"no package source of {facts.suite} offers restic"
        raise InstallError(f"{have}, and {'.'.join(map(str, OLDEST))} or newer is needed", VENDOR)
    name = ARCHITECTURES.get(facts.architecture, "")
    if not name:
        known = ", ".join(ARCHITECTURES)
        raise InstallError(f"no binary of restic is known for {facts.architecture}", f"known: {known}")
    archive = sha256.get(name) or SHA256.get(version, {}).get(name, "")
    if not archive:
        cure = f"add `{name}: ...` from SHA256SUMS of that release to backup.restic.sha256"
        raise InstallError(f"no checksum of restic {version} for {name} is known", cure)
    if ours and facts.stamp.get("version") == version and facts.stamp.get("archive") == archive:
        return Plan()
    url = f"{(mirror or RELEASES).rstrip('/')}/v{version}/restic_{version}_linux_{name}.bz2"
    return Plan(version=version, url=url, archive=archive, retire=foreign)


def numbers(version: str) -> tuple[int, ...]:
    """Return (0, 18, 0) of 0.18.0-1+b2, () if it is no version."""
    found = re.match(r"(\d+)\.(\d+)\.(\d+)", version)
    return tuple(int(part) for part in found.groups()) if found else ()


def look(program: str = PROGRAM, stamp: str = STAMP, distribution: bool = True) -> Facts:
    """Return the facts of this node.

    :param distribution: whether its packages matter; apt takes seconds to look
    """
    state = packages.look(["restic"]) if distribution else {"installed": {}, "offered": {}}
    release = files.read("/etc/os-release") or ""
    suite = re.search(r'^VERSION_CODENAME="?([a-z]+)', release, re.MULTILINE)
    return Facts(
        architecture=apt.run("dpkg", "--print-architecture").stdout.strip(),
        suite=suite[1] if suite else "this system",
        packaged=state["installed"].get("restic", ""),
        offered=max(state["offered"].get("restic", []), key=numbers, default=""),
        stamp=_stamp(stamp),
        binary=_sha256(program),
    )


def carry_out(made: Plan, program: str = PROGRAM, stamp: str = STAMP) -> None:
    """Do what a plan says. A restic that is in use stays until the new one is whole.

    :raises InstallError: the download or apt failed; what was there is there still
    :raises omega.core.apt.AptError: apt did not end
    """
    if made.package:
        done = apt.get("install", "--no-install-recommends", "restic")
        if done.returncode:
            raise InstallError(f"apt cannot install restic: {apt.problem(done)}", "see `apt-cache policy restic`")
    if made.url:
        _download(made, program, stamp)
    elif made.remove:
        files.remove(program)
        files.remove(stamp)
    elif made.retire:
        os.replace(program, _copy_of(program))


def _download(made: Plan, program: str, stamp: str) -> None:
    folder = os.path.dirname(program)
    os.makedirs(folder, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".restic-") as scratch:
        archive, new = os.path.join(scratch, "restic.bz2"), os.path.join(scratch, "restic")
        _fetch(made, archive)
        _unpack(made, archive, new)
        os.chmod(new, 0o755)
        _try(new, made)
        if made.retire:
            os.replace(program, _copy_of(program))
        # The stamp first: after a power cut between the two the next run sees another binary and downloads again.
        text = json.dumps({"version": made.version, "archive": made.archive, "binary": _sha256(new)})
        files.write(stamp, text + "\n")
        os.replace(new, program)
        files.sync_folder(folder)


def _fetch(made: Plan, path: str) -> None:
    digest, got, length = hashlib.sha256(), 0, 0
    cure = "check DNS, clock and proxy of this node, or set backup.restic.mirror"
    with open(path, "wb") as file:
        try:
            answer = urllib.request.urlopen(made.url, timeout=SECONDS, context=ssl.create_default_context())
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise InstallError(f"{made.url} cannot be fetched ({error})", cure) from None
        with answer:
            length = int(answer.headers.get("Content-Length") or 0)
            while True:
                try:
                    chunk = answer.read(CHUNK)
                except (OSError, http.client.HTTPException) as error:
                    raise InstallError(f"{made.url} ended after {got} bytes ({error})", cure) from None
                if not chunk:
                    break
                got += len(chunk)
                digest.update(chunk)
                file.write(chunk)
                if got > LARGEST:
                    raise InstallError(f"{made.url} is larger than restic can be", "check backup.restic.mirror")
    if got < length:
        raise InstallError(f"{made.url} ended after {got} of {length} bytes", cure)
    if digest.hexdigest() != made.archive:
        cause = f"{made.url} has the SHA-256 {digest.hexdigest()}, not {made.archive}"
        raise InstallError(cause, "a portal, proxy or mirror answered with another file: check backup.restic.mirror")


def _unpack(made: Plan, archive: str, path: str) -> None:
    size = 0
    with bz2.open(archive) as packed, open(path, "wb") as file:
        while True:
            try:
                part = packed.read(CHUNK)
            except (OSError, EOFError) as error:
                raise InstallError(f"{made.url} is no .bz2 file ({error})", "check backup.restic.sha256") from None
            if not part:
                break
            size += len(part)
            if size > LARGEST:
                raise InstallError(f"{made.url} is larger than restic can be", "check backup.restic.mirror")
            file.write(part)
        file.flush()
        os.fsync(file.fileno())


def _try(program: str, made: Plan) -> None:
    """Raise InstallError unless the program runs here and is the version that was asked for."""
    try:
        done = subprocess.run([program, "version"], capture_output=True, text=True, timeout=60, check=False)
        said = (done.stdout or done.stderr).strip()
    except (OSError, subprocess.TimeoutExpired) as error:
        said = str(error)
    if f"restic {made.version} " not in f"{said} ":
        cause = f"{made.url} does not run here as restic {made.version}: {said[:80] or 'it prints nothing'}"
        raise InstallError(cause, "check backup.restic.sha256 and the architecture (`dpkg --print-architecture`)")


def _copy_of(program: str) -> str:
    """Return a free name for the copy of a program that somebody else installed."""
    name, number = f"{program}.before-rpiomega", 1
    while os.path.lexists(name):
        number += 1
        name = f"{program}.before-rpiomega-{number}"
    return name


def _stamp(path: str) -> dict[str, str]:
    try:
        found = json.loads(files.read(path) or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _sha256(path: str) -> str:
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
    except FileNotFoundError:
        return ""
    return digest.hexdigest()
