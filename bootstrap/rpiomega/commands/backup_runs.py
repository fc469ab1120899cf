"""`rpiomega backup now`, `status`, `list` and `drill`."""

from __future__ import annotations

import json
import sys

import click
from click.core import ParameterSource

from rpiomega import agent, reach, report
from rpiomega.backup import render, runs, snapshots
from rpiomega.backup import restore as restores
from rpiomega.bulk import Bulk, Row
from rpiomega.commands.options import exit_code, over_ssh, ready
from rpiomega.doctor import backup
from rpiomega.doctor.finding import Finding, ordered
from rpiomega.node import job_steps
from rpiomega.site import Site
from rpiomega.ssh import Pool

# Seconds for SSH unless --wait says otherwise, where a dead node must not hold up the picture of the others.
WAIT = 5.0


@click.command()
@over_ssh
@click.option("--json", "as_json", is_flag=True, help="Each node's result as JSON on standard output.")
def now(site_file, nodes, ssh_config, log_dir, jobs, wait, as_json) -> None:
    """Back up all nodes (or those named) now, and follow the runs until they have ended.

    The runs belong to the nodes: they go on if this command is ended or loses its connection, and a second one follows
    them. Exit codes: 0 everything is saved, 1 a run failed, 2 bad input or no backups, 130 interrupted.
    """
    _run("backup", site_file, nodes, ssh_config, log_dir, jobs, wait, as_json)


@click.command()
@over_ssh
@click.option("--json", "as_json", is_flag=True, help="Each node's result as JSON on standard output.")
def drill(site_file, nodes, ssh_config, log_dir, jobs, wait, as_json) -> None:
    """Restore the newest backups of all nodes (or those named) into a scratch folder, and compare them.

    What runs and what is saved stay as they are. Exit codes: 0 proven, 1 a drill failed, 2 bad input or no backups,
    130 interrupted.
    """
    _run("drill", site_file, nodes, ssh_config, log_dir, jobs, wait, as_json)


def _run(what: str, site_file, nodes, ssh_config, log_dir, jobs, wait, as_json) -> None:
    site, pool, bulk = _ready(site_file, nodes, ssh_config, log_dir, jobs)
    if as_json:
        bulk = bulk.aside(jobs=jobs)
    results: dict[str, dict] = {}

    def work(row: Row) -> None:
        results[row.name] = runs.run(pool, site, row, what, wait)

    with pool:
        finished = bulk.run(work, pool.cancel)
    bulk.close()
    if not as_json:
        for name, result in results.items():
            click.echo(f"{name}: {render.ended(what, result)}")
            for line in render.lines(result) if what == "backup" else []:
                click.echo(f"  {line}")
        report.notes(bulk)
    if not finished:
        click.echo(f"runs that have begun go on: `rpiomega backup {_COMMAND[what]}` follows them again", err=True)
    else:
        report.failures(bulk, None)
    if as_json:
        errors = {row.name: {"cause": row.error.cause, "cure": row.error.cure} for row in bulk.failed() if row.error}
        click.echo(json.dumps({"results": results, "errors": errors}, indent=2))
    sys.exit(exit_code(bulk, not finished, None))


_COMMAND = {"backup": "now", "drill": "drill"}


@click.command()
@over_ssh
@click.option("--json", "as_json", is_flag=True, help="The status as JSON on standard output.")
def status(site_file, nodes, ssh_config, log_dir, jobs, wait, as_json) -> None:
    """Show for each node the age of its newest backup and of its last proof, what is saved, what is not, and why.

    Changes nothing, and needs neither B2 nor Salt. Exit codes: 0 all is well or only warnings, 1 an error was found,
    2 bad input or no backups, 130 interrupted.
    """
    site, pool, bulk = _ready(site_file, nodes, ssh_config, log_dir, jobs)
    wait, out, bulk = _short(wait), bulk.console, bulk.aside()
    facts: dict[str, dict] = {}

    def ask(row: Row) -> None:
        facts[row.name] = _ask(pool, site, row, wait, job_steps.BackupState())

    with pool:
        finished = bulk.run(ask, pool.cancel)
    bulk.close()
    findings = ordered([*_unreached(bulk), *(one for name in facts for one in backup.check(name, facts[name], site))])
    if as_json:
        click.echo(render.as_json(list(bulk.rows), facts, findings))
    else:
        render.status(out, list(bulk.rows), facts, findings)
    sys.exit(130 if not finished else int(any(found.severity == "error" for found in findings)))


@click.command(name="list")
@over_ssh
@click.option("--node", "named", multiple=True, metavar="NODE", help="Only this node. The same as NODE.")
@click.option("--volume", default="", metavar="NAME", help="Only snapshots with this volume.")
@click.option("--at", metavar="TIME", help="Only the newest ones up to then: 2026-11-28, or '2026-11-28 14:30'.")
@click.option("--json", "as_json", is_flag=True, help="The snapshots as JSON on standard output.")
def list_(site_file, nodes, ssh_config, log_dir, jobs, wait, named, volume, at, as_json) -> None:
    """List the snapshots of all nodes (or those named), the newest last; each node asks its repository.

    --at shows what a restore with the same --at takes: of each group the newest snapshot up to then. Exit codes: 0
    done, 1 a node failed, 2 bad input or no backups, 130 interrupted.
    """
    until = _time(at) if at else None
    site, pool, bulk = _ready(site_file, nodes + named, ssh_config, log_dir, jobs)
    wait, out, bulk = _short(wait), bulk.console, bulk.aside(jobs=jobs)
    found: dict[str, list[dict]] = {}

    def ask(row: Row) -> None:
        listed = _ask(pool, site, row, wait, job_steps.BackupList())["snapshots"]
        found[row.name] = snapshots.chosen(listed, volume, until)

    with pool:
        finished = bulk.run(ask, pool.cancel)
    bulk.close()
    found = {name: found[name] for name in bulk.rows if name in found}
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        render.snapshots(out, found)
    report.failures(bulk, None)
    sys.exit(exit_code(bulk, not finished, None))


def _ready(site_file, nodes, ssh_config, log_dir, jobs) -> tuple[Site, Pool, Bulk]:
    """Return what `ready` does; end with exit code 2 if the site has no backups."""
    site, pool, bulk = ready(site_file, nodes, ssh_config, log_dir, jobs)
    if not site.backup.bucket:
        bulk.close()
        pool.close()
        raise click.UsageError(f"{site_file} has no backups: backup.bucket is empty; docs/backup.md shows how to begin")
    return site, pool, bulk


def _short(wait: float) -> float:
    given = click.get_current_context().get_parameter_source("wait") is not ParameterSource.DEFAULT
    return wait if given else WAIT


def _ask(pool: Pool, site: Site, row: Row, wait: float, step: job_steps.JobStep) -> dict:
    """Return the data of a step that changes nothing; it takes no lock of the board."""
    row.start("ssh")
    remote = reach.board(pool, site, site.nodes[row.name], row.log)
    remote.connect(wait)
    return agent.run(remote, [step], row.event, dry_run=True)[step.step]["data"]


def _unreached(bulk: Bulk) -> list[Finding]:
    why = "nothing is known of its backups"
    return [
        Finding(row.name, "reach", "error", row.error.cause, why, row.error.cure) for row in bulk.failed() if row.error
    ]


def _time(text: str) -> float:
    """Return a time of the workstation's zone as seconds since 1970, as `rpiomega restore --at` reads it."""
    try:
        return restores.moment(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--at") from None
