"""The system's OpenSSH: the owner's configuration, agent, known hosts and jump hosts work as they are."""

from __future__ import annotations

import hashlib
import shlex
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omega.core.polling import TimedOut, until
from rpiomega import ssh_config, ssh_key
from rpiomega.errors import NodeError, Stopped
from rpiomega.ssh_errors import SshError, classify, weightiest

__all__ = ["Pool", "Remote", "Settings", "SshError", "classify", "shell"]

CONNECT_TIMEOUT = 8
# A dead board is noticed after this long without an answer; a busy one answers within it.
ALIVE_INTERVAL, ALIVE_COUNT = 10, 6
PAUSE = 1.0
FORGETS = (
    "ssh_config keeps no host keys of {at} (UserKnownHostsFile): another machine that answers there later would not be "
    "noticed; name a file in users.known_hosts of the site file"
)


def shell(*words: str) -> str:
    """Return a command for a remote POSIX shell: each word arrives as it is, whatever characters it has."""
    return shlex.join(words)


@dataclass(frozen=True)
class Settings:
    """How to log in; what is empty is left to the owner's ssh_config."""

    user: str
    port: int = 22
    identity: Path | None = None
    known_hosts: Path | None = None
    config: Path | None = None


class Pool:
    """The connections of one run of the program: shared masters in a private folder, one way to end them all."""

    def __init__(self, settings: Settings, warn: Callable[[str], None] = lambda text: None):
        if not shutil.which("ssh"):
            raise NodeError("the ssh command is missing on this machine", "install openssh-client")
        self.settings = settings
        # Short, because a socket's path must fit in 108 bytes.
        self.folder = tempfile.mkdtemp(prefix="rpo-", dir="/tmp")
        self.stop = threading.Event()
        self.known_hosts_lock = threading.Lock()
        self._remotes: list[Remote] = []
        self._owners: dict[tuple[str, ...], dict[str, list[str]]] = {}
        self._warn, self._warned, self._warn_lock = warn, set[str](), threading.Lock()

    def remote(
        self,
        destinations: list[str],
        log: Callable[[str], None] = lambda line: None,
        alias: str = "",
        via: dict[str, str] | None = None,
    ) -> Remote:
        """Return a Remote for a machine that is at one of `destinations`, asked in this order.

        :param alias: the name in known_hosts whose host key it must show
        :param via: destination -> another one, whose settings in ssh_config (port, jump host, key) it takes
        """
        return self.add(Remote(self, destinations, log, alias=alias, via=via or {}))

    def add(self, remote: Remote) -> Remote:
        """Close this Remote with the others; return it."""
        self._remotes.append(remote)
        return remote

    @property
    def private_hosts(self) -> Path:
        """Return the file of host keys for destinations whose keys ssh_config keeps nowhere: for this run alone."""
        return Path(self.folder, "known_hosts")

    def owner(self, line: tuple[str, ...]) -> dict[str, list[str]]:
        """Return the owner's settings for an ssh command line, as `ssh_config.effective`; asked once."""
        if line not in self._owners:
            self._owners[line] = ssh_config.effective(list(line))
        return self._owners[line]

    def warn(self, text: str) -> None:
        """Report something about the whole run to the user, once."""
        with self._warn_lock:
            if text in self._warned:
                return
            self._warned.add(text)
        self._warn(text)

    def cancel(self) -> None:
        """Ask everything under way to end; the boards finish what must not be cut short."""
        self.stop.set()
        for remote in self._remotes:
            remote.hang_up()

    def rest(self, seconds: float) -> None:
        """Sleep; raise Stopped if the user stops meanwhile."""
        if self.stop.wait(seconds):
            raise Stopped

    def close(self) -> None:
        """End the shared connections and remove their folder."""
        for remote in self._remotes:
            remote.kill()
            remote.end_master()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass
