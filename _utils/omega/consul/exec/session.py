"""Execution functions for Consul's sessions, locks and elections."""

from __future__ import annotations

from omega.consul.client import ConsulError
from omega.consul.exec.common import data, done, fields, need, query, refused, seconds
from omega.consul.lock import node_of
from omega.core.polling import TimedOut, until


def session_create(client, name=None, node=None, checks=None, behavior="release", ttl=None, lockdelay=15):
    """
    Create a session.

    :param name: a label for people
    :param node: Consul node it belongs to, default the agent's own
    :param checks: health checks that end it; default serfHealth
    :param behavior: release or delete the keys it holds when it ends
    :param ttl: seconds (10 to 86400, also "60s") until it ends without a renewal; none by default
    :param lockdelay: seconds (0 to 60) its keys stay closed after it ended without a release
    :return: ``{"res": True, "message": ..., "data": session ID}``

    CLI Example:

    .. code-block:: bash

        salt pi1 consul.session_create name=maintenance ttl=600s
    """
    need(name=name)
    if behavior not in ("release", "delete"):
        raise ConsulError("bad_request", "consul.session_create: behavior must be delete or release")
    session = client.session_create(name, int(seconds(ttl)) if ttl else 0, seconds(lockdelay), behavior, node, checks)
    return done(f"Created session {name}.", data=session)


def session_list(client, return_list=False, dc=None, stale=False):
    """
    Sessions the token may read.

    :param return_list: return only a list of IDs instead of ``{"res", "data"}``
    :param dc: another datacenter; default: the agent's own
    :param stale: any server may answer, even without a leader; otherwise the read is consistent
    :return: ``{"res": True, "data": ...}``: list of ``{"ID", "Name", "Node", "TTL", ...}``

    CLI Example:

    .. code-block:: bash

        salt pi1 consul.session_list
    """
    params = query(dc, stale, not stale)
    sessions = client.request("get", "/v1/session/list", params, what="listing the sessions")[1] or []
    return [session["ID"] for session in sessions] if return_list else data(sessions)


def session_info(client, session=None, dc=None):
    """
    One session.

    :param session: its ID
    :param dc: another datacenter; default: the agent's own
    :return: ``{"res": True, "data": ...}``: list of the one session; ``res`` False if there is none

    CLI Example:

    .. code-block:: bash

        salt pi1 consul.session_info session=c1c4d223-91cb-3d1f-1ee8-f2af9e7b6716
    """
    need(session=session)
    path = f"/v1/session/info/{session}"
    found = client.request("get", path, query(dc, consistent=True), what="reading the session")[1]
    return data(found) if found else refused(f"No session {session}.", "not_found")


def session_renew(client, session=None):
    """
    Extend a session by its TTL; ``res`` is False with kind "lost" if it has ended.

    :param session: its ID
    :return: ``{"res": True, "message": ...}``

    CLI Example:

    .. code-block:: bash

        salt pi1 consul.session_renew session=c1c4d223-91cb-3d1f-1ee8-f2af9e7b6716
    """
    need(session=session)
    client.session_renew(session)
    return done(f"Renewed session {session}.")


def session_destroy(client, session=None, dc=None):
    """
    End a session; what it still holds stays closed for its lock-delay.

    :param session: its ID
    :param dc: another datacenter; default: the agent's own
    :return: ``{"res": True, "message": ...}``; also if there is none such

    CLI Example:

    .. code-block:: bash

        salt pi1 consul.session_destroy session=c1c4d223-91cb-3d1f-1ee8-f2af9e7b6716
    """
    need(session=session)
    path = f"/v1/session/destroy/{session}"
    client.request("put", path, query(dc), what="destroying the session")
    return done(f"Destroyed session {session}.")


def lock(client, key=None, name=None, ttl=60, lock_delay=15, wait=0, session=None):
    """
    Take a lock that outlives this call. It is held until ``consul.unlock``, or until its session ends: between
    ``ttl`` and twice ``ttl`` seconds after the last ``consul.session_renew``, or when this node fails.

    Consul does not keep others from writing the key: guard what the lock protects with its ``fence``
    (``consul.txn``). Code that holds a lock while it runs uses ``omega.consul.lock.hold``, which renews by itself.

    :param key: the lock
    :param name: of the holder, shown to those who wait; default: the minion's ID
    :param ttl: seconds, 10 to 86400
    :param lock_delay: seconds (0 to 60) the key stays closed if the session ends without a release
    :param wait: seconds to wait for another holder
    :param session: one of ``consul.session_create`` to use instead of a new one
    :return: ``{"res": True, "session": ID, "fence": index that grows with every holder}``, or ``res`` False
        and ``holder``

    CLI Example:

    .. code-block:: bash

        salt pi1 consul.lock key=jobs/backup ttl=600
    """
    need(key=key)
    own, name = session is None, name or client.name
    if own:
        session = client.session_create(f"{key} {name}", int(seconds(ttl)), seconds(lock_delay))
    operations = [
        {"verb": "lock", "key": key, "value": {"node": name}, "session": session},
        {"verb": "get", "key": key},
    ]
    try:
        fence = until(lambda: client.txn(operations)[-1].modify_index, seconds(wait), f"the lock {key}", _taken)
        return done(f"{name} holds {key}.", session=session, fence=fence)
    except TimedOut:
        answer = _held(key, client.get(key), client)
    except ConsulError as error:
        answer = refused(str(error), error.kind)
    if own:
        client.session_destroy(session)
    return answer


