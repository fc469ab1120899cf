"""What the owner's ssh_config says, and which of it may not apply to the connections of this program."""

from __future__ import annotations

import functools
import os
import subprocess
from pathlib import Path

# Settings of an interactive login (ssh_config(5)): with them the program's own commands would not run, would run
# twice, or would fail because a port of this machine is taken.
_PLAIN = {
    "RemoteCommand": "none",
    "RequestTTY": "no",
    "PermitLocalCommand": "no",
    "ClearAllForwardings": "yes",
    "ForwardX11": "no",
    "Tunnel": "no",
    "NoHostAuthenticationForLocalhost": "no",
    "EscapeChar": "none",
}
# Since OpenSSH 8.7; an older ssh ends at an option that it does not know.
_NEWER = {"SessionType": "default", "StdinNull": "no", "ForkAfterAuthentication": "no"}
# Names under which ssh keeps no host keys.
_NOWHERE = {"/dev/null", "none"}


def environment(**more: str) -> dict[str, str]:
    """Return the environment for ssh and its tools: `ssh_errors` knows their messages in English only."""
    return {**os.environ, "LC_ALL": "C", **more}


@functools.cache
def plain() -> dict[str, str]:
    """Return the options that keep an owner's settings for interactive logins away from the program's commands."""
    return _PLAIN | (_NEWER if _supported(_NEWER) else {})


@functools.cache
def no_key_command() -> dict[str, str]:
    """Return the options that keep KnownHostsCommand from running, where this ssh knows it (OpenSSH 8.5)."""
    option = {"KnownHostsCommand": "none"}
    return option if _supported(option) else {}


def _supported(options: dict[str, str]) -> bool:
    words = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
    return _run("ssh", "-F", "/dev/null", "-G", *words, "--", "localhost").returncode == 0


def effective(argv: list[str]) -> dict[str, list[str]]:
    """Return ssh's settings for a command line: name in small letters -> values (`ssh -G`); empty if it fails.

    :param argv: a whole ssh command line, or one up to the destination
    """
    found: dict[str, list[str]] = {}
    for line in _run(argv[0], "-G", *argv[1:]).stdout.splitlines():
        name, _, value = line.partition(" ")
        found.setdefault(name, []).append(value)
    return found


def value(settings: dict[str, list[str]], name: str, default: str = "") -> str:
    """Return the first value of a setting."""
    return settings.get(name, [default])[0]


def known_as(settings: dict[str, list[str]]) -> str:
    """Return the name under which ssh looks for the host key (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT)."""
    alias = value(settings, "hostkeyalias")
    if alias and alias != "none":
        return alias
    host, port = value(settings, "hostname"), value(settings, "port", "22")
    return host if port == "22" else f"[{host}]:{port}"


def files(settings: dict[str, list[str]], kind: str = "user") -> list[str]:
    """Return the files of known hosts that ssh reads; `kind`: user or global. Without those that keep nothing."""
    text = value(settings, f"{kind}knownhostsfile")
    # `ssh -G` prints several names with spaces between them, and a name with a space as it is.
    names = [text] if os.path.exists(text) else text.split()
    return [str(Path(name).expanduser()) for name in names if name not in _NOWHERE]


def forgets(settings: dict[str, list[str]]) -> bool:
    """Return whether ssh keeps no host key of this destination: any machine that answers would pass."""
    return bool(settings) and not files(settings) and value(settings, "knownhostscommand") in ("", "none")


def fixed_proxy(settings: dict[str, list[str]]) -> bool:
    """Return whether a ProxyCommand leads to one machine, whatever the destination's address is."""
    command = value(settings, "proxycommand")
    return command not in ("", "none") and "%h" not in command


def path_value(path: Path) -> str:
    """Return a path as the value of an option on the command line: ssh splits at spaces and expands %."""
    text = str(path).replace("%", "%%")
    if not set(text) & set(" '\"\\"):
        return text
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{quoted}"'


def _run(*argv: str) -> subprocess.CompletedProcess:
    try:
        return subprocess.run(
            argv, env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=15, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return subprocess.CompletedProcess(argv, 1, "", "")
