"""A NetworkManager profile with the wanted address: the owner's one, with everything else as it is.

Source: nm-settings-keyfile(5). `addressN` is ``address/prefix[,gateway]``, formerly ``address;prefix;gateway;``.
"""

from __future__ import annotations

import re

from rpiomega.node.network import ini
from rpiomega.node.network.stack import MARK, Wanted, family, gives_way
from rpiomega.node.step import StepError

# The names that sections had before, which NetworkManager still reads.
ALIASES = {
    "802-3-ethernet": "ethernet",
    "802-11-wireless": "wifi",
    "802-11-wireless-security": "wifi-security",
}
TYPES = {"ethernet": "ethernet", "802-3-ethernet": "ethernet", "wifi": "wifi", "802-11-wireless": "wifi"}
_PORT = ("master", "controller", "slave-type", "port-type")
_ADDRESS = re.compile(r"(?:address|addresses)\d*")
_ROUTE = re.compile(r"(?:route|routes)\d*")
_ROUTING = re.compile(r"(?:(?:route|routes|routing-rule)\d*|route\d+_options)")


def sections(text: str) -> list[ini.Section]:
    """Return a profile's sections under their present names."""
    found = ini.parse(text)
    for section in found:
        section.name = ALIASES.get(section.name, section.name)
    return found


def ssid(profile: list[ini.Section]) -> bytes:
    """Return the SSID of a profile: text with GKeyFile's escapes, or a list of bytes."""
    value = ini.last(profile, "wifi", "ssid")
    if re.fullmatch(r"(\d{1,3};)+", value):
        return bytes(int(byte) & 255 for byte in value.split(";")[:-1])
    escapes = {"s": " ", "t": "\t", "n": "\n", "r": "\r", "\\": "\\", ";": ";"}
    return re.sub(r"\\(.)", lambda found: escapes.get(found[1], found[0]), value).encode("utf-8", "surrogateescape")


def fresh(wanted: Wanted) -> str:
    """Return a profile without addresses for an interface that has none yet."""
    lines = ["[connection]", f"type={'wifi' if wanted.wireless else 'ethernet'}"]
    if wanted.wifi:
        name = "".join(f"{byte};" for byte in wanted.wifi.ssid.encode())
        lines += ["", "[wifi]", "mode=infrastructure", f"ssid={name}", "", "[wifi-security]", "key-mgmt=wpa-psk"]
    return "\n".join([*lines, "", "[ipv4]", "method=auto", "", "[ipv6]", "method=auto", ""])


def takeover(base: str, path: str, wanted: Wanted, name: str, uuid: str) -> str:
    """Return the profile `base` (of file `path`) with the wanted address, under another name and UUID.

    Raise StepError naming file and key where something could neither be kept nor replaced.
    """
    profile = sections(base)
    connection = ini.only(profile, "connection")
    _refuse(profile, path, wanted)
    drop = ("id", "uuid", "interface-name", "autoconnect", "autoconnect-priority", "autoconnect-retries", "timestamp")
    connection.drop(*drop)
    for key, value in (
        ("id", name),
        ("uuid", uuid),
        ("interface-name", wanted.interface),
        ("autoconnect-priority", "999"),
        # Never give up: a board whose switch boots slowly must come back.
        ("autoconnect-retries", "0"),
    ):
        connection.add(key, value)
    if wanted.wifi:
        security = ini.only(profile, "wifi-security")
        security.drop("psk", "psk-flags")
        security.add("psk", wanted.wifi.psk)
    _address(ini.only(profile, "ipv4"), path, wanted)
    if not any(MARK in line for _, _, raw in profile[0].items for line in raw):
        profile[0].items.insert(0, ("", "", [MARK]))
    return ini.render(profile)


