"""The Docker Engine of this machine: connection, names, labels, and what it may not give away."""

from __future__ import annotations

import contextlib
import os
import re
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import docker.errors
import requests.exceptions
from docker.models.containers import Container

from omega.core.errors import Failure

LABEL = "rpiomega.lab"
# linux/capability.h, in bit order. The three newest (PERFMON BPF CHECKPOINT_RESTORE) are left out: Docker 20.10 may
# not know them, and SYS_ADMIN holds their powers.
CAPABILITIES = re.findall(
    r"\w+",
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE "
    "NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT "
    "SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE "
    "AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ",
)
# Stream and length: Engine API, "Attach to a container", stream format.
_FRAME = struct.Struct(">BxxxL")
PROXY_VARIABLES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
PIP_VARIABLES = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST")


class LabError(Failure):
    """What went wrong and what to do about it, in one line."""


def connect() -> docker.DockerClient:
    """Return a client of the Docker daemon.

    Raises LabError if none answers.
    """
    try:
        client = docker.from_env(version="auto", timeout=180)
        client.ping()
        return client
    except docker.errors.DockerException as err:
        cause = str(err)
    if "Permission denied" in cause or "PermissionError" in cause:
        raise LabError("Docker refuses this user: run as root, or `sudo usermod -aG docker $USER` and log in again")
    raise LabError(
        f"no Docker daemon answers ({_last_cause(cause)}): run `sh bootstrap/workstation.sh` as root, "
        "which installs and starts one, or set DOCKER_HOST"
    )


@contextlib.contextmanager
def explained(doing: str) -> Iterator[None]:
    """Turn the engine's exceptions into a LabError that says what was being done."""
    try:
        yield
    except docker.errors.APIError as err:
        raise LabError(f"{doing}: {err.explanation or err}") from err
    except (docker.errors.DockerException, requests.exceptions.RequestException) as err:
        raise LabError(f"{doing}: {_last_cause(str(err))}") from err


def missing_capabilities() -> list[str]:
    """Return the capabilities that no container of this machine can have: the daemon's bounding set lacks them."""
    bound = _bounding_set(Path("/proc/self/status"))
    with contextlib.suppress(OSError, ValueError):
        pid = int(Path("/run/docker.pid").read_text())
        bound &= _bounding_set(Path(f"/proc/{pid}/status"))
    return [name for bit, name in enumerate(CAPABILITIES) if not bound >> bit & 1]


def settings_to_pass_on(*names: str) -> dict[str, str]:
    """Return the named variables of this process that are set, without credentials being looked at."""
    return {name: os.environ[name] for name in names if os.environ.get(name)}


def run(container: Container, command: list[str] | str, check: bool = True) -> str:
    """Run a command in a container as root, return what it printed.

    Raises LabError if it fails and `check` is true.
    """
    argv = ["sh", "-c", command] if isinstance(command, str) else command
    pieces: list[bytes] = []
    code = execute(container, argv, lambda stream, data: pieces.append(data))
    text = b"".join(pieces).decode(errors="replace").strip()
    if check and code:
        raise LabError(f"{container.name}: `{' '.join(argv)[:80]}` failed with {code}: {text[-300:]}")
    return text


def execute(container: Container, argv: list[str], write: Callable[[int, bytes], object]) -> int:
    """Run a command in a container as root and return its code; `write` gets its output: stream (1 or 2) and bytes.

    docker-py's exec_run reads past the buffer that took the answer's head, and loses what came with it (docker-py
    issue 3332). Without an upgrade of the connection the same frames are the answer's plain body (Engine API, "Start
    an exec instance").

    Raises LabError if the engine refuses.
    """
    api = container.client.api
    with explained(f"{container.name}: cannot run {argv[0]}"):
        session = api.exec_create(container.id, argv)["Id"]
        url = f"{api.base_url}/v{api.api_version}/exec/{session}/start"
        with api.post(url, json={"Detach": False, "Tty": False}, stream=True, timeout=(api.timeout, None)) as answer:
            if not answer.ok:
                raise LabError(f"{container.name}: cannot run {argv[0]}: {answer.text.strip()[:200]}")
            while len(head := answer.raw.read(_FRAME.size)) == _FRAME.size:
                stream, length = _FRAME.unpack(head)
                write(stream, answer.raw.read(length))
        return api.exec_inspect(session)["ExitCode"]


def _bounding_set(status: Path) -> int:
    for line in status.read_text().splitlines():
        if line.startswith("CapBnd:"):
            return int(line.split()[1], 16)
    raise ValueError(f"no CapBnd in {status}")


def _last_cause(text: str) -> str:
    """The innermost message of nested exceptions, which print as First('...', Second(2, 'No such file'))."""
    quoted = re.findall(r"'([^']+)'", text)
    return (quoted[-1] if quoted else text)[:160]
