"""`rpiomega address`: the static addresses of the boards alone, as the bootstrap sets them."""

from __future__ import annotations

import sys

import click

from rpiomega import agent, move, reach, report
from rpiomega.bulk import Row
from rpiomega.commands.options import over_ssh, ready
from rpiomega.node import job_steps
from rpiomega.reboot import reboot as reboot_board


@click.command()
@over_ssh
@click.option("--dry-run", is_flag=True, help="Show what would change; change nothing.")
@click.option("--reboot", is_flag=True, help="Reboot each board afterwards, and see that it comes back.")
def address(site_file, nodes, ssh_config, log_dir, jobs, wait, dry_run, reboot) -> None:
    """Give all boards (or those named) their host name and static address; `bootstrap` does this too.

    A board that cannot be reached at its new address goes back to its old one. Exit codes: 0 done,
    1 a node failed, 2 bad input, 130 interrupted.
    """
    site, pool, bulk = ready(site_file, nodes, ssh_config, log_dir, jobs)
    if not site.network.manage:
        raise click.UsageError(
            f"{site_file}: network.manage is false, so no address is set; take that line out to have them set"
        )

    def one(row: Row) -> None:
        node = site.nodes[row.name]
        row.start("ssh")
        board = reach.board(pool, site, node, row.log)
        board.connect(wait)
        job = move.step(site, node, site_file.parent)
        remote, said = move.settle(board, row.event, job, dry_run)
        if said:
            row.notes.append(said)
        nodes = {name: other.address for name, other in site.nodes.items()}
        agent.run(remote, [job_steps.Hostname(node.name, site.cluster, nodes)], row.event, dry_run)
        if reboot and not dry_run:
            row.start("reboot")
            reboot_board(remote, node, row.event)

    with pool:
        finished = bulk.run(one, pool.cancel)
    bulk.close()
    if dry_run:
        report.diffs(bulk)
    report.notes(bulk)
    report.failures(bulk, None)
    sys.exit(130 if not finished else int(bool(bulk.failed())))
