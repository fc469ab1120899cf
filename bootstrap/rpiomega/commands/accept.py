"""`rpiomega accept`."""

from __future__ import annotations

import sys

import click

from rpiomega import report
from rpiomega.accept import accept as accept_keys
from rpiomega.commands.options import exit_code, over_ssh, ready
from rpiomega.errors import NodeError


@click.command()
@over_ssh
def accept(site_file, nodes, ssh_config, log_dir, jobs, wait) -> None:
    """Accept the minions' keys that are, seen over SSH, the very keys the master sees."""
    site, pool, bulk = ready(site_file, nodes, ssh_config, log_dir, jobs)
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
    sys.exit(exit_code(bulk, pool.stop.is_set(), error))
