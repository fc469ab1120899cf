"""The picture of a cluster, and what is called wrong with it."""

import io

import pytest
from rich.console import Console

from rpiomega.errors import NodeError
from rpiomega.site.backup import Backup
from rpiomega.site.schema import Site
from rpiomega.status import judge, picture, render

NAMES = ("m", "a", "b", "w")
ADDRESS = {name: f"192.168.1.{at}" for at, name in enumerate(NAMES, 10)}


@pytest.fixture
def site():
    roles = {"m": ["master", "manager"], "a": ["manager"], "b": ["manager"], "w": ["worker"]}
    nodes = {name: {"name": name, "address": ADDRESS[name], "roles": roles[name]} for name in NAMES}
    return Site.model_validate({"cluster": "omega", "nodes": nodes})


@pytest.fixture
def facts():
    """What four healthy nodes say."""
    swarm_nodes = [
        {
            "id": f"id-{name}",
            "name": name,
            "state": "ready",
            "availability": "active",
            "manager": name != "w",
            "reachable": name != "w",
            "leader": name == "a",
        }
        for name in NAMES
    ]
    members = {name: {"state": "alive", "server": name != "w", "address": ADDRESS[name]} for name in NAMES}
    return {
        name: {
            "swarm": {
                "error": "",
                "state": "active",
                "manager": name != "w",
                "node_id": f"id-{name}",
                "address": ADDRESS[name],
                "cluster_id": "swarm1" if name != "w" else "",
                "version": "29.0",
                "running": 2,
            },
            "nodes": [dict(node) for node in swarm_nodes] if name != "w" else [],
            "consul": {
                "error": "",
                "members": {key: dict(member) for key, member in members.items()},
                "leader": ADDRESS["b"],
                "peers": [ADDRESS["m"], ADDRESS["a"], ADDRESS["b"]],
                "record": {"state": "ready", "by": "a", "cluster_id": "swarm1"},
            },
            "services": {"salt-minion": True, "salt-master": name == "m"},
            "b2": "5.0.0",
        }
        for name in NAMES
    }


def look(site, facts, unreached=None):
    seen = picture.compose(site, facts, unreached or {})
    return seen, {(found.node, found.check): found for found in judge.judge(seen)}


FINE = {"free_mb": 20000, "total_mb": 30000, "inodes": 90, "read_only": False}


@pytest.mark.parametrize(
    ("path", "state", "check", "cure"),
    [
        ("/", {"read_only": True}, "read-only", "replace the card"),
        ("/boot/firmware", {"read_only": True}, "read-only", "fsck.vfat -a $(findmnt -nso SOURCE /boot/firmware)"),
        ("/mnt/disk/docker", {"read_only": True}, "read-only", "dmesg"),
        ("/", {"free_mb": 10}, "space", "apt-get clean"),
        ("/var/lib/docker", {"inodes": 0}, "inodes", "du --inodes -xd3 /var/lib/docker"),
    ],
)
def test_g12_what_stops_a_card_is_named_with_its_cure(site, facts, path, state, check, cure):
    for fact in facts.values():
        fact["file_systems"] = {"/": dict(FINE)}
    facts["a"]["file_systems"][path] = {**FINE, **state}
    _, found = look(site, facts)
    assert list(found) == [("a", check)]
    assert found["a", check].severity == "error"
    assert path in found["a", check].what
    assert cure in found["a", check].cure


def test_g12_what_only_warns_is_left_to_doctor(site, facts):
    facts["a"]["file_systems"] = {"/": {**FINE, "free_mb": 1500}}
    assert look(site, facts)[1] == {}


def lose(facts, *names):
    """Take nodes away, as the others see it; return why they say nothing."""
    for name in names:
        del facts[name]
    for fact in facts.values():
        for name in names:
            fact["consul"]["members"][name]["state"] = "failed"
            for node in fact["nodes"]:
                if node["name"] == name:
                    node.update(state="down", reachable=False, leader=False)
    return dict.fromkeys(names, NodeError("no answer", "switch it on"))


