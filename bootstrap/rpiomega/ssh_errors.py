"""What ssh says when it does not get through -> kind, cause and next step."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from omega.core.errors import KindOfFailure
from rpiomega.errors import NodeError

if TYPE_CHECKING:
    from rpiomega.ssh import Settings

# What ssh says -> kind, cause, next step. The first match counts. {at} is the destination, {user} the login.
_CAUSES = [
    (
        r"host key is known for .* you have requested strict checking",
        "host key",
        "no host key of {at} is known, and ssh_config asks for strict checking",
        "compare the key that `ssh-keyscan {at}` prints with the one on the board's screen, and add it to known_hosts",
    ),
    (
        r"REMOTE HOST IDENTIFICATION HAS CHANGED|Host key verification failed",
        "host key",
        "the host key of {at} is not the one known for it",
        "after rewriting the card: `ssh-keygen -R {name}{known}`, then again; otherwise find out who answers there",
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
        "check power, cable or Wi-Fi, and that its `host` in the site file is where it answers today",
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


class SshError(KindOfFailure, NodeError):
    """SSH does not get through.

    `kind`: unreachable, refused, host key, auth, sudo, python, space, lost, timeout or other. A board that is down or
    still booting is one of TRANSIENT.
    """

    TRANSIENT = frozenset({"unreachable", "refused", "lost"})


def classify(stderr: str, at: str, settings: Settings, name: str = "") -> SshError:
    """Given what ssh wrote to standard error, return the error with its kind, cause and next step.

    `at`: the destination; `name`: the one under which ssh knows its host key, where that differs.
    """
    held = re.search(r"^Offending .* key in (.+):\d+", stderr, re.MULTILINE)
    file = str(settings.known_hosts or "") or (held[1] if held else "")
    known = f" -f {shlex.quote(file)}" if file else ""
    for pattern, kind, cause, cure in _CAUSES:
        if re.search(pattern, stderr):
            known_as = name or (at if settings.port == 22 else f"[{at}]:{settings.port}")
            values = {"at": at, "user": settings.user, "known": known, "name": shlex.quote(known_as)}
            return SshError(kind, cause.format(**values), cure.format(**values))
    lines = [line for line in stderr.splitlines() if line.strip()]
    if lines:
        cure = f"try `ssh {settings.user}@{at}` by hand"
        return SshError("other", f"ssh to {at} failed: {lines[-1].strip()}", cure)
    # A shared connection that breaks takes its words along.
    return classify("Connection closed", at, settings)


def weightiest(errors: list[SshError]) -> SshError:
    """Return the error to report when no destination lets us in: the last one with more than silence, else all."""
    telling = [error for error in errors if error.kind not in ("unreachable", "refused")]
    if telling:
        return telling[-1]
    first, *others = sorted(errors, key=lambda error: error.kind != "refused")  # a board that refuses is up
    return SshError(first.kind, ", ".join(error.cause for error in (first, *others)), first.cure)
