"""The `rpiomega` command: arguments in, exit code out; what happens is in the modules it calls."""

from __future__ import annotations

import sys
from pathlib import Path

import click

import rpiomega
from rpiomega.site import SiteError, checks, load

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


def read_site(path: Path):
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
    managers, total = len(site.managers), len(site.nodes)
    click.echo(f"{site_file}: cluster {site.cluster}: {total} nodes, {managers} managers, master {site.master.name}")


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


_add_lab()
