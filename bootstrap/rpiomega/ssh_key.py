"""Why a login by key was refused, as far as this machine can tell: no key, a closed one, one that ssh ignores."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from rpiomega import ssh_config

_OPEN = re.compile(r"Permissions (\d+) for '(.+)' are too open")
_UNREADABLE = re.compile(r'Load key "(.+)": (.+)')


def explain(stderr: str, argv: list[str], at: str, user: str) -> tuple[str, str] | None:
    """Return cause and cure of a refused login, or None if the keys here are all right.

    `stderr`: what ssh said; `argv`: the ssh command line up to the destination's options, for its configuration.
    """
    settings = ssh_config.effective(argv)
    files = [Path(name).expanduser() for name in settings.get("identityfile", [])]
    keys = [path for path in files if path.is_file()]
    agent = _agent(settings.get("identityagent", [""])[0])
    public = [path for path in keys if path.suffix == ".pub" and not _known(path, agent)]
    if public:
        cure = f"users.identity of the site file names the private key, {public[0].with_suffix('')}"
        return f"{public[0]} is a public key, and no agent has the private one", cure
    found = _OPEN.search(stderr)
    if found:
        return f"ssh ignores the key {found[2]}: others can read it (mode {found[1]})", f"chmod 600 {found[2]}"
    found = _UNREADABLE.search(stderr)
    if found:
        cure = "users.identity of the site file names a private key that you can read"
        return f"ssh cannot use the key {found[1]} ({found[2].strip()})", cure
    closed = [path for path in keys if _closed(path) and not _known(path, agent)]
    if closed and len(closed) == len(keys) and not (agent and settings.get("identitiesonly") != ["yes"]):
        cure = f"`ssh-add {closed[0]}` asks for it (before, if no agent runs: `eval $(ssh-agent)`), then again"
        return f"the key {closed[0]} has a passphrase, and no agent knows it", cure
    if not keys and not agent:
        cure = f"`ssh-keygen -t ed25519` makes one, `ssh-copy-id {user}@{at}` brings it there"
        return f"this machine has no SSH key to log in to {at} as user {user}", cure
    return None


def _agent(socket: str) -> set[str]:
    """Return the fingerprints of the agent's keys; `socket`: what ssh_config says instead of SSH_AUTH_SOCK."""
    named = socket not in ("", "none", "SSH_AUTH_SOCK")
    return _fingerprints("ssh-add", "-l", socket=os.path.expanduser(socket) if named else "")


def _fingerprints(*argv: str, socket: str = "") -> set[str]:
    return set(re.findall(r"SHA256:\S+", _run(*argv, socket=socket).stdout))


def _known(path: Path, agent: set[str]) -> bool:
    return bool(_fingerprints("ssh-keygen", "-l", "-f", str(path)) & agent)


def _closed(path: Path) -> bool:
    """Return whether a private key has a passphrase."""
    return "passphrase" in _run("ssh-keygen", "-y", "-P", "", "-f", str(path)).stderr


def _run(*argv: str, socket: str = "") -> subprocess.CompletedProcess:
    environment = ssh_config.environment(**({"SSH_AUTH_SOCK": socket} if socket else {}))
    try:
        return subprocess.run(
            argv, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=15, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return subprocess.CompletedProcess(argv, 1, "", "")
