"""The `rpiomega` command: arguments in, exit code out; what happens is in the modules it calls."""

from __future__ import annotations

import fnmatch
import json
import os
import signal
import sys
from pathlib import Path

import click

import rpiomega
from rpiomega import address, remove_cli, report, roster, scan_cli
from rpiomega.accept import accept as accept_keys
from rpiomega.bootstrap import Bootstrap, Options
from rpiomega.bulk import Bulk
from rpiomega.cache import Cache, default_folder
from rpiomega.doctor import cli as doctor
from rpiomega.errors import NodeError
from rpiomega.firstboot import cli as firstboot
from rpiomega.site import Site, SiteError, checks, load
from rpiomega.site.load import unknown_node
from rpiomega.ssh import Pool, Settings
from rpiomega.status import cli as status
from rpiomega.verify import cli as verify

SITE = click.option(
    "--site",
    "site_file",
    type=click.Path(path_type=Path),
    default=Path("pillar/site.sls"),
    envvar="RPIOMEGA_SITE",
    show_default=True,
    help="The site file.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(rpiomega.__version__)
def main() -> None:
    """Turn Raspberry Pis into one cluster. Exit codes: 0 done, 1 a node failed, 2 bad input, 130 interrupted."""


def read_site(path: Path) -> Site:
    """Return the site, or end the command with every problem of the file and exit code 2."""
    try:
        return load(path)
    except SiteError as error:
        click.echo(error, err=True)
        sys.exit(2)


@main.command()
@SITE
def check(site_file: Path) -> None:
    """Check the site file."""
    site = read_site(site_file)
    for warning in checks.warnings(site):
        click.echo(f"{site_file}: note: {warning}", err=True)
    nodes, managers = report.count(len(site.nodes), "node"), report.count(len(site.managers), "manager")
    click.echo(f"{site_file}: cluster {site.cluster}: {nodes}, {managers}, master {site.master.name}")


def _over_ssh(command):
    """Add the arguments and options of all commands that go to the nodes."""
    command = click.argument("nodes", nargs=-1, metavar="[NODE]...")(command)
    command = SITE(command)
    file = click.Path(path_type=Path, exists=True, dir_okay=False)
    command = click.option("--ssh-config", type=file, help="ssh_config to use instead of yours.")(command)
    logs = click.Path(path_type=Path, file_okay=False)
    command = click.option("--log-dir", type=logs, envvar="RPIOMEGA_LOGS", help="Folder of the nodes' logs.")(command)
    jobs = click.option("--jobs", "-j", type=click.IntRange(1), default=16, show_default=True, help="Nodes at once.")
    command = jobs(command)
    seconds = click.FloatRange(0)
    wait = click.option("--wait", type=seconds, default=60, show_default=True, help="Seconds to wait for SSH.")
    return wait(command)


def _chosen(site: Site, nodes: tuple[str, ...]) -> tuple[str, ...]:
    """Return the nodes named; a pattern (``rpiomega-*``) stands for those of the site that match it."""
    found: list[str] = []
    for name in nodes:
        found += [known for known in site.nodes if fnmatch.fnmatchcase(known, name)] or [name]
    return tuple(dict.fromkeys(found))


def _ready(site_file: Path, nodes: tuple[str, ...], ssh_config: Path | None, log_dir: Path | None, jobs: int):
    """Return the site, its connection pool and the rows; end with exit code 2 if an argument is wrong."""
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
        raise click.UsageError(f"logs cannot be written to {folder}: {error.strerror}") from None
    return site, Pool(settings, lambda text: click.echo(f"warning: {text}", err=True)), bulk


@main.command()
@_over_ssh
@click.option("--dry-run", is_flag=True, help="Show what would change; change nothing.")
@click.option("--new-master", is_flag=True, help="Let minions of another master change to this site's.")
@click.option(
    "--limit", multiple=True, metavar="NODE", help="Only this node; patterns as in the shell. The same as NODE."
)
@click.option("--json", "as_json", is_flag=True, help="Events as JSON lines on standard output.")
@click.option("--renew-identity", is_flag=True, help="Renew a copied card's identity also on a member of a swarm.")
@click.option("--reboot", is_flag=True, help="Reboot boards that need it, and see that they come back.")
def bootstrap(site_file, nodes, ssh_config, log_dir, jobs, wait, dry_run, limit, as_json, **options) -> None:
    """Prepare all boards (or those named): host name, boot flags, clock, address, Salt.

    Safe to run again at any time: each board says itself what it still lacks, so a run that was cut short is
    resumed by the next one.
    """
    site, pool, bulk = _ready(site_file, nodes + limit, ssh_config, log_dir, jobs)
    if as_json:
        bulk = bulk.aside(jobs=jobs)
        bulk.on_event = lambda event: click.echo(json.dumps(event))
    run = Bootstrap(site, site_file, pool, Cache(default_folder()), Options(dry_run, wait=wait, **options))
    finished = error = None
    with pool:
        try:
            finished = run.run(bulk)
        except NodeError as failure:
            error = failure
    bulk.close()
    report.bootstrap(bulk, run, error)
    code = _exit_code(bulk, finished is False, error)
    if as_json:
        for key in run.keys:
            click.echo(json.dumps({"event": "key", "node": key.name, "state": key.state, "minion": key.own}))
        click.echo(json.dumps({"event": "finished", "exit": code}))
    sys.exit(code)


@main.command()
@_over_ssh
def accept(site_file, nodes, ssh_config, log_dir, jobs, wait) -> None:
    """Accept the minions' keys that are, seen over SSH, the very keys the master sees."""
    site, pool, bulk = _ready(site_file, nodes, ssh_config, log_dir, jobs)
    keys, error = [], None
    with pool:
        try:
            keys = accept_keys(site, pool, bulk, wait)
        except NodeError as failure:
            error = failure
    bulk.close()
    report.notes(bulk)
    report.keys(bulk.console, keys)
    report.failures(bulk, error)
    sys.exit(_exit_code(bulk, pool.stop.is_set(), error))


def _exit_code(bulk: Bulk, interrupted: bool, error: NodeError | None) -> int:
    if interrupted:
        return 130
    return 1 if error or bulk.failed() else 0


def _add_lab() -> None:
    """Add `rpiomega lab` if what it needs is installed; say what is missing otherwise."""
    try:
        from rpiomega.lab.cli import lab
    except ImportError as error:
        missing = error.name or str(error)

        @main.command(name="lab", context_settings={"ignore_unknown_options": True})
        @click.argument("arguments", nargs=-1)
        def lab(arguments):
            """Virtual Pis on this machine (not installed)."""
            raise click.ClickException(f"rpiomega lab needs `{missing}`: pip install 'rpiomega[lab]'")

    else:
        main.add_command(lab)


main.add_command(doctor.command(_over_ssh, _ready))
main.add_command(firstboot.command(SITE, read_site))
main.add_command(roster.command(SITE, read_site))
main.add_command(scan_cli.command(SITE, read_site))
main.add_command(status.command(_over_ssh, _ready))
main.add_command(verify.command(_over_ssh, _ready))
main.add_command(address.command(_over_ssh, _ready))
main.add_command(remove_cli.command(_over_ssh, _ready, read_site))
_add_lab()
