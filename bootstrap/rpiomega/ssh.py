"""The system's OpenSSH: the owner's configuration, agent, known hosts and jump hosts work as they are."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from rpiomega import ssh_key
from rpiomega.errors import NodeError, Stopped

CONNECT_TIMEOUT = 8
# A dead board is noticed after this long without an answer; a busy one answers within it.
ALIVE_INTERVAL, ALIVE_COUNT = 10, 6
PAUSE = 1.0

# What ssh says -> kind, cause, next step. The first match counts. {at} is the destination, {user} the login.
_CAUSES = [
    (
        r"REMOTE HOST IDENTIFICATION HAS CHANGED|Host key verification failed",
        "host key",
        "the host key of {at} is not the one known for it",
        "after writing the card anew: `ssh-keygen -R {name}{known}`, then again; otherwise find out who answers there",
    ),
    (
        r"Too many authentication failures",
        "auth",
        "{at} gave up: the agent offers too many keys",
        "name the right key in users.identity of the site file",
    ),
    (
        r"Permission denied",
        "auth",
        "{at} refuses the key login of user {user}",
        "check users.admin and users.identity of the site file; `ssh-copy-id {user}@{at}` brings your key there",
    ),
    (
        r"Could not resolve hostname",
        "unreachable",
        "the name {at} does not resolve",
        "check the node's `host` in the site file, or give an address",
    ),
    (
        r"Connection refused",
        "refused",
        "{at} is up, but no SSH server answers",
        "switch SSH on (an empty file `ssh` on the boot partition, or raspi-config), check users.port",
    ),
    (
        r"timed out|No route to host|Network is unreachable|Host is down",
        "unreachable",
        "{at} does not answer",
        "check power, cable or Wi-Fi, and the node's address in the site file",
    ),
    (
        r"kex_exchange_identification: .*(?:closed|reset)",
        "lost",
        "{at} closes the connection before the login",
        "after failed logins its SSH server does so for a minute: wait, then again; `journalctl -u ssh` there",
    ),
    (
        r"Connection (?:closed|reset)|kex_exchange_identification|Broken pipe|not responding|client_loop|mux_client",
        "lost",
        "the connection to {at} was lost",
        "check the board's power and network, then run the same command again",
    ),
]


class SshError(NodeError):
    """SSH does not get through.

    `kind`: unreachable, refused, host key, auth, sudo, python, space, lost, timeout or other.
    """

    def __init__(self, kind: str, cause: str, cure: str):
        super().__init__(cause, cure)
        self.kind = kind


@dataclass(frozen=True)
class Settings:
    """How to log in; what is empty is left to the owner's ssh_config."""

    user: str
    port: int = 22
    identity: Path | None = None
    known_hosts: Path | None = None
    config: Path | None = None


def classify(stderr: str, at: str, settings: Settings) -> SshError:
    """Given what ssh wrote to standard error, return the error with its kind, cause and next step."""
    known = f" -f {settings.known_hosts}" if settings.known_hosts else ""
    for pattern, kind, cause, cure in _CAUSES:
        if re.search(pattern, stderr):
            name = at if settings.port == 22 else f"'[{at}]:{settings.port}'"
            values = {"at": at, "user": settings.user, "known": known, "name": name}
            return SshError(kind, cause.format(**values), cure.format(**values))
    lines = [line for line in stderr.splitlines() if line.strip()]
    if lines:
        cure = f"try `ssh {settings.user}@{at}` by hand"
        return SshError("other", f"ssh to {at} failed: {lines[-1].strip()}", cure)
    # A shared connection that breaks takes its words along.
    return classify("Connection closed", at, settings)


def _weightiest(errors: list[SshError]) -> SshError:
    """Return what to say when no destination lets us in: the last that said more than silence, else all of them."""
    telling = [error for error in errors if error.kind not in ("unreachable", "refused")]
    if telling:
        return telling[-1]
    first, *others = sorted(errors, key=lambda error: error.kind != "refused")  # a board that refuses is up
    return SshError(first.kind, ", ".join(error.cause for error in (first, *others)), first.cure)


