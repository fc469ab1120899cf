"""The formula as one file: what is committed arrives, from clones with and without their past."""

import subprocess

import pytest

from rpiomega import formula
from rpiomega.errors import NodeError


def git(folder, *arguments):
    """Run git in a folder; return what it printed."""
    command = ["git", "-C", folder, "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path):
    """Give a formula with two commits."""
    root = tmp_path / "here"
    (root / "salt").mkdir(parents=True)
    git(tmp_path, "init", "-q", "-b", "trunk", root)
    for text in ("one", "two"):
        (root / "salt/top.sls").write_text(text, encoding="utf-8")
        git(root, "add", ".")
        git(root, "commit", "-q", "-m", text)
    return root


def fetched(tmp_path, found):
    """Bundle and fetch as the master does; return the bare repository."""
    folder = tmp_path / "out"
    folder.mkdir()
    bundle, bare = found.bundle(folder, "main"), tmp_path / "bare.git"
    git(tmp_path, "init", "-q", "--bare", bare)
    git(bare, "fetch", "-q", bundle, "+refs/heads/main:refs/heads/main")
    return bare


def test_head_arrives_under_the_wanted_branch_with_its_past(tmp_path, checkout):
    found = formula.find(checkout / "salt")
    bare = fetched(tmp_path, found)
    assert git(bare, "rev-parse", "main") == found.commit == git(checkout, "rev-parse", "HEAD")
    assert git(bare, "show", "main:salt/top.sls") == "two"
    assert git(bare, "rev-list", "--count", "main") == "2"


def test_a_clone_without_its_past_arrives_as_well(tmp_path, checkout):
    shallow = tmp_path / "shallow"
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{checkout}", shallow)
    found = formula.find(shallow)
    bare = fetched(tmp_path, found)
    # A commit of its own, yet the same one each time.
    assert git(bare, "rev-parse", "main") == found.commit == formula.find(shallow).commit
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", "--branch", "main", bare, clone)
    assert (clone / "salt/top.sls").read_text() == "two"


def test_changes_nobody_committed_are_noticed_and_not_sent(tmp_path, checkout):
    assert not formula.find(checkout).dirty
    (checkout / "salt/top.sls").write_text("three", encoding="utf-8")
    found = formula.find(checkout)
    assert found.dirty
    assert git(fetched(tmp_path, found), "show", "main:salt/top.sls") == "two"


def test_the_users_repository_is_only_read(tmp_path, checkout):
    before = sorted(path.relative_to(checkout) for path in checkout.rglob("*"))
    fetched(tmp_path, formula.find(checkout))
    assert sorted(path.relative_to(checkout) for path in checkout.rglob("*")) == before


def test_what_is_no_formula_is_said_with_the_next_step(tmp_path):
    with pytest.raises(NodeError, match=r"no checkout of the formula at .*formula\.remote"):
        formula.find(tmp_path)
