"""`rpiomega --version`: the version, and the commit of the checkout that the package is a part of."""

import pathlib
import subprocess

import pytest
from click.testing import CliRunner

import rpiomega
from rpiomega import cli, version


def git(folder, *arguments):
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    command = ["git", *who, "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()


@pytest.fixture
def checkout(tmp_path):
    """A repository with two commits, in the shape of the formula's."""
    root = tmp_path / "checkout"
    for name in ("salt/top.sls", "bootstrap/rpiomega/version.py"):
        (root / name).parent.mkdir(parents=True)
        (root / name).write_text("")
    git(tmp_path, "init", "--quiet", str(root))
    git(root, "add", ".")
    for message in ("one", "two"):
        git(root, "commit", "--quiet", "--allow-empty", "-m", message)
    return root


@pytest.fixture
def shown(monkeypatch):
    """Give what `rpiomega --version` prints if the package is in that folder."""

    def shown(folder):
        monkeypatch.setattr(version, "__file__", str(pathlib.Path(folder) / "version.py"))
        done = CliRunner().invoke(cli.main, ["--version"])
        assert done.exit_code == 0
        return done.output.strip()

    return shown


PLAIN = f"rpiomega {rpiomega.__version__}"


def test_a_checkout_shows_its_commit_and_whether_files_were_changed(checkout, shown):
    commit = git(checkout, "rev-parse", "HEAD")[:12]
    assert shown(checkout / "bootstrap/rpiomega") == f"{PLAIN} (commit {commit})"
    (checkout / "salt/top.sls").write_text("base: {}\n")
    assert shown(checkout / "bootstrap/rpiomega") == f"{PLAIN} (commit {commit}, with changes)"


def test_a_shallow_clone_shows_the_commit_that_is_checked_out(checkout, shown, tmp_path):
    git(tmp_path, "clone", "--quiet", "--depth", "1", checkout.as_uri(), "shallow")
    commit = git(checkout, "rev-parse", "HEAD")[:12]
    assert shown(tmp_path / "shallow/bootstrap/rpiomega") == f"{PLAIN} (commit {commit})"


def test_a_package_installed_in_a_checkouts_environment_shows_no_commit(checkout, shown):
    folder = checkout / ".venv/lib/rpiomega"
    folder.mkdir(parents=True)
    assert shown(folder) == PLAIN


def test_a_package_without_a_repository_or_without_git_shows_no_commit(checkout, shown, tmp_path, monkeypatch):
    assert shown(tmp_path) == PLAIN
    monkeypatch.setenv("PATH", str(tmp_path))
    assert shown(checkout / "bootstrap/rpiomega") == PLAIN
