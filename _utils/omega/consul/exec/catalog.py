"""Execution functions for what Consul knows of the whole cluster: catalog, health, status, events."""

from __future__ import annotations

import base64

from omega.consul.client import ConsulError
from omega.consul.exec.common import data, done, fields, known, need, query, want, whole

CATALOG_SERVICE = ("service", "service_id", "service_address", "service_port", "service_tags")
CATALOG_CHECK = ("check", "check_id", "check_status", "check_service", "check_notes")
# Grains that Salt's former module took as arguments, and what it called them.
CATALOG_META = {
    "cpu": "Cpu",
    "num_cpus": "Cpu_num",
    "mem": "Memory",
    "oscode": "Os",
    "osarch": "Osarch",
    "kernel": "Kernel",
    "kernelrelease": "Kernelrelease",
    **{name: name for name in ("localhost", "nodename", "os_family", "lsb_distrib_description", "master")},
}
STATES = ("any", "unknown", "passing", "warning", "critical")


def _read(client, path, what, dc=None, stale=False, **more):
    """The cluster's answer; consistent unless `stale`."""
    return data(client.request("get", path, query(dc, stale, not stale, **more), what=what)[1])


def catalog_register(client, node=None, address=None, datacenter=None, **kwargs):
    """
    Register a node, service or check in the catalog, past any agent (for what has no agent).

    :param node: name of the node
    :param address: its address
    :param datacenter: another datacenter; default: the agent's own
    :param kwargs: ``service``, ``service_id``, ``service_address``, ``service_port``, ``service_tags``; ``check``
        (name), ``check_id``, ``check_status`` (unknown, passing, warning, critical), ``check_service`` (ID),
        ``check_notes``; ``node_meta`` (mapping), or of the former module ``cpu``, ``num_cpus``, ``mem``, ``kernel`` ...
    :return: ``{"res": True, "message": ...}``; ``res`` False for an argument that there is not

    CLI Example:

    .. code-block:: bash

        salt pi1 consul.catalog_register node=printer address=192.168.1.9 service=ipp service_port=631
    """
    want(node=node, address=address)
    others = ("node_meta", "dc", "ip_interfaces")
    known("consul.catalog_register", kwargs, (*CATALOG_SERVICE, *CATALOG_CHECK, *CATALOG_META, *others))
    for first, *more in (CATALOG_SERVICE, CATALOG_CHECK):
        alone = [name for name in more if name in kwargs and not kwargs.get(first)]
        if alone:
            raise ConsulError("bad_request", f"consul.catalog_register: {', '.join(alone)} without {first}")
    meta = {CATALOG_META[name]: str(kwargs[name]) for name in CATALOG_META.keys() & kwargs.keys()}
    address = address[0] if isinstance(address, list) else address
    tags, status = kwargs.get("service_tags"), kwargs.get("check_status")
    if status is not None and status not in STATES[1:]:
        raise ConsulError("bad_request", f"Check status must be one of {', '.join(STATES[1:])}")
    body = fields(Node=node, Address=address, Datacenter=datacenter or kwargs.get("dc"))
    tagged = {name: found[0] for name, found in (kwargs.get("ip_interfaces") or {}).items() if found}
    meta.update(kwargs.get("node_meta") or {})
    body.update(fields(NodeMeta=meta or None, TaggedAddresses=tagged or None))
    if kwargs.get("service"):
        body["Service"] = fields(
            Service=kwargs["service"],
            ID=kwargs.get("service_id"),
            Address=kwargs.get("service_address"),
            Port=whole("service_port", kwargs["service_port"]) if kwargs.get("service_port") else None,
            Tags=[tags] if isinstance(tags, str) else tags,
        )
    if kwargs.get("check"):
        body["Check"] = fields(
            Name=kwargs["check"],
            CheckID=kwargs.get("check_id"),
            Status=status,
            ServiceID=kwargs.get("check_service"),
            Notes=kwargs.get("check_notes"),
        )
    client.request("put", "/v1/catalog/register", data=body, what=f"registering {node}")
    return done(f"Catalog registration for {node} successful.")


