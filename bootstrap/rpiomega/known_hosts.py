"""The files of known hosts: which keys they hold for a name, and how a board's keys are written down."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from rpiomega import ssh_config

if TYPE_CHECKING:
    from rpiomega.ssh import Remote

Keys = set[tuple[str, str]]


def keys(name: str, paths: list[str]) -> Keys:
    """Return the (type, key) pairs that files of known hosts hold for a name, hashed or not."""
    return {pair for path in paths for pair in _keys(name, path)}


def _keys(name: str, path: str) -> Keys:
    found = _keygen("-F", name, "-f", path).stdout
    lines = [line.split() for line in found.splitlines() if line and not line.startswith(("#", "@"))]
    return {(words[1], words[2]) for words in lines if len(words) > 2}


def fingerprint(path: Path) -> str:
    """Return the fingerprint of the first key in a file of known hosts ("SHA256:..."), empty if there is none."""
    words = _keygen("-l", "-f", str(path)).stdout.split()
    return next((word for word in words if word.startswith("SHA256:")), "")


def forget(name: str, path: str) -> None:
    """Remove all keys of a name from a file of known hosts."""
    _keygen("-R", name, "-f", path)


def remember_address(remote: Remote, address: str) -> None:
    """Write the host key of a connected board down for `address` too; an older key of another machine there goes.

    Only for an address that is this board's: the key of the connection vouches for it.
    """
    shown = remote.effective()
    alias, paths = ssh_config.known_as(shown), remote.files(shown)
    name = ssh_config.known_as(remote.effective(address))
    if alias == name or not paths:
        return
    own = keys(alias, paths)
    if not own or keys(name, paths[:1]) >= own:
        return
    with remote.pool.known_hosts_lock:
        forget(name, paths[0])
        _append(paths[0], [f"{name} {kind} {key}\n" for kind, key in sorted(own)])
    remote.log(f"known host: {name} has the key of {alias}")


def replace(remote: Remote, public: list[str]) -> None:
    """Replace a board's keys by `public` (lines "type key"), under every name it is reached at."""
    shown = remote.effective()
    # A board is known by its alias in ssh_config, by the name it was reached at, and by its address.
    names = {ssh_config.known_as(remote.effective(at)) for at in {remote.at, *remote.destinations}}
    names.add(ssh_config.known_as(shown))
    path = remote.files(shown)[0]
    with remote.pool.known_hosts_lock:
        for name in sorted(names):
            forget(name, path)
        _append(path, [f"{name} {key}\n" for name in sorted(names) for key in public])


def _append(path: str, lines: list[str]) -> None:
    Path(path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(path, "a+b") as stream:
        stream.seek(max(stream.seek(0, 2) - 1, 0))
        if stream.read(1) not in (b"", b"\n"):  # a last line without its end
            stream.write(b"\n")
        stream.write("".join(lines).encode())


def _keygen(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["ssh-keygen", *arguments],
        env=ssh_config.environment(),
        capture_output=True,
        text=True,
        timeout=15,
        check=False,
    )
