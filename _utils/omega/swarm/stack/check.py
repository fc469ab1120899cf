"""
What of a stack cannot work in this swarm, found before anything is sent. Pure.

The docker command takes these; the engine refuses them in the middle of a deployment, or each task fails on its node.
Limits are those of swarmkit (manager/controlapi/service.go, config.go, secret.go); texts were read on engine 20.10.
"""

import base64
import json
import os
import re

MAX_NAME = 63
MAX_DATA = {"config": 1024000, "secret": 512000}  # bytes, each less than this
# Below these swarmkit refuses limits and reservations (manager/controlapi/service.go, validateResources).
LEAST = {"MemoryBytes": (4 << 20, "4M of memory"), "NanoCPUs": (1000000, "0.001 of cpus")}
LOCAL_DRIVERS = ("bridge", "host", "ipvlan", "macvlan", "none", "null")
MODES = ("ingress", "host")
# moby daemon/cluster/convert/service.go
CONDITIONS, ACTIONS = ("none", "on-failure", "any"), ("pause", "continue", "rollback")
_SERVICE = re.compile(r"[a-zA-Z0-9]([a-zA-Z0-9_-]*[a-zA-Z0-9])?")
_TAG = re.compile(r"[\w][\w.-]{0,127}", re.ASCII)
_PATH = re.compile(r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*")
_HOST = re.compile(r"[a-zA-Z0-9.\[\]:-]+")


def problems(noted, services, files):
    """
    Return one clause, with the next step, for each thing that cannot work; empty if all can.

    :param noted: list of omega.swarm.stack.proxy.Noted: what the docker command would send
    :param services: decoded services that the swarm has
    :param files: omega.swarm.stack.files.Files, for the folders of the stack
    """
    found = []
    local = {item.body.get("Name"): item.body["Driver"] for item in noted if item.body.get("Driver") in LOCAL_DRIVERS}
    for item in noted:
        if item.verb == "remove":
            continue
        if item.kind == "services":
            found += _service(item.body, files)
            found += _spec(item.body, local)
        elif item.kind in ("configs", "secrets"):
            found += _data(item.kind[:-1], item.body)
        found += _left(item.kind[:-1], item.body, files)
    return list(dict.fromkeys(found + _ports(noted, services)))


def _service(body, files):
    name = body.get("Name") or "?"
    container = (body.get("TaskTemplate") or {}).get("ContainerSpec") or {}
    image = container.get("Image") or ""
    if len(name) > MAX_NAME or not _SERVICE.fullmatch(name):
        yield (
            f"service {name}: with the stack's name before it a name has letters, digits, - and _, {MAX_NAME} at most; "
            "rename it"
        )
    if not image:
        yield (
            f"service {name}: it has no image, and a swarm does not build one; build it (`docker buildx build --push`) "
            "and name it with `image:`"
        )
    elif not image_is_valid(image):
        yield f"service {name}: {image!r} is no valid name of an image; write NAME:TAG, and set the variables in it"
    seen = set()
    for mount in container.get("Mounts") or []:
        target = mount.get("Target") or ""
        if target in seen:
            yield f"service {name}: two volumes have the path {target} in the container; take one of them out"
        seen.add(target)
        yield from _mount(f"service {name}: volume {_inside(mount, files)}:{target}", mount, files)


def _spec(body, local):
    """What swarmkit and the engine refuse of a service; `local`: {network that the stack makes: its driver}."""
    name, task, endpoint = body.get("Name") or "?", body.get("TaskTemplate") or {}, body.get("EndpointSpec") or {}
    for target in sorted({item.get("Target") for item in task.get("Networks") or []} & set(local)):
        yield (
            f"service {name}: network {target} has the driver {local[target]}, which is one node's alone; write "
            "`driver: overlay`, or leave the driver out"
        )
    for port in endpoint.get("Ports") or []:
        where, mode = f"service {name}: port {port.get('TargetPort')}", port.get("PublishMode") or "ingress"
        if mode not in MODES:
            yield f"{where}: mode {mode}; write `mode: ingress` or `mode: host`"
        elif mode == "ingress" and endpoint.get("Mode") == "dnsrr":
            yield f"{where}: a service with `endpoint_mode: dnsrr` can publish it with `mode: host` only"
    for kind, given in (task.get("Resources") or {}).items():
        for key, least in LEAST.items():
            if 0 < ((given or {}).get(key) or 0) < least[0]:
                yield f"service {name}: {kind.lower()}: less than a container can have; write {least[1]} or more"
    for where, given, allowed in (
        ("restart_policy.condition", (task.get("RestartPolicy") or {}).get("Condition"), CONDITIONS),
        ("update_config.failure_action", (body.get("UpdateConfig") or {}).get("FailureAction"), ACTIONS),
        ("rollback_config.failure_action", (body.get("RollbackConfig") or {}).get("FailureAction"), ACTIONS[:2]),
    ):
        if given and given not in allowed:
            yield f"service {name}: {where} {given}; write one of {', '.join(allowed)}"


def _inside(mount, files):
    """Source of a mount as the owner wrote it, near enough."""
    source = mount.get("Source") or ""
    if source == files.working:
        return "."
    if source.startswith(files.home):
        return source.replace(files.home, "~")
    return os.path.join(".", os.path.relpath(source, files.working)) if source.startswith(files.folder) else source


def _mount(where, mount, files):
    kind, source, target = mount.get("Type"), mount.get("Source") or "", mount.get("Target") or ""
    if kind == "bind":
        yield from _host_path(where, source, files)
    options = ((mount.get("VolumeOptions") or {}).get("DriverConfig") or {}).get("Options") or {}
    if {"bind", "rbind"} & set(str(options.get("o") or "").split(",")):
        yield from _host_path(
            f"{where}: device {_inside({'Source': options.get('device')}, files)}", options.get("device"), files
        )
    if re.match("[a-zA-Z]:/", target) and not source:
        yield f"{where}: docker takes `{target[0]}:` for a drive of Windows; give the volume a longer name"
    elif target and not target.startswith("/"):
        yield f"{where}: the path in the container must begin with /"


def _host_path(where, path, files):
    path = path or ""
    if path.startswith(files.home):
        yield (
            f"{where}: `~` and ${{HOME}} are root's home folder where Salt deploys; write the path out, as it is on "
            "the nodes"
        )
    elif path.startswith(files.folder):
        yield (
            f"{where}: this path is relative to {files.shown[0]}, and the nodes have no such folder; write an absolute "
            "path that is on each node that may run the service, or make single files `configs:`"
        )
    elif not path.startswith("/"):
        yield f"{where}: no absolute path of a Linux node; write one that begins with /"


def _left(kind, body, files):
    """What else was made of ${PWD}, `.` or ${HOME}: folders that are there only while a stack is deployed."""
    text = json.dumps({key: value for key, value in body.items() if key != "Data"}, ensure_ascii=False)
    container = (body.get("TaskTemplate") or {}).get("ContainerSpec") or {}
    for mount in container.get("Mounts") or []:  # has been judged
        text = text.replace(json.dumps(mount, ensure_ascii=False), "")
    if files.folder in text:
        yield (
            f"{kind} {body.get('Name') or '?'}: it uses ${{PWD}}, ${{HOME}} or a relative path, which mean nothing "
            "where Salt deploys; write the path out, or give PWD or HOME in `env`"
        )


def _data(kind, body):
    size = len(base64.b64decode(body.get("Data") or ""))
    if not body.get("Driver") and not 0 < size < MAX_DATA[kind]:
        yield (
            f"{kind} {body.get('Name') or '?'}: its file has {size} bytes, and the swarm takes 1 to "
            f"{MAX_DATA[kind] - 1}; correct the file"
        )


def image_is_valid(image):
    """Return whether `image` has the form [HOST[:PORT]/]NAME[:TAG][@DIGEST] (distribution/reference)."""
    rest, at, digest = image.partition("@")
    if at and not re.fullmatch(r"[a-z0-9+._-]+:[0-9a-fA-F]{32,}", digest):
        return False
    head, slash, path = rest.rpartition("/")
    path, colon, tag = path.partition(":")
    if colon and not _TAG.fullmatch(tag):
        return False
    parts = [*(head.split("/") if slash else []), path]
    first = parts[0]
    host = set(".:") & set(first) or first == "localhost" or first != first.lower()
    if len(parts) > 1 and host and _HOST.fullmatch(first):
        parts = parts[1:]
    return all(_PATH.fullmatch(part) for part in parts)


def _ports(noted, services):
    """Published ports that two services of the swarm would have once all is deployed."""
    gone = {item.target for item in noted if item.kind == "services" and item.verb != "create"}
    after = [item["Spec"] for item in services if item["ID"] not in gone]
    after += [item.body for item in noted if item.kind == "services" and item.verb != "remove"]
    mine = {item.body.get("Name") for item in noted if item.kind == "services"}
    found, held = [], dict[tuple, list]()
    for spec in after:
        for port in (spec.get("EndpointSpec") or {}).get("Ports") or []:
            number, protocol = port.get("PublishedPort"), port.get("Protocol") or "tcp"
            mode, name = port.get("PublishMode") or "ingress", spec.get("Name") or "?"
            if not number:
                continue
            for other, others_mode in held.get((number, protocol), []):
                # The engine lets two services have one port of the nodes; the scheduler keeps them apart.
                if {mode, others_mode} != {"host"} and {other, name} & mine:
                    found.append(
                        f"service {name}: port {number}/{protocol} is published by service {other}, too; publish "
                        "another"
                    )
            held.setdefault((number, protocol), []).append((name, mode))
    return found