def catalog_deregister(client, node=None, datacenter=None, checkid=None, serviceid=None):
    """
    Remove a node from the catalog, or only a service or check of it. What an agent manages comes back.

    :param node: name of the node
    :param datacenter: another datacenter; default: the agent's own
    :param checkid: only the check with this ID
    :param serviceid: only the service with this ID
    :return: ``{"res": True, "message": ...}``; also if there is none such

    CLI Example:

    .. code-block:: bash

        salt pi1 consul.catalog_deregister node=printer serviceid=ipp
    """
    want(node=node)
    body = fields(Node=node, Datacenter=datacenter, CheckID=checkid, ServiceID=serviceid)
    client.request("put", "/v1/catalog/deregister", data=body, what=f"removing {node}")
    return done(f"Catalog item {node} removed.")


def catalog_datacenters(client):
    """
    Names of the datacenters.

    :return: ``{"res": True, "data": ...}``: list of names, the nearest first

    CLI Example:

    .. code-block:: bash

        salt pi1 consul.catalog_datacenters
    """
    return data(client.request("get", "/v1/catalog/datacenters", what="listing the datacenters")[1])


def catalog_nodes(client, dc=None, stale=False):
    """
    Nodes.

    :param dc: another datacenter; default: the agent's own
    :param stale: any server may answer, even without a leader; otherwise the read is consistent
    :return: ``{"res": True, "data": ...}``: list of ``{"Node", "Address", "Meta", ...}``

    CLI Example:

    .. code-block:: bash

        salt pi1 consul.catalog_nodes
    """
    return _read(client, "/v1/catalog/nodes", "listing the nodes", dc, stale)


def catalog_services(client, dc=None, stale=False):
    """
    Services with their tags.

    :param dc: another datacenter; default: the agent's own
    :param stale: any server may answer, even without a leader; otherwise the read is consistent
    :return: ``{"res": True, "data": ...}``: ``{name: [tags]}``

    CLI Example:

    .. code-block:: bash

        salt pi1 consul.catalog_services
    """
    return _read(client, "/v1/catalog/services", "listing the services", dc, stale)


def catalog_service(client, service=None, dc=None, tag=None, stale=False):
    """
    Nodes that provide ``service``.

    :param service: its name
    :param dc: another datacenter; default: the agent's own
    :param tag: only those with this tag
    :param stale: any server may answer, even without a leader; otherwise the read is consistent
    :return: ``{"res": True, "data": ...}``: list of ``{"Node", "Address", "ServicePort", ...}``, empty if nobody does

    CLI Example:

    .. code-block:: bash

        salt pi1 consul.catalog_service service=web tag=green
    """
    need(service=service)
    path = f"/v1/catalog/service/{service}"
    return _read(client, path, f"reading service {service}", dc, stale, tag=tag)


def catalog_node(client, node=None, dc=None, stale=False):
    """
    A node and its services; ``data`` is None if there is none such.

    :param node: its name
    :param dc: another datacenter; default: the agent's own
    :param stale: any server may answer, even without a leader; otherwise the read is consistent
    :return: ``{"res": True, "data": ...}``: ``{"Node": ..., "Services": ...}`` or None

    CLI Example:

    .. code-block:: bash

        salt pi1 consul.catalog_node node=pi2
    """
    need(node=node)
    return _read(client, f"/v1/catalog/node/{node}", f"reading node {node}", dc, stale)


def health_node(client, node=None, dc=None, stale=False):
    """
    Checks of a node.

    :param node: its name
    :param dc: another datacenter; default: the agent's own
    :param stale: any server may answer, even without a leader; otherwise the read is consistent
    :return: ``{"res": True, "data": ...}``: list of ``{"CheckID", "Status", "Output", ...}``

    CLI Example:

    .. code-block:: bash

        salt pi1 consul.health_node node=pi2
    """
    need(node=node)
    return _read(client, f"/v1/health/node/{node}", f"reading the health of {node}", dc, stale)


def health_checks(client, service=None, dc=None, stale=False):
    """
    Checks of a service.

    :param service: its name
    :param dc: another datacenter; default: the agent's own
    :param stale: any server may answer, even without a leader; otherwise the read is consistent
    :return: as ``consul.health_node``

    CLI Example:

    .. code-block:: bash

        salt pi1 consul.health_checks service=web
    """
    need(service=service)
    path = f"/v1/health/checks/{service}"
    return _read(client, path, f"reading the checks of {service}", dc, stale)


