"""`rpiomega scan`."""

from __future__ import annotations

import ipaddress
import json
import sys
from pathlib import Path

import click
from rich.table import Table

from rpiomega import report
from rpiomega.commands.options import SITE, read_site
from rpiomega.errors import NodeError
from rpiomega.scan import Found, Login
from rpiomega.scan import scan as found_on


def _network(_context, _parameter, values: tuple[str, ...]) -> list[str]:
    for value in values:
        try:
            ipaddress.IPv4Network(value, strict=False)
        except ValueError as error:
            raise click.BadParameter(f"{error}; write it as 192.168.1.0/24") from None
    return list(values)


@click.command()
@SITE
@click.option("--network", "networks", multiple=True, callback=_network, metavar="NET",
              help="Where to look, as 192.168.1.0/24; default: this machine's networks.")  # fmt: skip
@click.option("--bound", type=click.FloatRange(0.5, 60), default=3, show_default=True, help="Seconds to listen.")
@click.option("--user", help="Login to look into boards with; default: users.admin of the site file, else pi.")
@click.option("--all", "everything", is_flag=True, help="List hosts that do not look like boards as well.")
@click.option("--json", "as_json", is_flag=True, help="JSON on standard output.")
def scan(site_file, networks, bound, user, everything, as_json) -> None:
    """List boards on the local network: name, model, system, address, and whether SSH answers.

    Works without a site file. Changes nothing and remembers no host key. Exit codes: 0 boards found, 1 none found
    or no network, 2 bad input.
    """
    site = read_site(site_file) if site_file.exists() else None
    users = site.users if site else None
    identity = (site_file.parent / Path(users.identity).expanduser()) if users and users.identity else None
    login = Login(user or (users.admin if users else "pi"), identity, users.port if users else 22)
    try:
        found = found_on(networks, bound, login, site)
    except NodeError as error:
        click.echo(f"{error.cause}\n  next: {error.cure}", err=True)
        sys.exit(1)
    shown = [item for item in found if everything or item.board]
    if as_json:
        click.echo(json.dumps([item.as_dict() for item in shown], indent=2))
    else:
        _print(shown, len(found))
    sys.exit(0 if shown else 1)


def _print(shown: list[Found], hosts: int) -> None:
    out = report.console()
    table = Table("address", "name", "board", "system", "ssh", "node", "network card", box=None)
    for item in shown:
        board = item.model or item.maker
        system = f"{item.system} {item.machine}".strip() or item.banner
        ssh = f"{item.ssh}, {item.login}" if item.login else item.ssh
        table.add_row(item.address, " ".join(item.names), board, system, ssh, item.node, item.mac)
    if shown:
        out.print(table)
    count = len(shown)
    out.print(f"{count} board{'s' if count != 1 else ''} among {hosts} hosts that answered", highlight=False)
    if not shown:
        out.print("  next: are the boards on, and in this network? `--all` lists every host", highlight=False)
