"""Runs the board's part (`rpiomega.node`) over SSH: one zipapp, one job in, events out."""

from __future__ import annotations

import dataclasses
import functools
import io
import json
import shlex
import threading
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import omega
from omega.core import apt_rules
from rpiomega.errors import NodeError, Stopped
from rpiomega.node.job_steps import Clock, JobStep
from rpiomega.ssh import Remote, SshError, classify

# Exit codes of the launcher, which speaks before there is any Python.
NO_SUDO, NO_PYTHON, NO_SPACE = 91, 92, 93
# `launcher` puts assignments of the variables in capitals before it. sudo passes no environment on, so `env` does.
# /dev/shm is in memory: a card that is full or read-only can still be examined.
LAUNCHER = r"""
umask 077
if [ "$(id -u)" = 0 ]; then become=; else become="sudo -n"; sudo -n true || exit $NO_SUDO; fi
if ! command -v python3 >/dev/null; then
  [ "$INSTALL" = yes ] && command -v apt-get >/dev/null || exit $NO_PYTHON
  quiet="$become env $ENVIRONMENT"
  set -- /var/lib/dpkg/updates/*
  [ ! -e "$1" ] || $quiet $DPKG --configure -a </dev/null >&2 || exit $NO_PYTHON
  apt="$quiet $APT"
  { $apt install python3 || { $apt update && $apt install python3; }; } </dev/null >&2 || exit $NO_PYTHON
fi
folder=$(mktemp -d /dev/shm/rpiomega.XXXXXX 2>/dev/null || mktemp -d /tmp/rpiomega.XXXXXX) || exit $NO_SPACE
trap 'rm -rf "$folder"' EXIT
trap 'exit 129' HUP INT TERM
head -c $SIZE >"$folder/node.pyz" || exit $NO_SPACE
$become python3 -I "$folder/node.pyz"
"""


def launcher(size: int, install: bool) -> str:
    """Return the script that reads a zipapp of `size` bytes and runs it; `install`: bring Python first if it lacks."""
    variables = {
        "SIZE": size,
        "INSTALL": "yes" if install else "no",
        "ENVIRONMENT": " ".join(f"{name}={value}" for name, value in apt_rules.ENVIRONMENT.items()),
        "DPKG": " ".join(apt_rules.DPKG),
        "APT": " ".join(apt_rules.APT),
        "NO_SUDO": NO_SUDO,
        "NO_PYTHON": NO_PYTHON,
        "NO_SPACE": NO_SPACE,
    }
    return "\n".join(f"{name}={shlex.quote(str(value))}" for name, value in variables.items()) + LAUNCHER


@functools.cache
def zipapp() -> bytes:
    """Return the board's part as a zip archive Python can run. The same sources give the same bytes."""
    package, formula = Path(__file__).parent, Path(omega.__file__).parent
    sources = {"__main__.py": package / "node" / "__main__.py"}
    for root, folder in ((package, "node"), (formula, "core")):
        sources[f"{root.name}/__init__.py"] = root / "__init__.py"
        for path in sorted([*(root / folder).rglob("*.py"), *(root / folder).rglob("*.json")]):
            sources[f"{root.name}/{path.relative_to(root)}"] = path
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, path in sources.items():
            archive.writestr(zipfile.ZipInfo(name), path.read_bytes(), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def run(
    remote: Remote, steps: Sequence[JobStep], on_event: Callable[[dict], None], dry_run: bool = False
) -> dict[str, dict]:
    """Run `steps` on a board; call `on_event` with each event.

    A board without Python gets it by apt first, except in a dry run.

    Return step -> its ``done`` event, and the board's facts under ``facts``. Raise NodeError (with the step) if one
    fails, SshError if the connection does, Stopped if the user cancelled.
    """
    program = zipapp()
    process = remote.start(launcher(len(program), not dry_run))
    errors: list[bytes] = []
    reader = threading.Thread(
        target=lambda: errors.append(process.stderr.read() if process.stderr else b""), daemon=True
    )
    reader.start()
    try:
        now = time.time()
        timed = [dataclasses.replace(step, now=now) if isinstance(step, Clock) else step for step in steps]
        job = {"steps": [step.item() for step in timed], "dry_run": dry_run}
        if process.stdin:
            process.stdin.write(program + json.dumps(job).encode() + b"\n")
            process.stdin.flush()
    except OSError:
        pass  # ssh ended already; its exit code and words say why
    try:
        done, failed = _listen(process, on_event)
    finally:
        process.wait()
        remote.ended(process)
    reader.join(timeout=5)
    if remote.pool.stop.is_set():
        raise Stopped
    if failed:
        raise failed
    if process.returncode:
        raise _launch_error(process.returncode, b"".join(errors).decode(errors="replace"), remote)
    return done


def _listen(process: Any, on_event: Callable) -> tuple[dict, NodeError | None]:
    done, failed = {}, None
    for line in process.stdout:
        try:
            event = json.loads(line)
            kind = event["event"]
        except (ValueError, KeyError, TypeError):
            continue  # a login script that talks
        if kind == "facts":
            done["facts"] = event
        elif kind == "done":
            done[event["step"]] = event
        elif kind == "failed":
            failed = NodeError(event["cause"], event["cure"], event["step"])
        on_event(event)
    return done, failed


def _launch_error(code: int, stderr: str, remote: Remote) -> SshError:
    user, last = remote.pool.settings.user, (stderr.strip().splitlines() or ["no reason given"])[-1]
    if code == NO_SUDO:
        right, file = f"echo '{user} ALL=(ALL) NOPASSWD: ALL'", f"/etc/sudoers.d/{user}"
        # Since April 2026 Raspberry Pi OS asks for a password (pi-gen, release notes; do_sudo_pass 1 in 01-sys-tweaks).
        cure = f"on the board: {right} | sudo tee {file}; or (Raspberry Pi OS): sudo raspi-config nonint do_sudo_pass 1"
        if "not found" in last:
            cure = f"on the board, as root: apt-get install sudo && {right} > {file}"
        return SshError("sudo", f"user {user} cannot use sudo without a password ({last})", cure)
    if code == NO_PYTHON:
        cure = "on the board: sudo apt-get install python3 (or its system's package of Python 3.9 or newer)"
        return SshError("python", f"there is no python3 on the board, and none could be installed ({last})", cure)
    if code == NO_SPACE:
        cure = "look for card errors with `dmesg`" if "Read-only" in last else "free some space (`df -h`)"
        return SshError("space", f"nothing can be written to /dev/shm or /tmp ({last})", cure)
    if code == 255:
        return classify(stderr, remote.at, remote.pool.settings)
    return SshError("other", f"the board's part ended with exit code {code} ({last})", "see this node's log")