def health_service(client, service=None, dc=None, tag=None, passing=False, stale=False):
    """
    Nodes that provide a service, with the health of each.

    :param service: its name
    :param dc: another datacenter; default: the agent's own
    :param tag: only those with this tag
    :param passing: only those whose checks all pass
    :param stale: any server may answer, even without a leader; otherwise the read is consistent
    :return: ``{"res": True, "data": ...}``: list of ``{"Node", "Service", "Checks"}``

    CLI Example:

    .. code-block:: bash

        salt pi1 consul.health_service service=web passing=True
    """
    need(service=service)
    path, what = f"/v1/health/service/{service}", f"reading the health of {service}"
    return _read(client, path, what, dc, stale, tag=tag, passing=passing)


def health_state(client, state=None, dc=None, stale=False):
    """
    Checks in a state: any, unknown, passing, warning or critical.

    :param state: one of them
    :param dc: another datacenter; default: the agent's own
    :param stale: any server may answer, even without a leader; otherwise the read is consistent
    :return: as ``consul.health_node``

    CLI Example:

    .. code-block:: bash

        salt pi1 consul.health_state state=critical
    """
    need(state=state)
    if state not in STATES:
        raise ConsulError("bad_request", f"State must be one of {', '.join(STATES)}")
    return _read(client, f"/v1/health/state/{state}", f"listing the {state} checks", dc, stale)


def alive(client):
    """
    Sorted names of the nodes that show a sign of life: serfHealth passes, by a consistent read, or gossip says so.

    :return: ``{"res": True, "data": ...}``: the names

    CLI Example:

    .. code-block:: bash

        salt pi1 consul.alive
    """
    return data(sorted(client.alive()))


def status_leader(client):
    """
    Address of the Raft leader; ``res`` is False with kind "no_leader" if there is none (Consul itself answers
    that with success and an empty string).

    :return: ``{"res": True, "data": ...}``: ``ADDRESS:PORT``

    CLI Example:

    .. code-block:: bash

        salt pi1 consul.status_leader
    """
    address = client.leader()
    if address is None:
        raise client.failure("asking for the leader", 500, "No cluster leader")
    return data(address)


def status_peers(client):
    """
    Addresses of the Raft peers.

    :return: ``{"res": True, "data": ...}``: list of ``ADDRESS:PORT``

    CLI Example:

    .. code-block:: bash

        salt pi1 consul.status_peers
    """
    return data(client.request("get", "/v1/status/peers", what="listing the Raft peers")[1])


def event_fire(client, name=None, payload=None, dc=None, node=None, service=None, tag=None):
    """
    Fire a user event. Gossip spreads it: quickly, but without a guarantee.

    :param name: of the event
    :param payload: text that goes with it (readable by every node)
    :param dc: another datacenter; default: the agent's own
    :param node: only nodes whose name matches this regular expression
    :param service: only nodes with a service that matches
    :param tag: only where that service has a tag that matches
    :return: ``{"res": True, "message": ..., "data": the event}``

    CLI Example:

    .. code-block:: bash

        salt pi1 consul.event_fire name=deploy
    """
    need(name=name)
    params = query(dc, node=node, service=service, tag=tag)
    body = str(payload).encode() if payload is not None else b""
    event = client.request("put", f"/v1/event/fire/{name}", params, body, f"firing event {name}")[1]
    return done(f"Event {name} fired.", data=event)


def event_list(client, name=None):
    """
    Recent events this agent has seen, all or those called ``name``; payloads as text.

    :param name: only those called so
    :return: ``{"res": True, "data": ...}``: list of ``{"ID", "Name", "Payload", ...}``, oldest first

    CLI Example:

    .. code-block:: bash

        salt pi1 consul.event_list name=deploy
    """
    events = client.request("get", "/v1/event/list", query(name=name), what="listing the events")[1] or []
    for event in events:
        if event.get("Payload"):
            event["Payload"] = base64.b64decode(event["Payload"]).decode("utf-8", "replace")
    return data(events)


FUNCTIONS = (
    catalog_register,
    catalog_deregister,
    catalog_datacenters,
    catalog_nodes,
    catalog_services,
    catalog_service,
    catalog_node,
    health_node,
    health_checks,
    health_service,
    health_state,
    alive,
    status_leader,
    status_peers,
    event_fire,
    event_list,
)
