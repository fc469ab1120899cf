"""Execution functions for the Consul agent of this node: members, checks, services."""

from __future__ import annotations

from omega.consul.client import ConsulError
from omega.consul.exec.common import data, done, fields, known, need, query, truth, want, whole

CHECK_KINDS = ("http", "tcp", "ttl", "script", "args", "docker_container_id", "grpc")
CHECK_OPTIONS = (*CHECK_KINDS, "interval", "timeout", "status", "notes", "deregister_after")
# What Salt's former module documents for a service without a mapping `check`; its own example has `interval` too.
FLAT_CHECK = ("script", "http", "ttl", "interval")
SERVICE_OPTIONS = ("name", "id", "address", "port", "tags", "meta", "enabletagoverride", "check")


def agent_checks(client):
    """
    Checks this agent manages.

    :return: ``{"res": True, "data": ...}``: ``{check ID: {"Name", "Status", "Output", "ServiceID", ...}}``

    CLI Example:

    .. code-block:: bash

        salt pi1 consul.agent_checks
    """
    return data(client.request("get", "/v1/agent/checks", what="listing the agent's checks")[1])


def agent_services(client):
    """
    Services this agent manages.

    :return: ``{"res": True, "data": ...}``: ``{service ID: {"Service", "Port", "Tags", ...}}``

    CLI Example:

    .. code-block:: bash

        salt pi1 consul.agent_services
    """
    return data(client.request("get", "/v1/agent/services", what="listing the agent's services")[1])


def agent_members(client, wan=False):
    """
    Members of the cluster as this agent sees them (not by quorum: works without a leader).

    :param wan: those of the WAN pool
    :return: ``{"res": True, "data": ...}``: list of ``{"Name", "Addr", "Status" (1 alive, 2 leaving, 3 left, 4 failed),
        ...}``

    CLI Example:

    .. code-block:: bash

        salt pi1 consul.agent_members
    """
    params = query(wan=wan)
    return data(client.request("get", "/v1/agent/members", params, what="listing the members")[1])


def agent_self(client):
    """
    Configuration and member entry of this agent; Consul itself hides the secrets in it.

    :return: ``{"res": True, "data": ...}``: ``{"Config", "Member", "Stats", ...}``

    CLI Example:

    .. code-block:: bash

        salt pi1 consul.agent_self
    """
    return data(client.request("get", "/v1/agent/self", what="reading the agent's configuration")[1])


def agent_maintenance(client, enable=None, reason=None):
    """
    Put this node into maintenance mode (its checks are critical), or end that.

    :param enable: True or False
    :param reason: text shown with the check
    :return: ``{"res": True, "message": ...}``

    CLI Example:

    .. code-block:: bash

        salt pi1 consul.agent_maintenance enable=True reason='new disk'
    """
    want(enable=enable)
    params = [("enable", "true" if truth(enable) else "false"), *query(reason=reason)]
    client.request("put", "/v1/agent/maintenance", params, what="setting the maintenance mode")
    return done(f"Agent maintenance mode {'en' if truth(enable) else 'dis'}abled.")


def agent_join(client, address=None, wan=False):
    """
    Make this agent join the cluster of the agent at ``address``.

    :param address: of an agent of that cluster, with its gossip port if it is not 8301
    :param wan: join by the WAN pool
    :return: ``{"res": True, "message": ...}``

    CLI Example:

    .. code-block:: bash

        salt pi1 consul.agent_join address=192.168.1.11
    """
    need(address=address)
    path = f"/v1/agent/join/{address}"
    client.request("put", path, query(wan=wan), what=f"joining {address}")
    return done(f"Agent joined {address}.")


def agent_leave(client, node=None):
    """
    Force the failed node ``node`` into the state "left". A node that lives comes back by itself.

    :param node: its name
    :return: ``{"res": True, "message": ...}``

    CLI Example:

    .. code-block:: bash

        salt pi1 consul.agent_leave node=pi4
    """
    need(node=node)
    path = f"/v1/agent/force-leave/{node}"
    client.request("put", path, what=f"forcing {node} to leave")
    return done(f"Node {node} put in leave state.")


