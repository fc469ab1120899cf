"""What a deployment would change: the specs that the docker CLI would send, compared with those the swarm has. Pure.

The engine completes a spec it is given (measured with engine 20.10 and CLIs 20.10 and 28.2): the defaults below, IDs in
place of networks' names, empty values left out. Both sides are brought into that form before they are compared.
"""

from omega.core.mask import HIDDEN, masked
from omega.swarm.api import SwarmError

NAMESPACE = "com.docker.stack.namespace"
_SORTED = ("Aliases", "CapabilityAdd", "CapabilityDrop", "Env", "Hosts")


def _completed(spec, networks):
    task = dict(spec.get("TaskTemplate") or {})
    container = dict(task.get("ContainerSpec") or {})
    container.setdefault("Isolation", "default")
    task.setdefault("Runtime", "container")
    task["ContainerSpec"] = container
    attached = task.get("Networks") or spec.get("Networks") or []
    task["Networks"] = [{**item, "Target": networks.get(item.get("Target"), item.get("Target"))} for item in attached]
    endpoint = dict(spec.get("EndpointSpec") or {})
    endpoint["Mode"] = endpoint.get("Mode") or "vip"
    endpoint["Ports"] = [_port(item) for item in endpoint.get("Ports") or []]
    made = {**spec, "TaskTemplate": task, "EndpointSpec": endpoint}
    made.pop("Networks", None)
    replicated = (spec.get("Mode") or {}).get("Replicated")
    if replicated is not None:
        # None is 1 here, and 0 is 0: the one number that may not count as empty.
        made["Mode"] = {
            "Replicated": {"Replicas": str(1 if replicated.get("Replicas") is None else replicated["Replicas"])}
        }
    for key in ("UpdateConfig", "RollbackConfig"):
        if spec.get(key):
            given = spec[key]
            made[key] = {
                **given,
                "FailureAction": given.get("FailureAction") or "pause",
                "Order": given.get("Order") or "stop-first",
            }
    return made


def _port(item):
    return {**item, "Protocol": item.get("Protocol") or "tcp", "PublishMode": item.get("PublishMode") or "ingress"}


def _compact(value, key=""):
    """Leave out what is empty, and bring lists whose order means nothing into one."""
    if isinstance(value, dict):
        kept = {name: _compact(item, name) for name, item in value.items()}
        return {name: item for name, item in kept.items() if item not in (None, "", 0, False, [], {})}
    if isinstance(value, list):
        made = [_compact(item) for item in value]
        return sorted(made, key=str) if key in _SORTED else made
    return value


def _walk(old, new, path=()):
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({**old, **new}):
            yield from _walk(old.get(key), new.get(key), (*path, key))
    elif old != new:
        if isinstance(old, dict) or isinstance(new, dict):
            yield from _walk(old or {}, new or {}, path)
        else:
            yield path, old, new


def service_differences(has, sent, networks):
    """
    Return {path: {"old": .., "new": ..}} of two service specs; environment values and passwords are hidden.

    :param has: decoded spec as the engine returns it
    :param sent: decoded spec as the CLI sends it
    :param networks: {name: ID} of the engine's networks
    """
    old, new = (_compact(_completed(spec, networks)) for spec in (has, sent))
    found = {}
    for path, before, after in _walk(old, new):
        if path[-1] == "Env":
            before, after = (_names_of_changed(one, other) for one, other in ((before, after), (after, before)))
        found[".".join(path)] = {"old": masked(before, path[-1]), "new": masked(after, path[-1])}
    return found


def _names_of_changed(env, other):
    changed = [item for item in env or [] if item not in (other or [])]
    return [item.partition("=")[0] + f"={HIDDEN}" for item in changed]


def planned(noted, engine):
    """
    Return what the noted requests would change: {"service NAME": .., "network NAME": .., ..}; empty if nothing.

    :param noted: list of omega.swarm.stack.proxy.Noted
    :param engine: omega.swarm.api.Engine
    :raises SwarmError: "refused" for a config whose content would change, which the engine cannot do
    """
    has = {
        "services": {item["ID"]: item for item in engine.services()},
        "configs": {item["ID"]: item for item in engine.listed("configs")},
        "secrets": {item["ID"]: item for item in engine.listed("secrets")},
    }
    networks = _networks(noted, engine)
    found = {}
    for item in noted:
        kind = item.kind[:-1]
        before = has.get(item.kind, {}).get(item.target, {}).get("Spec", {})
        name = f"{kind} {item.body.get('Name') or before.get('Name') or item.target}"
        if item.verb == "create":
            found[name] = {"old": None, "new": _image(item.body) if kind == "service" else "present"}
        elif item.verb == "remove":
            found[name] = {"old": _image(before), "new": None}
        elif kind == "service":
            changes = service_differences(before, item.body, networks)
            if changes:
                found[name] = changes
        else:
            if kind == "config" and item.body.get("Data") != before.get("Data"):
                raise SwarmError(
                    "refused",
                    f"{name} has another content, and a config cannot be changed: give the new one another name "
                    "(`name: ...` below it in the compose file), which services then use",
                )
            if (item.body.get("Labels") or {}) != (before.get("Labels") or {}):
                found[name] = {"Labels": {"old": before.get("Labels"), "new": item.body.get("Labels")}}
    return found


def _image(spec):
    return ((spec.get("TaskTemplate") or {}).get("ContainerSpec") or {}).get("Image") or "present"


def _networks(noted, engine):
    """{name: ID} of the swarm's networks. The predefined ones, as `host`, are in no list and have their own ID."""
    found = {item["Name"]: item["Id"] for item in engine.listed("networks", {"scope": "swarm"})}
    for item in noted:
        for network in (item.body.get("TaskTemplate") or {}).get("Networks") or []:
            name = network["Target"]
            if name not in found:
                found[name] = engine.network_id(name) or name
    return found
