"""The whole path on virtual Pis, with the commands a person would type, from `lab up` to `status`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import click

from omega.core.polling import until_clear
from rpiomega.lab import remote, smoke
from rpiomega.lab.engine import LabError
from rpiomega.lab.phases import Phases
from rpiomega.lab.state import Lab

ROOT = Path(__file__).resolve().parents[3]
CONNECT_BOUND = 90
APPLY_BOUND = 1500


def run(bring_up, phases: Phases) -> Lab:
    """Run the demo on the lab that `bring_up` returns; raise LabError at the first thing that does not work."""
    with phases.phase("virtual Pis"):
        lab = bring_up()
        for what, meaning in sorted(lab.limits.items()):
            click.echo(f"limit of this host: {what}: {meaning}")
    with phases.phase("bootstrap"):
        bootstrap(lab)
    with phases.phase("accept keys"):
        accept(lab)
    with phases.phase("apply states"):
        apply(lab)
    with phases.phase("verify"):
        verify(lab)
    with phases.phase("smoke service"):
        check_service(lab)
    click.echo()
    _rpiomega(lab, "status", 120)
    return lab


def bootstrap(lab: Lab) -> None:
    """Run `rpiomega bootstrap` on all nodes."""
    _rpiomega(lab, "bootstrap", 1800)


def accept(lab: Lab) -> None:
    """Accept the minions' keys on the master, and wait until all minions are connected."""
    _on_master(lab, "sudo salt-key -A -y", 60)
    wait_connected(lab)


def apply(lab: Lab) -> None:
    """Apply all states on all nodes at once."""
    _on_master(lab, "sudo salt '*' state.apply", APPLY_BOUND)


def verify(lab: Lab) -> None:
    """Run every check of `rpiomega verify` on every node."""
    _rpiomega(lab, "verify", 600)


def check_service(lab: Lab) -> None:
    """Run the smoke service: its port on every node, the overlay network between all of them."""
    with smoke.service(lab):
        for node in smoke.answers(lab):
            click.echo(f"{node} answers at http://{lab.node_address(node)}:{smoke.PORT}/")
        if lab.nodes > 1:
            pairs = smoke.overlay_traffic(lab)
            click.echo(f"overlay network: {len(pairs)} of {lab.nodes * (lab.nodes - 1)} directions carry traffic")


def wait_connected(lab: Lab, bound: float = CONNECT_BOUND) -> None:
    """Wait until every node's minion answers its master; raise LabError naming those that do not."""
    missing = until_clear(lambda: _unconnected(lab) or _silent(lab), bound)
    if missing:
        raise LabError(
            f"{', '.join(missing)}: the Salt minion does not answer its master after {bound:.0f} s; "
            f"`rpiomega lab ssh --name {lab.name} {missing[0]} sudo journalctl -u salt-minion` says why"
        )


def _unconnected(lab: Lab) -> list[str]:
    """Return the nodes without a connection to the master's publisher: asking them would only cost Salt's time-outs."""
    command = "ss -Htn state established '( sport = :4505 )'"
    peers = remote.run(lab, lab.node_names()[0], command, bound=30, check=False)
    return [name for name in lab.node_names() if f"{lab.node_address(name)}:" not in peers.replace("[::ffff:", "")]


def _silent(lab: Lab) -> list[str]:
    """Return the nodes whose minion does not answer a ping."""
    command = "sudo salt --out=json --static --timeout=5 '*' test.ping"
    text = remote.run(lab, lab.node_names()[0], command, bound=60, check=False)
    try:
        seen = json.loads(text or "{}")
    except ValueError:
        seen = {}
    return [name for name in lab.node_names() if seen.get(name) is not True]


def _on_master(lab: Lab, command: str, bound: float) -> None:
    master = lab.node_names()[0]
    click.secho(f"{master}$ {command}", fg="cyan")
    _stream(remote.argv(lab, master, command), f"`{command}` on {master}", bound)


def _rpiomega(lab: Lab, command: str, bound: float) -> None:
    """Run a command of `rpiomega` on the lab's site file, as a person would."""
    arguments = [command, "--site", str(lab.site_file)]
    click.secho(f"$ {remote.quote('rpiomega', *arguments)}", fg="cyan")
    _stream([sys.executable, "-m", "rpiomega", *arguments], f"`rpiomega {command}`", bound)


def _stream(command: list[str], what: str, bound: float) -> None:
    sys.stdout.flush()
    try:
        code = subprocess.run(command, timeout=bound, check=False, cwd=ROOT, env=dict(os.environ)).returncode
    except subprocess.TimeoutExpired:
        raise LabError(f"{what} took more than {bound:.0f} s") from None
    if code:
        raise LabError(f"{what} failed with exit code {code}: see above")
