"""Which release of Consul may take over from which, and which release an image has.

HashiCorp's rules, read in 2026-11 at developer.hashicorp.com/consul/docs/upgrade/instructions (its table of dedicated
instructions, and the page on 2.0): an upgrade goes two release lines ahead at the most, some lines have a route of
their own, and 2.0 follows 1.21 or 1.22. There is no way back: an older server ends in a panic, again and again, at
entries of Raft's log that it does not know.
"""

import re

from omega.consul import client as consul_client
from omega.docker import engine as docker_engine

STEPS = 2  # lines in one upgrade
# (from this line, before this line): the newest line that is reached in one step.
ROUTES = {
    ((0, 8), (1, 2)): (1, 2),
    ((1, 2), (1, 6)): (1, 6),
    ((1, 6), (1, 8)): (1, 8),
    ((1, 8), (1, 10)): (1, 10),
}
TO_2_0 = (1, 21)  # the oldest line that 2.0 may follow
INSTRUCTIONS = "developer.hashicorp.com/consul/docs/upgrade/instructions"
ALLOW = "`consul: {allow_unsupported_upgrade: true}`"


def refusal(running, wanted):
    """Return why Consul of release `running` must not become `wanted`, "" if it may.

    :param running: release as numbers, (1, 8, 7)
    :param wanted: likewise; another patch of the same line is always allowed
    """
    if wanted[:2] < running[:2]:
        return (
            f"Consul {text(wanted)} is older than {text(running)}, which runs here, and may not read its data: "
            f"a server would end again and again. Name a release of {line(running)} or newer in consul.image"
        )
    reached = reach(running[:2], wanted[:2])
    if reached is None:
        return f"no route from Consul {text(running)} to {text(wanted)} is known: read {INSTRUCTIONS}"
    if wanted[:2] > reached:
        return (
            f"Consul {text(running)} must not become {text(wanted)} in one step: name a release of {line(reached)} in "
            f"consul.image first, and apply it on all nodes ({INSTRUCTIONS})"
        )
    return ""


def reach(running, wanted):
    """Return the newest line that one upgrade on the way to `wanted` may reach, None if no rule is known.

    :param running: line, (1, 8)
    :param wanted: line
    """
    for (first, end), target in ROUTES.items():
        if first <= running < end:
            return target
    if running < (0, 8) or wanted[0] > 2:
        return None
    if running[0] == wanted[0]:
        return (running[0], running[1] + STEPS)
    return (2, 0) if running >= TO_2_0 else (1, min(running[1] + STEPS, TO_2_0[1]))


def of_name(image):
    """Return the release that an image's tag says, (1, 22, 7) or (1, 22); None if it says none."""
    # A tag such as 2026.11 is a date.
    return _numbers(re.search(r":v?(\d{1,2})\.(\d+)(?:\.(\d+))?", image.partition("@")[0].rpartition("/")[2]))


def of_image(engine, name, identity, labels, look_inside=True):
    """Return the release of an image on this node as numbers, None if it cannot be found out.

    :param engine: Docker SDK client
    :param name: the image's name, with a tag or not
    :param identity: its ID, None if it is not there yet
    :param labels: its labels; HashiCorp's images say their release there, and images made of them inherit that
    :param look_inside: whether a container may be started to ask the program, where nothing else tells
    :raises omega.docker.engine.EngineError: the engine does not start it
    """
    labels = labels or {}
    # Other base images use the same label for a release of their own.
    if labels.get("org.opencontainers.image.title") == "consul":
        found = _numbers(re.match(r"v?(\d+)\.(\d+)(?:\.(\d+))?", labels.get("org.opencontainers.image.version", "")))
        if found:
            return found
    if of_name(name) or not identity or not look_inside:
        return of_name(name)
    with docker_engine.asking(f"image {name}: the engine does not run `consul version` in it"):
        said = engine.containers.run(identity, ["version"], entrypoint=["consul"], network_mode="none", remove=True)
    return _numbers(re.search(r"^Consul v(\d+)\.(\d+)(?:\.(\d+))?", said.decode(errors="replace"), re.MULTILINE))


def of_servers(client):
    """Return the releases of Consul's servers that gossip calls alive, as a list of numbers.

    :param client: omega.consul.client.Client of the local agent
    :raises omega.consul.client.ConsulError: it does not answer
    """
    members = client.request("get", "/v1/agent/members", what="reading the servers' releases")[1] or []
    # Tags of a member: hashicorp/consul, agent/metadata/server.go.
    tags = [member["Tags"] for member in members if member["Status"] == consul_client.MEMBER_ALIVE]
    found = [re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", tag.get("build", "")) for tag in tags if tag.get("role") == "consul"]
    return [_numbers(build) for build in found if build]


def text(version):
    """Return numbers as text: 1.22.7."""
    return ".".join(map(str, version))


def line(version):
    """Return the release line of a version as text: 1.22."""
    return text(version[:2])


def _numbers(found):
    return tuple(int(part) for part in found.groups() if part is not None) if found else None
