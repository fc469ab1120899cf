"""What is made from the schema is up to date, complete, and of one mind with it."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as some
from pydantic import ValidationError

from omega.site import check
from omega.site import nodes as site_nodes
from rpiomega.site import checks, load, reference
from rpiomega.site.describe import describe
from rpiomega.site.schema import Site

ROOT = Path(__file__).resolve().parents[2]
NODES = {
    "pi1": {"address": "192.168.1.10", "roles": ["master", "manager"]},
    "pi2": {"address": "192.168.1.11"},
}


def leaves(tree, path=()):
    """Yield the path of every value; a mapping that is empty or may hold anything counts as one."""
    if isinstance(tree, dict) and tree and path != ("docker", "daemon"):
        for name, value in tree.items():
            yield from leaves(value, (*path, name))
    else:
        yield ".".join(path)


@pytest.mark.parametrize("name", ["docs/site.md", "salt/rpiomega/site.yaml", "_utils/omega/site/keys.py"])
def test_what_is_made_from_the_schema_is_up_to_date(name):
    assert (ROOT / name).read_text() == reference.files()[name], f"{name} is out of date: {reference.AGAIN}"


def test_the_site_file_that_is_shipped_names_the_releases_that_are_the_default():
    shipped = yaml.safe_load((ROOT / "pillar/site.sls").read_text())["rpiomega"]
    defaults = reference.describe(Site)["keys"]
    releases = {("consul", "image"), ("b2", "version"), ("salt", "version"), ("docker", "version")}
    written = {path: shipped[path[0]][path[1]] for path in releases}
    assert written == {path: defaults[path[0]]["keys"][path[1]]["default"] for path in releases}


def test_every_key_has_a_meaning_that_is_a_sentence():
    def mute(item, path):
        if item["type"] == "section":
            for name, value in item["keys"].items():
                yield from mute(value, f"{path}.{name}")
        elif "each" in item:
            yield from mute({**item["each"], "text": item["each"].get("text", item.get("text", ""))}, path)
        if path and not item.get("text", "").endswith("."):
            yield path

    assert list(mute(describe(Site), "")) == []


def test_no_default_stands_twice():
    site = yaml.safe_load((ROOT / "salt/rpiomega/site.yaml").read_text())["site"]
    formula = yaml.safe_load((ROOT / "salt/rpiomega/defaults.yaml").read_text())
    twice = sorted(set(leaves(site)) & set(leaves(formula)))
    assert not twice, f"in salt/rpiomega/defaults.yaml and in the schema: {twice}"


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("site-*.sls")), ids=lambda path: path.stem)
def test_each_example_is_a_sound_site_on_both_sides(path):
    site = load(path)
    assert checks.warnings(site) == []
    assert check.problems(yaml.safe_load(path.read_text())["rpiomega"]) == []
    assert f"../examples/{path.name}" in (ROOT / "docs/site.md").read_text()


def test_a_node_without_roles_is_a_worker_on_both_sides(tmp_path):
    site = {"cluster": "omega", "nodes": NODES}
    (tmp_path / "site.sls").write_text(yaml.safe_dump({"rpiomega": site}))
    assert site_nodes.roles(site, "pi2") == load(tmp_path / "site.sls").nodes["pi2"].roles == ["worker"]
    assert site_nodes.with_role(site, "worker") == ["pi2"]
    assert site_nodes.roles(site, "stranger") == []


@pytest.mark.parametrize(
    ("keys", "value", "said"),
    [
        (("salt", "sourse"), "pip", "rpiomega.salt.sourse: unknown key; did you mean source?"),
        (("salt", "version"), 3008, "rpiomega.salt.version: 3008 has the wrong type; write text, in quotes as"),
        (("upgrades", "start"), 810, "write text, in quotes as it stands in the file"),
        (("salt", "version"), None, "rpiomega.salt.version: empty; write text"),
        (("zzz",), 1, "rpiomega.zzz: unknown key; allowed: cluster, nodes, network"),
        (("nodes", "pi2", "adress"), "x", "rpiomega.nodes.pi2.adress: unknown key; did you mean address?"),
        (("nodes", "pi2"), {}, "rpiomega.nodes.pi2.address: missing; it has no default"),
        (("nodes", "pi2", "address"), "192.168.1.300", "is not an IPv4 address; write four numbers"),
        (("nodes", "pi2", "roles"), ["boss"], "rpiomega.nodes.pi2.roles.0: 'boss' is not known; allowed: master"),
        (("nodes", "pi2", "roles"), [], "rpiomega.nodes.pi2.roles: empty"),
        (("nodes", "Pi_2"), {"address": "1.2.3.4"}, "rpiomega.nodes.Pi_2: 'Pi_2' is not a host name"),
        (("network", "prefix"), True, "rpiomega.network.prefix: True has the wrong type; write whole number"),
        (("network", "prefix"), 64, "rpiomega.network.prefix: 64 is out of range; allowed: 8 to 30"),
        (("network",), None, "rpiomega.network: empty; write keys with values below it"),
        (("packages", "extra"), "vim", "rpiomega.packages.extra: 'vim' has the wrong type; write a list"),
        (("b2", "buckets"), {"omega-backup": {"typ": 1}}, "rpiomega.b2.buckets.omega-backup.typ: unknown key"),
    ],
)
def test_the_master_names_key_cause_and_what_is_allowed(keys, value, said):
    site = yaml.safe_load(yaml.safe_dump({"cluster": "omega", "nodes": NODES}))
    place = site
    for key in keys[:-1]:
        place = place.setdefault(key, {})
    place[keys[-1]] = value
    (line,) = check.problems(site)
    assert said in line


SCALARS = (
    some.none() | some.booleans() | some.integers(-1, 99) | some.sampled_from(["", "pi", "auto", "1.2.3.4", "A b"])
)
VALUES = some.recursive(
    SCALARS,
    lambda inner: (
        some.lists(inner, max_size=2)
        | some.dictionaries(
            some.sampled_from(["source", "version", "port", "dns", "wifi", "ssid", "x"]), inner, max_size=2
        )
    ),
    max_leaves=5,
)
KEYS = [(name, key) for name, item in describe(Site)["keys"].items() for key in item.get("keys", {})]
KEYS.append(("nodes", "pi3"))


@settings(max_examples=200)
@given(key=some.sampled_from(KEYS), value=VALUES)
def test_master_and_workstation_are_of_one_mind(key, value):
    """About single values; what spans keys, or looks at files, is for the workstation alone."""
    site = {"cluster": "omega", "nodes": dict(NODES)}
    site[key[0]] = {**site[key[0]], key[1]: value} if key[0] == "nodes" else {key[1]: value}
    nodes = {name: {**node, "name": name} if isinstance(node, dict) else node for name, node in site["nodes"].items()}
    try:
        Site.model_validate({**site, "nodes": nodes})
        refused = None
    except ValidationError as error:
        refused = error
    assert bool(check.problems(site)) == bool(refused), (site, refused)
