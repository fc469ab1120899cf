"""The site file: what is wrong with it is said once, with file, line, key path and what is allowed."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as some

from omega.site import check
from rpiomega.site import SiteError, checks, load

ROOT = Path(__file__).resolve().parents[2]
GOOD = {
    "cluster": "omega",
    "nodes": {
        "pi1": {"address": "192.168.1.10", "roles": ["master", "manager"]},
        "pi2": {"address": "192.168.1.11", "roles": ["worker"]},
    },
}


def errors(tmp_path, text):
    """Return the lines a site file is refused with."""
    path = tmp_path / "site.sls"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SiteError) as caught:
        load(path)
    lines = str(caught.value).splitlines()
    assert all(line.startswith(f"{path}") for line in lines)
    return [line.removeprefix(f"{path}") for line in lines]


def changed(*keys, value):
    """Return the good site with one value set, as YAML."""
    site = yaml.safe_load(yaml.safe_dump(GOOD))
    place = site
    for key in keys[:-1]:
        place = place.setdefault(key, {})
    place[keys[-1]] = value
    return yaml.safe_dump({"rpiomega": site}, sort_keys=False)


def test_the_example_file_is_valid_and_its_defaults_are_the_schemas():
    site = load(ROOT / "pillar/site.sls")
    assert site.master.name == "rpiomega-master"
    bare = type(site).model_validate(
        {"cluster": site.cluster, "nodes": {name: node.model_dump() for name, node in site.nodes.items()}}
    )
    for section in set(type(site).model_fields) - {"cluster", "nodes", "network"}:
        assert getattr(site, section) == getattr(bare, section)


@pytest.mark.parametrize(
    ("keys", "value", "said"),
    [
        (("nodes", "pi2", "adress"), "1.2.3.4", "rpiomega.nodes.pi2.adress: unknown key; did you mean `address`?"),
        (("salt", "sourse"), "pip", "rpiomega.salt.sourse: unknown key; did you mean `source`?"),
        (("b2", "credentials"), {"pi9": "backup"}, "b2.credentials.pi9: there is no node pi9"),
        (("b2", "credentials"), {"pi1": "../key"}, "what is written here is not the name of a file"),
        (("b2", "buckets"), {"short": {}}, '"short" is not a bucket name'),
        (("b2", "buckets"), {"omega-backup": {}}, "kept by pi1, which has no credentials; add `pi1: FILE`"),
        (
            ("b2", "application_keys"),
            {"reader": {"capabilities": ["readFiles"], "file": "reader"}},
            "b2.application_keys.reader: it opens every bucket; give one of `bucket: NAME` and `all_buckets: true`",
        ),
        (("formula", "signers"), ["AAAAC3Nz"], '"AAAAC3Nz" is not a public key of a signer'),
        (("formula", "every"), -1, "rpiomega.formula.every"),
        (("network", "wifi"), {"sid": "x"}, "rpiomega.network.wifi.sid: unknown key; did you mean `ssid`?"),
        (("b2", "buckets"), {"omega-backup": {"typ": 1}}, "omega-backup.typ: unknown key; did you mean `type`?"),
        (("zzz",), 1, "rpiomega.zzz: unknown key; allowed: cluster, nodes, network"),
        (("nodes", "pi2", "address"), "192.168.1.300", 'nodes.pi2.address: "192.168.1.300" is not an IPv4 address'),
        (("nodes", "pi2", "address"), "192.168.1.10", "192.168.1.10 is the address of pi1 too"),
        (("nodes", "pi2", "address"), "192.168.2.10", "not in the network of pi1; 192.168.1.0/24 holds 192.168.1.1"),
        (("nodes", "pi2", "address"), "192.168.1.255", "no host address of 192.168.1.0/24"),
        (("network", "gateway"), "192.168.1.11", "192.168.1.11 is network.gateway"),
        (("network", "gateway"), "10.0.0.1", "network.gateway: 10.0.0.1 is not in the nodes' network"),
        (("network", "prefix"), "24", "network.prefix: '24' has the wrong type; write a whole number"),
        (("network", "prefix"), 64, "network.prefix: 64: input should be less than or equal to 30"),
        (("nodes", "pi1", "roles"), ["manager"], "rpiomega.nodes: no node has the role master"),
        (("nodes", "pi2", "roles"), ["master", "worker"], "pi2.roles: a second master (pi1 is one already)"),
        (("nodes", "pi2", "roles"), ["manager", "worker"], "pi2.roles: manager and worker exclude each other"),
        (("nodes", "pi1", "roles"), ["master"], "pi1.roles: neither manager nor worker"),
        (("nodes", "pi1", "roles"), ["master", "worker"], "no node has the role manager"),
        (("nodes", "pi2", "roles"), ["boss"], "'boss' is not known; allowed: 'master', 'manager' or 'worker'"),
        (("nodes", "pi2", "roles"), [], "nodes.pi2.roles: empty"),
        (("nodes", "pi2", "name"), "pi3", "nodes.pi2.name: unknown key; the node's name is its key, `pi2`"),
        (("nodes", "Pi_2"), {"address": "192.168.1.12"}, 'nodes.Pi_2: "Pi_2" is not a host name'),
        (("nodes",), {}, "rpiomega.nodes: no nodes"),
        (("salt", "version"), 3008, 'salt.version: 3008 has the wrong type; write text here; put it in quotes: "3008"'),
        (("salt", "version"), "latest", '"latest" is not a Salt release'),
        (("consul", "archive"), "none.tar", "consul.archive: there is no file"),
        (("sources", "apt_proxy"), "proxy:3142", "what is written here is not a web address"),
        (("packages", "extra"), ["Vim!"], '"Vim!" is not a Debian package name'),
        (("b2", "version"), "newest", '"newest" is not a release; write numbers and dots'),
        (("packages", "roles"), {"boss": ["vim"]}, "'boss' is not known; allowed: 'master', 'manager' or 'worker'"),
        (("upgrades", "start"), "25:00", '"25:00" is not a time of day; write it in quotes, as "02:30"'),
        (("upgrades",), {"security": True, "gap": 721}, "upgrades.gap: 2 nodes, one every 721 minutes, take more"),
        (("upgrades", "hold"), ["*"], '"*" is not a Debian package; write its name, or its beginning and a star'),
        (("journal", "max_use"), "64MB", '"64MB" is not a size; write 64M or 1G'),
        (("cache", "image"), "registry:3", "cache.image: an image for a registry that is not asked for"),
        (("cluster",), None, "cluster: empty; write text here"),
        (("nodes",), [{"name": "pi1"}], "rpiomega.nodes: a list is written here; write `NAME: {address: ...}`"),
        (("packages",), ["htop"], "rpiomega.packages: a list is written here; write `KEY: VALUE` in each line"),
        (("nodes", "localhost"), {"address": "192.168.1.12"}, "localhost: every board calls itself localhost"),
        (("nodes", "pi2", "host"), "192.168.1.10", "pi2.host: 192.168.1.10 is where pi1 is reached too"),
        (("nodes", "pi2", "address:192.168.1.9"), None, "no space after `address:`; write `address: 192.168.1.9`"),
        (("nodes", "pi2", "labels"), {"ssd": True}, "labels.ssd: True has the wrong type; write text or a whole"),
    ],
)
def test_each_defect_names_its_key_and_what_is_allowed(tmp_path, keys, value, said):
    lines = errors(tmp_path, changed(*keys, value=value))
    assert any(said in line for line in lines)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("docker: {version: 28.10}", '28.1 has the wrong type; write text here; put it in quotes: "28.10"'),
        ("upgrades: {start: 13:30}", 'put it in quotes: "13:30"'),
        ("packages: {extra: [vim, 0x10]}", 'put it in quotes: "0x10"'),
        ("cluster: 2026-01-02", 'put it in quotes: "2026-01-02"'),
        ("system: {swap: off}", """allowed: 'keep', 'off' or 'zram'; put it in quotes: "off\""""),
        ("system: {swap: no}", "allowed: 'keep', 'off' or 'zram'"),
        ("swarm: {stacks: {web: {compose: a.yml, env: {<<: {PORT: 0x50}}}}}", "put it in quotes as it stands there"),
        ("cluster:", "write text here"),
        ("on: 1", 'put it in quotes: "on"'),
    ],
)
def test_a_value_without_quotes_is_quoted_as_it_was_written(tmp_path, line, said):
    site = {key: value for key, value in GOOD.items() if not line.startswith(f"{key}:")}
    text = yaml.safe_dump({"rpiomega": site}, sort_keys=False) + f"  {line}\n"
    (found,) = errors(tmp_path, text)
    assert found.endswith(said)


