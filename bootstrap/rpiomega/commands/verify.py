"""`rpiomega verify`."""

from __future__ import annotations

import importlib.util
import sys

import click

from rpiomega import reach
from rpiomega.commands.options import over_ssh, ready
from rpiomega.errors import NodeError
from rpiomega.verify import checks, report
from rpiomega.verify.checks import Found


@click.command()
@over_ssh
@click.option("--only", default="", metavar="WORDS", help="Only checks of these names, as pytest's -k takes them.")
@click.option("--salt", is_flag=True, help="Let the master look through Salt, instead of SSH to every node.")
@click.option("--install", is_flag=True, help="With --salt: bring the test tools to the master if it has none.")
@click.option("--verbose", "-v", is_flag=True, help="Also list what holds.")
@click.option("--json", "as_json", is_flag=True, help="The report as JSON on standard output.")
@click.option("--list", "as_list", is_flag=True, help="Only print the table of all checks.")
def verify(site_file, nodes, ssh_config, log_dir, jobs, wait, only, salt, install, verbose, as_json, as_list):
    """Check on every node (or those named) what bootstrap and states set up. Changes nothing.

    Exit codes: 0 everything holds, 1 something does not, 2 bad input, 130 interrupted.
    """
    if importlib.util.find_spec("testinfra") is None:
        raise click.UsageError("testinfra is not installed: pip install 'rpiomega[verify]' into this environment")
    if as_list:
        click.echo(report.table(checks.listed()))
        return
    try:
        if only:
            checks.listed(only)
    except NodeError as error:
        raise click.UsageError(f"--only: {error}") from None
    site, pool, bulk = ready(site_file, nodes, ssh_config, log_dir, jobs)
    out, names = bulk.console, list(bulk.rows)
    bulk = bulk.aside([site.master.name] if salt else names, jobs)
    found = {name: Found() for name in names}

    def look(row):
        row.start("ssh")
        remote = reach.board(pool, site, site.nodes[row.name], row.log)
        remote.connect(wait)
        row.start("checks")
        if not salt:
            found[row.name].checks = checks.over_ssh(site_file, site.nodes[row.name], remote, only)
            return
        for check in checks.through_salt(site, remote, names, only, install):
            found.setdefault(check.node, Found()).checks.append(check)

    with pool:
        finished = bulk.run(look, pool.cancel)
    bulk.close()
    for row in bulk.failed():
        for name in names if salt else [row.name]:
            found[name].error = row.error
    _explain_silence(found, only)
    if as_json:
        click.echo(report.as_json(found))
    else:
        report.text(out, found, verbose)
    sys.exit(130 if not finished else int(not all(node.ok for node in found.values())))


def _explain_silence(found: dict[str, Found], only: str) -> None:
    """Give every node without an answer an error that says so: no news is not good news."""
    for node in found.values():
        if not node.error and not any(check.result in ("ok", "failed") for check in node.checks):
            if only:
                node.error = NodeError(f"no check named {only} is for this node", "rpiomega verify --list")
            else:
                node.error = NodeError("no check ran: its minion did not answer", "rpiomega status")
