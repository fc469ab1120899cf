"""Salt from the project's own apt repository (arm64 and amd64 only), or a mirror: pinned key, pinned release.

Source: the project's install guide, "Linux (DEB)".
"""

from __future__ import annotations

import http.client
import os
import urllib.request

from omega.core import apt_sources, openpgp
from rpiomega.node import apt, files, salt_pip
from rpiomega.node.board import Board
from rpiomega.node.files import File
from rpiomega.node.job_steps import Repository
from rpiomega.node.step import Diff, StepError

SOURCES = f"{apt_sources.PARTS}/salt.sources"
PREFERENCES = "/etc/apt/preferences.d/rpiomega-salt"
# Where the project's packages were offered before, and where they are: their entries trust other keys.
PLACES = (
    "repo.saltproject.io",
    "repo.saltstack.com",
    "archive.repo.saltproject.io",
    "packages.broadcom.com/artifactory/saltproject-deb",
)
KEYRING = "/etc/apt/keyrings/salt-archive-keyring.gpg"
ARCHITECTURES = ("amd64", "arm64")
PYTHON = "/opt/saltstack/salt/bin/python3"
LIBRARIES = ("docker", "py-consul")
_ASK = """
import importlib.metadata, sys
for name in sys.argv[1:]:
    try:
        importlib.metadata.distribution(name)
        print(name)
    except importlib.metadata.PackageNotFoundError:
        pass
"""
PROBE_BOUND = 6.0
_NETWORK = "check the board's network, or write `source: pip` in section salt of the site file"


def reachable(uri: str) -> str:
    """Return an empty string if the repository at `uri` answers, else why not."""
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/dists/stable/InRelease", timeout=PROBE_BOUND) as answer:
            return "" if answer.status == 200 else f"HTTP {answer.status}"
    except (OSError, http.client.HTTPException) as error:
        return str(getattr(error, "reason", error))


def installed(board: Board) -> str:
    """Return the version of the salt-minion package, an empty string if it is not installed."""
    if not board.has("dpkg-query"):
        return ""
    result = board.shell.run(["dpkg-query", "-W", "-f", "${db:Status-Status} ${Version}", "salt-minion"])
    status, _, version = result.output.strip().partition(" ")
    return version if status == "installed" and not result.code else ""


def libraries(board: Board) -> set[str]:
    """Return which of LIBRARIES Salt's Python finds; only it knows: each of its releases has a folder of its own."""
    if not board.exists(PYTHON):
        return set()
    return set(board.shell.run([board.path(PYTHON), "-c", _ASK, *LIBRARIES]).output.split()) & set(LIBRARIES)