def check_definition(given):
    """
    Consul's spelling of a check: http, tcp, args, docker_container_id and grpc need an interval, ttl does not.

    `script` of Salt's former module is not an argument of Consul since 1.1: it is run as a shell command, which
    the agent allows only with `enable_script_checks`.
    """
    given = {name.lower(): value for name, value in given.items() if value is not None}
    known("Consul check", given, CHECK_OPTIONS)
    if not any(kind in given for kind in CHECK_KINDS):
        raise ConsulError("bad_request", f"Consul check: one of {', '.join(CHECK_KINDS)} is required")
    args = ["/bin/sh", "-c", given["script"]] if "script" in given else given.get("args")
    interval = given.get("interval")
    if "ttl" not in given and interval is None:
        raise ConsulError("bad_request", 'Consul check: required parameter "interval" is missing')
    return fields(
        HTTP=given.get("http"),
        TCP=given.get("tcp"),
        GRPC=given.get("grpc"),
        TTL=_duration(given.get("ttl")),
        Args=args,
        DockerContainerID=given.get("docker_container_id"),
        Interval=None if "ttl" in given else _duration(interval),
        Timeout=_duration(given.get("timeout")),
        Status=given.get("status"),
        Notes=given.get("notes"),
        DeregisterCriticalServiceAfter=_duration(given.get("deregister_after")),
    )


def _duration(value):
    """Consul's durations carry a unit; bare numbers are taken as seconds."""
    return f"{value}s" if str(value).isdigit() else value


def agent_check_register(client, name=None, id=None, service_id=None, **kwargs):
    """
    Register a check with this agent.

    :param name: of the check
    :param id: default: the name
    :param service_id: service the check belongs to; otherwise the node
    :param kwargs: ``http``, ``tcp``, ``grpc``, ``args`` (list), ``script`` or ``ttl``, with ``interval``,
        ``timeout`` (durations: "10s"), ``status``, ``notes``, ``deregister_after``
    :return: ``{"res": True, "message": ...}``

    CLI Example:

    .. code-block:: bash

        salt pi1 consul.agent_check_register name=web http=http://127.0.0.1/ interval=15s
    """
    need(name=name)
    body = {**fields(Name=name, ID=id, ServiceID=service_id), **check_definition(kwargs)}
    client.request("put", "/v1/agent/check/register", data=body, what=f"registering check {name}")
    return done(f"Check {name} added to agent.")


def agent_check_deregister(client, checkid=None):
    """
    Remove a check from this agent.

    :param checkid: ID of the check
    :return: ``{"res": True, "message": ...}``

    CLI Example:

    .. code-block:: bash

        salt pi1 consul.agent_check_deregister checkid=web
    """
    need(checkid=checkid)
    path = f"/v1/agent/check/deregister/{checkid}"
    client.request("put", path, what=f"removing check {checkid}")
    return done(f"Check {checkid} removed from agent.")


def agent_check_pass(client, checkid=None, note=None):
    """
    Mark a TTL check as passing and restart its clock.

    :param checkid: ID of the check
    :param note: text shown with it
    :return: ``{"res": True, "message": ...}``

    CLI Example:

    .. code-block:: bash

        salt pi1 consul.agent_check_pass checkid=backup note='done at 03:00'
    """
    return _mark(client, "pass", "passing", checkid, note)


def agent_check_warn(client, checkid=None, note=None):
    """
    Mark a TTL check as warning and restart its clock.

    :param checkid: ID of the check
    :param note: text shown with it
    :return: ``{"res": True, "message": ...}``

    CLI Example:

    .. code-block:: bash

        salt pi1 consul.agent_check_warn checkid=backup note='slow'
    """
    return _mark(client, "warn", "warning", checkid, note)


def agent_check_fail(client, checkid=None, note=None):
    """
    Mark a TTL check as critical and restart its clock.

    :param checkid: ID of the check
    :param note: text shown with it
    :return: ``{"res": True, "message": ...}``

    CLI Example:

    .. code-block:: bash

        salt pi1 consul.agent_check_fail checkid=backup note='no space'
    """
    return _mark(client, "fail", "critical", checkid, note)


