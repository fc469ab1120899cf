"""State repo: the master's checkout of the formula follows its branch."""

import pytest


@pytest.fixture(autouse=True)
def _master(node):
    if "master" not in node["roles"]:
        pytest.skip("only the master has the formula")


@pytest.fixture
def checkout(host, site):
    """Run git in the master's checkout."""
    return lambda arguments: host.check_output(f"git -C {site['formula']['path']} {arguments}")


def test_the_checkout_is_where_its_branch_or_tag_is(checkout, site):
    formula = site["formula"]
    remote, rev = formula["remote"] or formula["local_remote"], formula["branch"]
    # Of an annotated tag the last one is the commit.
    refs = [f"refs/heads/{rev}", f"refs/tags/{rev}", f"refs/tags/{rev}^{{}}"]
    asked = checkout(f"ls-remote {remote} {' '.join(repr(ref) for ref in refs)}").splitlines()
    # git also lists names that only end so.
    commits = {ref: commit for commit, ref in (line.split() for line in asked) if ref in refs}
    assert commits, f"{remote} has no branch or tag {rev}"
    assert len(commits) == 1 or refs[0] not in commits, f"{remote} has both a branch and a tag {rev}"
    wanted, found = commits[max(commits, key=refs.index)], checkout("rev-parse HEAD")
    assert found == wanted, f"it is at {found[:12]}, {rev} is at {wanted[:12]}"


@pytest.mark.cure("on the master: git -C /srv/rpiomega/formula status, then commit to the remote, or git stash -u")
def test_nobody_edited_the_checkout(checkout):
    edited = checkout("status --porcelain").splitlines()
    assert edited == [], f"edited: {', '.join(line[3:] for line in edited)}"


def test_the_formula_is_looked_at_on_schedule(host, site):
    scheduled = host.run("grep -rl rpiomega-formula /etc/salt/minion.d").rc == 0
    wanted = bool(site["formula"]["every"])
    assert scheduled == wanted, f"there is {'a' if scheduled else 'no'} schedule"


@pytest.mark.cure("rpiomega bootstrap {node}")
def test_the_site_file_is_closed_to_others(host):
    site_file = host.file("/srv/rpiomega/pillar/site.sls")
    assert site_file.exists, "/srv/rpiomega/pillar/site.sls is not there"
    assert site_file.mode & 0o007 == 0, f"/srv/rpiomega/pillar/site.sls has mode {site_file.mode:o}"


@pytest.mark.cure("on the master: sudo chmod -R go= /etc/rpiomega/secrets")
def test_the_secrets_folder_is_closed(host):
    secrets = host.file("/etc/rpiomega/secrets")
    assert secrets.mode == 0o700, f"/etc/rpiomega/secrets has mode {secrets.mode:o}"
    opened = host.check_output("find /etc/rpiomega/secrets -type f -perm /077").split()
    assert opened == [], f"too open: {', '.join(opened)}"
