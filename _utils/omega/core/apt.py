"""apt and dpkg as the states call them: without questions, and once no other program holds their locks."""

from __future__ import annotations

import os
import subprocess

from omega.core import apt_rules as rules
from omega.core.errors import Failure
from omega.core.polling import until_clear

BOUND = 1800  # seconds: packages of some hundred MB on a slow card
LOCK_BOUND = 120
Done = subprocess.CompletedProcess


class AptError(Failure):
    """A package manager did not end, or cannot be repaired; the text says what to do next."""


def get(*arguments: str) -> Done:
    """Run apt-get once no other does; before it installs or downloads, what an interrupted dpkg left is finished.

    :param arguments: what follows the common options
    :return: the finished process, output as text
    :raises AptError: it did not end in time, or dpkg cannot be repaired
    """
    if "install" in arguments and "--simulate" not in arguments:
        repair()
    # By itself apt-get waits for dpkg's lock, and not for those of the lists and the downloads.
    done = []

    def locked() -> bool:
        done.append(run(*rules.APT, *arguments))
        return rules.LOCKED in done[-1].stderr

    until_clear(locked, LOCK_BOUND, pause=1)
    return done[-1]


def update() -> str:
    """Fetch the package lists; return what apt printed if it refuses a source or does not reach it, else "".

    :raises AptError: it did not end in time
    """
    done = get("update")
    return done.stdout + done.stderr if done.returncode else ""


def repair() -> bool:
    """Finish what an interrupted dpkg has left, once no other is at work; return True if there was anything.

    :raises AptError: a package does not let itself be configured, or another dpkg does not end
    :raises OSError: the card does not let dpkg's folder be read
    """
    done: list[Done] = []

    def in_use() -> bool:
        # While another dpkg is at work it looks as if it had been interrupted.
        done[:] = [run(*rules.DPKG, "--configure", "-a")] if rules.interrupted() else []
        return bool(done) and rules.refused_in_use(done[0].stderr)

    if until_clear(in_use, LOCK_BOUND, pause=1):
        raise AptError(f"{problem(done[0])} ({LOCK_BOUND} s have passed)")
    if done and done[0].returncode:
        raise AptError(f"dpkg was interrupted before, and cannot finish: {problem(done[0])}")
    return bool(done)


def problem(done: Done) -> str:
    """Return in one line what a finished process says is wrong, and the next step if it is known."""
    known = rules.explain(done.stdout + done.stderr)
    if known:
        return "; ".join(known)
    lines = rules.errors(done.stderr) or rules.errors(done.stdout)
    return lines[0] if lines else f"exit code {done.returncode}"


def run(*command: str) -> Done:
    """Run a program of apt's or dpkg's without a terminal; return the finished process, output as text.

    :raises AptError: it did not end within BOUND seconds
    """
    try:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=BOUND,
            check=False,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **rules.ENVIRONMENT},
        )
    except subprocess.TimeoutExpired:
        cause = f"`{command[0]}` did not end within {BOUND} s"
        raise AptError(cause, "see `pgrep -a apt`, `pgrep -a dpkg`") from None
