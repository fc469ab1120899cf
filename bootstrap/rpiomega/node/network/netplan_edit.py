"""What leaves the owner's netplan definitions, and what goes into ours: a pure function of the files' texts.

The owner's YAML is edited as a tree of nodes, so every key that is not named here stays as it is, quotes included.
Sources: netplan-yaml(5): files are merged in the order of their names, mappings key by key (the last scalar counts),
lists are joined. An access point must not be defined in two files, and each file, taken together with those before it,
must give a wireless interface its access points (both seen with libnetplan 0.106 and 1.1.2).
"""

from __future__ import annotations

import copy
import json
import re
from dataclasses import dataclass, field
from typing import Any

from rpiomega.node.network.stack import MARK, Wanted, Wifi, family, gives_way
from rpiomega.node.network.wifi import derived
from rpiomega.node.step import StepError

OURS = ("addresses", "nameservers", "routes", "dhcp4")
_CURE = "change it there, or write `network.manage: false` into the site file and set the address yourself"
# What a default route may have besides its destination and gateway; it is carried over.
_CARRIED = {"metric", "mtu", "on-link", "congestion-window", "advertised-receive-window", "advertised-mss"}
# In any case (handle_bool of libnetplan).
_YES, _NO = ("true", "on", "yes", "y"), ("false", "off", "no", "n")


@dataclass
class Result:
    """New texts of the owner's files that change, the text of our file, and all values that went."""

    changed: dict[str, str] = field(default_factory=dict)
    own: str = ""
    gone: set[str] = field(default_factory=set)


def _yaml() -> Any:
    try:
        import yaml  # netplan.io depends on python3-yaml
    except ImportError:
        raise StepError("Python has no YAML reader", "install python3-yaml, which netplan.io needs too") from None
    return yaml


def load(text: str, path: str) -> Any:
    """Return the first YAML document of a file as a node, None if it is empty; raise StepError if it is no YAML.

    netplan reads the first document only.
    """
    yaml = _yaml()
    try:
        return next(iter(yaml.compose_all(text, Loader=yaml.SafeLoader)), None)
    except yaml.YAMLError as error:
        line = getattr(getattr(error, "problem_mark", None), "line", 0) + 1
        raise StepError(f"{path} line {line} is not YAML: {getattr(error, 'problem', error)}", "correct it") from None


def value(node: Any, *keys: str) -> Any:
    """Return the node below a path of keys, None if there is none."""
    for key in keys:
        found = [item for name, item in getattr(node, "value", ()) if name.value == key] if _mapping(node) else []
        if not found:
            return None
        node = found[-1]
    return node


def _mapping(node: Any) -> bool:
    return getattr(node, "id", "") == "mapping"


def _refuse_twice(node: Any, path: str, way: list[str]) -> None:
    """Raise StepError for a key that is there twice on the way to a definition, or inside of it.

    netplan joins the two; here the second one alone would be seen.
    """
    seen: set[str] = set()
    for key, item in node.value if _mapping(node) else ():
        if way and key.value != way[0]:
            continue
        if key.value in seen:
            line = key.start_mark.line + 1
            raise StepError(f"{path} line {line}: `{key.value}` is there twice", "join the two, as netplan does")
        seen.add(key.value)
        _refuse_twice(item, path, way[1:])
    for item in [] if way else _items(node):
        _refuse_twice(item, path, [])


def _items(node: Any) -> list:
    return node.value if getattr(node, "id", "") == "sequence" else []


def _drop(node: Any, key: str) -> None:
    node.value = [(name, item) for name, item in node.value if name.value != key]


def _keep(node: Any, key: str, items: list) -> None:
    """Set the list `key` of a mapping to `items`; an empty list goes with its key."""
    value(node, key).value = items
    if not items:
        _drop(node, key)


def _text(node: Any) -> str:
    """Return a scalar's text; of an address with options, the address."""
    return node.value[0][0].value if _mapping(node) and node.value else str(node.value)


def _entry(route: Any) -> dict[str, str]:
    return {name.value: item.value for name, item in route.value} if _mapping(route) else {}


def _is_default(entry: dict, path: str) -> bool:
    """Return whether a route is IPv4's default route in the main table."""
    if entry.get("to") not in ("default", "0.0.0.0/0") or entry.get("table", "254") != "254" or "from" in entry:
        return False
    if entry.get("type", "unicast") != "unicast" or family(entry.get("via", "")) == 6:
        return False
    if not entry.get("via"):
        raise StepError(f"{path} has a default route without `via`, which would stay beside ours", _CURE)
    extra = sorted(set(entry) - _CARRIED - {"to", "via", "table", "type"})
    if extra:
        raise StepError(f"{path}: `{extra[0]}` of the default route would be lost", _CURE)
    return True