class Pool:
    """The connections of one run of the program: shared masters in a private folder, one way to end them all."""

    def __init__(self, settings: Settings):
        if not shutil.which("ssh"):
            raise NodeError("the ssh command is missing on this machine", "install openssh-client")
        self.settings = settings
        # Short, because a socket's path must fit in 108 bytes.
        self.folder = tempfile.mkdtemp(prefix="rpo-", dir="/tmp")
        self.stop = threading.Event()
        self.known_hosts_lock = threading.Lock()
        self._remotes: list[Remote] = []

    def remote(
        self, destinations: list[str], log: Callable[[str], None] = lambda line: None, alias: str = ""
    ) -> Remote:
        """Return a Remote for a board that is at one of `destinations`; `alias`: whose host key it must show.

        The last of them is the board's own address: once that is known, what comes before it may be another board's.
        """
        if len(destinations) > 1 and self._known(destinations[-1]):
            destinations = [destinations[-1], *destinations[:-1]]
        remote = Remote(self, destinations, log, alias=alias)
        self._remotes.append(remote)
        return remote

    def _known(self, address: str) -> bool:
        """Return whether the known hosts hold a key for an address."""
        name = address if self.settings.port == 22 else f"[{address}]:{self.settings.port}"
        line = ["ssh-keygen", "-F", name]
        line += ["-f", str(self.settings.known_hosts)] if self.settings.known_hosts else []
        return subprocess.run(line, capture_output=True, timeout=15, check=False).returncode == 0

    def cancel(self) -> None:
        """Ask everything under way to end; the boards finish what must not be cut short."""
        self.stop.set()
        for remote in self._remotes:
            remote.hang_up()

    def close(self) -> None:
        """End the shared connections and remove their folder."""
        for remote in self._remotes:
            remote.kill()
            remote.end_master()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_) -> None:
        self.close()


