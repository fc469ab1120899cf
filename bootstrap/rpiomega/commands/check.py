"""`rpiomega check`."""

from __future__ import annotations

from pathlib import Path

import click

from rpiomega import report
from rpiomega.commands.options import SITE, read_site
from rpiomega.site import checks


@click.command()
@SITE
def check(site_file: Path) -> None:
    """Check the site file."""
    site = read_site(site_file)
    for warning in checks.warnings(site):
        click.echo(f"{site_file}: note: {warning}", err=True)
    nodes, managers = report.count(len(site.nodes), "node"), report.count(len(site.managers), "manager")
    click.echo(f"{site_file}: cluster {site.cluster}: {nodes}, {managers}, master {site.master.name}")
