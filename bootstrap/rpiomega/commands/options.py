"""What the commands share: `--site`, the options of all commands that go to the nodes, and what they make of them."""

from __future__ import annotations

import fnmatch
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import click

from rpiomega import report
from rpiomega.bulk import Bulk
from rpiomega.errors import NodeError
from rpiomega.site import Site, SiteError, load
from rpiomega.site.load import unknown_node
from rpiomega.ssh import Pool, Settings

SITE = click.option(
    "--site",
    "site_file",
    type=click.Path(path_type=Path),
    default=Path("pillar/site.sls"),
    envvar="RPIOMEGA_SITE",
    show_default=True,
    help="The site file.",
)


def read_site(path: Path) -> Site:
    """Return the site, or end the command with every problem of the file and exit code 2."""
    try:
        return load(path)
    except SiteError as error:
        click.echo(error, err=True)
        sys.exit(2)


def over_ssh(command: Callable) -> Callable:
    """Add the arguments and options of all commands that go to the nodes: those that `ready` takes, and `--wait`."""
    return connection(click.argument("nodes", nargs=-1, metavar="[NODE]...")(command))


def connection(command: Callable) -> Callable:
    """Add the options of all commands that go to the nodes, for one that takes its nodes in another form."""
    jobs = click.option("--jobs", "-j", type=click.IntRange(1), default=16, show_default=True, help="Nodes at once.")
    return jobs(over_master(command))


def over_master(command: Callable) -> Callable:
    """Add the options of the commands that go to the master alone: those of `over_ssh` without nodes and `--jobs`."""
    command = SITE(command)
    file = click.Path(path_type=Path, exists=True, dir_okay=False)
    command = click.option("--ssh-config", type=file, help="ssh_config to use instead of yours.")(command)
    logs = click.Path(path_type=Path, file_okay=False)
    command = click.option("--log-dir", type=logs, envvar="RPIOMEGA_LOGS", help="Folder of the nodes' logs.")(command)
    seconds = click.FloatRange(0)
    wait = click.option("--wait", type=seconds, default=60, show_default=True, help="Seconds to wait for SSH.")
    return wait(command)


def ready(
    site_file: Path, nodes: tuple[str, ...], ssh_config: Path | None, log_dir: Path | None, jobs: int
) -> tuple[Site, Pool, Bulk]:
    """Return the site, its connection pool and a row for each node; end with exit code 2 if an argument is wrong."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)  # ends in order, as Ctrl-C does
    site = read_site(site_file)
    nodes = _chosen(site, nodes)
    wrong = unknown_node(site, nodes)
    if wrong:
        raise click.UsageError(wrong)
    # The master first: with few jobs at once, others would wait for it in vain.
    names = sorted(nodes or site.nodes, key=lambda name: name != site.master.name)
    base = site_file.parent
    users = site.users
    settings = Settings(
        user=users.admin,
        port=users.port,
        identity=(base / Path(users.identity).expanduser()).resolve() if users.identity else None,
        known_hosts=(base / Path(users.known_hosts).expanduser()).resolve() if users.known_hosts else None,
        config=ssh_config,
    )
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    folder = log_dir or state / "rpiomega" / "logs" / site.cluster
    try:
        bulk = Bulk(dict.fromkeys(names), folder, jobs, report.console())
    except OSError as error:
        raise click.UsageError(
            f"logs cannot be written to {folder}: {error.strerror}; name another folder with --log-dir"
        ) from None
    return site, Pool(settings, lambda text: click.echo(f"warning: {text}", err=True)), bulk


def exit_code(bulk: Bulk, interrupted: bool, error: NodeError | None) -> int:
    """Return 130 if the run was interrupted, 1 if `error` or a node's failure ended it, else 0."""
    if interrupted:
        return 130
    return 1 if error or bulk.failed() else 0


def _chosen(site: Site, nodes: tuple[str, ...]) -> tuple[str, ...]:
    """Return the nodes named; a pattern (``rpiomega-*``) stands for those of the site that match it."""
    found: list[str] = []
    for name in nodes:
        found += [known for known in site.nodes if fnmatch.fnmatchcase(known, name)] or [name]
    return tuple(dict.fromkeys(found))
