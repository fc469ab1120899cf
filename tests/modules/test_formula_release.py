"""The folder of the formula's revisions when git itself fails: the one in use stays, whole."""

import subprocess

import pytest

from omega.formula import repository as git
from omega.formula.release import REF, Releases


@pytest.fixture
def releases(tmp_path):
    """A tree that has been switched once, and its remote, which has moved on: `releases.new`, `releases.remote`."""
    remote, tree = str(tmp_path / "remote"), str(tmp_path / "srv/formula")
    options = ["-c", "user.name=P", "-c", "user.email=p@example.com", "-c", "commit.gpgSign=false"]

    def commit():
        command = ["git", "-C", remote, *options, "commit", "-q", "--allow-empty", "-m", "change"]
        subprocess.run(command, check=True)
        return git.head(remote)

    subprocess.run(["git", "init", "-q", "-b", "main", remote], check=True)
    made, first = Releases(tree), commit()
    made.prepare(remote)
    assert git.fetch(made.store, remote, "refs/heads/main") == first
    made.switch(made.check_out(first), first, "main")
    made.remote, made.old, made.new = remote, first, commit()
    assert git.head(tree) == first
    return made


def test_a_lock_that_a_power_cut_left_does_not_cost_the_store(releases, tmp_path):
    (tmp_path / "srv/formula.releases/store.git/config.lock").touch()
    with pytest.raises(git.GitFailed, match="could not lock config file"):
        releases.prepare(releases.remote)
    assert git.head(releases.tree) == releases.old


def test_what_cannot_be_remembered_is_not_switched_to(releases, tmp_path):
    releases.prepare(releases.remote)
    assert git.fetch(releases.store, releases.remote, "refs/heads/main") == releases.new
    path = releases.check_out(releases.new)
    lock = tmp_path / f"srv/formula.releases/store.git/{REF}.lock"
    lock.touch()
    with pytest.raises(git.GitFailed, match="File exists"):
        releases.switch(path, releases.new, "main")
    assert git.head(releases.tree) == releases.old
    lock.unlink()
    releases.switch(path, releases.new, "main")
    assert (git.head(releases.tree), releases.applied()) == (releases.new, (releases.new, "main"))
