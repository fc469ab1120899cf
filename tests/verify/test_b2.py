"""State b2."""

import re

import pytest


@pytest.fixture(autouse=True)
def _wanted(site):
    if not site["b2"]["enabled"]:
        pytest.skip("the site has b2.enabled: false")


def test_the_owner_uses_the_b2_command(host, site):
    found = host.run("runuser --user %s -- b2 version", site["users"]["admin"])
    # Distributions package releases of another syntax under the same name: 4 is the first of today's.
    version = re.search(r"command line tool, version (\d+)", found.stdout)
    assert version, f"`b2 version` says {(found.stderr.strip() or found.stdout.strip() or 'nothing').splitlines()[-1]}"
    assert int(version[1]) >= 4, f"it is version {version[1]}"


def test_the_b2_command_has_the_sites_version(host, site):
    wanted = site["b2"]["version"]
    if not wanted:
        pytest.skip("the site takes the newest")
    found = host.run("b2 version").stdout
    assert wanted in found.split(), f"`b2 version` says {found.strip()}"


def test_the_account_is_roots_secret_and_only_where_the_site_gives_one(host, site, name):
    account = host.file("/etc/rpiomega/b2.env")
    given = name in site["b2"]["credentials"] or "*" in site["b2"]["credentials"]
    assert account.exists == given, f"/etc/rpiomega/b2.env is {'there' if account.exists else 'not there'}"
    if given:
        assert account.mode == 0o600, f"/etc/rpiomega/b2.env has mode {account.mode:o}"
        assert account.user == "root", f"/etc/rpiomega/b2.env belongs to {account.user}"
