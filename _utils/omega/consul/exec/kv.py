"""Execution functions for Consul's key/value store."""

from __future__ import annotations

import base64

from omega.consul.client import ConsulError
from omega.consul.exec.common import data, done, need, query, refused, whole
from omega.consul.policies import WORKER_TOKEN

# What a function returns stays in the master's job cache, and who has this key's value may join the swarm.
HIDDEN = "[join token]"


def list_(client, key=None, recurse=False, separator=None, dc=None, stale=False):
    """
    Names of the keys below ``key``, all if it is not given. Consul leaves out those the token may not read.

    :param key: what their names begin with
    :param recurse: accepted for Salt's former module; Consul always lists the whole subtree
    :param separator: list only up to this character, like a folder
    :param dc: another datacenter; default: the agent's own
    :param stale: any server may answer, even without a leader; otherwise the read is consistent
    :return: ``{"res": True, "data": [names]}``

    CLI Example:

    .. code-block:: bash

        salt '*' consul.list key=rpiomega/
    """
    params = query(dc, stale, not stale, separator=separator, keys=True)
    path = f"/v1/kv/{key or ''}"
    code, names = client.request("get", path, params, what=f"listing {key or 'all keys'}", accept=(200, 404))
    return data(names) if code == 200 else refused(f"No keys below {key}.", "not_found", data="Key not found.")


def get(client, key=None, recurse=False, decode=False, raw=False, dc=None, stale=False):
    """
    A key with its indexes, flags and session; values are Base64 unless decoded. The swarm's worker token is not shown.

    :param key: the key, or with ``recurse`` what the names begin with
    :param recurse: all keys below ``key``
    :param decode: values as text
    :param raw: only the value, as text
    :param dc: another datacenter; default: the agent's own
    :param stale: any server may answer, even without a leader; otherwise the read is consistent
    :return: ``{"res": True, "data": [{"Key", "Value", "ModifyIndex", "LockIndex", "Flags", ...}]}``, with
        ``raw`` the value itself; ``{"res": False, "data": "Key not found."}`` if there is none

    CLI Example:

    .. code-block:: bash

        salt '*' consul.get key=rpiomega/swarm/record decode=True
    """
    need(key=key)
    params = query(dc, stale, not stale, recurse=recurse)
    code, items = client.request("get", f"/v1/kv/{key}", params, what=f"reading key {key}", accept=(200, 404))
    if code == 404:
        return refused(f"Consul has no key {key}.", "not_found", data="Key not found.")
    items = [_shown(item) for item in items]
    if raw:
        return data(_text(items[0]["Value"]))
    if decode:
        items = [{**item, "Value": _text(item["Value"])} for item in items]
    return data(items)


def _shown(item):
    return {**item, "Value": base64.b64encode(HIDDEN.encode()).decode()} if item["Key"] == WORKER_TOKEN else item


vars(get)["leading"] = ("consul_url", "key", "token")


def _text(value):
    return base64.b64decode(value or "").decode("utf-8", "replace")


def put(client, key=None, value=None, flags=None, cas=None, acquire=None, release=None):
    """
    Write a key. Text is stored as it is, other types as JSON. The value is not repeated in the return.

    :param key: its name, without a slash at the start
    :param value: what to store
    :param flags: number from 0 to 2^64-1 kept with the key
    :param cas: write only if the key's ModifyIndex is this; 0: only if there is no such key
    :param acquire: session to lock the key for; fails if another session holds it
    :param release: session to give the lock back from; fails if that session does not hold it
    :return: ``{"res": bool, "data": message}``; ``res`` is what Consul said

    CLI Example:

    .. code-block:: bash

        salt pi1 consul.put key=web/colour value=green cas=0
    """
    need(key=key)
    if sum(option is not None for option in (cas, acquire, release)) > 1:
        raise ConsulError("bad_request", "consul.put: cas, acquire and release exclude each other")
    if cas is not None:
        if flags is not None:
            operation = {
                "verb": "cas",
                "key": key,
                "value": _value(value),
                "index": whole("cas", cas),
                "flags": whole("flags", flags),
            }
            client.txn([operation])
            written = True
        else:
            written = client.put_cas(key, _value(value), whole("cas", cas))
    else:
        written = client.put(key, _value(value), flags=flags, acquire=acquire, release=release)
    if written:
        return {"res": True, "data": f"Added key {key}."}
    cause = why_not(client, key, cas, acquire, release)
    return refused(f"Unable to add key {key}: {cause}.", data=f"Unable to add key {key}.")


def _value(value):
    return "" if value is None else value


def why_not(client, key, cas=None, acquire=None, release=None):
    """In words, why Consul said no to a conditional write."""
    entry = client.get(key)
    if cas is not None:
        found = f"its index is {entry.modify_index}" if entry else "there is no such key"
        return f"index {cas} was expected, {found}"
    if entry and entry.session:
        return f"session {entry.session} holds the lock"
    if release:
        return f"session {release} does not hold the lock"
    return f"the lock-delay of an earlier holder is not over, or session {acquire} is not valid"


def delete(client, key=None, recurse=False, cas=None):
    """
    Delete a key.

    :param key: its name
    :param recurse: all keys that begin with ``key``
    :param cas: only if the key's ModifyIndex is this (above 0)
    :return: ``{"res": bool, "message": ...}``; deleting what is not there is a success, as in Consul

    CLI Example:

    .. code-block:: bash

        salt pi1 consul.delete key=web/colour
    """
    need(key=key)
    cas = None if cas is None else whole("cas", cas)
    if client.delete(key, recurse=recurse, index=cas):
        return done(f"Deleted key {key}.")
    return refused(f"Unable to delete key {key}: {why_not(client, key, cas)}.")


def txn(client, ops=None):
    """
    Apply all operations or none.

    :param ops: list of ``{"verb", "key", "value", "index", "session", "flags"}``; verbs: set cas lock unlock get
        get-tree check-index check-session check-not-exists delete delete-tree delete-cas
    :return: ``{"res": True, "data": [{"key", "modify_index", "session", "value" (of get)}]}``, or ``res``
        False with the operation that was refused

    A write that only the holder of a lock may do, with the session and fence that ``consul.lock`` returned:

    CLI Example:

    .. code-block:: bash

        salt pi1 consul.txn '[{"verb": "check-session", "key": "job", "session": "SESSION"},
            {"verb": "check-index", "key": "job", "index": 117}, {"verb": "set", "key": "out", "value": "x"}]'
    """
    need(ops=ops)
    entries = client.txn(ops)
    return data(
        [
            {
                "key": e.key,
                "modify_index": e.modify_index,
                "session": e.session,
                "value": HIDDEN if e.key == WORKER_TOKEN else e.text(),
            }
            for e in entries
        ]
    )


FUNCTIONS = (list_, get, put, delete, txn)
