"""The upkeep of all nodes' backups, on the master: old snapshots are forgotten, and their space is given back.

A timer calls it (`rpiomega-backup-forget.timer`); it needs no Salt master.
"""

from salt.exceptions import CommandExecutionError

from omega.backup import restic, retention


def __virtual__():
    return "backup_upkeep"


def forget(folder=restic.FOLDER, record=retention.RECORD, program="restic"):
    """
    Forget the snapshots that the site's ``backup.keep`` does not keep, and prune, in the repository of each node.

    A repository with a snapshot that is dated in the future is left alone and named: by it all others would count as
    old. What is pruned stays in the bucket, hidden, for ``backup.hidden_days``.

    :param folder: what the state `backup` wrote on the master
    :param record: file for the outcome
    :param program: restic
    :return: dict: node -> {kept, removed} (numbers of snapshots)
    :raises CommandExecutionError: a repository failed (one line for each; the others are done), or this node does not
        maintain them

    CLI Example:

    .. code-block:: bash

        salt-call --local backup_upkeep.forget
    """
    try:
        found = retention.forget_all(folder, record, program)
    except restic.ResticError as error:
        raise CommandExecutionError(f"{__opts__['id']}: {error}") from None
    bad = [f"{node}: {item['cause']}; {item['cure']}" for node, item in found.items() if not item["ok"]]
    if bad:
        raise CommandExecutionError("\n".join(bad))
    return {node: {"kept": item["kept"], "removed": item["removed"]} for node, item in found.items()}
