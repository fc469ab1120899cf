"""A `.network` file for one interface with the wanted address: what is in force now, with everything else as it is.

Source: systemd.network(5). An empty assignment clears the list before it.
"""

from __future__ import annotations

from rpiomega.node.network import ini
from rpiomega.node.network.stack import MARK, Wanted, family, gives_way
from rpiomega.node.step import StepError

# Of [DHCP] (until systemd 243 for both families) and [DHCPv4]: these keep the default route off the interface.
_NO_ROUTE = ("UseRoutes", "UseGateway")
_LEASE = ("DHCPv4", "DHCP")
_PORT = ("Bridge", "Bond", "BatmanAdvanced", "VRF")
# What a default route may have besides destination and gateway; it stays with the route.
_CARRIED = {"Metric", "MTUBytes", "GatewayOnLink", "GatewayOnlink", "InitialCongestionWindow", "Protocol",
            "InitialAdvertisedReceiveWindow", "QuickAck", "TCPAdvertisedMaximumSegmentSize"}  # fmt: skip
_CURE = "change it there, or write `network.manage: false` into the site file and set the address yourself"


def takeover(base: str, path: str, wanted: Wanted) -> str:
    """Return the file; `base` is the text in force (of the file `path`, drop-ins included), empty if there is none.

    Raise StepError naming file and key where something could neither be kept nor replaced.
    """
    found = ini.parse(base, continued=True)
    if not any(MARK in line for _, _, raw in found[0].items for line in raw):
        found[0].items.insert(0, ("", "", [MARK]))
    match = ini.only(found, "Match")
    match.drop("Name", "OriginalName")
    match.items.insert(0, ("Name", wanted.interface, [f"Name={wanted.interface}"]))
    found.remove(match)
    found.insert(1, match)
    network = ini.only(found, "Network")
    for key in _PORT:
        if network.values(key) and network.values(key)[-1]:
            raise StepError(f"{path}: {key}={network.values(key)[-1]} makes {wanted.interface} a port of it", _CURE)
    gateways = _gateways(found, network)
    route = _default_route(found, path, wanted)
    leased = _lease(network)
    if leased and not gateways:
        for section in _LEASE:
            for key in _NO_ROUTE:
                if ini.last(found, section, key).lower() in ("no", "false", "0", "off", "n"):
                    raise StepError(f"{path}: [{section}] {key}= keeps the default route off {wanted.interface}", _CURE)
        metric = next(filter(None, (ini.last(found, section, "RouteMetric") for section in _LEASE)), "")
        if metric and route is None:
            route = ini.Section("Route", "[Route]")
            route.add("Metric", metric)
            found.append(route)
    gone = _addresses(found, network, wanted, gateways)
    _refuse_mentions(found, path, gone)
    _set(network, route, wanted)
    return ini.render(found)


def _lease(network: ini.Section) -> bool:
    value = (network.values("DHCP") or ["no"])[-1].lower()
    return ini.true(value) or value in ("ipv4", "v4", "both")


def _gateways(found: list[ini.Section], network: ini.Section) -> set[str]:
    values = network.values("Gateway")
    values += [value for section in found if _is_default(section) for value in section.values("Gateway")]
    return {value for value in values if family(value) == 4}


def _is_default(section: ini.Section) -> bool:
    """Return whether a section is a default route of IPv4 in the main table."""
    if section.name != "Route" or ini.last([section], "Route", "Destination") not in ("", "0.0.0.0/0"):
        return False
    if ini.last([section], "Route", "Type") not in ("", "unicast"):
        return False
    return family(ini.last([section], "Route", "Gateway")) != 6 and _table(section) in ("", "main", "254")


def _table(section: ini.Section) -> str:
    return ini.last([section], "Route", "Table")


def _default_route(found: list[ini.Section], path: str, wanted: Wanted) -> ini.Section | None:
    """Return the section of the default route, None if there is none; raise StepError if there are several."""
    routes = [section for section in found if _is_default(section)]
    if len(routes) > 1:
        raise StepError(f"{path} has {len(routes)} default routes for IPv4", _CURE)
    for section in found:
        if section.name == "Route" and section not in routes and "_dhcp4" in section.values("Gateway"):
            raise StepError(f"{path}: a [Route] with Gateway=_dhcp4 has no gateway without a lease", _CURE)
    for route in routes:
        extra = sorted(
            {key for key, _, _ in route.items if key} - _CARRIED - {"Destination", "Gateway", "Table", "Type"}
        )
        if extra:
            raise StepError(f"{path}: {extra[0]}= of the default route would be lost", _CURE)
    return routes[0] if routes else None


def _addresses(found: list[ini.Section], network: ini.Section, wanted: Wanted, gateways: set[str]) -> set[str]:
    """Take out the addresses that give way; return them."""
    gone: set[str] = set()

    def stays(value: str) -> bool:
        if gives_way(value, wanted, gateways):
            gone.add(value.partition("/")[0])
            return False
        return True

    network.items = [item for item in network.items if item[0] != "Address" or stays(item[1])]
    for section in [section for section in found if section.name == "Address"]:
        if not stays(ini.last([section], "Address", "Address")):
            found.remove(section)
    return gone


def _refuse_mentions(found: list[ini.Section], path: str, gone: set[str]) -> None:
    for section in found:
        for key, value, _ in section.items:
            named = section.name in ("Route", "RoutingPolicyRule", "NextHop") and value.partition("/")[0] in gone
            if named and key in ("PreferredSource", "Source", "From", "To"):
                raise StepError(f"{path}: [{section.name}] {key}={value} names the address that is replaced", _CURE)


def _set(network: ini.Section, route: ini.Section | None, wanted: Wanted) -> None:
    """Put address, default route and name servers into [Network]; IPv6 stays."""
    dhcp = (network.values("DHCP") or ["no"])[-1].lower()
    both = ini.true(dhcp) or dhcp in ("both", "ipv6", "v6")
    for key in ("DNS", "Gateway"):
        left = [
            word for value in network.values(key) for word in value.split() if family(word) == 6 or word == "_ipv6ra"
        ]
        network.drop(key)
        for word in left:
            network.add(key, word)
    had = network.values("DHCP")
    network.drop("DHCP")
    if had and both:
        network.add("DHCP", "ipv6")
    network.add("Address", wanted.cidr)
    if route is None:
        network.add("Gateway", wanted.gateway)
    else:
        route.drop("Gateway")
        route.add("Gateway", wanted.gateway)
    for server in wanted.dns:
        if server not in network.values("DNS"):
            network.add("DNS", server)
