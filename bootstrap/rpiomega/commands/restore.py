"""`rpiomega restore file`, `volume` and `node`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace

import click

from rpiomega import agent, reach, report
from rpiomega.backup import restore as restores
from rpiomega.backup.restore import BadInput, Wanted
from rpiomega.bulk import Bulk, Row
from rpiomega.commands.options import connection, exit_code, ready
from rpiomega.commands.restore_master import restore_master
from rpiomega.node import job_steps
from rpiomega.site import Site
from rpiomega.ssh import Pool


@click.group()
def restore() -> None:
    """Restore files, volumes or a whole node from the backups. What is in their place is kept."""


restore.add_command(restore_master)


def _options(command: Callable) -> Callable:
    command = click.option("--at", metavar="TIME", help="The newest snapshot up to then: '2026-11-28 14:30'.")(command)
    command = click.option("--dry-run", is_flag=True, help="Show what would be done; write nothing.")(command)
    command = click.option("--yes", is_flag=True, help="Do not ask.")(command)
    command = click.option("--json", "as_json", is_flag=True, help="The result as JSON on standard output.")(command)
    return connection(command)


@restore.command()
@click.argument("source", metavar="NODE:PATH")
@_options
@click.option("--to", default="", metavar="FOLDER", help="A folder on the node that gets it instead of its place.")
@click.option("--force", is_flag=True, help="Do not keep what is in its place.")
def file(source, site_file, ssh_config, log_dir, jobs, wait, at, dry_run, yes, as_json, to, force) -> None:
    """Restore a file or a folder of a node to its place there, or with --to into another folder.

    What is in its place is kept as NAME.before-restore-DATE. Exit codes: 0 done, 1 it failed, 2 bad input,
    130 interrupted.
    """
    try:
        node, path = restores.split(source)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if to and not to.startswith("/"):
        raise click.UsageError(f"{to} is no absolute path: --to names a folder on {node}")
    wanted = Wanted("file", path, to, _time(at), dry_run, force)
    site, pool, bulk = _ready(site_file, (node,), ssh_config, log_dir, jobs, yes or dry_run, as_json)
    _run(site, pool, bulk, wanted, wait, yes, as_json)


@restore.command()
@click.argument("name", metavar="NAME")
@_options
@click.option("--node", default="", metavar="NODE", help="The node of the volume; default: the one that saves it.")
@click.option("--force", is_flag=True, help="Also while containers use it: they are paused, then restarted.")
def volume(name, site_file, ssh_config, log_dir, jobs, wait, at, dry_run, yes, as_json, node, force) -> None:
    """Restore a Docker volume on the node that saved it.

    Its data is restored beside the present one, compared with the snapshot's manifest, then exchanged with it; the
    present one is kept as _data.before-restore-DATE beside it. Exit codes: 0 done, 1 it failed, 2 bad input,
    130 interrupted.
    """
    wanted = Wanted("volume", name, "", _time(at), dry_run, force)
    nodes = (node,) if node else ()
    site, pool, bulk = _ready(site_file, nodes, ssh_config, log_dir, jobs, yes or dry_run, as_json)
    if not node:
        bulk = _where(site, pool, bulk, name, wait)
    _run(site, pool, bulk, wanted, wait, yes, as_json)


@restore.command()
@click.argument("name", metavar="NODE")
@_options
@click.option("--force", is_flag=True, help="Also volumes that containers use: they are paused, then restarted.")
def node(name, site_file, ssh_config, log_dir, jobs, wait, at, dry_run, yes, as_json, force) -> None:
    """Restore the folders and volumes that NODE's last run saved, on the board that took its place.

    Without --at it is the last run of the card before. Folders below /etc are not restored, and are listed with
    whatever else is not. What is there and differs is kept as NAME.before-restore-DATE. Exit codes: 0 done, 1 it
    failed, or one of them did, 2 bad input, 130 interrupted.
    """
    wanted = Wanted("node", "", "", _time(at), dry_run, force)
    site, pool, bulk = _ready(site_file, (name,), ssh_config, log_dir, jobs, yes or dry_run, as_json)
    if len(bulk.rows) != 1:
        raise click.UsageError(f"{name} stands for {len(bulk.rows)} nodes: name one")
    _run(site, pool, bulk, wanted, wait, yes, as_json)


def _ready(site_file, nodes, ssh_config, log_dir, jobs, decided: bool, as_json: bool) -> tuple[Site, Pool, Bulk]:
    """Return what `ready` does; end with exit code 2 if the site has no backups, or if nobody can be asked."""
    if not decided and (as_json or not sys.stdin.isatty()):
        raise click.UsageError("nobody can be asked here: give --yes, or --dry-run to see what would be done")
    site, pool, bulk = ready(site_file, nodes, ssh_config, log_dir, jobs)
    if not site.backup.bucket:
        bulk.close()
        pool.close()
        raise click.UsageError(f"{site_file} has no backups: backup.bucket is empty; docs/backup.md shows how to begin")
    return site, pool, bulk


def _where(site: Site, pool: Pool, bulk: Bulk, name: str, wait: float) -> Bulk:
    """Ask all nodes which of them saves a volume; return the Bulk of that one, or end with exit code 2."""
    states: dict[str, dict] = {}
    bulk = bulk.aside()

    def ask(row: Row) -> None:
        row.start("ssh")
        remote = reach.board(pool, site, site.nodes[row.name], row.log)
        remote.connect(wait)
        data = agent.run(remote, [job_steps.BackupState()], row.event, dry_run=True)["backup_state"]["data"]
        states[row.name] = data["state"]

    if not bulk.run(ask, pool.cancel):
        sys.exit(130)
    try:
        node = restores.node_of(name, states)
    except ValueError as error:
        silent = ", ".join(row.name for row in bulk.failed())
        pool.close()
        raise click.UsageError(f"{error}" + f" (no answer from {silent})" * bool(silent)) from None
    return bulk.aside([node])


def _run(site: Site, pool: Pool, bulk: Bulk, wanted: Wanted, wait: float, yes: bool, as_json: bool) -> None:
    """Preview, ask, restore, print; end with the exit code."""
    (node,) = bulk.rows
    result: dict = {}

    def work(what: Wanted) -> Callable[[Row], None]:
        def one(row: Row) -> None:
            result.clear()
            result.update(restores.run(pool, site, row, what, wait))

        return one

    with pool:
        bulk = bulk.aside()
        if not (yes or wanted.preview):
            finished = bulk.run(work(restores.preview_of(wanted)), pool.cancel)
            if not finished or bulk.failed():
                _end(bulk, node, finished, {}, as_json)
            click.echo("\n".join(restores.lines(node, result)))
            refused = restores.refusal(wanted, result)
            if refused:
                click.echo(f"{node}: {refused.cause}\n  next: {refused.cure}", err=True)
                sys.exit(1)
            if not click.confirm("go on?"):
                sys.exit(0)
            # What was shown is what is restored, also if a newer snapshot is made meanwhile.
            wanted = replace(wanted, at=wanted.at or result["time"])
            bulk = bulk.aside()
        finished = bulk.run(work(wanted), pool.cancel)
    _end(bulk, node, finished, result, as_json)


def _end(bulk: Bulk, node: str, finished: bool, result: dict, as_json: bool) -> None:
    (row,) = bulk.rows.values()
    bulk.close()
    if as_json:
        error = {"cause": row.error.cause, "cure": row.error.cure} if row.error else None
        click.echo(json.dumps({"node": node, "result": result or None, "error": error}, indent=2))
    elif result and not row.error and finished:
        click.echo("\n".join(restores.lines(node, result)))
    if not finished:
        click.echo(f"a restore that has begun goes on, on {node}: systemctl list-units 'rpiomega-restore-*'", err=True)
    report.failures(bulk, None)
    failed = restores.failures(result) if finished and not row.error else []
    sys.exit(2 if isinstance(row.error, BadInput) else exit_code(bulk, not finished, None) or int(bool(failed)))


def _time(at: str | None) -> float:
    try:
        return restores.moment(at) if at else 0.0
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--at") from None
