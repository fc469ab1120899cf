"""Each check of `rpiomega verify` fails on a node that lacks what it checks, and passes again once that is repaired.

How they are broken is in `verify_breaks.py`.
"""

import json
import subprocess
import sys

import pytest
import yaml
from salt.utils.dictupdate import update
from verify_breaks import BREAKS, FIRST, GIVEN, KEPT, LAST, OWNERS_ACCOUNT

from rpiomega import site as sites
from rpiomega.lab import remote
from rpiomega.ssh import Pool, Settings
from rpiomega.verify import checks

pytestmark = pytest.mark.long
BOUND = 120


class Looker:
    """Runs single checks on the nodes of a finished lab."""

    def __init__(self, lab, folder):
        self.lab, self.folder = lab, folder
        self.names = lab.node_names()
        self.site = sites.load(lab.site_file)
        users = self.site.users
        settings = Settings(users.admin, identity=lab.key, known_hosts=lab.known_hosts)
        assert users.port == 22
        self.pool = Pool(settings)
        self.remotes = {}

    def look(self, node, wanted, site_file):
        """Return check -> result on one node."""
        name = self.names[node]
        if name not in self.remotes:
            self.remotes[name] = self.pool.remote([self.site.nodes[name].address])
            self.remotes[name].connect(10)
        only = " or ".join(f"test_{check}" for check in wanted)
        found = checks.over_ssh(site_file, self.site.nodes[name], self.remotes[name], only)
        return {check.check: check for check in found if check.check in wanted}

    def run(self, node, script):
        name = self.names[node]
        words = {"node": name, "last": self.names[LAST], "address": self.site.nodes[name].address}
        script = f"umask 077; mkdir -p {KEPT}; {script.format(**words)}"
        return remote.run(self.lab, name, f"sudo sh -c {remote.quote(script)}", bound=180)

    def altered(self, over):
        """Return the site file with `over` laid over it, as a file of its own."""
        made = yaml.safe_load(self.lab.site_file.read_text())["rpiomega"]
        nodes = made["nodes"]
        if over.get("nodes") == "one manager":
            for name in self.names[1:]:
                nodes[name]["roles"] = ["worker"]
        elif over.get("nodes") == "other addresses":
            for entry in nodes.values():
                entry["address"] = "10.9.9.9"
        elif over.get("nodes") == "without the last":
            del nodes[self.names[LAST]]
        elif over.get("journal") == "other storage":
            now = self.run(LAST, "readlink /proc/$(pidof systemd-journald)/fd/* | grep -m1 journal$")
            made["journal"] = {"storage": "persistent" if now.startswith("/run") else "volatile"}
        elif over.get("docker") == "version that is there":
            version = self.run(LAST, "dpkg-query -W -f '${{Version}}' docker-ce")
            made["docker"] = {**made["docker"], "version": version.strip()}
        elif over.get("docker") == "other source":
            now = made.get("docker", {}).get("source", "vendor")
            made["docker"] = {**made.get("docker", {}), "source": {"vendor": "distribution"}.get(now, "vendor")}
        else:
            update(made, over)
        path = self.folder / "site.sls"
        path.write_text(yaml.safe_dump({"rpiomega": made}))
        return path


@pytest.fixture(scope="module")
def looker(finished, tmp_path_factory):
    looker = Looker(finished, tmp_path_factory.mktemp("site"))
    with looker.pool:
        yield looker


def test_every_check_is_broken_by_something_here():
    known = {check.check for check in checks.listed()}
    assert known == {check for each in BREAKS.values() for check in each.checks}


@pytest.mark.parametrize("name", BREAKS)
def test_the_check_sees_what_is_broken_and_what_is_repaired(looker, wait, name):
    broken = BREAKS[name]
    at = broken.at if isinstance(broken.at, tuple) else (broken.at,)
    site_file = looker.altered(broken.site) if broken.site else looker.lab.site_file
    try:
        for node in at:
            looker.run(node, broken.how)
        found = {}

        def red():
            found.update(looker.look(broken.seen, broken.checks, site_file))
            return {check: one.result for check, one in found.items()} == dict.fromkeys(broken.checks, "failed")

        wait(f"{broken.checks} to fail", BOUND, red)
        for one in found.values():
            print(f"{one.check}: {one.cause}")
            assert one.cause
            assert one.cure
    finally:
        for node in at:
            looker.run(node, broken.repair)

    holds = {"ok", "skipped"} if broken.site else {"skipped" if broken.without else "ok"}

    def green():
        found = looker.look(broken.seen, broken.checks, looker.lab.site_file)
        return {found[check].result for check in broken.checks} <= holds

    wait(f"{broken.checks} to hold again", BOUND, green)


def test_an_account_of_b2_holds_where_owner_and_root_have_the_same(looker):
    checks = ["the_account_is_roots_secret_and_only_where_the_site_gives_one"]
    checks += ["the_owners_command_has_the_account_closed_to_others"]
    try:
        looker.run(LAST, f"{OWNERS_ACCOUNT}; echo B2_APPLICATION_KEY_ID=1 > /etc/rpiomega/b2.env")
        found = looker.look(LAST, checks, looker.altered(GIVEN))
    finally:
        looker.run(LAST, "rm -f ~pi/.b2_account_info /etc/rpiomega/b2.env")
    assert {check: (one.result, one.cause) for check, one in found.items()} == dict.fromkeys(checks, ("ok", ""))


def test_through_salt_all_holds_as_well_and_no_secret_stays_in_the_job_cache(looker):
    command = [sys.executable, "-m", "rpiomega", "verify", "--salt", "--install", "--json"]
    command += ["--site", str(looker.lab.site_file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)
    report = json.loads(done.stdout)
    broken = {
        name: [each for each in node["checks"] if each["result"] == "failed"] for name, node in report["nodes"].items()
    }
    assert broken == {name: [] for name in looker.names}
    assert report["ok"], report
    # The secrets' files are the patterns, so that no secret gets into an argument list here either.
    search = (
        "for secret in $(find /etc/rpiomega/secrets -name token -o -name '*.token' -o -name gossip.key);"
        " do grep -rlaF -f $secret /var/cache/salt/master/jobs; done; true"
    )
    assert looker.run(FIRST, search) == ""
