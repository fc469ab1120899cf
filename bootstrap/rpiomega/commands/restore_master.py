"""`rpiomega restore master`: what a new master gets from its lost one's backup, with the recovery kit alone."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from omega.core.errors import Failure
from rpiomega import agent, reach
from rpiomega.backup import kit as kits
from rpiomega.backup import master, opening
from rpiomega.backup import restore as restores
from rpiomega.backup.reading import Reader
from rpiomega.commands.options import over_master, read_site, ready
from rpiomega.errors import NodeError
from rpiomega.node import job_steps
from rpiomega.report import count

_KIT = click.Path(path_type=Path, dir_okay=False, allow_dash=True, exists=True)
_GROUPS = (master.SECRETS, "/etc/salt/pki/master", "/etc/salt/pki/minion", "/etc/salt", master.PILLAR)


@click.command("master")
@click.option("--kit", "source", type=_KIT, required=True, metavar="FILE|-", help="The recovery kit (`-`: typed in).")
@click.option("--at", metavar="TIME", help="The newest snapshot up to then: '2026-11-28 14:30'.")
@click.option("--dry-run", is_flag=True, help="Read and verify the backup, show what would be written; write nothing.")
@click.option("--force", is_flag=True, help="Also over files with other content, which are moved to a folder in /root.")
@over_master
def restore_master(site_file, ssh_config, log_dir, wait, source, at, dry_run, force) -> None:
    """Bring the lost master's secrets, keys and site file to the board that takes its place.

    The board is a blank one, prepared as every board, with the master's address; the recovery kit is all that is
    needed. A site file that is missing here is written from the backup. Afterwards the other nodes know the new master
    as the old one. Exit codes: 0 done, 1 refused or failed, 2 bad input, 130 interrupted.
    """
    try:
        moment = restores.moment(at) if at else 0.0
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--at") from None
    try:
        _run(site_file, ssh_config, log_dir, wait, source, moment, dry_run, force)
    except OSError as error:
        click.echo(f"{error.filename}: {error.strerror}\n  next: check the path and the disk", err=True)
        sys.exit(1)
    except Failure as error:
        where = f"{error.subject}: " if error.subject else ""
        click.echo(f"{where}{error.cause}\n  next: {error.cure}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        click.echo("interrupted: run the same command again", err=True)
        sys.exit(130)


def _run(site_file, ssh_config, log_dir, wait, source, at: float, dry_run: bool, force: bool) -> None:
    kit = kits.read(sys.stdin.read() if str(source) == "-" else source.read_text(encoding="utf-8", errors="replace"))
    program, there = opening.local_restic(), site_file.exists()
    site = read_site(site_file) if there else None
    if site:
        master.refuse_other(site, kit)
    if program:
        click.echo(f"reading the backup with this machine's restic ({program})")
        found = _found(Reader(kit, program), site, site_file, at)
        site = _site_file(found, site_file, dry_run)
        if site is None:
            click.echo(f"{found.name}: {_counted([item.path for item in found.files])}")
            click.echo(f"nothing is written: without {site_file} no board is asked")
            return
    elif not site:
        cause = f"there is no restic 0.17 or newer on this machine, and no {site_file} that says where the board is"
        raise NodeError(cause, "install restic here, or give the site file with --site")
    _, pool, bulk = ready(site_file, (site.master.name,), ssh_config, log_dir, 1)
    bulk.close()
    with pool:
        remote = reach.board(pool, site, site.master)
        remote.connect(wait)
        if not program:
            click.echo(f"reading the backup with the restic of {site.master.name}")
            reader = Reader(kit, "restic", remote)
            done = reader.ready()
            if done:
                click.echo(f"{site.master.name}: {done}")
            found = _found(reader, site, site_file, at)
            _site_file(found, site_file, dry_run)
        step = job_steps.MasterRestore(found.files, force)
        done = agent.run(remote, [step], lambda event: None, dry_run)["master_restore"]["data"]
    _report(site, site_file, done, dry_run)


def _found(reader: Reader, site, site_file: Path, at: float) -> master.Found:
    found = master.find(reader, site.master.name if site else "", at)
    head = f"{found.name}: snapshot {found.row['id'][:8]} of {found.at}, cluster {found.cluster}"
    click.echo(f"{head}: {count(found.checked, 'file')} compared with its manifest, all as saved")
    return found


def _site_file(found: master.Found, site_file: Path, dry_run: bool):
    """Write the site file if it is missing here; return the site, None if it stays missing."""
    if site_file.exists():
        same = site_file.read_text(encoding="utf-8") == found.site
        click.echo(f"{site_file}: {'as saved' if same else 'differs from the saved one; the bootstrap brings yours'}")
        return read_site(site_file)
    if dry_run:
        click.echo(f"{site_file}: would be written from the backup")
        return None
    site_file.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(site_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(handle, "w", encoding="utf-8") as stream:
        stream.write(found.site)
    click.echo(f"{site_file}: written from the backup")
    return read_site(site_file)


def _report(site, site_file: Path, done: dict, dry_run: bool) -> None:
    name = site.master.name
    if done["kept"]:
        click.echo(f"{name}: {count(len(done['old']), 'file')} with other content moved to {done['kept']}")
    elif done["other"]:
        click.echo(f"{name}: {count(len(done['other']), 'file')} with other content would be moved to /root")
    written = [*done["new"], *done["other"]] if dry_run else done["written"]
    verb = "would be written" if dry_run else "written"
    click.echo(f"{name}: {_counted(written)} {verb}" if written else f"{name}: all is there as it was saved")
    for what, where in master.ELSEWHERE:
        click.echo(f"not restored: {what}: {where.format(name=name)}")
    if dry_run:
        return
    option = "" if str(site_file) == "pillar/site.sls" else f" --site {site_file}"
    click.echo("left to do:")
    for line in master.after(site, option):
        click.echo(f"  {line}")


def _counted(paths: list[str]) -> str:
    """Return paths as numbers: "12 below /etc/rpiomega/secrets, 3 below /etc/salt/pki/master"."""
    numbers: dict[str, int] = {}
    for path in paths:
        place = next((one for one in _GROUPS if path == one or path.startswith(f"{one}/")), path)
        numbers[place] = numbers.get(place, 0) + 1
    return ", ".join(f"{number} below {place}" for place, number in numbers.items())