@pytest.mark.parametrize(
    "remote",
    [
        "https://user:token-of-mine@example.com/x.git",
        "HTTPS://token-of-mine@example.com/x.git",
        "ssh://git:token-of-mine@example.com:22/x.git",
        "https://user:token-of-mine@x:8443/a@b",
    ],
)
def test_a_remote_with_a_password_is_refused_and_not_shown(tmp_path, remote):
    (found,) = errors(tmp_path, changed("formula", "remote", value=remote))
    assert "formula.remote: " in found
    assert "a deploy key or a credential helper" in found
    site = yaml.safe_load(changed("formula", "remote", value=remote))["rpiomega"]
    (master,) = check.problems(site)
    assert "formula.remote: " in master
    assert "token-of-mine" not in found + master


@pytest.mark.parametrize(
    "remote",
    [
        "",
        "https://example.com:8443/you/x@y.git",
        "ssh://git@example.com:22/x.git",
        "git@example.com:you/x.git",
        "/srv/a folder/x.git",
    ],
)
def test_other_remotes_are_taken(tmp_path, remote):
    (tmp_path / "site.sls").write_text(changed("formula", "remote", value=remote))
    assert load(tmp_path / "site.sls").formula.remote == remote


@pytest.mark.parametrize("path", [("docker", "repository", "uri"), ("sources", "apt_proxy"), ("b2", "endpoint")])
def test_a_web_address_with_a_login_is_refused_and_not_shown(tmp_path, path):
    for login in ("me:token-of-mine@", "token-of-mine@"):
        site = yaml.safe_dump({"rpiomega": {**GOOD, **nested(path, f"https://{login}example.com/x")}})
        (found,) = errors(tmp_path, site)
        assert f"{'.'.join(path)}: " in found and "/etc/apt/auth.conf.d" in found
        (master,) = check.problems(yaml.safe_load(site)["rpiomega"])
        assert f"{'.'.join(path)}: " in master
        assert "token-of-mine" not in found + master