class Definition:
    """One interface's definition in all files. `texts`: path -> text of the owner's files, in the order of names."""

    def __init__(self, texts: dict[str, str], kind: str, name: str):
        self.kind, self.name, self.texts = kind, name, texts
        self.roots = {path: load(text, path) for path, text in texts.items()}
        self.nodes = {}
        for path, root in self.roots.items():
            _refuse_twice(root, path, ["network", kind, name])
            parent = value(root, "network", kind)
            node = value(parent, name)
            if _mapping(node):
                # An anchor may share parts with other interfaces: those keep theirs.
                node = copy.deepcopy(node)
                parent.value = [(key, node if key.value == name else old) for key, old in parent.value]
                self.nodes[path] = node

    def scalar(self, *keys: str) -> str:
        """Return the value that counts: the last one, empty if no file has it."""
        found = [value(node, *keys) for node in self.nodes.values()]
        return next((str(node.value) for node in reversed(found) if node is not None), "")

    def defaults(self) -> list[tuple[str, dict]]:
        """Return (path, entry) of each IPv4 default route in the main table."""
        found = []
        for path, node in self.nodes.items():
            if value(node, "gateway4") is not None:
                found.append((path, {"via": _text(value(node, "gateway4"))}))
            found += [(path, entry) for entry in map(_entry, _items(value(node, "routes"))) if _is_default(entry, path)]
        return found


def takeover(texts: dict[str, str], kind: str, name: str, wanted: Wanted, own: str = "") -> Result:
    """Return what gives the definition `name` the wanted address, whatever else it has.

    `texts`: the owner's files, path -> text, in the order netplan reads them; `own`: our file as it is now.
    Raise StepError naming file and key where something could neither be kept nor replaced.
    """
    definition = Definition(texts, kind, name)
    _refuse_shared(definition, wanted.interface)
    _refuse_no_client(definition)
    defaults = definition.defaults()
    gateways = {entry["via"] for _, entry in defaults}
    if len(gateways) > 1:
        where = ", ".join(sorted({f"{entry['via']} in {path}" for path, entry in defaults}))
        raise StepError(f"{name} has several default routes ({where})", _CURE)
    kept_off = definition.scalar("dhcp4-overrides", "use-routes").lower() in _NO
    if kept_off and definition.scalar("dhcp4").lower() in _YES and not defaults:
        raise StepError(f"dhcp4-overrides.use-routes of {name} keeps the default route away from it", _CURE)
    previous = copy.deepcopy(value(load(own, "our file"), "network", kind, name)) if own else None
    result = Result(own=_own(definition, wanted, defaults, previous))
    if previous is not None:
        result.gone |= _clear(previous, "our file", wanted, set(), every=True)
    for path, node in definition.nodes.items():
        result.gone |= _clear(node, path, wanted, gateways)
    if wanted.wifi:
        _same_network(definition, wanted.wifi)
    for path, node in definition.nodes.items():
        _refuse_mentions(node, path, result.gone)
        new = _yaml().serialize(definition.roots[path], Dumper=_yaml().SafeDumper, width=1000, allow_unicode=True)
        original = load(texts[path], path)
        if new != _yaml().serialize(original, Dumper=_yaml().SafeDumper, width=1000, allow_unicode=True):
            if len(list(_yaml().compose_all(texts[path], Loader=_yaml().SafeLoader))) > 1:
                raise StepError(f"{path} has several YAML documents, netplan reads the first only", "keep that one")
            result.changed[path] = new
    return result


def _refuse_shared(definition: Definition, interface: str) -> None:
    """Raise StepError if the definition may configure several interfaces: each would get the address."""
    if definition.scalar("set-name") == interface:
        return
    for key in ("name", "driver"):
        found = definition.scalar("match", key)
        if found and found != interface and (key == "driver" or re.search(r"[*?\[]", found)):
            if definition.scalar("match", "macaddress"):
                continue
            where = ", ".join(definition.nodes)
            cause = f"the definition {definition.name} in {where} is for every interface whose {key} is {found}"
            raise StepError(cause, f"give {interface} a definition of its own there")


def _refuse_no_client(definition: Definition) -> None:
    """Raise StepError if the board itself is an access point, or the like, through this interface."""
    for path, node in definition.nodes.items():
        points = value(node, "access-points")
        for name, point in points.value if _mapping(points) else ():
            mode = value(point, "mode")
            if mode is not None and mode.value != "infrastructure":
                cause = f"{path}: {definition.name} has mode={mode.value} in {name.value}: it is no client of a network"
                raise StepError(cause, _CURE)


