"""Values that YAML reads as something else than they seem: one verdict on the workstation and on the master."""

import pytest

from omega.site import check as site_check
from omega.site import file as site_file
from rpiomega.site import SiteError, load

HEAD = "rpiomega:\n  cluster: home\n  nodes:\n    pi1:\n      address: 192.168.1.10\n      roles: [master, manager]\n"


def verdicts(tmp_path, lines, head=HEAD):
    """Return what workstation and master say about the same file, each as one text; empty: nothing."""
    path = tmp_path / "site.sls"
    path.write_bytes(head.encode() + (lines if isinstance(lines, bytes) else lines.encode()))
    try:
        load(path)
        here = ""
    except SiteError as error:
        here = str(error)
    try:
        site = site_file.read(str(tmp_path))
        there = "\n".join(site_check.problems(site) or site_file.clashes(site))
    except ValueError as error:
        there = str(error)
    return here, there


LABEL = "      labels: {{rack: {}}}\n"
ODD = ["010", "1:30", "0x10", "0b11", "1_000", "+5", "-0", "12:34:56", "190:20:30", "007"]


@pytest.mark.parametrize("value", ODD)
def test_a_label_that_is_another_number_to_yaml_wants_quotes(tmp_path, value):
    here, there = verdicts(tmp_path, LABEL.format(value))
    line = len(HEAD.splitlines()) + 1
    for said in (here, there):
        assert f"site.sls:{line}: " in said and f"`{value}` without quotes is " in said
        assert f'put it in quotes: "{value}"' in said
    assert ":7: rpiomega.nodes.pi1.labels.rack: " in here
    assert verdicts(tmp_path, LABEL.format(f'"{value}"')) == ("", "")


@pytest.mark.parametrize(
    "value", ["8", "-3", "0", "a", "1e3", "1.2.3", '"010"', "'1:30'", "!!str 010", "0o10", "host:1"]
)
def test_a_label_that_is_what_it_seems_is_taken(tmp_path, value):
    assert verdicts(tmp_path, LABEL.format(value)) == ("", "")


REFUSED = [
    LABEL.format("yes"),
    LABEL.format("28.5"),
    LABEL.format(".inf"),
    LABEL.format("2026-01-02"),
    LABEL.format("~"),
    "      labels: {010: a}\n",
    "      labels: {on: a}\n",
    "      labels: {a: b, a: c}\n",
    "      host: 192.168.1.57:2222\n",
    "      host: '[192.168.1.57]:22'\n",
    "      host: pi@192.168.1.57\n",
    "      host: ssh://192.168.1.57\n",
    "      host: 192.168.1.300\n",
    "      host: 192.168.57\n",
    "      host: 3232235833\n",
    "      host: '3232235833'\n",
    "      host: 1:2\n",
    "      host: 'fe80::1::2'\n",
    "      host: 'raspberrypi.local:22'\n",
    "      host: '-oProxyCommand=x'\n",
    "      interface: no\n",
    "  users: {port: 022}\n",
    "  users: {port: 1:30}\n",
    "  users: {admin: no}\n",
    "  users: {admin: 0123}\n",
    "  system: {locale: 1.5}\n",
    "  system: {timezone: 2026-01-01}\n",
    "  network: {prefix: 0x18}\n",
    "  network: {prefix: 24.0}\n",
    "  network: {wifi: {ssid: 0123}}\n",
    "  network: {wifi: {ssid: yes}}\n",
    "  network: {wifi: {ssid: ''}}\n",
    "  network: {wifi: {ssid: " + "ä" * 17 + "}}\n",
    "  network: {wifi: {ssid: " + "a" * 33 + "}}\n",
    "  network: {wifi: {ssid: home, country: NO}}\n",
    "  network: {wifi: {ssid: home, country: no}}\n",
    "  network: {wifi: {ssid: home, country: Germany}}\n",
    "  docker: {version: 28.10}\n",
    "  docker: {version: 28.5}\n",
    "  docker: {daemon: {mtu: 01400}}\n",
    "  docker: {daemon: {a: {b: 1:30}}}\n",
    "  docker: {daemon: {a: .inf}}\n",
    "  docker: {daemon: {010: a}}\n",
    "  docker: {daemon: {a: 2026-01-01}}\n",
    "  b2: {version: 5.0}\n",
    "  upgrades: {start: '0２:30'}\n",
    "  time: {servers: ['192.168.1.1:123']}\n",
    "  swarm: {stacks: {web: {compose: a.yml, env: {PORT: 8080}}}}\n",
    "  swarm: {cert_expiry: 90}\n",
    "  packages: &a {extra: *a}\n",
    LABEL.format("="),
    LABEL.format("<<"),
    LABEL.format("!foo a"),
    LABEL.format("2026-13-45"),
    LABEL.format("2026-01-02T10:00:00+99:99"),
    LABEL.format("1" * 5000),
    LABEL.format('"\\ud83d\\ude00"'),
    "  docker: {daemon: {a: !!binary aGk=}}\n",
    "  docker: {daemon: {a: !!set {b}}}\n",
    "  docker: {daemon: {a: !!omap [b: 1]}}\n",
    "  docker: {daemon: {a: !!pairs [b: 1]}}\n",
    "  docker: {daemon: {a: !!python/object:os.system x}}\n",
    "  swarm: {stacks: {web: {compose: a.yml, env: {A: '{{ x }}'}}}}\n",
    "  users: {admin: pi} # {{ x }}\n",
    b"  cluster2: caf\xe9\n",
    "\tusers: {}\n",
]


