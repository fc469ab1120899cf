"""Salt in a virtual environment, for boards the project has no packages for.

One board of a kind builds it; all others unpack what that one built, at the very same path.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import shutil
import sys

from rpiomega.node import apt, files, job_steps
from rpiomega.node.board import Board
from rpiomega.node.shell import Result
from rpiomega.node.step import Diff, StepError

LINK = "/opt/rpiomega/salt"
HOME = "/opt/rpiomega/salt.d"
SCRATCH = "/opt/rpiomega/tmp"
MARK = ".rpiomega.json"
COMMANDS = ("salt", "salt-call", "salt-cp", "salt-key", "salt-master", "salt-minion", "salt-run")
LIBRARIES = ("docker", "py-consul")
# Change this when a build of the same name would hold something else.
REVISION = "1"
BUILD_MB, UNPACK_MB = 1300, 500
BUILD_BOUND = 3600.0  # an old board compiles for long


def key(board: Board, version: str) -> str:
    """Return the name of a build: boards with the same one can share it."""
    release = board.release()
    result = board.shell.run(["dpkg", "--print-architecture"])
    python = "py{}.{}".format(*sys.version_info[:2])
    codename = release.get("VERSION_CODENAME") or release.get("VERSION_ID", "unknown")
    return "-".join([f"salt{version}", result.output.strip(), release.get("ID", "linux"), codename, python, REVISION])


def installed(board: Board) -> dict:
    """Return the marker of the finished build that is in use ({"key", "salt", ...}), an empty dict if there is none."""
    try:
        return json.loads(board.read(f"{LINK}/{MARK}") or "{}")
    except ValueError:
        return {}


class Pip:
    """The environment as it should be; `archive` (with its `sha256`) spares the build."""

    def __init__(self, board: Board, args: job_steps.Salt):
        self.board = board
        self.version = args.version
        self.name = args.key
        self.archive = args.archive
        self.sha256 = args.sha256
        self.pack = args.pack
        self.home = f"{HOME}/{self.name}"
        self.packed: dict = {}

    def check(self) -> Diff:
        """Return what is missing."""
        diff = Diff()
        if installed(self.board).get("key") != self.name:
            how = "unpack a build of it" if self.archive else "build it"
            diff.add(f"install Salt {self.version} with {' and '.join(LIBRARIES)} to {self.home} ({how})")
        if self._linked(LINK) != self.home:
            diff.add(f"link {LINK} -> {self.home}")
        for command in COMMANDS:
            if self._linked(f"/usr/local/bin/{command}") != f"{LINK}/bin/{command}":
                diff.add(f"link /usr/local/bin/{command} -> {LINK}/bin/{command}")
        return diff

    def apply(self) -> None:
        """Build or unpack, then switch the links over."""
        if not os.path.exists(f"{self.home}/{MARK}"):
            shutil.rmtree(self.home, ignore_errors=True)  # what an interrupted run left
            os.makedirs(HOME, exist_ok=True)
            if self.archive:
                self._unpack()
            else:
                self._build()
            self._prove()
        self._link(LINK, self.home)
        for command in COMMANDS:
            self._link(f"/usr/local/bin/{command}", f"{LINK}/bin/{command}")
        if self.pack and not self.archive:
            self._pack()

    def _build(self) -> None:
        self.board.need_space("/opt", BUILD_MB, "building Salt")
        # timelib has wheels for few machines; on 32-bit boards cffi, pyzmq and others have none either.
        packages = ["python3-venv", "gcc", "libc6-dev", "python3-dev"]
        if os.uname().machine.startswith("armv"):
            packages += ["g++", "make", "libffi-dev", "libssl-dev", "libzmq3-dev"]
        apt.install(self.board, packages)
        # A noexec /tmp would stop the compilers.
        os.makedirs(SCRATCH, mode=0o700, exist_ok=True)
        try:
            cure = "see this node's log"
            self.board.shell.must([sys.executable, "-m", "venv", self.home], cure, timeout=300)
            # A range: a mirror may not yet hold what the very newest release pins.
            salt = f"salt=={self.version}" if "." in self.version else f"salt~={self.version}.0"
            command = [
                f"{self.home}/bin/pip",
                "install",
                "--no-input",
                "--disable-pip-version-check",
                "--prefer-binary",
            ]
            result = self.board.shell.run(
                [*command, salt, *LIBRARIES], timeout=BUILD_BOUND, env={"TMPDIR": SCRATCH, "PIP_CACHE_DIR": SCRATCH}
            )
            if result.code:
                raise _error(result)
        finally:
            shutil.rmtree(SCRATCH, ignore_errors=True)

    def _unpack(self) -> None:
        self.board.need_space("/opt", UNPACK_MB, "Salt")
        digest = _sha256(self.archive)
        if digest != self.sha256:
            raise StepError(f"{self.archive} arrived damaged (sha256 {digest[:12]})", "run the bootstrap again")
        part = f"{self.home}.part"
        shutil.rmtree(part, ignore_errors=True)
        os.makedirs(part)
        cure = "remove it from the workstation's cache and run the bootstrap again"
        self.board.shell.must(["tar", "-xzf", self.archive, "-C", part, "--no-same-owner"], cure, timeout=900)
        os.rename(part, self.home)
        os.unlink(self.archive)

    def _prove(self) -> None:
        """Import what was installed, then mark it finished."""
        program = (
            "import consul, docker, salt.minion, salt.version; assert hasattr(consul, 'Consul');"
            "print('salt', salt.version.__version__)"
        )
        cure = "see this node's log; a damaged archive in the workstation's cache can be removed"
        result = self.board.shell.must([f"{self.home}/bin/python", "-W", "ignore", "-c", program], cure, timeout=180)
        os.sync()  # the mark after what it marks: a power cut leaves no mark on files without content
        mark = {"key": self.name, "salt": result.last.split()[-1], "libraries": LIBRARIES}
        files.write(f"{self.home}/{MARK}", json.dumps(mark) + "\n")

    def _pack(self) -> None:
        path = f"/opt/rpiomega/{self.name}.tar.gz"
        # gzip -1: on a board time is dearer than a few megabytes on the wire.
        command = ["tar", "-C", self.home, "--exclude", f"./{MARK}", "-I", "gzip -1", "-cf", path, "."]
        self.board.shell.must(command, "see this node's log", timeout=900)
        os.chmod(path, 0o644)
        self.packed = {"path": path, "sha256": _sha256(path), "size": os.path.getsize(path)}

    def _linked(self, path: str) -> str:
        try:
            return os.readlink(self.board.path(path))
        except OSError:
            return ""

    def _link(self, path: str, target: str) -> None:
        if self._linked(path) == target:
            return
        if os.path.isdir(path) and not os.path.islink(path):
            raise StepError(f"{path} is a folder, not this bootstrap's link", f"move {path} away")
        temporary = f"{path}.rpiomega"
        if os.path.lexists(temporary):
            os.unlink(temporary)
        os.symlink(target, temporary)
        os.replace(temporary, path)


def links(board: Board) -> list[str]:
    """Return our commands in /usr/local/bin, which are found before those of Salt's packages."""
    paths = [f"/usr/local/bin/{command}" for command in COMMANDS]
    real = [path for path in paths if os.path.islink(board.path(path))]
    return [path for path in real if os.readlink(board.path(path)).startswith(f"{LINK}/bin/")]


def site_packages(board: Board) -> list[str]:
    """Return the site-packages folders of the environment in use."""
    return glob.glob(board.path(f"{LINK}/lib/python3.*/site-packages"))


def _sha256(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        for block in iter(lambda: handle.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def _error(result: Result) -> StepError:
    output = result.output
    if "No space left" in output:
        return StepError("building Salt: no space left", "free some space (`df -h`)")
    if "NewConnectionError" in output or "Could not fetch URL" in output or "Temporary failure in name" in output:
        cause = "building Salt: the Python package index does not answer"
        return StepError(cause, "check the board's network, and sources.pip_index of the site file")
    if "CERTIFICATE_VERIFY_FAILED" in output:
        cause = "building Salt: the Python package index has a certificate the board does not know"
        return StepError(cause, "check the clock, and sources.ca_bundle of the site file")
    errors = [line.strip() for line in output.splitlines() if line.strip().lower().startswith("error:")]
    return StepError(f"building Salt: {errors[-1] if errors else result.last}", "see this node's log")
