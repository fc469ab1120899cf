"""`rpiomega backup init`, `kit` and `past`: bucket and keys, the recovery kit, the bucket as it was."""

from __future__ import annotations

import json
import os
import re
import resource
import shlex
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import click

from omega.core.errors import Failure
from rpiomega import agent, reach
from rpiomega.backup import kit as kits
from rpiomega.backup import opening
from rpiomega.backup import restore as restores
from rpiomega.backup.account import Account, from_file
from rpiomega.backup.init import Init, Options
from rpiomega.commands.options import over_master, read_site, ready
from rpiomega.errors import NodeError
from rpiomega.node import job_steps
from rpiomega.report import printable

_FILE = click.Path(path_type=Path, dir_okay=False)
_PAGE = click.Path(path_type=Path, dir_okay=False, allow_dash=True)
_KIT = click.Path(path_type=Path, dir_okay=False, allow_dash=True, exists=True)


@click.command()
@over_master
@click.option(
    "--admin-key-file",
    type=_FILE,
    help="File with `key_id: ...` and `key: ...`, mode 0600; without it you are asked. The key stays on this machine.",
)
@click.option("--rotate", is_flag=True, help="Make new keys in the place of all; the recovery phrase stays.")
@click.option("--change-bucket", is_flag=True, help="Set what differs from the site file in the cluster's own bucket.")
@click.option("--dry-run", is_flag=True, help="Look, and print what would be done; change nothing.")
def init(site_file, ssh_config, log_dir, wait, admin_key_file, rotate, change_bucket, dry_run) -> None:
    """Make the bucket and the keys of the site's backups at Backblaze B2, and bring them to the master.

    A second run changes nothing; a run that was cut short is resumed by the same command. A node that is new in the
    site file gets its key. Exit codes: 0 done, 1 refused or failed, 2 bad input,
    130 interrupted.
    """
    site = read_site(site_file)
    if not site.backup.bucket:
        raise click.UsageError(f"{site_file} has no backup.bucket: write the name that the bucket shall have")
    with _reported():
        given = from_file(admin_key_file) if admin_key_file else _asked()
        account = Account(*given, endpoint=site.b2.endpoint)
        with _master(site_file, ssh_config, log_dir, wait) as (_, remote):
            run = Init(site, account, remote, Options(dry_run, rotate, change_bucket), click.echo)
            changed = run.run()
    for note in run.notes:
        click.echo(f"note: {note}")
    if not changed:
        click.echo("bucket, keys and the master's files are as the site file says: nothing to do")
    elif not dry_run:
        click.echo(f"next: on the master: sudo salt '*' state.apply; then here: {_command('kit', site_file)}")


@click.command()
@over_master
@click.option("--out", type=_PAGE, help="Where the page goes, mode 0600 (`-`: standard output); FILE.svg beside it.")
@click.option("--overwrite", is_flag=True, help="Replace a file that is there.")
@click.option("--check", type=_KIT, metavar="FILE|-", help="Read a kit back, and open every repository with it alone.")
def kit(site_file, ssh_config, log_dir, wait, out, overwrite, check) -> None:
    """Write the recovery kit: one page that opens every backup when master and workstation are gone.

    With --check, a kit is read back and every repository opened with its content and nothing else: by this machine's
    restic if it has 0.17 or newer, else by the master's. Exit codes: 0 done, 1 refused or failed, 2 bad input,
    130 interrupted.
    """
    if check and (out or overwrite):
        raise click.UsageError("--check reads a kit; --out and --overwrite write one")
    with _reported():
        if check:
            _check(site_file, ssh_config, log_dir, wait, check)
        else:
            _write(site_file, ssh_config, log_dir, wait, out, overwrite)


def _write(site_file, ssh_config, log_dir, wait, out, overwrite) -> None:
    site = read_site(site_file)
    path = out or Path(f"rpiomega-kit-{site.cluster}.txt")
    svg = path.with_name(path.name + ".svg")
    there = [file for file in (path, svg) if str(out) != "-" and file.exists()]
    if there and not overwrite:
        raise NodeError(f"{there[0]} is there", "name another file with --out, or add --overwrite")
    with _master(site_file, ssh_config, log_dir, wait) as (_, remote):
        found = kits.fields(remote)
    text = kits.page(found, time.time())
    if str(out) == "-":
        click.echo(text, nl=False)
        return
    for file, content in ((path, text), (svg, kits.code(found))):
        file.unlink(missing_ok=True)
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(handle, "w", encoding="utf-8") as stream:
            stream.write(content)
    click.echo(f"{path} and {svg}: print them, then test them: {_command('kit', site_file)} --check {path}")
    click.echo("then remove the files from this machine")


def _check(site_file, ssh_config, log_dir, wait, source) -> None:
    found = kits.read(_text(source))
    program = opening.local_restic()
    opened, recorded = [], ""
    if program:
        click.echo(f"opening {len(found['nodes'])} repositories with this machine's restic ({program})")
        opened = opening.here(found, program)
    try:
        with _master(site_file, ssh_config, log_dir, wait) as (site, remote):
            if not program:
                click.echo(f"opening {len(found['nodes'])} repositories with the restic of {site.master.name}")
                opened = opening.there(found, remote)
            _shown(opened)
            if not [one for one in opened if one.cause]:
                recorded = _record(site, remote, found)
    except NodeError as error:
        if not program:
            raise
        _shown(opened)
        recorded = f"the master cannot be asked whether this kit is its present one ({error.cause})"
    if [one for one in opened if one.cause]:
        sys.exit(1)
    click.echo(recorded)