@dataclass
class Remote:
    """One board over SSH."""

    pool: Pool
    destinations: list[str]
    log: Callable[[str], None]
    at: str = ""
    alias: str = ""
    _running: list[subprocess.Popen] = field(default_factory=list)

    def argv(self, *command: str, at: str = "", timeout: float = CONNECT_TIMEOUT) -> list[str]:
        """Return the ssh command line for a remote shell command; `timeout`: seconds to wait for a connection."""
        settings = self.pool.settings
        options = {
            "BatchMode": "yes",
            "ConnectTimeout": max(2, round(timeout)),
            "StrictHostKeyChecking": "accept-new",
            "ServerAliveInterval": ALIVE_INTERVAL,
            "ServerAliveCountMax": ALIVE_COUNT,
            "ControlMaster": "auto",
            "ControlPath": f"{self.pool.folder}/%C",
            "ControlPersist": 60,
            "LogLevel": "ERROR",
        }
        if settings.known_hosts:
            options["UserKnownHostsFile"] = f'"{settings.known_hosts}"'
        if self.alias:
            options["HostKeyAlias"] = self.alias
        if settings.identity:
            options["IdentitiesOnly"] = "yes"
        line = ["ssh", "-T"]
        line += ["-F", str(settings.config)] if settings.config else []
        line += ["-i", str(settings.identity)] if settings.identity else []
        line += ["-p", str(settings.port)] if settings.port != 22 else []
        for key, value in options.items():
            line += ["-o", f"{key}={value}"]
        return [*line, "-l", settings.user, "--", at or self.at or self.destinations[0], *command]

    def connect(self, bound: float) -> str:
        """Wait until SSH answers at one of the destinations; return that one.

        A board that is down or still booting is asked again until `bound` seconds have passed; anything else
        (key, login, host key) is an error at once. Raise SshError.
        """
        deadline = time.monotonic() + bound
        patience = CONNECT_TIMEOUT
        while True:
            errors = []
            for at in self.destinations:
                try:
                    self._try(at, patience)
                except SshError as failure:
                    errors.append(failure)
                else:
                    self.at = at
                    return at
            error = _weightiest(errors)
            if error.kind not in ("unreachable", "refused", "lost"):
                raise error
            if time.monotonic() > deadline:
                waited = f" (waited {bound:.0f} s)" if bound else ""
                raise SshError(error.kind, error.cause + waited, error.cure)
            self.log(f"waiting for SSH at {' or '.join(self.destinations)}: {error.cause}")
            if self.pool.stop.wait(PAUSE):
                raise Stopped
            patience = min(CONNECT_TIMEOUT, deadline - time.monotonic())

    def _try(self, at: str, timeout: float) -> None:
        # The connection may stand and the login still take long, on a board that has just booted.
        result = self._run(self.argv("true", at=at, timeout=timeout), None, timeout + CONNECT_TIMEOUT * 2)
        if result.returncode:
            stderr, settings = result.stderr.decode(errors="replace"), self.pool.settings
            error = classify(stderr, at, settings)
            said = error.kind == "auth" and ssh_key.explain(stderr, self.argv(at=at), at, settings.user)
            raise SshError("auth", *said) if said else error

    def run(self, script: str, stdin: bytes | None = None, timeout: float = 60) -> subprocess.CompletedProcess:
        """Run a POSIX shell script on the board; return it completed, with bytes. Raise SshError, Stopped."""
        result = self._run(self.argv(f"sh -c {shlex.quote(script)}"), stdin, timeout)
        if result.returncode == 255:
            raise classify(result.stderr.decode(errors="replace"), self.at, self.pool.settings)
        return result

    def upload(self, source: Path, target: str, timeout: float = 1800) -> None:
        """Copy a file to a path only root can read."""
        folder, path = shlex.quote(str(Path(target).parent)), shlex.quote(target)
        script = self.as_root(f"(umask 022; mkdir -p {folder}) && chmod 700 {folder} && cat > {path}")
        self.log(f"sending {source.name} ({source.stat().st_size // 1_000_000} MB) to {target}")
        with source.open("rb") as stream:
            process = self._start(self.argv(f"sh -c {shlex.quote(script)}"), stdin=stream)
        self._copied(process, source.name, timeout)

    def download(self, source: str, target: Path, timeout: float = 1800) -> None:
        """Copy a file of the board here."""
        self.log(f"fetching {source}")
        with target.open("wb") as stream:
            process = self._start(self.argv(f"sh -c {shlex.quote(self.as_root(f'cat {source}'))}"), stdout=stream)
        self._copied(process, source, timeout)

    def _copied(self, process: subprocess.Popen, name: str, timeout: float) -> None:
        stderr = self._finish(process, None, timeout)[1].decode(errors="replace")
        if process.returncode == 255:
            raise classify(stderr, self.at, self.pool.settings)
        if "No space left" in stderr:
            raise SshError("space", f"no space left for {name}", "free some space (`df -h`)")
        if process.returncode:
            raise SshError("other", f"{name} cannot be copied: {stderr.strip() or 'no reason given'}", "see the log")

    @staticmethod
    def as_root(script: str) -> str:
        """Return a script that runs `script` as root, through sudo where the login is not root."""
        quoted = shlex.quote(f"umask 077; {script}")
        return f'if [ "$(id -u)" = 0 ]; then exec sh -c {quoted}; else exec sudo -n sh -c {quoted}; fi'

    def start(self, script: str) -> subprocess.Popen:
        """Start a script whose standard input and output the caller handles; `hang_up` closes its input."""
        return self._start(self.argv(f"sh -c {shlex.quote(script)}"), stdin=subprocess.PIPE)

    def ended(self, process: subprocess.Popen) -> None:
        """Forget a process the caller has waited for."""
        if process in self._running:
            self._running.remove(process)

    def _start(self, argv: list[str], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) -> subprocess.Popen:
        if self.pool.stop.is_set():
            raise Stopped
        # A session of its own: Ctrl-C reaches this program, which ends its children in order.
        process = subprocess.Popen(argv, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE, start_new_session=True)
        self._running.append(process)
        return process

    def _run(self, argv: list[str], stdin: bytes | None, timeout: float) -> subprocess.CompletedProcess:
        process = self._start(argv, stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE)
        out, err = self._finish(process, stdin, timeout)
        return subprocess.CompletedProcess(argv, process.returncode, out, err)

    def _finish(self, process: subprocess.Popen, stdin: bytes | None, timeout: float) -> tuple[bytes, bytes]:
        try:
            out, err = process.communicate(stdin, timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            # Not communicate(): the shared connection holds the other ends until the remote command ends.
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream:
                    stream.close()
            raise SshError("timeout", f"{self.at} did not answer within {timeout:.0f} s", "try it by hand") from None
        finally:
            self.ended(process)
        if self.pool.stop.is_set() and process.returncode:
            raise Stopped
        return out or b"", err or b""

    def hang_up(self) -> None:
        """Close the input of what runs, so that the board's part ends by itself; end it here after a grace."""
        for process in list(self._running):
            try:
                if process.stdin:
                    process.stdin.close()
                else:
                    process.terminate()
            except OSError:
                pass

    def kill(self) -> None:
        """End what is left."""
        for process in list(self._running):
            process.kill()

    def end_master(self) -> None:
        """Close the shared connection, if there is one."""
        if self.at:
            line = self.argv(at=self.at)
            line[1:1] = ["-O", "exit"]
            subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, timeout=10, check=False)