def _refuse(profile: list[ini.Section], path: str, wanted: Wanted) -> None:
    """Raise StepError if the profile has something that a static address and its own priority do not go with."""
    name, connection = ini.last(profile, "connection", "id") or path, ini.only(profile, "connection")
    kind = ini.last(profile, "connection", "type")
    change = f"`nmcli connection modify '{name}' ...`"
    if TYPES.get(kind) != ("wifi" if wanted.wireless else "ethernet"):
        cause = f"the profile {name} of {wanted.interface} ({path}) has type={kind or '(none)'}"
        raise StepError(cause, "write `network.manage: false` into the site file and set the address yourself")
    for key in _PORT:
        if connection.values(key):
            cause = f"{wanted.interface} is a port of {connection.values(key)[-1]} ({path}: {key})"
            raise StepError(cause, "name the interface that has the address: `interface` of the node in the site file")
    if connection.values("permissions") and connection.values("permissions")[-1]:
        cause = f"{path}: permissions={connection.values('permissions')[-1]} ties the profile to a user's session"
        raise StepError(cause, f"{change.replace('...', 'connection.permissions' + ' ' + chr(34) * 2)}")
    method = ini.last(profile, "ipv4", "method") or "auto"
    if method not in ("auto", "manual", "disabled"):
        raise StepError(f"{path}: [ipv4] method={method} would be lost", f"{change}, or another `interface`")
    if ini.true(ini.last(profile, "ipv4", "never-default")):
        cause = f"{path}: [ipv4] never-default=true keeps the default route off {wanted.interface}"
        raise StepError(cause, "name another interface in the site file, or take the key out")
    table = ini.last(profile, "ipv4", "route-table")
    if table not in ("", "0", "254"):
        raise StepError(f"{path}: [ipv4] route-table={table} puts the default route elsewhere", f"change it: {change}")
    management = ini.last(profile, "wifi-security", "key-mgmt")
    if wanted.wifi and management != "wpa-psk":
        cause = f"{path}: key-mgmt={management or '(none)'} of {wanted.wifi.ssid} would be lost"
        raise StepError(cause, "take `wifi` out of section network of the site file: the settings there stay")


def _address(ipv4: ini.Section, path: str, wanted: Wanted) -> None:
    """Put the wanted address, gateway and name servers into section [ipv4]; other addresses and routes stay."""
    old, gateways = [], set(ipv4.values("gateway"))
    for value in (value for key, value, _ in ipv4.items if _ADDRESS.fullmatch(key)):
        words = re.split(r"[;,]", value)
        if "/" not in words[0]:
            words = [f"{words[0]}/{words[1] if len(words) > 1 and words[1] else 24}", *words[2:]]
        old.append(words[0].strip())
        gateways |= {word.strip() for word in words[1:2]} - {"", "0.0.0.0"}
    gone = {cidr.partition("/")[0] for cidr in old if gives_way(cidr, wanted, gateways)}
    options = {key[: -len("_options")]: value for key, value, _ in ipv4.items if key.endswith("_options")}
    for key, value, _ in ipv4.items:
        default = _ROUTE.fullmatch(key) and value.startswith(("0.0.0.0/0", "0.0.0.0;0"))
        if default and "table=" not in options.get(key, ""):
            raise StepError(f"{path}: {key}={value} is a second default route", "take it out: the site file has one")
        if _ROUTING.fullmatch(key) and gone & set(re.split(r"[^\d.]+", value)):
            raise StepError(f"{path}: {key}={value} names the address that is replaced", "change it there")
    kept = [cidr for cidr in old if cidr.partition("/")[0] not in gone and cidr != wanted.cidr]
    ipv4.drop("method", "gateway", "dns", *(key for key, _, _ in ipv4.items if _ADDRESS.fullmatch(key)))
    ipv4.add("method", "manual")
    for number, cidr in enumerate([f"{wanted.cidr},{wanted.gateway}", *kept], 1):
        ipv4.add(f"address{number}", cidr)
    ipv4.add("dns", "".join(f"{server};" for server in wanted.dns if family(server) != 6))
