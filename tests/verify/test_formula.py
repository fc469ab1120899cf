"""State repo: the master's checkout of the formula follows its branch."""

import pytest


@pytest.fixture
def checkout(host, node, site):
    """Run git in the master's checkout."""
    if "master" not in node["roles"]:
        pytest.skip("only the master has the checkout")
    return lambda arguments: host.check_output(f"git -C {site['formula']['path']} {arguments}")


def test_the_checkout_is_at_its_branch(checkout, site):
    remote = site["formula"]["remote"] or site["formula"]["local_remote"]
    wanted = checkout(f"ls-remote {remote} refs/heads/{site['formula']['branch']}").split()[0]
    assert checkout("rev-parse HEAD") == wanted


def test_nobody_edited_the_checkout(checkout):
    assert checkout("status --porcelain") == ""


def test_the_site_file_is_kept_outside_the_checkout(host, node):
    if "master" not in node["roles"]:
        pytest.skip("only the master has the site file")
    site_file = host.file("/srv/rpiomega/pillar/site.sls")
    assert site_file.exists
    assert site_file.mode & 0o007 == 0


def test_the_secrets_folder_is_closed(host, node):
    if "master" not in node["roles"]:
        pytest.skip("only the master keeps the secrets")
    assert host.file("/etc/rpiomega/secrets").mode == 0o700
    assert host.check_output("find /etc/rpiomega/secrets -type f -perm /077") == ""
