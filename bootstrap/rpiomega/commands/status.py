"""`rpiomega status`."""

from __future__ import annotations

import sys

import click
from click.core import ParameterSource

from rpiomega import agent, reach
from rpiomega.bulk import Bulk
from rpiomega.commands.options import over_ssh, ready
from rpiomega.node import job_steps
from rpiomega.site import Site
from rpiomega.ssh import Pool
from rpiomega.status import judge, picture, render

# Seconds for SSH unless --wait says otherwise: a dead node must not hold up the picture of the others.
WAIT = 5.0


@click.command()
@over_ssh
@click.option("--json", "as_json", is_flag=True, help="The status as JSON on standard output.")
def status(site_file, nodes, ssh_config, log_dir, jobs, wait, as_json) -> None:
    """Show nodes, leaders, the quorum left to lose, and what is wrong with its cure. Changes nothing.

    Works without quorum, without Salt and with nodes missing, and says so. Exit codes: 0 all is well or only
    warnings, 1 an error was found, 2 bad input, 130 interrupted.
    """
    if click.get_current_context().get_parameter_source("wait") is ParameterSource.DEFAULT:
        wait = WAIT
    site, pool, bulk = ready(site_file, nodes, ssh_config, log_dir, jobs)
    out, bulk = bulk.console, bulk.aside()
    facts: dict[str, dict] = {}
    with pool:
        finished = gather(pool, bulk, site, facts, wait)
    bulk.close()
    unreached = {row.name: row.error for row in bulk.failed() if row.error}
    seen = picture.compose(site, facts, unreached)
    findings = judge.judge(seen)
    if as_json:
        click.echo(render.as_json(seen, findings))
    else:
        render.text(out, seen, findings)
    sys.exit(130 if not finished else int(any(found.severity == "error" for found in findings)))


def gather(pool: Pool, bulk: Bulk, site: Site, facts: dict[str, dict], wait: float) -> bool:
    """Ask all nodes of `bulk` at once; fill `facts`. Return False if interrupted."""

    def ask(row):
        row.start("ssh")
        remote = reach.board(pool, site, site.nodes[row.name], row.log)
        remote.connect(wait)
        saved = [job_steps.BackupState()] if site.backup.bucket else []
        done = agent.run(remote, [job_steps.ClusterStatus(), *saved], row.event)
        facts[row.name] = done["cluster_status"]["data"] | ({"backup": done["backup_state"]["data"]} if saved else {})

    return bulk.run(ask, pool.cancel)
