"""Execution functions for Consul's snapshots."""

from __future__ import annotations

from omega.consul import snapshot
from omega.consul.exec.common import data, done, need, refused, seconds, whole


def snapshot_save(client, path=None, stale=False, timeout=60):
    """
    Save everything in Consul (keys, sessions, ACLs with their secrets) to a new file, mode 0600. What came is
    verified by its own checksums before the file gets its name.

    :param path: of the new file, on the minion
    :param stale: any server may give it, even without a leader
    :param timeout: seconds
    :return: ``{"res": True, "message": ..., "data": {"path", "size", "index", "version"}}``

    CLI Example:

    .. code-block:: bash

        salt master consul.snapshot_save path=/var/backups/consul/today.snap
    """
    need(path=path)
    info = snapshot.save(client.clone(seconds(timeout)), path, stale)
    return done(f"Saved Consul's state to {path}.", data=info)


def snapshot_restore(client, path=None, force=False, timeout=60):
    """
    Put Consul back to what a snapshot holds. All keys, sessions and ACLs of now are lost, in the whole cluster:
    done only with ``force=True``.

    :param path: of the snapshot, on the minion
    :param force: do it
    :param timeout: seconds
    :return: ``{"res": True, "message": ...}``

    CLI Example:

    .. code-block:: bash

        salt master consul.snapshot_restore path=/var/backups/consul/today.snap force=True
    """
    need(path=path)
    bound = seconds(timeout)
    info = snapshot.inspect(path)
    if force is not True:
        text = f"Not restored: {path} (index {info['index']}) would replace all of Consul's state"
        return refused(f"{text}; call again with force=True", "bad_request", data=info)
    snapshot.restore(client.clone(bound), path)
    return done(f"Restored Consul's state from {path}.", data=info)


def snapshot_rotate(client, path=None, keep=14, token_file=None, timeout=60):
    """
    Save a snapshot under the time of day (UTC) in the folder ``path``, then delete the oldest of this function's
    own ones until ``keep`` are left. Nothing is deleted unless the new one is whole. The systemd timer
    rpiomega-consul-snapshot calls this on the master.

    :param path: of the folder, made with mode 0700 if it is missing
    :param keep: how many, at least 1
    :param token_file: file with the token to use, for calls without a pillar
    :param timeout: seconds to wait for Consul, and again for the snapshot
    :return: as ``consul.snapshot_save``, and "removed": list of names

    CLI Example:

    .. code-block:: bash

        salt-call --local consul.snapshot_rotate path=/var/backups/consul keep=7 token_file=/root/consul.token
    """
    need(path=path)
    info = snapshot.rotate(client, path, whole("keep", keep), token_file, seconds(timeout))
    return done(f"Saved Consul's state to {info['path']}.", data=info)


def snapshot_list(client, path=None):
    """
    Snapshots in a folder, oldest first, each verified: ``index`` is None for a damaged one, and ``message`` says why.
    Consul is not asked.

    :param path: of the folder
    :return: ``{"res": True, "data": ...}``: list of ``{"path", "size", "index", "version"}``

    CLI Example:

    .. code-block:: bash

        salt master consul.snapshot_list path=/var/lib/rpiomega/consul-snapshots
    """
    need(path=path)
    return data(snapshot.found(path))


FUNCTIONS = (
    snapshot_save,
    snapshot_restore,
    snapshot_rotate,
    snapshot_list,
)
