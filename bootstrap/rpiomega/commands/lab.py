"""`rpiomega lab ...`: virtual Pis on this machine."""

from __future__ import annotations

import functools
import os
import sys
import time

import click

from rpiomega.lab import engine, image, lifecycle, network, pi, state
from rpiomega.lab.demo import run as run_demo
from rpiomega.lab.engine import LabError
from rpiomega.lab.phases import Phases
from rpiomega.lab.state import Lab

DOCKER = click.option(
    "--docker",
    type=click.Choice(["vendor", "distribution"]),
    help="Whose packages; default: as before, or vendor: the lab's own repository in the place of Docker's.",
)
SALT = click.option(
    "--salt",
    type=click.Choice(["onedir", "pip"]),
    help="Where Salt comes from; default: as before, or pip; onedir: the lab's own repository in the place of Salt's.",
)
B2 = click.option(
    "--b2/--no-b2",
    default=None,
    help="A stand-in for Backblaze B2 that the nodes reach; default: as before, or none. Its key: .lab/NAME/b2-admin.",
)
# Options end at NODE: what follows is a command with options of its own.
OWN_FIRST = {"allow_interspersed_args": False}
NAME = click.option("--name", default="demo", show_default=True, help="Which lab.")


def _report(line: str) -> None:
    click.echo(f"{time.strftime('%H:%M:%S')} {line}", err=True)


def _errors(function):
    """Print a LabError as one line and exit with 1."""

    @functools.wraps(function)
    def wrapped(*args, **kwargs):
        try:
            return function(*args, **kwargs)
        except LabError as err:
            click.echo(f"lab: {err}", err=True)
            return sys.exit(1)

    return wrapped


def _command(words: tuple[str, ...], node: str) -> list[str]:
    """Return the command that was typed after NODE, without the `--` that may stand before it.

    Raises click.UsageError for an option of ours in its place.
    """
    if words[:1] == ("--",):
        return list(words[1:])
    if words and words[0].partition("=")[0] in click.get_current_context().help_option_names + ["--name"]:
        raise click.UsageError(f"`{words[0]}` belongs before {node}; `--` begins a command: {node} -- {words[0]}")
    return list(words)


@click.group()
def lab() -> None:
    """Virtual Pis on this machine: one container each, with systemd, SSH and NetworkManager."""


@lab.command()
@NAME
@click.option("--nodes", type=click.IntRange(1, network.SLOTS), help="How many; default: as before, or 3.")
@click.option("--release", type=click.Choice(image.RELEASES), help="Debian's; default: as before, or trixie.")
@click.option("--stack", type=click.Choice(image.STACKS), help="What owns eth0; default: as before, or NetworkManager.")
@DOCKER
@SALT
@B2
@_errors
def up(name: str, nodes: int | None, release: str | None, stack: str | None, b2: bool | None, **sources) -> None:
    """Bring a lab up: make what is missing, start what is off."""
    made = lifecycle.bring_up(_report, name, nodes, release, stack, b2=b2, **sources)
    for what, meaning in sorted(made.limits.items()):
        click.echo(f"limit {what}: {meaning}")
    click.echo(f"lab {name}: {made.nodes} nodes; rpiomega lab ssh --name {name} {made.node_names()[0]}")
    click.echo(f"site file: {made.site_file}")


@lab.command()
@NAME
@click.option("--nodes", type=click.IntRange(1, network.SLOTS), help="How many; default: as before, or 3.")
@click.option("--release", type=click.Choice(image.RELEASES), help="Debian's; default: as before, or trixie.")
@DOCKER
@SALT
@B2
@_errors
def demo(name: str, nodes: int | None, release: str | None, b2: bool | None, **sources: str | None) -> None:
    """Turn virtual Pis into a verified cluster, with the commands a person would type."""
    phases = Phases()
    try:
        made = run_demo(lambda: lifecycle.bring_up(_report, name, nodes, release, b2=b2, **sources), phases)
    finally:
        click.echo(f"\n{phases.summary()}")
    option = "" if name == "demo" else f" --name {name}"
    click.echo(f"look around: rpiomega lab ssh{option} {made.node_names()[0]}    (in .venv/bin)")
    click.echo(f"remove it all: {'make demo-down' if name == 'demo' else f'rpiomega lab down{option}'}")


@lab.command()
@NAME
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@_errors
def status(name: str, as_json: bool) -> None:
    """Show a lab's nodes."""
    found = state.existing(name)
    rows = lifecycle.status(engine.connect(), found)
    if as_json:
        click.echo(lifecycle.describe(found, rows))
        return
    for row in rows:
        text = f"{row['node']:<18}{row['address']:<17}{','.join(row['roles']):<16}{row['power']:<8}{row['systemd']}"
        click.echo(text.rstrip())


@lab.command(context_settings=OWN_FIRST)
@NAME
@click.argument("node")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@_errors
def ssh(name: str, node: str, command: tuple[str, ...]) -> None:
    """Log in on NODE as pi, or run COMMAND there; `--` before it keeps ssh from reading its options."""
    found = state.existing(name)
    if node not in found.node_names():
        raise LabError(f"{node} is no node of lab {name}: it has {', '.join(found.node_names())}")
    words = _command(command, node)
    # ssh reads options after the host too, unless they were ended before it.
    host = ["--", node] if command[:1] == ("--",) else [node]
    os.execvp("ssh", ["ssh", "-F", str(found.ssh_config), *host, *words])


@lab.command(name="exec", context_settings=OWN_FIRST)
@NAME
@click.argument("node")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@_errors
def execute(name: str, node: str, command: tuple[str, ...]) -> None:
    """Run COMMAND on NODE as root, without SSH (through the container engine)."""
    words = _command(command, node)
    if not words:
        raise click.UsageError(f"COMMAND is missing after `--`: rpiomega lab exec {node} -- ls -l")
    container = pi.find(engine.connect(), state.existing(name), node)

    def write(stream: int, data: bytes) -> None:
        out = sys.stderr if stream == 2 else sys.stdout
        out.buffer.write(data)
        out.flush()

    sys.exit(engine.execute(container, words, write))


@lab.command()
@NAME
@click.argument("node")
@_errors
def kill(name: str, node: str) -> None:
    """Cut NODE's power."""
    pi.kill(pi.find(engine.connect(), state.existing(name), node))


@lab.command()
@NAME
@click.argument("node")
@_errors
def start(name: str, node: str) -> None:
    """Give NODE power again, and wait until it has booted."""
    found = state.existing(name)
    container = pi.find(engine.connect(), found, node)
    with engine.explained(f"cannot start {node}"):
        container.start()
    pi.wait_booted(found, node, container)
    pi.wait_login(found, node)


@lab.command()
@NAME
@click.option("--purge", is_flag=True, help="Remove the images and the download cache too.")
@_errors
def down(name: str, purge: bool) -> None:
    """Remove a lab: containers, disks, network, files."""
    client = engine.connect()
    removed = lifecycle.down(client, name)
    click.echo(f"removed: {', '.join(removed)}" if removed else f"nothing there of lab {name}")
    if (results := Lab(name).results).exists():
        click.echo(f"kept: {results}")
    if purge:
        click.echo(f"removed: {', '.join(lifecycle.purge(client))}")
    else:
        click.echo("kept for the next lab: images and download cache (`rpiomega lab down --purge` removes them)")
