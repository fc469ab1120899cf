"""`rpiomega bootstrap`."""

from __future__ import annotations

import json
import sys

import click

from rpiomega import report
from rpiomega.bootstrap import Bootstrap, Options
from rpiomega.cache import Cache, default_folder
from rpiomega.commands.options import exit_code, over_ssh, ready
from rpiomega.errors import NodeError


@click.command()
@over_ssh
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

    Safe to run again at any time: each board reports what it still lacks, so a run that was cut short is
    resumed by the next one.
    """
    site, pool, bulk = ready(site_file, nodes + limit, ssh_config, log_dir, jobs)
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
    code = exit_code(bulk, finished is False, error)
    if as_json:
        for key in run.keys:
            click.echo(json.dumps({"event": "key", "node": key.name, "state": key.state, "minion": key.own}))
        click.echo(json.dumps({"event": "finished", "exit": code}))
    sys.exit(code)