class Remote:
    """One machine over SSH."""

    pool: Pool
    destinations: list[str]
    log: Callable[[str], None]
    at: str = ""
    alias: str = ""
    via: dict[str, str] = field(default_factory=dict)
    _running: list[subprocess.Popen] = field(default_factory=list)

    def argv(
        self, *command: str, at: str = "", timeout: float = CONNECT_TIMEOUT, options: dict[str, object] | None = None
    ) -> list[str]:
        """Return the ssh command line for a remote shell command.

        :param timeout: seconds to wait for a connection
        :param options: settings of ssh_config instead of those used otherwise
        """
        at = at or self.at or self.destinations[0]
        shown = self._owner(at)
        strict = ssh_config.value(shown, "stricthostkeychecking") in ("true", "yes") or self.alias
        values: dict[str, object] = {
            "BatchMode": "yes",
            "ConnectTimeout": max(2, round(timeout)),
            "StrictHostKeyChecking": "yes" if strict else "accept-new",
            "ServerAliveInterval": ALIVE_INTERVAL,
            "ServerAliveCountMax": ALIVE_COUNT,
            "ControlMaster": "auto",
            "ControlPath": self.control_path(at),
            "ControlPersist": 60,
            "LogLevel": "ERROR",
            **ssh_config.plain(),
        }
        if self._keeps_nothing(shown):
            self.pool.warn(FORGETS.format(at=at))
            values["UserKnownHostsFile"] = ssh_config.path_value(self.pool.private_hosts)
        elif self.pool.settings.known_hosts:
            values["UserKnownHostsFile"] = ssh_config.path_value(self.pool.settings.known_hosts)
        if self.alias:
            values["HostKeyAlias"] = self.alias
        if self.pool.settings.identity:
            values["IdentitiesOnly"] = "yes"
        line, destination = self._line(at)
        for key, value in (values | (options or {})).items():
            line += ["-o", f"{key}={value}"]
        return [*line, "--", destination, *command]

    def control_path(self, at: str) -> str:
        """Return the socket of the shared connection; one whose host key was judged by another name is another one."""
        text = "\0".join((at, self.via.get(at, at), self.alias))
        return f"{self.pool.folder}/{hashlib.sha256(text.encode()).hexdigest()[:24]}"

    def _line(self, at: str) -> tuple[list[str], str]:
        """Return the command line up to the options of this program, and the destination."""
        settings, destination = self.pool.settings, self.via.get(at, at)
        line = ["ssh", "-T"]
        line += ["-F", str(settings.config)] if settings.config else []
        line += ["-o", f"IdentityFile={ssh_config.path_value(settings.identity)}"] if settings.identity else []
        line += ["-p", str(settings.port)] if settings.port != 22 else []
        line += ["-l", settings.user]
        line += ["-o", f"HostName={at}"] if destination != at else []
        return line, destination

    def _owner(self, at: str) -> dict[str, list[str]]:
        line, destination = self._line(at)
        return self.pool.owner((*line, "--", destination))

    def effective(self, at: str = "") -> dict[str, list[str]]:
        """Return the owner's settings for a destination, with the name whose host key it must show."""
        shown = self._owner(at or self.at or self.destinations[0])
        return shown | {"hostkeyalias": [self.alias]} if self.alias and at in ("", self.at) else shown

    def files(self, shown: dict[str, list[str]]) -> list[str]:
        """Return the files of known hosts for a destination with these settings; the first one is written to."""
        if self._keeps_nothing(shown):
            return [str(self.pool.private_hosts)]
        return [str(self.pool.settings.known_hosts)] if self.pool.settings.known_hosts else ssh_config.files(shown)

    def _keeps_nothing(self, shown: dict[str, list[str]]) -> bool:
        own = self.pool.settings.known_hosts
        return str(own) == "/dev/null" if own else ssh_config.forgets(shown)

    def moved(self, *addresses: str) -> Remote:
        """Return a Remote for the same machine at one of these addresses: the same settings, the same host key."""
        shown, destination = self.effective(), self.via.get(self.at, self.at)
        via = {} if ssh_config.fixed_proxy(shown) else dict.fromkeys(addresses, destination)
        return self.pool.remote(list(addresses), self.log, alias=ssh_config.known_as(shown), via=via)

    def connect(self, bound: float) -> str:
        """Wait until SSH answers at one of the destinations; return that one.

        A board that is down or still booting is asked again until `bound` seconds have passed; anything else
        (key, login, host key, another machine) is an error at once. Raise SshError.
        """
        deadline = time.monotonic() + bound
        errors: list[SshError] = []

        def answered() -> str:
            patience = min(CONNECT_TIMEOUT, deadline - time.monotonic()) if errors else CONNECT_TIMEOUT
            errors.clear()
            at = self.answering(patience, errors)
            if not at:
                raise weightiest(errors)
            return at

        def rest(seconds: float) -> None:
            self.log(f"waiting for SSH at {' or '.join(self.destinations)}: {weightiest(errors).cause}")
            self.pool.rest(seconds)

        def failure(_late: TimedOut) -> SshError:
            error, waited = weightiest(errors), f" (waited {bound:.0f} s)" if bound else ""
            return SshError(error.kind, error.cause + waited, error.cure)

        self.at = until(answered, bound, pause=PAUSE, failure=failure, sleep=rest)
        return self.at

    def answering(self, timeout: float, errors: list[SshError]) -> str:
        """Return the first destination that lets us in, empty if none does; add why not to `errors`."""
        for at in self.destinations:
            try:
                self.ask("true", at, timeout)
            except SshError as failure:
                errors.append(failure)
            else:
                return at
        return ""

    def ask(self, command: str, at: str, timeout: float, options: dict[str, object] | None = None) -> str:
        """Return what a command prints at a destination. Raise SshError if the connection fails, or the command."""
        line = self.argv(command, at=at, timeout=timeout, options=options)
        # The connection may stand and the login still take long, on a board that has just booted.
        result = self._run(line, None, timeout + CONNECT_TIMEOUT * 2)
        if not result.returncode:
            return result.stdout.decode(errors="replace")
        stderr, settings = result.stderr.decode(errors="replace"), self.pool.settings
        error = classify(stderr, at, settings, self.alias or ssh_config.known_as(self._owner(at)))
        said = error.kind == "auth" and ssh_key.explain(stderr, self.argv(at=at), at, settings.user)
        raise SshError("auth", *said) if said else error

    def run(self, script: str, stdin: bytes | None = None, timeout: float = 60) -> subprocess.CompletedProcess:
        """Run a POSIX shell script on the board; return it completed, with bytes. Raise SshError, Stopped."""
        result = self._run(self.argv(shell("sh", "-c", script)), stdin, timeout)
        if result.returncode == 255:
            raise classify(result.stderr.decode(errors="replace"), self.at, self.pool.settings)
        return result

    def upload(self, source: Path, target: str, timeout: float = 1800) -> None:
        """Copy a file to a path only root can read."""
        folder = str(Path(target).parent)
        make, close = shell("mkdir", "-p", "--", folder), shell("chmod", "700", "--", folder)
        script = self.as_root(f"(umask 022; {make}) && {close} && cat > {shell(target)}")
        self.log(f"sending {source.name} ({source.stat().st_size // 1_000_000} MB) to {target}")
        with source.open("rb") as stream:
            process = self._start(self.argv(shell("sh", "-c", script)), stdin=stream)
        self._copied(process, source.name, timeout)

    def download(self, source: str, target: Path, timeout: float = 1800) -> None:
        """Copy a file of the board here."""
        self.log(f"fetching {source}")
        script = self.as_root(shell("cat", "--", source))
        with target.open("wb") as stream:
            process = self._start(self.argv(shell("sh", "-c", script)), stdout=stream)
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
        quoted = shell(f"umask 077; {script}")
        return f'if [ "$(id -u)" = 0 ]; then exec sh -c {quoted}; else exec sudo -n sh -c {quoted}; fi'

    def start(self, script: str) -> subprocess.Popen:
        """Start a script whose standard input and output the caller handles; `hang_up` closes its input."""
        return self._start(self.argv(shell("sh", "-c", script)), stdin=subprocess.PIPE)

    def ended(self, process: subprocess.Popen) -> None:
        """Forget a process the caller has waited for."""
        if process in self._running:
            self._running.remove(process)

    def _start(
        self, argv: list[str], stdin: Any = subprocess.DEVNULL, stdout: Any = subprocess.PIPE
    ) -> subprocess.Popen:
        if self.pool.stop.is_set():
            raise Stopped
        # A session of its own: Ctrl-C reaches this program, which ends its children in order.
        process = subprocess.Popen(
            argv,
            env=ssh_config.environment(),
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
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
            raise SshError(
                "timeout", f"{self.at or self.destinations[0]} did not answer within {timeout:.0f} s", "try it by hand"
            ) from None
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