def _shown(opened: list[opening.Opened]) -> None:
    for one in opened:
        if one.cause:
            click.echo(f"{one.node}: {one.cause}\n  next: {one.cure}", err=True)
        else:
            click.echo(f"{one.node}: opens, {one.snapshots or 'no'} snapshots{'' if one.snapshots else ' yet'}")


def _record(site, remote, found: dict) -> str:
    """Let the master record the check; return what to say. Raise NodeError if the kit is not the present one."""
    hash_ = kits.backup_kit.digest(found)
    done = agent.run(remote, [job_steps.BackupKit(hash_, int(time.time()))], lambda event: None)["backup_kit"]
    if not done["data"]["current"]:
        left = [name for name in site.nodes if name not in found["nodes"]]
        missing = f": it lacks {', '.join(left)}" if left else ": key, phrase or nodes have changed since"
        raise Failure(f"this kit opens the repositories it names, and is stale{missing}", "make a new one: backup kit")
    return f"the kit is whole and current; {site.master.name} recorded the check"


@click.command()
@click.argument("node")
@click.option("--at", required=True, help="The moment: 2026-11-28 (its end), or '2026-11-28 14:30'.")
@click.option("--into", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder for the copy.")
@click.option("--kit", "source", type=_KIT, help="A recovery kit (`-`: standard input) instead of the master's files.")
@over_master
def past(site_file, ssh_config, log_dir, wait, node, at, into, source) -> None:
    """Copy NODE's repository as it was at a moment into a folder, from versions that were hidden or overwritten since.

    For a repository that an attacker, or a mistake, deleted or overwrote. Nothing at B2 is changed. The folder is a
    repository of restic; its password is the recovery phrase. Exit codes: 0 done, 1 failed,
    2 bad input, 130 interrupted.
    """
    try:
        moment = restores.moment(at)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--at") from None
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", node):
        raise click.UsageError(f"{printable(node)} cannot be the name of a node")
    with _reported():
        if source:
            found = kits.read(_text(source))
        else:
            with _master(site_file, ssh_config, log_dir, wait) as (_, remote):
                found = kits.fields(remote)
        site_endpoint = read_site(site_file).b2.endpoint if site_file.exists() else ""
        account = Account(found["key_id"], found["key"], site_endpoint)
        mark = _begun(into, {"bucket": found["bucket"], "node": node, "at": moment})
        prefix = f"hosts/{node}/"
        done = account.ask(
            "fetch_at", f"bucket {found['bucket']}", name=found["bucket"], prefix=prefix, at=moment,
            folder=str(into.resolve()),
        )  # fmt: skip
        if not done["files"]:
            raise NodeError(f"the bucket had nothing of {node} at {at}", "choose a later moment, or another node")
        mark.unlink()
    click.echo(f"{done['files']} files, {done['bytes']} bytes; {done['later']} versions are younger and were left out")
    click.echo(f"next: restic -r {shlex.quote(str(into))} --no-lock snapshots   # the password is the recovery phrase")


def _text(source: Path) -> str:
    return sys.stdin.read() if str(source) == "-" else source.read_text(encoding="utf-8", errors="replace")


def _begun(into: Path, what: dict) -> Path:
    """Make the folder of a copy; return the mark beside it that a run cut short leaves.

    :raises NodeError: the folder has something that is not of the same copy
    """
    mark, text = into.with_name(f"{into.name}.partial"), json.dumps(what)
    into.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(into.iterdir()) and not (mark.is_file() and mark.read_text() == text):
        raise NodeError(f"{into} is not empty", "name a new folder with --into")
    mark.write_text(text)
    return mark


def _asked() -> tuple[str, str]:
    click.echo("The account's admin key (Backblaze's web console, Application Keys); it stays in this run's memory.")
    try:
        return click.prompt("key ID"), click.prompt("key", hide_input=True)
    except click.Abort:
        if sys.stdin.isatty():
            raise
        raise click.UsageError("nobody can be asked for the admin key here: give --admin-key-file FILE") from None


def _command(name: str, site_file: Path) -> str:
    option = "" if str(site_file) == "pillar/site.sls" else f" --site {site_file}"
    return f"rpiomega backup {name}{option}"


@contextmanager
def _reported():
    """End the command with one line and the next step for whatever went wrong. A crash writes no secret to a core."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    try:
        yield
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        click.echo(f"{where}{error.strerror or error}\n  next: check the path and the disk", err=True)
        sys.exit(1)
    except Failure as error:
        where = f"{error.subject}: " if error.subject else ""
        click.echo(f"{where}{error.cause}" + f"\n  next: {error.cure}" * bool(error.cure), err=True)
        sys.exit(1)


@contextmanager
def _master(site_file, ssh_config, log_dir, wait):
    """Yield the site and a connection to its master."""
    name = read_site(site_file).master.name
    site, pool, bulk = ready(site_file, (name,), ssh_config, log_dir, 1)
    bulk.close()
    with pool:
        remote = reach.board(pool, site, site.master)
        remote.connect(wait)
        yield site, remote