def test_a_healthy_cluster_has_leaders_and_no_findings(site, facts):
    seen, found = look(site, facts)
    assert found == {}
    assert (seen.swarm_leader, seen.consul_leader) == ("a", "b")
    assert (seen.swarm.to_lose, seen.consul.to_lose) == (1, 1)


def test_a_node_that_is_not_reached_has_the_cure_of_what_failed(site, facts):
    _, found = look(site, facts, lose(facts, "w"))
    assert found["w", "reach"].cure == "switch it on"


def test_nothing_is_claimed_of_a_cluster_where_no_node_was_reached(site, facts):
    seen, findings = look(site, {}, lose(facts, *NAMES))
    out = io.StringIO()
    render.text(Console(file=out, width=200), seen, list(findings.values()))
    assert "swarm: unknown, no node was reached\nConsul: unknown, no node was reached\n" in out.getvalue()
    assert {row["consul"] for row in render.rows(seen)} == {"unknown"}


def test_one_manager_lost_leaves_nothing_to_lose(site, facts):
    seen, found = look(site, facts, lose(facts, "m"))
    assert seen.swarm.to_lose == 0
    assert seen.swarm.holds
    assert set(found) == {("m", "reach"), ("m", "swarm-quorum"), ("m", "consul-quorum")}
    assert found["m", "swarm-quorum"].severity == "warning"


def test_two_managers_lost_is_said_for_both_and_what_consul_says_is_called_stale(site, facts):
    unreached = lose(facts, "m", "a")
    facts["b"]["nodes"] = []
    for fact in facts.values():
        fact["consul"]["leader"] = ""
    seen, found = look(site, facts, unreached)
    assert found["m", "swarm-quorum"].severity == "error"
    assert "1 of 3" in found["m", "swarm-quorum"].what
    assert found["m", "consul-quorum"].severity == "error"
    assert seen.consul_stale
    assert '"quorum": false' in render.as_json(seen, [])


def test_two_swarms_are_the_first_thing_named(site, facts):
    facts["b"]["swarm"]["cluster_id"] = "swarm2"
    seen, found = look(site, facts)
    assert seen.cluster_id == "swarm1"
    assert "swarm2" in found["b", "one-swarm"].what


def test_the_record_decides_which_swarm_is_the_clusters(site, facts):
    for name in ("a", "b"):
        facts[name]["swarm"]["cluster_id"] = "swarm2"
    seen, found = look(site, facts)
    assert seen.cluster_id == "swarm1"
    assert ("a", "one-swarm") in found


def test_an_unfinished_birth_names_who_must_come_back(site, facts):
    for fact in facts.values():
        fact["consul"]["record"] = {"state": "initializing", "by": "b", "cluster_id": None}
    _, found = look(site, facts)
    assert "did not finish" in found["b", "record"].what
    assert "state.apply" in found["b", "record"].cure


def test_a_node_nobody_ordered_is_reported(site, facts):
    for name in ("m", "a", "b"):
        facts[name]["nodes"].append({**facts[name]["nodes"][3], "id": "id-x", "name": "x"})
    _, found = look(site, facts)
    assert "id-x" in found["x", "unknown-node"].cure


@pytest.mark.parametrize("state", ["active", "pending"])
def test_a_node_that_the_managers_do_not_list_is_an_error_with_its_cause(site, facts, state):
    facts["w"]["swarm"]["state"] = state
    for name in ("m", "a", "b"):
        facts[name]["nodes"] = [node for node in facts[name]["nodes"] if node["name"] != "w"]
    seen, found = look(site, facts)
    assert set(found) == {("w", "unlisted")}
    assert found["w", "unlisted"].severity == "error"
    assert "id-w" in found["w", "unlisted"].what
    assert found["w", "unlisted"].cure.endswith("sudo salt 'w' state.apply (it leaves and joins again)")
    assert {row["name"]: row["swarm"] for row in render.rows(seen)}["w"] in ("not in the node list", "pending")


