"""`rpiomega remove`."""

from __future__ import annotations

import re
import sys
from dataclasses import replace as changed

import click

from rpiomega import reach
from rpiomega.commands.options import over_ssh, read_site, ready
from rpiomega.errors import NodeError
from rpiomega.remove import Master, Options, Removal, in_site
from rpiomega.site.values import Name


@click.command()
@over_ssh
@click.option("--dry-run", is_flag=True, help="Look, and say what would be done; change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--force-dead", is_flag=True, help="The node does not answer and never will again.")
@click.option("--replace", is_flag=True, help="It stays in the site file: a new board gets this dead node's name.")
def remove(site_file, nodes, ssh_config, log_dir, jobs, wait, dry_run, yes, force_dead, replace) -> None:
    """Take NODE out of swarm, Consul and Salt, in order, once its line is gone from the site file.

    A node that answers is drained and demoted first, then it leaves. Refused where swarm or Consul would lose the
    quorum. Run it again if it was interrupted. Exit codes: 0 done, 1 refused or failed, 2 bad input.
    """
    if len(nodes) != 1:
        raise click.UsageError(f"one node is removed at a time, {len(nodes)} are named: rpiomega remove NODE")
    name, site = nodes[0], read_site(site_file)
    if not re.fullmatch(Name.__metadata__[0].func.pattern, name):
        raise click.UsageError(
            f"{name} cannot be a node: a name has small letters, digits and hyphens; `rpiomega status` shows the nodes"
        )
    line = in_site(site, site_file, name)
    if line and not replace:
        cause = f"{name} is still in the site file: delete its entry at {line}, then run this again"
        raise click.UsageError(f"{cause} (a new board for a dead one: --replace)")
    if replace and not line:
        raise click.UsageError(f"{name} is not in {site_file}: without --replace it is removed for good")
    if name == site.master.name:
        raise click.UsageError(f"{name} is the master: see docs/operations.md, The master's card died")
    site, pool, bulk = ready(site_file, (site.master.name,), ssh_config, log_dir, jobs)
    bulk.close()
    options = Options(force_dead, replace, dry_run)
    with pool:
        try:
            remote = reach.board(pool, site, site.master)
            remote.connect(wait)
            master = Master(remote, site.master.name)
            run = Removal(site, site_file, name, options, master, click.echo)
            if not (yes or dry_run):
                ahead = Removal(site, site_file, name, changed(options, dry_run=True), master, click.echo)
                if ahead.run().nothing or not click.confirm("go on?"):
                    sys.exit(0)
            known = run.run()
        except NodeError as error:
            click.echo(f"{name}: {error.cause}\n  next: {error.cure}", err=True)
            sys.exit(1)
    if not dry_run and not known.nothing:
        click.echo("left to do:")
        for item in run.left_to_do(known):
            click.echo(f"  {item}")
