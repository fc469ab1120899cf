"""
Restore files and volumes of this node from its snapshots, and prove that they can be restored (the drill).

Nothing here needs a Salt master: `salt-call --local backup_restore.drill` is what the timer runs.
"""

import contextlib
import json

from salt.exceptions import CommandExecutionError

from omega.backup import drill as drills
from omega.backup import requests, restic, restore, restore_node, restore_volume, settings
from omega.core.errors import Failure, line
from omega.docker import engine

__virtualname__ = "backup_restore"


def __virtual__():
    return __virtualname__


def file(path, to=None, at=None, dry_run=False, force=False):
    """
    Restore a file or a folder of this node. What is in its place is kept as NAME.before-restore-DATE.

    :param path: its absolute path as it was saved
    :param to: a folder that gets it instead, created if it is missing
    :param at: take the newest snapshot up to then (2026-11-28, '2026-11-28 14:00', or seconds since 1970); default: now
    :param dry_run: return what would be done, write nothing
    :param force: do not keep what is in its place
    :return: dict: what, snapshot (its ID), time (seconds since 1970), target, kept (path, or ""), files, bytes,
        actions (a line for each step), seconds
    :raises CommandExecutionError: no snapshot has the path; no space; another run works; restic failed

    CLI Example:

    .. code-block:: bash

        salt-call --local backup_restore.file /home/pi/notes.txt at='2026-11-28 14:00'
    """
    with _errors():
        wanted = restore.Wanted(at, bool(dry_run), bool(force))
        return restore.restore_file(restic.own(), str(path), wanted, to, settings.Places()).data()


def volume(name, at=None, dry_run=False, force=False):
    """
    Restore a Docker volume of this node. Its data is restored beside the present one, compared with the manifest of
    the snapshot, and then takes its place; the present one is kept as _data.before-restore-DATE. A volume that is saved
    as a dump is restored by the command of the label rpiomega.backup.restore, in the running container.

    :param name: of the volume; one that is missing is created
    :param at: take the newest snapshot up to then (2026-11-28, '2026-11-28 14:00', or seconds since 1970); default: now
    :param dry_run: return what would be done, write nothing
    :param force: also while containers use it: they are paused for the exchange, then restarted
    :return: dict: as of `file`, and in_use (the names of the containers that use it)
    :raises CommandExecutionError: containers use it; no snapshot has it; no space; the restored data is not what the
        manifest says; another run works; restic or the engine failed

    CLI Example:

    .. code-block:: bash

        salt-call --local backup_restore.volume db_data dry_run=True
    """
    with _errors(), _engine() as client:
        wanted = restore.Wanted(at, bool(dry_run), bool(force))
        return restore_volume.restore_volume(restic.own(), client, str(name), wanted, settings.Places()).data()


def node(at=None, dry_run=False, force=False):
    """
    Restore what a run of this node saved, on a board that took its place: folders of `backup.paths` outside /etc, then
    all volumes. What is there as it was saved stays; what differs is kept as NAME.before-restore-DATE. A failure of one
    does not keep the others from being restored.

    :param at: take the newest run up to then (2026-11-28, '2026-11-28 14:00', or seconds since 1970); default: the
        newest of the card before, or of this one if there was none
    :param dry_run: return what would be done, write nothing
    :param force: also volumes that containers use: they are paused for the exchange, then restarted
    :return: dict: what, run (its ID), snapshot, time, files, bytes, actions (a line for each step), kept, seconds and
        left (list of name, why, cure, failed); the exit code is 1 if one failed
    :raises CommandExecutionError: there is no run; the repository cannot be read

    CLI Example:

    .. code-block:: bash

        salt-call --local backup_restore.node dry_run=True
    """
    with _errors():
        own = settings.load()
        try:
            client, problem = engine.connect(own.docker_url, timeout=300), ""
        except engine.EngineError as error:
            client, problem = None, error.cause
        try:
            wanted = restore.Wanted(at, bool(dry_run), bool(force))
            work = restore_node.Restore(restic.own(), client, own.node, wanted, settings.Places(), problem)
            report = work.run()
        finally:
            if client is not None:
                client.close()
    if any(one["failed"] for one in report["left"]):
        __context__["retcode"] = 1
    return report


def finish():
    """
    Complete or undo the restores of volumes that were interrupted. The unit of `rpiomega restore` calls it at its end.

    :return: list of lines, one for each volume
    :raises CommandExecutionError: no engine answers; another run works

    CLI Example:

    .. code-block:: bash

        salt-call --local backup_restore.finish
    """
    places = settings.Places()
    names = restore_volume.pending(places)
    if not names:
        return []
    with _errors(), _engine() as client, restore.alone(places):
        return [line for name in names for line in [restore_volume.finish(client, name, places)] if line]


def drill():
    """
    Restore the newest snapshot of each group into a scratch folder, compare it with its manifest, run the services'
    check commands on it, and let restic read a part of the repository. What runs and what is saved stay as they are.

    :return: dict: started, ended (seconds since 1970), ok, cause, checks (list of dicts: name, ok, cause, seconds)
    :raises CommandExecutionError: another run works; this node has no backups

    CLI Example:

    .. code-block:: bash

        salt-call --local backup_restore.drill
    """
    with _errors():
        own = settings.load()
        try:
            client = engine.connect(own.docker_url, timeout=1000)
        except engine.EngineError:
            client = None  # a group with a check command says so
        try:
            report = drills.Drill(restic.own(), settings.Places(), client, download=own.download).run()
        finally:
            if client is not None:
                client.close()
    if not report["ok"]:
        __context__["retcode"] = 1
    return report


def request(name):
    """
    Do what a request of `rpiomega restore` asks for, and write the result beside it. For that command only: a file
    gives paths whatever their characters, a command line of Salt does not.

    :param name: of the request, below /run/rpiomega/backup/requests
    :return: dict: as of `file`, `volume` or `node`
    :raises CommandExecutionError: as of these; there is no such request

    CLI Example:

    .. code-block:: bash

        salt-call --local backup_restore.request 1764345600
    """
    with _errors():
        asked = requests.read(settings.Places(), str(name))
    try:
        what = asked.pop("what")
        result = {"ok": True, **{"file": file, "volume": volume, "node": node}[what](**asked)}
    except CommandExecutionError as error:
        cause = error.__cause__
        plain = isinstance(cause, Failure)
        result = {
            "ok": False,
            "cause": line(cause.cause, subject=cause.subject) if plain else str(error),
        }
        result.update(cure=cause.cure if plain else "", kind=getattr(cause, "kind", ""))
        __context__["retcode"] = 1
    requests.answer(settings.Places(), str(name), json.loads(json.dumps(result)))
    return result


@contextlib.contextmanager
def _errors():
    try:
        yield
    except Failure as error:
        raise CommandExecutionError(f"{__opts__['id']}: {error}") from error


@contextlib.contextmanager
def _engine():
    client = engine.connect(settings.load().docker_url, timeout=300)
    try:
        yield client
    finally:
        client.close()