def _clear(node: Any, path: str, wanted: Wanted, gateways: set[str], every: bool = False) -> set[str]:
    """Take out of a definition what would be joined to ours; return the values that went."""
    gone = set()
    addresses = value(node, "addresses")
    if addresses is not None:
        left = [item for item in _items(addresses) if not every and not gives_way(_text(item), wanted, gateways)]
        gone |= {_text(item) for item in _items(addresses)} - {_text(item) for item in left}
        _keep(node, "addresses", left)
    if value(node, "gateway4") is not None:
        gone.add(_text(value(node, "gateway4")))
        _drop(node, "gateway4")
    if value(node, "nameservers", "addresses") is not None:
        servers = value(node, "nameservers")
        items = _items(value(servers, "addresses"))
        gone |= {_text(item) for item in items if family(_text(item)) != 6}
        _keep(servers, "addresses", [item for item in items if family(_text(item)) == 6])
        if not servers.value:
            _drop(node, "nameservers")
    if value(node, "routes") is not None:
        items = _items(value(node, "routes"))
        left = [item for item in items if not _is_default(_entry(item), path)]
        gone |= {_entry(item)["via"] for item in items if item not in left}
        _keep(node, "routes", left)
    return gone


def _refuse_mentions(node: Any, path: str, gone: set[str]) -> None:
    """Raise StepError if what stays names an address that goes (`from:` of a rule, for one)."""
    hosts = {item.partition("/")[0] for item in gone if "/" in item}
    for keys in ("routes", "routing-policy"):
        for rule in _items(value(node, keys)):
            for key, found in _entry(rule).items():
                if key in ("from", "to") and str(found).partition("/")[0] in hosts:
                    cause = f"{path}: `{key}: {found}` in {keys} names the address that is replaced"
                    raise StepError(cause, "change it there, or take the rule out")


def _same_network(definition: Definition, wifi: Wifi) -> None:
    """Put the key into the owner's own definition of the access point: a second one would be an error."""
    for path, node in definition.nodes.items():
        point = value(node, "access-points", wifi.ssid)
        if point is None:
            continue
        management = value(point, "auth", "key-management")
        if management is not None and management.value != "psk":
            cause = f"{path}: access point {wifi.ssid} has `key-management: {management.value}`"
            raise StepError(cause, "take `wifi` out of section network of the site file: the settings there stay")
        for keys in (("password",), ("auth", "password")):
            found = value(point, *keys)
            if found is not None:
                if wifi.psk not in (found.value, derived(found.value, wifi.ssid)):
                    found.value, found.style, found.tag = wifi.psk, '"', "tag:yaml.org,2002:str"
                return
        if not _mapping(point):
            raise StepError(f"{path}: access point {wifi.ssid} is no mapping", "write `{}` for an open network")
        point.value.append((_scalar("password"), _scalar(wifi.psk)))
        return


def _scalar(text: str) -> Any:
    return _yaml().ScalarNode("tag:yaml.org,2002:str", text, style='"')


def _own(definition: Definition, wanted: Wanted, defaults: list, before: Any) -> str:
    """Return our file: only what has to differ; everything else is merged from the owner's files."""
    kind, name = definition.kind, definition.name
    carried = _options(definition, defaults, before)
    route = {"to": "0.0.0.0/0", "via": wanted.gateway, **carried}  # "default" is not known to netplan before 0.103
    # JSON is YAML: no quoting rules of our own.
    lines = [
        MARK,
        "network:",
        "  version: 2",
        f"  {kind}:",
        f"    {json.dumps(name)}:",
        "      dhcp4: false",
        f"      addresses: {json.dumps([wanted.cidr])}",
        f"      routes: {json.dumps([route])}",
        f"      nameservers: {json.dumps({'addresses': list(wanted.dns)})}",
    ]
    if wanted.wifi:
        lines += [f"      regulatory-domain: {json.dumps(wanted.wifi.country)}"] if wanted.wifi.country else []
        if not any(value(node, "access-points", wanted.wifi.ssid) for node in definition.nodes.values()):
            lines += [
                "      access-points:",
                f"        {json.dumps(wanted.wifi.ssid, ensure_ascii=False)}:",
                f"          password: {json.dumps(wanted.wifi.psk)}",
            ]
    return "\n".join(lines) + "\n"


def _options(definition: Definition, defaults: list, before: Any) -> dict:
    """Return the options of the default route: the owner's, else the lease's metric, else those ours has already."""
    if defaults:
        found = {key: item for _, entry in defaults for key, item in entry.items() if key in _CARRIED}
    elif before is None:
        metric = definition.scalar("dhcp4-overrides", "route-metric")
        found = {"metric": metric} if metric else {}
    else:
        found = {key: item for key, item in _entry(next(iter(_items(value(before, "routes"))), None)).items()
                 if key in _CARRIED}  # fmt: skip
    return {key: int(item) if item.isdigit() else item.lower() in _YES for key, item in sorted(found.items())}