@pytest.mark.parametrize("proxy", ["http://192.168.1.10:3142", "http://pi1:3142/", "http://localhost:3142"])
def test_the_masters_cache_does_not_ask_itself(tmp_path, proxy):
    site = {**GOOD, "sources": {"apt_proxy": proxy}, "cache": {"packages": True}}
    (line,) = errors(tmp_path, yaml.safe_dump({"rpiomega": site}))
    assert f"sources.apt_proxy: {proxy} is the cache that cache.packages runs on pi1" in line


@pytest.mark.parametrize(
    ("proxy", "packages"),
    [("http://192.168.1.10:8080", True), ("http://192.168.1.99:3142", True), ("http://192.168.1.10:3142", False)],
)
def test_another_proxy_is_asked_by_the_masters_cache(tmp_path, proxy, packages):
    site = {**GOOD, "sources": {"apt_proxy": proxy}, "cache": {"packages": packages}}
    (tmp_path / "site.sls").write_text(yaml.safe_dump({"rpiomega": site}))
    assert load(tmp_path / "site.sls").sources.apt_proxy == proxy


def nested(path, value):
    """{"a": {"b": value}} of the path ("a", "b")."""
    for key in reversed(path):
        value = {key: value}
    return value


KEY = {"capabilities": ["readFiles"], "all_buckets": True}