class Onedir:
    """The packages as they should be: release `version` ("3008" or "3008.3"), with the master or without."""

    def __init__(self, board: Board, version: str, master: bool, repository: Repository):
        self.board = board
        self.uri, self.key_url = repository.uri, repository.key_url
        self.fingerprint = repository.fingerprint.upper()
        self.version = version
        self.notes: list[str] = []
        self.packages = ["salt-minion", "salt-master"] if master else ["salt-minion"]

    def check(self) -> Diff:
        """Return what is missing."""
        diff = Diff()
        change = self._sources()
        for path, text in change.files.items():
            if not path.endswith(".save"):
                diff += File(path, text).diff(self.board)
        diff.lines += change.remarks
        diff += self._pin().diff(self.board)
        if not self._has_key():
            diff.add(f"fetch the key {self.fingerprint} to {KEYRING}")
        for package in apt.missing(self.board, self.packages):
            diff.add(f"install {package} {self.version}")
        have = installed(self.board)
        if have and not self._fits(have):
            diff.add(f"salt {have} -> {self.version}")
        for library in sorted(set(LIBRARIES) - libraries(self.board)):
            diff.add(f"install {library} beside Salt (salt-pip)")
        for path in salt_pip.links(self.board):
            diff.add(f"remove the link {path}: it leads to another installation of Salt")
        return diff

    def apply(self) -> None:
        """Install what is missing."""
        self.board.need_space("/", 700, "Salt")
        apt.install(self.board, ["ca-certificates"])
        self._trust()
        have = installed(self.board)
        if have and not self._fits(have):
            apt.change(self.board, self.packages)
        apt.install(self.board, self.packages)
        # A new point release may bring a new Python and lose what was put beside it (salt#70513).
        wanted = sorted(set(LIBRARIES) - libraries(self.board))
        if wanted:
            cure = "check that the board reaches the Python package index"
            self.board.shell.must(["salt-pip", "install", *wanted], cure, timeout=600)
        for path in salt_pip.links(self.board):
            os.unlink(self.board.path(path))

    def _fits(self, version: str) -> bool:
        return version == self.version or version.startswith(
            (f"{self.version}.", f"{self.version}-", f"{self.version}+")
        )

    def _trust(self) -> None:
        """Have key, source and pin; if apt refuses them, put every file back, so that it goes on working."""
        have, key = self._present()
        wanted = {KEYRING: self._fetched() if key is None else key, PREFERENCES: self._pin().text}
        change = self._sources()
        wanted.update(change.files)
        modes = change.modes(wanted, self.board.root)
        before: dict[str, str | bytes | None] = {path: files.read(self.board.path(path)) for path in wanted}
        before[KEYRING] = have
        wanted = {path: text for path, text in wanted.items() if text != before[path]}
        if not wanted:
            return
        try:
            self._write(wanted, modes)
            apt.update(self.board)
        except BaseException:
            self._write({path: before[path] for path in wanted}, modes)
            raise
        self.notes += change.remarks

    def _write(self, texts: dict, modes: dict) -> None:
        for path, text in texts.items():
            if text is None:
                File(path, None).apply(self.board)
            else:
                files.write(self.board.path(path), text, modes[path])

    def _fetched(self) -> bytes:
        try:
            with urllib.request.urlopen(self.key_url, timeout=30) as answer:
                data = answer.read(1_000_000)
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise StepError(f"Salt's signing key cannot be fetched from {self.key_url}: {error}", _NETWORK) from None
        try:
            return openpgp.pinned(data, self.fingerprint)
        except openpgp.KeyFileError as error:
            cure = "do not go on: a proxy, portal or attacker may have answered; compare with Salt's install guide"
            raise StepError(f"{self.key_url} is not Salt's signing key: {error}", cure) from None

    def _has_key(self) -> bool:
        have, key = self._present()
        return key is not None and have == key

    def _present(self) -> tuple[bytes | None, bytes | None]:
        """Return the keyring as it is, and as it should be if the pinned key is in it."""
        try:
            with open(self.board.path(KEYRING), "rb") as handle:
                have = handle.read()
        except OSError:
            return None, None
        try:
            return have, openpgp.pinned(have, self.fingerprint)
        except openpgp.KeyFileError:
            return have, None

    def _sources(self) -> apt_sources.Change:
        """Return what has to change in apt's sources: ours is the only entry for Salt's packages."""
        stanza = (
            "Types: deb\n"
            f"URIs: {self.uri}\n"
            "Suites: stable\n"
            "Components: main\n"
            f"Architectures: {' '.join(ARCHITECTURES)}\n"
            f"Signed-By: {KEYRING}\n"
        )
        try:
            found = apt_sources.read(self.board.root)
        except OSError as error:
            raise StepError(
                f"{error.filename} cannot be read: {error.strerror}", "check the file and the card"
            ) from None
        return apt_sources.replace(found, SOURCES, stanza, [self.uri], KEYRING, PLACES, self.board.exists)

    def _pin(self) -> File:
        text = (
            f"Package: salt-*\nPin: version {self.version}{'' if '.' in self.version else '.'}*\nPin-Priority: 1001\n"
        )
        return File(PREFERENCES, text)
