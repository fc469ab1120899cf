"""`rpiomega roster`."""

from __future__ import annotations

from pathlib import Path

import click
import yaml

from rpiomega.commands.options import SITE, read_site
from rpiomega.roster import roster as made_of


@click.command()
@SITE
def roster(site_file: Path) -> None:
    """Print a roster for salt-ssh: every node, at the address it keeps, by the login the bootstrap uses."""
    made = made_of(read_site(site_file), site_file.resolve().parent)
    click.echo(yaml.safe_dump(made, sort_keys=False), nl=False)