@pytest.mark.parametrize("lines", REFUSED)
def test_both_refuse(tmp_path, lines):
    here, there = verdicts(tmp_path, lines)
    assert here and there
    assert "Traceback" not in here + there
    assert len(here) < 400 and len(there) < 400


LAST = f"site.sls:{len(HEAD.splitlines()) + 1}: "


@pytest.mark.parametrize("lines", REFUSED[REFUSED.index(LABEL.format("=")) : -2])
def test_both_name_the_line(tmp_path, lines):
    for said in verdicts(tmp_path, lines):
        assert LAST in said


TAKEN = [
    LABEL.format('"="'),
    LABEL.format("!!str 010"),
    LABEL.format("😀"),
    "  # {{ x }}\n",
    "      host: fe80::1%eth0\n",
    "      host: '2001:db8::1'\n",
    "      host: pi1\n",
    "      host: raspberrypi.local\n",
    "      host: my_pi.example.com\n",
    "  network: {wifi: {ssid: " + "ä" * 16 + "}}\n",
    '  network: {wifi: {ssid: "0123", country: "NO"}}\n',
    '  network: {wifi: {ssid: "yes"}}\n',
    "  network: {wifi: {ssid: 'a b: #c'}}\n",
    "  network: {manage: no}\n",
    "  users: {port: 2222}\n",
    '  upgrades: {start: "02:30"}\n',
    "  upgrades: {start: 02:30}\n",
    "  docker: {daemon: {mtu: 1400, debug: true, a: 1.5, b: null}}\n",
    "  packages: &a {extra: [vim]}\n",
]


@pytest.mark.parametrize("lines", TAKEN)
def test_both_take(tmp_path, lines):
    assert verdicts(tmp_path, lines) == ("", "")


def test_digits_of_other_scripts_are_no_address(tmp_path):
    here, there = verdicts(tmp_path, "", HEAD.replace("192.168.1.10", "1٩2.168.1.10"))
    assert "is not an IPv4 address" in here and "is not an IPv4 address" in there


def test_a_byte_order_mark_is_no_defect(tmp_path):
    assert verdicts(tmp_path, "", "\ufeff" + HEAD) == ("", "")


SHIFTED = """
rpiomega:
  cluster: home
  nodes:
    pi-1: {host: 192.168.1.57, address: 192.168.1.58, roles: [master, manager]}
    pi-2: {host: HOST, address: 192.168.1.59}
"""


@pytest.mark.parametrize("host", ["192.168.1.58", "pi-1", "PI-1.local", "pi-1.lan", "Pi-1.fritz.box"])
def test_a_node_that_is_now_where_another_will_be_is_refused(tmp_path, host):
    path = tmp_path / "site.sls"
    path.write_text(SHIFTED.replace("HOST", host))
    with pytest.raises(SiteError) as caught:
        load(path)
    (problem,) = caught.value.problems
    if host.startswith("192"):
        assert problem.key == ("rpiomega", "nodes", "pi-1", "address") and "where pi-2 is reached now" in problem.cause
        assert problem.allowed.startswith("move pi-2 first")
    else:
        assert problem.key == ("rpiomega", "nodes", "pi-2", "host") and "the name of the node pi-1" in problem.cause


@pytest.mark.parametrize(("one", "two"), [("pi.local", "PI.local."), ("fe80::1%eth0", "fe80:0::1%eth0")])
def test_one_host_in_two_spellings_is_one_host(tmp_path, one, two):
    path = tmp_path / "site.sls"
    path.write_text(SHIFTED.replace("192.168.1.57", f"'{one}'").replace("HOST", f"'{two.rstrip('.')}'"))
    with pytest.raises(SiteError, match="is where pi-1 is reached too"):
        load(path)


@pytest.mark.parametrize("value", ["024", "0x18", "1_0"])
def test_where_only_a_number_fits_nobody_is_told_to_quote_it(tmp_path, value):
    path = tmp_path / "site.sls"
    path.write_text(SHIFTED.replace("HOST", "192.168.1.60") + f"  network: {{prefix: {value}}}\n")
    with pytest.raises(SiteError) as caught:
        load(path)
    (problem,) = caught.value.problems
    assert f"`{value}` without quotes is " in problem.cause
    assert problem.allowed == "write the number you mean in plain digits, as 24"
