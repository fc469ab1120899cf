"""Roles that change in the site file, on real agents: the commands that the states print are followed, one by one."""

import re

import pytest
from consul_site import ConsulSite
from dockerds import missing

from omega.consul import client as consul_client
from omega.consul import policies
from omega.consul import servers as consul_servers
from omega.site import nodes as site_nodes

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(missing()), reason=missing())]
MASTER, MANAGER, WORKER = ["master", "manager"], ["manager"], ["worker"]
THREE = {"pi1": MASTER, "pi2": MANAGER, "pi3": MANAGER, "pi4": WORKER}
FIVE = {"pi1": MASTER, "pi2": MANAGER, "pi3": MANAGER, "pi4": MANAGER, "pi5": MANAGER}
COMMAND = re.compile(r"`sudo salt ('\*'|[\w-]+) state\.apply(?: pillar='\{consul_retire: ([\w-]+)\}')?`")


class Owner:
    """Applies states to a site and does, in its order, what they print; `left` has the voters after each retirement."""

    def __init__(self, site, states):
        self.site, self.states, self.left = site, states, []

    def apply(self, *names, **pillar):
        """What `state.apply consul` does on these nodes: {name: the return of consul.config}."""
        names = names or tuple(self.site.agents)
        done = {name: self.site[name].configure(self.states, **pillar) for name in names}
        changed = [name for name in names if done[name]["result"] and done[name]["changes"]]
        if changed:
            turns = self.site.together(lambda agent: agent.in_turn(), *changed)
            assert {name: problem for name, (problem, _) in turns.items()} == dict.fromkeys(changed)
        if self.site.master in names:
            self.site.tokens()
        for name in changed:
            self.site[name].client().wait_ready(60)
        return done

    def voters(self):
        """The names of the healthy voters, once every peer is one, as an operator waits who reads `rpiomega status`."""
        return {server.name for server in consul_servers.wait_good(self.site["pi1"].management(), bound=90)}

    def follow(self, comment):
        """Run the commands of a comment; return the comment of each that retires a server."""
        found, said = COMMAND.findall(comment), []
        assert found, comment
        for target, retired in found:
            if target == "'*'":
                done = self.apply()
                assert {name: ret["result"] for name, ret in done.items()} == dict.fromkeys(done, True), done
                continue
            flag = {"consul_retire": retired} if retired else {}
            self.voters()
            predicted = self.site[target].configure(self.states, test=True, **flag)
            done = self.apply(target, **flag)[target]
            assert done["result"] is True, done
            if retired:
                assert (predicted["result"], predicted["changes"]) == (None, done["changes"])
                assert "would leave Consul's servers" in predicted["comment"]
                said.append(done["comment"])
                self.left.append(self.voters())
        return said


@pytest.fixture
def owner(states):
    """owner(roles): an Owner whose site runs with these roles."""
    sites = []

    def start(roles):
        site = ConsulSite(roles)
        sites.append(site.__enter__())
        site.apply()
        found = Owner(site, states)
        consul_servers.wait_good(site["pi1"].management(), site_nodes.consul_servers(site.site), 90)
        site["pi1"].management().put("rpiomega/swarm/record", {"state": "ready"})
        return found

    yield start
    for site in sites:
        site.__exit__(None, None, None)


CHANGES = {
    # name: (roles before, what changes, the servers that retire in their order, whether the count of managers is even)
    "3 managers, one swapped with a worker": (THREE, {"pi3": WORKER, "pi4": MANAGER}, ["pi3"], False),
    "3 managers to 2": (THREE, {"pi3": WORKER}, ["pi3", "pi2"], True),
    "3 managers to 1": (THREE, {"pi2": WORKER, "pi3": WORKER}, ["pi3", "pi2"], False),
    "5 managers to 3, of which 2 were no servers": (FIVE, {"pi2": WORKER, "pi3": WORKER}, ["pi3", "pi2"], False),
}


@pytest.mark.long
@pytest.mark.parametrize("change", CHANGES)
def test_g02_the_commands_that_are_printed_bring_consuls_servers_to_the_site_file(owner, change):
    roles, changed, retiring, even = CHANGES[change]
    owner = owner(roles)
    owner.site.set_roles(**changed)
    wanted = set(site_nodes.consul_servers(owner.site.site))
    predicted = owner.site["pi3"].configure(owner.states, test=True)
    first = owner.apply()
    assert {name for name, ret in first.items() if ret["result"] is False} == set(retiring), first
    assert predicted["result"] is False
    for name in retiring:
        comment = first[name]["comment"]
        assert "\n" not in comment
        assert ("2 managers survive no more failures than 1" in comment) is even, comment
        assert [target for target, flag in COMMAND.findall(comment) if flag] == retiring, comment
    assert "Nothing was changed" in first[retiring[-1]]["comment"]
    said = owner.follow(first["pi3"]["comment"])
    before = set(site_nodes.consul_servers({"nodes": {name: {"roles": own} for name, own in roles.items()}}))
    gone = [set(retiring[: count + 1]) for count in range(len(retiring))]
    assert owner.left == [(before | wanted) - names for names in gone], "new servers first, then one after the other"
    assert owner.voters() == wanted
    for rest, comment in zip(range(len(retiring) - 1, -1, -1), said):
        assert len([flag for _, flag in COMMAND.findall(comment) if flag]) == rest, comment
    for agent in owner.site:
        assert agent.configure(owner.states)["changes"] == {}
        assert agent.client().get("rpiomega/swarm/record").json() == {"state": "ready"}
    for name in retiring:
        denied(owner.site[name], "manager" in site_nodes.roles(owner.site.site, name))


def denied(agent, manager):
    """A former server's token has the rights of a client: it takes no part in the servers' turns."""
    with pytest.raises(consul_client.ConsulError) as caught:
        agent.client().put(policies.RESTART_LOCK, {})
    assert caught.value.kind == "denied"
    if not manager:
        with pytest.raises(consul_client.ConsulError) as caught:
            consul_servers.read(agent.client())
        assert caught.value.kind == "denied"
