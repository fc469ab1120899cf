"""Backups of this node with restic: what is saved, when it was saved, and what a run that was killed left behind.

What is saved and where comes from ``/etc/rpiomega/backup``, which the state ``backup`` writes; no Salt master is
needed, so ``salt-call --local`` does. No function takes or returns a secret. Errors are ``CommandExecutionError`` with
one line that has the cause and the next step.
"""

from dataclasses import replace

from salt.exceptions import CommandExecutionError

from omega.backup import progress, restic
from omega.backup import run as backup_run
from omega.backup import settings as backup_settings
from omega.backup import state as backup_state
from omega.core.errors import Failure

__virtualname__ = "backup"
__func_alias__ = {"list_": "list"}

_MANAGEMENT_TOKEN = "/etc/rpiomega/secrets/consul/management.token"


def __virtual__():
    return __virtualname__


def _places():
    """Return the folders; the minion's configuration `backup.*_dir` moves them."""
    opts = globals().get("__opts__") or {}
    names = {"settings": "backup.settings_dir", "state": "backup.state_dir", "run": "backup.run_dir"}
    return backup_settings.Places(**{key: opts[name] for key, name in names.items() if opts.get(name)})


def _here():
    """Return (places, settings, repository) of this node."""
    places = _places()
    repository = restic.own(places.settings)
    program = (globals().get("__opts__") or {}).get("backup.restic")
    return places, backup_settings.load(places.settings), replace(repository, program=program or repository.program)


def _failed(error):
    return CommandExecutionError(str(error))


def _consul_snapshot(folder):
    token = (globals().get("__opts__") or {}).get("backup.consul_token_file") or _MANAGEMENT_TOKEN
    answer = __salt__["consul.snapshot_rotate"](path=folder, keep=1, token_file=token)
    if not answer.get("res"):
        raise Failure(f"Consul's snapshot failed: {answer.get('message')}", "see `consul members`")


def run(groups=None):
    """Save this node: every group, or some.

    The containers of a volume are paused while it is read, unless its mode is another. A group that fails does not
    keep the others from being saved. The timer ``rpiomega-backup`` calls this.

    :param groups: names as `plan` shows them, a list or a text with commas; None: all
    :return: dict: ``id``, ``started``, ``ended`` (seconds since 1970), ``ok``, ``cause``, ``cure``, ``groups`` (list of
        ``name``, ``mode``, ``snapshot``, ``bytes_added``, ``bytes_total``, ``files``, ``paused_seconds``, ``ok``,
        ``cause``) and ``skipped`` (list of ``name``, ``why``); the exit code is 1 if ``ok`` is False
    :raises CommandExecutionError: this node has no backups set up; another run works

    CLI Example:

    .. code-block:: bash

        salt-call --local --retcode-passthrough backup.run
        salt-call --local backup.run groups=volume:db_data
    """
    only = groups.split(",") if isinstance(groups, str) else groups or ()
    try:
        places, settings, repository = _here()
        report = backup_run.run(places, settings, repository, only, _consul_snapshot)
    except (Failure, OSError) as error:
        raise _failed(error) from None
    if not report["ok"]:
        __context__["retcode"] = 1
    return report


def plan():
    """Return what a run would save now, what it would leave out and why, and what would fail. Writes nothing.

    :return: dict: ``groups`` (list of ``name``, ``mode``, ``paths``, ``volumes``, ``containers``), ``skipped`` (list of
        ``name``, ``why``) and ``failed`` (list of ``name``, ``cause``, ``cure``)
    :raises CommandExecutionError: this node has no backups set up; the engine's answer broke off

    CLI Example:

    .. code-block:: bash

        salt-call --local backup.plan
    """
    try:
        places, settings, _ = _here()
        found, client = backup_run.look(places, settings)
    except (Failure, OSError) as error:
        raise _failed(error) from None
    if client is not None:
        client.close()
    groups = [
        {
            "name": item.name,
            "mode": item.mode,
            "paths": [*item.paths],
            "volumes": [volume.name for volume in item.volumes],
            "containers": [container.name for container in item.containers],
        }
        for item in found.groups
    ]
    return {
        "groups": groups,
        "skipped": [{"name": item.name, "why": item.why} for item in found.skipped],
        "failed": [{"name": item.name, "cause": item.cause, "cure": item.cure} for item in found.failed],
    }


def list_(group=None, latest=0):
    """Return the snapshots of this node's repository, oldest first.

    :param group: of this group only
    :param latest: at most this many of each set of paths; 0: all
    :return: list of dicts: ``id``, ``time``, ``group``, ``mode``, ``run``, ``paths``, ``files``, ``bytes``
    :raises CommandExecutionError: the repository cannot be read: the cause and the next step

    CLI Example:

    .. code-block:: bash

        salt-call --local backup.list group=files
    """
    try:
        tags = ["rpiomega", *([f"group={group}"] if group else [])]
        found = restic.snapshots(_here()[2], tags, int(latest))
    except (Failure, OSError) as error:
        raise _failed(error) from None
    return [_described(item) for item in found]


def _described(snapshot):
    marks = dict(tag.split("=", 1) for tag in snapshot.get("tags") or [] if "=" in tag)
    summary = snapshot.get("summary") or {}
    return {
        "id": snapshot["short_id"],
        "time": snapshot["time"],
        **{key: marks.get(key, "") for key in ("group", "mode", "run")},
        "paths": snapshot.get("paths") or [],
        "files": summary.get("total_files_processed"),
        "bytes": summary.get("total_bytes_processed"),
    }


def status():
    """Return what the last run and the last drill did, and what a run does now. Asks neither engine nor repository.

    :return: dict: ``last`` (as `run` returns it, or None), ``success`` (seconds since 1970 of the last run that
        succeeded, or None), ``drill``, ``proven`` and ``now`` (None while no run works)

    CLI Example:

    .. code-block:: bash

        salt-call --local backup.status
    """
    places = _places()
    return {**backup_state.read(places.report), "now": progress.read(places.progress)}


def release():
    """Undo what a run that was killed left: unpause exactly the containers it had paused, report it as interrupted.

    Does nothing where nothing is left. The unit calls it after each end of a run.

    :return: dict: ``unpaused`` (names), ``problems`` (texts), ``interrupted`` (whether a run had not ended); the exit
        code is 1 if there are problems
    :raises CommandExecutionError: a run is working; containers are paused and no engine answers

    CLI Example:

    .. code-block:: bash

        salt-call --local backup.release
    """
    try:
        places = _places()
        found = backup_run.release(places, backup_settings.load(places.settings))
    except (Failure, OSError) as error:
        raise _failed(error) from None
    if found["problems"]:
        __context__["retcode"] = 1
    return found