def test_entries_without_a_hostname_are_one_finding_whose_command_names_them_all(site, facts):
    for name in ("m", "a", "b"):
        entry = {**facts[name]["nodes"][3], "state": "unknown"}
        facts[name]["nodes"] += [{**entry, "id": known, "name": known} for known in ("g1", "g2")]
    _, found = look(site, facts)
    assert set(found) == {("m", "unfinished-join")}
    assert found["m", "unfinished-join"].cure.endswith("docker node rm g1 g2")
    assert "rpiomega remove" not in found["m", "unfinished-join"].cure


@pytest.mark.parametrize("reached", [True, False])
def test_a_node_with_another_hostname_is_known_by_its_nodeid(site, facts, reached):
    unreached = {} if reached else lose(facts, "w")
    for name in facts:
        facts[name]["consul"]["published"] = {"w": {"node_id": "id-w", "previous": []}}
        for node in facts[name]["nodes"]:
            node["name"] = {"w": "kitchen", "a": "A"}.get(node["name"], node["name"])
    seen, found = look(site, facts, unreached)
    assert set(found) == ({("w", "hostname")} if reached else {("w", "reach"), ("w", "hostname")})
    assert "sudo hostnamectl set-hostname w" in found["w", "hostname"].cure
    assert seen.swarm_leader == "a"


@pytest.mark.parametrize(
    ("published", "removes"), [({"x": {"node_id": "id-x", "previous": []}}, True), ({"w": {}}, False)]
)
@pytest.mark.parametrize("state", ["ready", "down"])
def test_only_a_node_that_consul_knows_is_removed_by_its_name(site, facts, published, removes, state):
    nobody = {"node_id": "", "previous": []}
    for fact in facts.values():
        fact["consul"]["published"] = {name: said or nobody for name, said in published.items()}
        entry = {**facts["m"]["nodes"][3], "id": "id-x", "name": "x", "state": state}
        fact["nodes"] = [node for node in fact["nodes"] if node["id"] != "id-x"] + [entry]
    _, found = look(site, facts)
    cure = found["x", "unknown-node"].cure
    assert ("rpiomega remove x" in cure, "docker node rm id-x" in cure) == (removes, not removes)
    assert ("drain" in cure) is (state == "ready" and not removes)


@pytest.mark.parametrize("manager", [False, True])
def test_the_old_entry_of_a_node_made_anew_is_reported(site, facts, manager):
    for name in ("m", "a", "b"):
        facts[name]["nodes"].append({**facts[name]["nodes"][3], "id": "id-old", "state": "down", "manager": manager})
    _, found = look(site, facts)
    cure = found["w", "old-entry"].cure
    assert cure.endswith("docker node rm id-old")
    assert ("docker node demote id-old && docker" in cure) is manager


@pytest.mark.parametrize("state", ["ready", "unknown"])
def test_a_second_node_with_a_sites_name_is_reported_as_long_as_it_is_not_down(site, facts, state):
    for name in ("m", "a", "b"):
        facts[name]["nodes"].append({**facts[name]["nodes"][3], "id": "id-twin", "state": state})
    _, found = look(site, facts)
    assert set(found) == {("w", "twin")}
    assert "id-twin" in found["w", "twin"].what
    assert "docker node update --availability drain id-twin" in found["w", "twin"].cure


@pytest.mark.parametrize("state", ["ready", "down"])
@pytest.mark.parametrize("local", ["", "locked", "error"])
def test_the_entry_of_a_node_whose_engine_does_not_say_its_own_is_left_alone(site, facts, local, state):
    facts["w"]["swarm"].update(state=local, node_id="", error="no cause given")
    for name in ("m", "a", "b"):
        facts[name]["nodes"][3]["state"] = state
    _, found = look(site, facts)
    assert set(found) == {("w", "swarm")}


def test_a_dead_node_is_not_called_an_old_entry(site, facts):
    _, found = look(site, facts, lose(facts, "w"))
    assert set(found) == {("w", "reach")}