@pytest.mark.parametrize(
    ("credentials", "keys", "said"),
    [
        ({"pi1": "admin"}, {"reader": "admin"}, "keys.reader.file: admin is what pi1 itself uses (b2.credentials)"),
        ({"*": "admin"}, {"reader": "admin"}, "keys.reader.file: admin is what pi1 itself uses (b2.credentials)"),
        ({"pi1": "admin"}, {"reader": "r", "writer": "r"}, "keys.writer.file: r is the file of reader too"),
    ],
)
def test_no_key_of_b2_overwrites_the_secret_of_another(tmp_path, credentials, keys, said):
    b2 = {"credentials": credentials, "application_keys": {name: {**KEY, "file": file} for name, file in keys.items()}}
    (line,) = errors(tmp_path, yaml.safe_dump({"rpiomega": {**GOOD, "b2": b2}}))
    assert said in line


def test_buckets_without_a_master_are_no_traceback(tmp_path):
    site = {**GOOD, "nodes": {"pi1": {"address": "192.168.1.10", "roles": ["manager"]}}}
    (line,) = errors(tmp_path, yaml.safe_dump({"rpiomega": {**site, "b2": {"buckets": {"omega-backup": {}}}}}))
    assert "no node has the role master" in line


def test_other_nodes_may_use_the_key_that_the_master_makes(tmp_path):
    b2 = {"credentials": {"pi1": "admin", "*": "backup"}, "application_keys": {"reader": {**KEY, "file": "backup"}}}
    (tmp_path / "site.sls").write_text(yaml.safe_dump({"rpiomega": {**GOOD, "b2": b2}}))
    assert load(tmp_path / "site.sls").b2.credentials["*"] == "backup"


def test_a_defect_carries_its_line(tmp_path):
    text = "rpiomega:\n  cluster: o\n  nodes:\n    pi1:\n      address: 1.2.3.4\n      x: 1\n"
    assert errors(tmp_path, text)[0].startswith(":6: rpiomega.nodes.pi1.x: unknown key")


def test_a_node_named_twice_is_not_silently_lost(tmp_path):
    text = changed("cluster", value="omega") + "    pi2: {address: 192.168.1.12}\n"
    assert yaml.safe_load(text)["rpiomega"]["nodes"]["pi2"]["address"] == "192.168.1.12"  # YAML's own answer
    (line,) = errors(tmp_path, text)
    assert "rpiomega.nodes.pi2: `pi2` is there twice (first in line" in line


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ": the file is empty"),
        ("a: [1", ":1: not YAML: the `[` that opens here is not closed"),
        ("nodes: {}\n", ": the top-level key `rpiomega` is missing; start the file with `rpiomega:`, and indent"),
        ("rpiomgea: {}\n", ":1: the top-level key `rpiomega` is missing; `rpiomgea` is none: write `rpiomega:`"),
        ("rpiomega:\n  cluster: {{ x }}\n", ":2: Jinja in the site file"),
        ("rpiomega: &a\n  cluster: *a\n", "an alias contains itself"),
        ("rpiomega:\n\t- x\n", ":2: not YAML: a tab; YAML takes spaces only"),
        ("rpiomega:\n  cluster:o\n  nodes:\n", ":2: not YAML: no space after `cluster:`; write `cluster: o`"),
        ("rpiomega:\n  cluster o\n  nodes:\n", ":2: not YAML: no colon after `cluster`; write `cluster:`"),
        ("rpiomega:\n\u00a0 cluster: o\n  nodes:\n", ":2: not YAML: a space that is not the plain one"),
        ("rpiomega:\n  cluster: o\n   nodes:\n", ":3: not YAML: it is indented like none of the lines above"),
        ("rpiomega:\n  cluster: 'o\n  nodes:\n", ":2: not YAML: the quote that begins here does not end"),
        ("rpiomega:\n  nodes:\n    a: {b: 1\n    c: 1\n", ":3: not YAML: the `{` that opens here is not closed"),
        ("rpiomega:\n  cluster: o\0\n", ":2: not YAML: a control character"),
        ("[" * 5000, ": not YAML: maximum recursion depth exceeded"),
        ("rpiomega: 3\n", "rpiomega: 3 has the wrong type"),
        ("rpiomega:\n  ? [a]\n  : 1\n", "a key must be a plain word"),
    ],
)
def test_what_is_no_site_at_all_gets_one_line(tmp_path, text, said):
    (line,) = errors(tmp_path, text)
    assert said in line


