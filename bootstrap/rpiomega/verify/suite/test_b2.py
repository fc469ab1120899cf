"""State b2."""

import re

import pytest

# Compared inside the node: of the account nothing gets into an output or a job cache.
SAME_KEY = (
    "import sqlite3, sys; rows = sqlite3.connect(sys.argv[1]).execute('SELECT account_id_or_app_key_id FROM account');"
    "print('same' if 'B2_APPLICATION_KEY_ID=%s' % rows.fetchone() in open(sys.argv[2]).read().split() else 'other')"
)


@pytest.fixture
def wanted(site):
    """The command is wanted; without it an account is not."""
    if not site["b2"]["enabled"]:
        pytest.skip("the site has b2.enabled: false")


@pytest.fixture
def given(site, name):
    """Whether the site gives the node an account."""
    return site["b2"]["enabled"] and (name in site["b2"]["credentials"] or "*" in site["b2"]["credentials"])


@pytest.mark.usefixtures("wanted")
def test_the_owner_uses_the_b2_command(host, site):
    found = host.run("runuser --user %s -- b2 version", site["users"]["admin"])
    # Distributions package releases of another syntax under the same name: 4 is the first of today's.
    version = re.search(r"command line tool, version (\d+)", found.stdout)
    assert version, f"`b2 version` says {(found.stderr.strip() or found.stdout.strip() or 'nothing').splitlines()[-1]}"
    assert int(version[1]) >= 4, f"it is version {version[1]}"


@pytest.mark.usefixtures("wanted")
def test_the_b2_command_has_the_sites_version(host, site):
    version = site["b2"]["version"]
    if not version:
        pytest.skip("the site takes the newest")
    found = host.run("b2 version").stdout
    assert version in found.split(), f"`b2 version` says {found.strip()}"


def test_the_account_is_roots_secret_and_only_where_the_site_gives_one(host, given):
    account = host.file("/etc/rpiomega/b2.env")
    assert account.exists == given, f"/etc/rpiomega/b2.env is {'there' if account.exists else 'not there'}"
    if given:
        assert account.mode == 0o600, f"/etc/rpiomega/b2.env has mode {account.mode:o}"
        assert account.user == "root", f"/etc/rpiomega/b2.env belongs to {account.user}"


def test_the_owners_command_has_the_account_closed_to_others(host, site, given):
    if not given:
        pytest.skip("the site gives the node no account; one that its owner made stays")
    user = host.user(site["users"]["admin"])
    # The b2 command takes the first that is there, and makes one without an account as it is first called.
    paths = [f"{user.home}/.b2_account_info", f"{user.home}/.config/b2/account_info"]
    account = next((host.file(path) for path in paths if host.file(path).exists), None)
    assert account, f"{paths[-1]} is not there"
    assert account.mode == 0o600, f"{account.path} has mode {account.mode:o}"
    assert account.user == user.name, f"{account.path} belongs to {account.user}"
    same = host.run("python3 -c %s %s %s", SAME_KEY, account.path, "/etc/rpiomega/b2.env")
    assert same.stdout.strip() == "same", f"{account.path} holds not the account of /etc/rpiomega/b2.env"