@pytest.mark.parametrize(
    ("change", "check", "says"),
    [
        ({"manager": True, "cluster_id": "swarm1"}, "role", "manager, the site file says worker"),
        ({"address": "192.168.1.99"}, "address", "192.168.1.99"),
        ({"state": "inactive"}, "swarm", "not in the swarm"),
        ({"state": "error", "error": "certificate expired"}, "swarm", "certificate expired"),
        ({"state": "", "error": "the Docker Engine is not running"}, "swarm", "is not running"),
    ],
)
def test_a_node_out_of_its_place_is_named(site, facts, change, check, says):
    facts["w"]["swarm"].update(change)
    _, found = look(site, facts)
    assert set(found) == {("w", check)}
    assert says in found["w", check].what


def test_a_stopped_minion_and_a_failed_agent_are_named(site, facts):
    facts["m"]["services"]["salt-master"] = False
    facts["w"]["services"]["salt-minion"] = False
    for fact in facts.values():
        fact["consul"]["members"]["w"]["state"] = "failed"
    _, found = look(site, facts)
    assert set(found) == {("m", "salt-master"), ("w", "salt-minion"), ("w", "consul")}


def test_nothing_answers_at_all(site):
    seen, found = look(site, {}, dict.fromkeys(NAMES, NodeError("no route", "check")))
    assert {check for _, check in found} == {"reach"}
    assert not seen.swarm.holds


def test_before_the_first_apply_there_is_no_quorum_to_miss(site, facts):
    for fact in facts.values():
        fact["swarm"].update(state="", manager=False, cluster_id="", error="the Docker Engine is not running")
        fact["consul"].update(members={}, leader="", peers=[], record={}, error="no answer")
        fact["nodes"] = []
    _, found = look(site, facts)
    assert {check for _, check in found} == {"swarm", "consul"}


def test_a_manager_without_a_leader_counts_though_it_cannot_name_its_swarm(site, facts):
    unreached = lose(facts, "a", "b")
    facts["m"]["swarm"]["cluster_id"], facts["m"]["nodes"] = "", []
    seen, found = look(site, facts, unreached)
    assert (seen.swarm.total, seen.swarm.up, seen.swarm.holds, seen.cluster_id) == (3, 1, False, "swarm1")
    assert not [name for name, check in found if check == "one-swarm"]


def test_an_address_is_changed_by_the_option_that_allows_it_but_never_of_the_only_manager(site, facts):
    facts["w"]["swarm"]["address"] = "192.168.1.99"
    _, found = look(site, facts)
    assert found["w", "address"].cure.endswith("sudo salt 'w' state.single swarm.member name=swarm readdress=True")
    facts["m"]["swarm"]["address"] = "192.168.1.98"
    for fact in facts.values():
        fact["nodes"] = [{**node, "manager": node["name"] == "m"} for node in fact["nodes"]]
    _, found = look(site, facts)
    assert found["m", "address"].cure.startswith("write 192.168.1.98 into the site file")


def test_voters_that_all_answer_and_have_no_leader_are_not_to_be_brought_back(site, facts):
    for fact in facts.values():
        fact["consul"]["leader"] = ""
    _, found = look(site, facts)
    assert found["m", "consul-quorum"].cure.startswith("wait a minute for the election")


def test_backups_have_columns_and_findings_only_where_the_site_has_a_bucket(site, facts):
    never = {"now": 1e9, "problem": "", "configured": True, "state": {}, "units": {}, "running": "", "kit": None}
    for fact in facts.values():
        fact["backup"] = never
    plain, found = look(site, facts)
    assert (found, "backup" in render.rows(plain)[0]) == ({}, False)
    seen, found = look(site.model_copy(update={"backup": Backup(bucket="home-backup")}), facts)
    assert set(found) == {(name, "backup-never") for name in NAMES}
    assert [row["backup"] for row in render.rows(seen)] == ["never"] * 4
    out = io.StringIO()
    render.text(Console(file=out, width=200), seen, [])
    assert out.getvalue().splitlines()[0].split()[-2:] == ["BACKUP", "PROVEN"]