def _taken(error):
    return isinstance(error, ConsulError) and error.kind == "conflict" and "invalid session" not in str(error)


def _held(key, entry, client):
    if entry is None or not entry.session:
        text = f"{key} is closed: an earlier holder ended without a release, its lock-delay is not over."
        return refused(text, holder=None)
    holder = node_of(client, entry)
    return refused(f"{key} is held by {holder}.", holder=holder)


def unlock(client, key=None, session=None, destroy=True):
    """
    Give back a lock of ``consul.lock``; ``res`` is False, and the session goes on, if it did not hold it.

    :param key: the lock
    :param session: ID that ``consul.lock`` returned
    :param destroy: end the session too; other locks it holds stay closed for their lock-delay
    :return: ``{"res": True, "message": ...}``, or ``res`` False with kind lost

    CLI Example:

    .. code-block:: bash

        salt pi1 consul.unlock key=jobs/backup session=c1c4d223-91cb-3d1f-1ee8-f2af9e7b6716
    """
    need(key=key, session=session)
    try:
        client.txn([{"verb": "unlock", "key": key, "value": {"node": None}, "session": session}])
    except ConsulError as error:
        if error.kind != "conflict":
            raise
        return refused(f"Session {session} does not hold {key}.", "lost")
    if destroy:
        client.session_destroy(session)
    return done(f"Released {key}.")


def elect(client, key=None, name=None, ttl=60, lock_delay=15):
    """
    Stand for election; call it again, more often than every ``ttl`` seconds, to stay leader (from Salt's
    scheduler, for instance). Never waits.

    :param key: the office
    :param name: of the candidate; default: the minion's ID
    :param ttl: seconds (10 to 86400) the office outlives the last call; at most twice that
    :param lock_delay: seconds (0 to 60) the office stays closed then
    :return: ``{"res": True, "elected": bool, "leader": name or None, "session", "fence" (if elected)}``

    CLI Example:

    .. code-block:: bash

        salt '*' consul.elect key=service/leader
    """
    need(key=key)
    name = name or client.name
    entry, mine = _leadership(client, key, name)
    if mine:
        try:
            client.session_renew(entry.session)
            return done(f"{name} leads {key}.", elected=True, leader=name, **_grip(entry))
        except ConsulError as error:
            if error.kind != "lost":
                raise
    elif entry and entry.session:
        holder = node_of(client, entry)
        return done(f"{holder} leads {key}.", elected=False, leader=holder)
    answer = lock(client, key, name, ttl, lock_delay)
    if answer["res"]:
        grip = {"session": answer["session"], "fence": answer["fence"]}
        return done(f"{name} leads {key}.", elected=True, leader=name, **grip)
    if "holder" not in answer:
        return answer
    return done(answer["message"], elected=False, leader=answer["holder"])


def leader(client, key=None, stale=False):
    """
    Name of who leads ``key``, None if nobody does.

    :param key: the office
    :param stale: any server may answer, even without a leader; otherwise the read is consistent
    :return: ``{"res": True, "data": ...}``: the name or None

    CLI Example:

    .. code-block:: bash

        salt pi1 consul.leader key=service/leader
    """
    need(key=key)
    entry = client.get(key, stale=stale)
    return data(node_of(client, entry) if entry and entry.session else None)


def resign(client, key=None, name=None):
    """
    Give up the leadership that this node's ``consul.elect`` won; ``res`` is False if it has none.

    :param key: the office
    :param name: of the candidate; default: the minion's ID
    :return: ``{"res": True, "message": ...}``, or ``res`` False with kind lost

    CLI Example:

    .. code-block:: bash

        salt pi1 consul.resign key=service/leader
    """
    need(key=key)
    name = name or client.name
    entry, mine = _leadership(client, key, name)
    if not mine:
        return refused(f"{name} does not lead {key}.", "lost")
    return unlock(client, key, entry.session)


def _leadership(client, key, name):
    """(the key's Entry, whether the session that holds it was made by `elect` of this candidate)"""
    entry = client.get(key)
    session = client.session_info(entry.session) if entry and entry.session else None
    return entry, bool(session and session["Name"] == f"{key} {name}")


def _grip(entry):
    return fields(session=entry.session, fence=entry.modify_index)


FUNCTIONS = (
    session_create,
    session_list,
    session_info,
    session_renew,
    session_destroy,
    lock,
    unlock,
    elect,
    leader,
    resign,
)
