"""The bootstrap makes the formula's tree and brings commits to it; the state follows. Both on the same tree."""

import pathlib
import shutil
import subprocess
import sys

import pytest
from test_formula_followed import FILES, NODES, Remote, head

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "bootstrap"))


@pytest.fixture
def srv(tmp_path):
    folder = tmp_path / "srv"
    (folder / "pillar").mkdir(parents=True)
    return folder


@pytest.fixture
def person(tmp_path, srv):
    """A checkout on the workstation, and its first commit."""
    person = Remote(tmp_path)
    person.commit({**FILES, "pillar/site.sls": f"rpiomega:\n  cluster: omega\n  nodes: {NODES}\n"})
    return person


@pytest.fixture
def bootstrap(srv, person, tmp_path, monkeypatch):
    """Run the bootstrap's real step for what the workstation's checkout holds."""
    from rpiomega.node import formula_tree, service
    from rpiomega.node.board import Board
    from rpiomega.node.steps import formula as step

    for module in (formula_tree, step):
        monkeypatch.setattr(module, "BARE", str(srv / "formula.git"))
    monkeypatch.setattr(step, "TREE", str(srv / "formula"))
    monkeypatch.setattr(step, "SITE", str(srv / "pillar/site.sls"))
    monkeypatch.setattr(step, "HASHES", str(tmp_path / "hash"))
    monkeypatch.setattr(service, "PENDING", str(tmp_path / "pending-{}"))
    monkeypatch.setattr(step.apt, "install", lambda board, packages: None)

    def run(**arguments):
        bundle = tmp_path / "bundle"
        person.git("bundle", "create", "-q", str(bundle), "main")
        commit = person.git("rev-parse", "HEAD")
        site = (person.clone / "pillar/site.sls").read_text()
        brought = {} if "remote" in arguments else {"commit": commit, "bundle": str(bundle)}
        made = step.Formula(Board(), {"branch": "main", "site": site, **brought, **arguments})
        if made.check():
            made.apply()
        assert not made.check()
        return commit

    return run


@pytest.fixture
def follow(srv, states, tmp_path):
    config = tmp_path / "master"
    tree = srv / "formula"
    config.write_text(
        f"root_dir: {tmp_path}/root\nfile_roots: {{base: [{tree}/salt]}}\n"
        f"pillar_roots: {{base: [{srv}/pillar, {tree}/pillar]}}\nmodule_dirs: [{tree}]\n"
    )

    def follow():
        with states() as loaded:
            return loaded["formula.followed"](
                str(tree), remote=str(srv / "formula.git"), rev="main", master_config=str(config), master_service=""
            )

    return follow


def test_the_state_has_nothing_to_do_after_a_bootstrap(bootstrap, follow, srv):
    bootstrap()
    answer = follow()
    assert (answer["result"], answer["changes"]) == (True, {}), answer
    assert (srv / "formula").is_symlink()


def test_a_bootstrap_after_the_state_has_switched_keeps_the_link(bootstrap, follow, person, srv):
    tree = srv / "formula"
    bootstrap()
    person.commit({"salt/pushed.txt": "1"})
    subprocess.run(["git", "-C", str(person.clone), "push", "-q", str(srv / "formula.git"), "main"], check=True)
    assert follow()["changes"]
    assert tree.is_symlink()
    followed = tree.resolve()
    person.commit({"salt/brought.txt": "2"})
    brought = bootstrap()
    assert tree.is_symlink()
    assert tree.resolve() != followed
    assert not (followed / "salt/brought.txt").exists()
    assert head(tree) == brought
    assert (tree / "salt/brought.txt").exists()
    assert follow()["changes"] == {}
    person.commit({"salt/pushed.txt": "3"})
    subprocess.run(["git", "-C", str(person.clone), "push", "-q", str(srv / "formula.git"), "main"], check=True)
    assert follow()["result"] is True
    assert (tree / "salt/pushed.txt").read_text() == "3"


def test_a_bootstrap_that_brings_a_commit_drops_the_hashes_of_the_files_before(bootstrap, person, tmp_path):
    bootstrap()
    (tmp_path / "hash").mkdir()
    bootstrap()
    assert (tmp_path / "hash").exists()
    person.commit({"salt/one/init.sls": "one:\n  probe.present: []\n"})
    bootstrap()
    assert not (tmp_path / "hash").exists()


def test_a_bootstrap_may_bring_a_history_that_was_rewritten_on_the_workstation(bootstrap, follow, person, srv):
    bootstrap()
    person.commit({"salt/a.txt": "1"})
    bootstrap()
    person.git("commit", "-q", "--amend", "-m", "other")
    amended = bootstrap()
    assert head(srv / "formula") == amended
    assert follow()["changes"] == {}


def test_the_plain_checkout_of_an_earlier_version_is_kept_beside_the_link(bootstrap, follow, person, srv):
    tree, before = srv / "formula", person.git("rev-parse", "HEAD")
    subprocess.run(["git", "clone", "-q", "--branch", "main", person.url, str(tree)], check=True)
    person.commit({"salt/brought.txt": "1"})
    brought = bootstrap()
    assert tree.is_symlink()
    assert head(tree) == brought
    assert head(srv / "formula.before") == before
    assert follow()["changes"] == {}


def test_a_plain_checkout_with_work_of_the_owner_stays(bootstrap, person, srv):
    from rpiomega.node.step import StepError

    tree = srv / "formula"
    subprocess.run(["git", "clone", "-q", "--branch", "main", person.url, str(tree)], check=True)
    (tree / "salt/top.sls").write_text("mine")
    person.commit({"salt/brought.txt": "1"})
    with pytest.raises(StepError, match="changes nobody committed"):
        bootstrap()
    assert (tree / "salt/top.sls").read_text() == "mine"
    assert not tree.is_symlink()


def test_the_first_checkout_is_the_branch_or_the_tag_of_the_remote(bootstrap, person, srv):
    from rpiomega.node.step import StepError

    first = person.git("rev-parse", "HEAD")
    person.git("tag", "-m", "v1", "v1")
    person.git("push", "-q", person.url, "v1")
    person.commit({"salt/new.txt": "new"})
    with pytest.raises(StepError, match="no branch or tag none; check `remote` and `branch`"):
        bootstrap(remote=person.url, branch="none")
    bootstrap(remote=person.url, branch="v1")
    assert head(srv / "formula") == first


@pytest.mark.parametrize("damage", ["store.git/HEAD", "store.git"])
def test_a_bootstrap_makes_a_damaged_store_again(bootstrap, follow, person, srv, damage):
    commit = bootstrap()
    broken = srv / "formula.releases" / damage
    shutil.rmtree(broken) if broken.is_dir() else broken.write_text("")
    assert bootstrap() == commit
    assert head(srv / "formula") == commit
    assert follow()["changes"] == {}


def test_a_history_that_is_rewritten_after_the_first_bootstrap_stops_the_state(bootstrap, follow, person, srv):
    used = bootstrap()
    person.git("commit", "-q", "--amend", "-m", "other")
    push = ["git", "-C", str(person.clone), "push", "-q", "--force", str(srv / "formula.git"), "main"]
    subprocess.run(push, check=True)
    answer = follow()
    assert answer["result"] is False
    assert "was rewritten" in answer["comment"]
    assert head(srv / "formula") == used