def _mark(client, verb, state, checkid, note):
    need(checkid=checkid)
    path = f"/v1/agent/check/{verb}/{checkid}"
    client.request("put", path, query(note=note), what=f"marking check {checkid} as {state}")
    return done(f"Check {checkid} marked as {state}.")


def agent_service_register(client, name=None, **kwargs):
    """
    Register a service with this agent.

    :param name: of the service
    :param kwargs: ``id`` (default: the name), ``address``, ``port``, ``tags`` (one or a list), ``meta`` (mapping),
        ``enabletagoverride``, ``check``: mapping with what ``consul.agent_check_register`` takes; in any case. In place
        of ``check``: ``script``, ``http``, ``ttl``, ``interval``, also as ``check_script`` and so on
    :return: ``{"res": True, "message": ...}``; ``res`` False for an argument that there is not

    CLI Example:

    .. code-block:: bash

        salt pi1 consul.agent_service_register name=web port=80 check='{http: http://127.0.0.1/, interval: 15s}'
    """
    given = {key.lower(): value for key, value in kwargs.items()}
    name = name or given.get("name")
    need(name=name)
    flat = {key: given.pop(word) for key in FLAT_CHECK for word in (key, f"check_{key}") if word in given}
    known("Consul service", given, (*SERVICE_OPTIONS, *FLAT_CHECK, *(f"check_{key}" for key in FLAT_CHECK)))
    if flat and given.get("check"):
        raise ConsulError("bad_request", f"Consul service {name}: either check or {', '.join(flat)}, not both")
    check = given.get("check") or flat
    if not isinstance(check, dict):
        raise ConsulError("bad_request", f"Consul service {name}: check must be a mapping, such as {{ttl: 30s}}")
    tags, override = given.get("tags"), given.get("enabletagoverride")
    body = fields(
        Name=name,
        ID=given.get("id"),
        Address=given.get("address"),
        Port=whole("port", given["port"]) if given.get("port") else None,
        Tags=[tags] if isinstance(tags, str) else tags,
        Meta=given.get("meta"),
        EnableTagOverride=None if override is None else truth(override),
        Check=check_definition(check) if check else None,
    )
    client.request("put", "/v1/agent/service/register", data=body, what=f"registering service {name}")
    return done(f"Service {name} registered on agent.")


def agent_service_deregister(client, serviceid=None):
    """
    Remove a service, and its checks, from this agent.

    :param serviceid: ID of the service
    :return: ``{"res": True, "message": ...}``

    CLI Example:

    .. code-block:: bash

        salt pi1 consul.agent_service_deregister serviceid=web
    """
    need(serviceid=serviceid)
    path = f"/v1/agent/service/deregister/{serviceid}"
    client.request("put", path, what=f"removing service {serviceid}")
    return done(f"Service {serviceid} removed from agent.")


def agent_service_maintenance(client, serviceid=None, enable=None, reason=None):
    """
    Put a service of this agent into maintenance mode, or end that.

    :param serviceid: ID of the service
    :param enable: True or False
    :param reason: text shown with the check
    :return: ``{"res": True, "message": ...}``

    CLI Example:

    .. code-block:: bash

        salt pi1 consul.agent_service_maintenance serviceid=web enable=True reason='upgrade'
    """
    need(serviceid=serviceid)
    want(enable=enable)
    path = f"/v1/agent/service/maintenance/{serviceid}"
    params = [("enable", "true" if truth(enable) else "false"), *query(reason=reason)]
    client.request("put", path, params, what=f"setting the maintenance mode of {serviceid}")
    return done(f"Service {serviceid}: maintenance mode {'en' if truth(enable) else 'dis'}abled.")


FUNCTIONS = (
    agent_checks,
    agent_services,
    agent_members,
    agent_self,
    agent_maintenance,
    agent_join,
    agent_leave,
    agent_check_register,
    agent_check_deregister,
    agent_check_pass,
    agent_check_warn,
    agent_check_fail,
    agent_service_register,
    agent_service_deregister,
    agent_service_maintenance,
)