@pytest.mark.parametrize("name", ["on", "2", "2020-01-01"])
def test_a_node_whose_name_is_no_text_to_yaml_is_named_once_where_it_stands(tmp_path, name):
    text = changed("cluster", value="o") + f"    {name}: {{address: 192.168.1.12}}\n"
    (line,) = errors(tmp_path, text)
    where = f":{len(text.splitlines())}: rpiomega.nodes.{name}"
    assert line == f'{where}: `{name}` is no text to YAML; put it in quotes: "{name}"'


@pytest.mark.parametrize("address", ["224.0.0.9", "0.0.0.9", "240.0.0.9"])
def test_an_address_that_no_board_can_have_is_refused(tmp_path, address):
    site = {"cluster": "o", "nodes": {"pi1": {"address": address, "roles": ["master", "manager"]}}}
    (line,) = errors(tmp_path, yaml.safe_dump({"rpiomega": site}))
    assert f"pi1.address: {address} is no address that a board can have" in line


@pytest.mark.parametrize("value", [{"key": "K001secret"}, "K001secret/x", ["K001secret"]])
def test_an_accounts_key_in_the_site_file_is_not_shown(tmp_path, value):
    text = changed("b2", "credentials", value={"pi1": value})
    (found,) = errors(tmp_path, text)
    (master,) = check.problems(yaml.safe_load(text)["rpiomega"])
    assert "b2.credentials.pi1: what is written here" in found
    assert "b2.credentials.pi1: what is written here" in master
    assert "K001" not in found + master


def test_a_text_in_another_encoding_is_named_with_its_line(tmp_path):
    (tmp_path / "site.sls").write_bytes("rpiomega:\n  cluster: caf\u00e9\n".encode("latin-1"))
    with pytest.raises(SiteError, match=r"site\.sls:2: cannot be read: it is not UTF-8 text; save it as UTF-8"):
        load(tmp_path / "site.sls")


def test_every_defect_is_reported_at_once(tmp_path):
    text = "rpiomega:\n  clutser: x\n  nodes:\n    pi1: {address: 1.2.3}\n    pi2: {addres: 1.2.3.4}\n"
    assert len(errors(tmp_path, text)) == 5


def test_an_unreadable_file_is_named(tmp_path):
    with pytest.raises(SiteError, match=r"none\.sls: cannot be read: No such .*; run this in the checkout, or give"):
        load(tmp_path / "none.sls")


@pytest.mark.parametrize(("managers", "remark"), [(1, False), (2, True), (3, False), (4, True), (9, True)])
def test_manager_counts_that_gain_nothing_are_remarked(tmp_path, managers, remark):
    nodes = {f"pi{i}": {"address": f"192.168.1.{i}", "roles": ["manager"]} for i in range(1, managers + 1)}
    nodes["pi1"]["roles"].append("master")
    path = tmp_path / "site.sls"
    path.write_text(yaml.safe_dump({"rpiomega": {"cluster": "o", "nodes": nodes}}), encoding="utf-8")
    assert bool(checks.warnings(load(path))) is remark


SCALARS = some.none() | some.booleans() | some.integers() | some.floats() | some.text(max_size=12)
VALUES = some.recursive(
    SCALARS, lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.text(max_size=8), inner, max_size=3)
)


@given(section=some.sampled_from(["nodes", "network", "users", "salt", "docker", "sources", "cluster"]), value=VALUES)
def test_no_value_anywhere_ends_in_a_traceback(tmp_path_factory, section, value):
    path = tmp_path_factory.mktemp("site") / "site.sls"
    path.write_text(yaml.safe_dump({"rpiomega": {**GOOD, section: value}}), encoding="utf-8")
    try:
        load(path)
    except SiteError as error:
        assert str(path) in str(error)


@given(text=some.text(max_size=80))
def test_no_text_ends_in_a_traceback(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("site") / "site.sls"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(SiteError):
        load(path)
