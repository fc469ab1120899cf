"""Commands on the lab's nodes over SSH, as a person at the workstation would give them."""

from __future__ import annotations

import shlex
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rpiomega.lab.engine import LabError
from rpiomega.lab.state import Lab


def argv(lab: Lab, node: str, command: str) -> list[str]:
    """Return the ssh call that runs a shell command on a node."""
    return ["ssh", "-F", str(lab.ssh_config), "-o", "BatchMode=yes", node, command]


def run(lab: Lab, node: str, command: str, bound: float = 120, check: bool = True) -> str:
    """Run a shell command on a node as pi, return its standard output.

    Raises LabError if it fails (and `check` is true) or takes longer than `bound` seconds.
    """
    try:
        done = subprocess.run(
            argv(lab, node, command),
            capture_output=True,
            text=True,
            timeout=bound,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        raise LabError(f"{node}: `{_short(command)}` took more than {bound:.0f} s") from None
    if check and done.returncode:
        cause = (done.stderr or done.stdout).strip()[-300:]
        raise LabError(f"{node}: `{_short(command)}` failed with {done.returncode}: {cause}")
    return done.stdout.strip()


def run_everywhere(lab: Lab, command: str, bound: float = 120) -> dict[str, str]:
    """Run a shell command on all nodes side by side; return node -> output."""
    names = lab.node_names()
    with ThreadPoolExecutor(len(names)) as pool:
        outputs = list(pool.map(lambda name: run(lab, name, command, bound), names))
    return dict(zip(names, outputs, strict=True))


def send(lab: Lab, node: str, source: Path, target: str) -> None:
    """Copy a file to a node."""
    done = subprocess.run(
        ["scp", "-q", "-F", str(lab.ssh_config), str(source), f"{node}:{target}"],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    if done.returncode:
        raise LabError(f"{node}: cannot copy {source.name}: {done.stderr.strip()[-200:]}")


def quote(*words: str) -> str:
    """Return words as one shell command."""
    return shlex.join(words)


def _short(command: str) -> str:
    line = command.strip().splitlines()[0]
    return line if len(line) < 80 else line[:77] + "..."
