"""`rpiomega firstboot`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from rpiomega.commands.options import SITE, read_site
from rpiomega.errors import NodeError
from rpiomega.firstboot import plan, write
from rpiomega.site.load import unknown_node


@click.command()
@click.argument("node")
@SITE
@click.option("-o", "--output", type=click.Path(path_type=Path, file_okay=False), required=True,
              help="Folder to write to; may be the card's mounted boot partition.")  # fmt: skip
@click.option("--release", type=click.Choice(list(write.RELEASES)), default="trixie", show_default=True,
              help="The image on the card: Raspberry Pi OS by its Debian name, or Ubuntu.")  # fmt: skip
@click.option("--key", type=click.Path(path_type=Path, exists=True, dir_okay=False),
              help="The owner's SSH public key; default: that of users.identity.")  # fmt: skip
def firstboot(node, site_file, output, release, key) -> None:
    """Write what a blank card's boot partition needs: NODE then comes up with user, key, name and address.

    Exit codes: 0 written, 1 it could not be, 2 bad input.
    """
    site = read_site(site_file)
    wrong = unknown_node(site, [node])
    if wrong:
        raise click.UsageError(wrong)
    try:
        made = plan.make(site, site.nodes[node], site_file.parent, key)
        done = write.write(made, release, output)
    except NodeError as error:
        click.echo(f"{node}: {error.cause}\n  next: {error.cure}", err=True)
        sys.exit(1)
    _say(made, done, output)


def _say(made: plan.Plan, done: write.Written, output: Path) -> None:
    names = done.names
    address = f"{made.address}/{made.prefix}" if made.static else "an address by DHCP"
    click.echo(f"{made.name}: {', '.join(names)} in {output}")
    click.echo(
        f"the board comes up as {made.name} with {address} on {made.interface}; `ssh {made.user}@` with your key"
    )
    if not made.static:
        click.echo("note: network.gateway, network.dns or network.manage are not set: no static address", err=True)
    if made.wifi:
        where = "network-config" if "network-config" in names else "firstrun.sh"
        click.echo(f"warning: {output / where} holds the key of the wireless network {made.wifi.ssid}: "
                   "delete it once the card is written; the card itself keeps it", err=True)  # fmt: skip
    for note in done.notes:
        click.echo(f"note: {note}", err=True)
    if done.mounted:
        click.echo("next: unmount the card, put it into the board, then `rpiomega bootstrap`")
    elif write.ADDITION in names:
        click.echo(f"next: copy firstrun.sh and ssh to the boot partition, add the line of {write.ADDITION} to the end "
                   "of the one line in its cmdline.txt")  # fmt: skip
    else:
        click.echo("next: copy all of them to the card's boot partition, boot, then `rpiomega bootstrap`")
