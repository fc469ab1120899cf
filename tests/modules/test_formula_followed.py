"""`formula.followed` with real git, real signatures and Salt's own rendering."""

import hashlib
import os
import pathlib
import shutil
import subprocess
import textwrap
import time

import pytest
import salt.config
import salt.fileserver

ROOT = pathlib.Path(__file__).resolve().parents[2]
NODES = {
    "m": {"address": "10.0.0.1", "roles": ["master", "manager"]},
    "w": {"address": "10.0.0.2", "roles": ["worker"]},
}
FILES = {
    "salt/top.sls": "base:\n  '*': [one]\n",
    "salt/one/init.sls": "one:\n  probe.present:\n    - name: {{ pillar['rpiomega']['cluster'] }}\n",
    "salt/orch/later.sls": "{{ pillar['event_data']['id'] }}\n",
    "pillar/top.sls": "base:\n  '*': [site]\n",
    "_states/probe.py": "import omega_probe\n\ndef present(name):\n    return omega_probe.answer(name)\n",
    "_utils/omega_probe.py": "def answer(name):\n    return {}\n",
    ".gitignore": "__pycache__/\n",
}


class Remote:
    """A repository that people push to, and a person's clone of it."""

    def __init__(self, folder):
        self.url, self.clone = str(folder / "remote.git"), folder / "person"
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", self.url], check=True)
        subprocess.run(["git", "init", "-q", "-b", "main", str(self.clone)], check=True)
        self.options = ["-c", "user.name=P", "-c", "user.email=p@example.com", "-c", "commit.gpgSign=false"]

    def git(self, *arguments):
        command = ["git", "-C", str(self.clone), *self.options, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def commit(self, files, *sign):
        """Commit files (a text of None deletes one) and push; return the commit."""
        for name, text in files.items():
            path = self.clone / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink() if text is None else path.write_text(text)
        self.git("add", "--all")
        self.git("commit", "-q", "--allow-empty", *sign, "-m", "change")
        self.git("push", "-q", "--force", self.url, "HEAD:main")
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def remote(tmp_path):
    remote = Remote(tmp_path)
    remote.first = remote.commit(FILES)
    return remote


@pytest.fixture
def tree(tmp_path, remote):
    """The first checkout, as the bootstrap makes it."""
    path = tmp_path / "srv/formula"
    subprocess.run(["git", "clone", "-q", "--branch", "main", remote.url, str(path)], check=True)
    return path


@pytest.fixture
def master(tmp_path, tree):
    """A master's configuration as the bootstrap writes it, and the site."""
    site = tmp_path / "srv/pillar"
    site.mkdir()
    (site / "site.sls").write_text(f"rpiomega:\n  cluster: omega\n  nodes: {NODES}\n")
    config = tmp_path / "etc/master"
    config.parent.mkdir()
    config.write_text(
        textwrap.dedent(f"""\
        root_dir: {tmp_path}/master
        file_roots: {{base: [{tree}/salt]}}
        pillar_roots: {{base: [{site}, {tree}/pillar]}}
        module_dirs: [{tree}]
        """)
    )
    return config


@pytest.fixture
def follow(states, remote, tree, master):
    def follow(test=False, **arguments):
        arguments = {"remote": remote.url, "rev": "main", "master_service": "", **arguments}
        with states(test=test) as loaded:
            return loaded["formula.followed"](str(tree), master_config=str(master), **arguments)

    return follow


def head(tree):
    return subprocess.run(
        ["git", "-C", str(tree), "rev-parse", "HEAD"], check=True, capture_output=True, text=True
    ).stdout.strip()


def everything_below(folder):
    """Return all paths with their content: what `test=True` may not change."""
    return {
        str(path): os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def cpu_seconds():
    """Seconds of CPU of this process and of the children it has waited for: those of a busy machine are the same."""
    return sum(os.times()[:4])


def refused(answer, *named):
    assert (answer["result"], answer["changes"]) == (False, {}), answer
    assert "\n" not in answer["comment"]
    for text in named:
        assert text in answer["comment"]


def test_a_new_revision_is_used_whole(follow, remote, tree):
    new = remote.commit({"salt/one/init.sls": "one:\n  probe.present: []\n", "salt/new.txt": "new"})
    answer = follow()
    assert answer["result"] is True, answer
    assert answer["changes"] == {str(tree): {"old": remote.first, "new": new}}
    assert tree.is_symlink()
    assert head(tree) == new
    assert (tree / "salt/new.txt").read_text() == "new"
    # Only what was in use before stays, for a look or a way back.
    kept = pathlib.Path(f"{tree}.before")
    assert head(kept) == remote.first


def test_minions_are_told_of_a_changed_file_whatever_its_time_stamp_says(follow, remote, tree, master):
    served = tree / "salt/one/init.sls"

    def told():
        opts = salt.config.master_config(str(master))
        load = {"saltenv": "base", "path": "one/init.sls"}
        return salt.fileserver.Fileserver(opts).file_hash(load)["hsum"]

    remote.commit({"salt/one/init.sls": "one:\n  probe.present: []\n"})
    before, stamp = told(), served.stat()
    assert follow()["changes"]
    os.utime(served, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert told() == hashlib.sha256(served.read_bytes()).hexdigest() != before


@pytest.mark.parametrize("updated", [False, True])
def test_nothing_changes_without_a_new_revision_and_it_is_quick(follow, remote, tree, master, updated):
    from omega.formula import update

    if updated:
        remote.commit({"salt/new.txt": "new"})
        follow()
    before = everything_below(tree.parent)
    answer = follow()
    assert (answer["result"], answer["changes"]) == (True, {})
    start = cpu_seconds()
    with update.planned(str(tree), remote.url, "main", master_config=str(master)) as (step, _):
        assert step.new is None
    assert cpu_seconds() - start < 0.5
    assert everything_below(tree.parent) == before


def test_two_revisions_are_kept_and_no_more(follow, remote, tree):
    commits = []
    for number in range(3):
        commits.append(remote.commit({"salt/new.txt": str(number)}))
        follow()
    worktrees = {path.name for path in pathlib.Path(f"{tree}.releases").iterdir() if not path.name.startswith(".")}
    assert worktrees == {"store.git", commits[-1][:12], commits[-2][:12]}


@pytest.mark.parametrize("updated", [False, True])
def test_test_mode_predicts_the_change_and_writes_nothing(follow, remote, tree, updated):
    if updated:
        remote.commit({"salt/other.txt": "x"})
        follow()
    remote.commit({"salt/new.txt": "new"})
    before = everything_below(tree.parent)
    predicted = follow(test=True)
    assert predicted["result"] is None
    assert everything_below(tree.parent) == before
    assert follow()["changes"] == predicted["changes"]
    assert follow(test=True)["result"] is True


def test_test_mode_predicts_a_refusal(follow, remote, tree):
    remote.commit({"salt/one/init.sls": "{% if %}\n"})
    before = everything_below(tree)
    predicted = follow(test=True)
    assert predicted == follow()
    refused(predicted, "does not render")
    assert head(tree) == remote.first
    assert everything_below(tree) == before


@pytest.mark.parametrize(
    ("files", "named"),
    [
        ({"salt/top.sls": "base:\n  '*': [none]\n"}, "none"),
        ({"salt/one/init.sls": FILES["salt/one/init.sls"] + "{{ {'m': ''}[grains.id] }}\n"}, ": w: "),
        ({"salt/one/init.sls": "one:\n  probe.absent: []\n"}, "probe.absent"),
        ({"salt/one/init.sls": "one:\n  probe.present:\n    - require: [{probe: two}]\n"}, "two"),
        ({"salt/unused.sls": "a: [\n"}, "unused"),
        ({"_states/probe.py": "def present(name:\n"}, "_states/probe.py"),
        ({"_utils/omega/deep/down.py": "def answer(:\n"}, "_utils/omega/deep/down.py"),
        ({"_states/probe.py": "import omega_gone\n"}, "omega_gone"),
        ({"_utils/omega_probe.py": None}, "omega_probe"),
        ({"pillar/top.sls": "base:\n  '*': [site, none]\n"}, "none"),
        ({"pillar/top.sls": "base: {}\n"}, "no nodes"),
    ],
)
def test_a_revision_that_does_not_render_for_every_node_is_not_used(follow, remote, tree, files, named):
    new = remote.commit(files)
    refused(follow(), new[:12], named, f"{tree} stays at {remote.first[:12]}")
    assert head(tree) == remote.first
    assert not tree.is_symlink()


def test_what_needs_an_event_or_the_master_is_not_rendered(follow, remote):
    remote.commit({"salt/reactor/joined.sls": "{{ data['node'] }}\n"})
    assert follow()["result"] is True


def test_the_next_good_revision_is_used_after_a_broken_one(follow, remote, tree):
    remote.commit({"salt/one/init.sls": "{% if %}\n"})
    follow()
    good = remote.commit({"salt/one/init.sls": FILES["salt/one/init.sls"]})
    assert follow()["result"] is True
    assert head(tree) == good


def test_local_edits_stop_it(follow, remote, tree):
    (tree / "salt/top.sls").write_text("mine")
    (tree / "salt/own.sls").write_text("mine")
    remote.commit({"salt/new.txt": "new"})
    refused(follow(), "salt/top.sls", "salt/own.sls", "nobody committed", "stash")
    assert (tree / "salt/top.sls").read_text() == "mine"


def test_a_rewritten_history_stops_it_unless_told(follow, remote, tree):
    remote.commit({"salt/new.txt": "new"})
    follow()
    used = head(tree)
    remote.git("reset", "-q", "--hard", "HEAD~1")
    other = remote.commit({"salt/new.txt": "other"})
    refused(follow(), "was rewritten", used[:12], "allow_rewrite")
    assert head(tree) == used
    assert follow(allow_rewrite=True)["result"] is True
    assert head(tree) == other


def test_a_commit_made_on_the_master_stops_it(follow, remote, tree):
    git = ["git", "-C", str(tree), *remote.options]
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "mine"], check=True)
    mine = head(tree)
    remote.commit({"salt/new.txt": "new"})
    refused(follow(allow_rewrite=True), mine[:12], "push that commit")
    assert head(tree) == mine


def test_another_branch_or_tag_of_the_site_is_taken_even_if_older(follow, remote, tree):
    remote.git("tag", "-m", "v1", "v1")
    remote.git("push", "-q", remote.url, "v1")
    newer = remote.commit({"salt/new.txt": "new"})
    follow()
    assert head(tree) == newer
    assert follow(rev="v1")["result"] is True
    assert head(tree) == remote.first
    assert follow(rev="v1")["changes"] == {}
    assert follow(rev="main")["result"] is True
    assert head(tree) == newer


def test_a_name_that_does_not_exist_or_is_ambiguous_is_named(follow, remote):
    refused(follow(rev="nonesuch"), "no branch or tag nonesuch")
    remote.git("tag", "main")
    remote.git("push", "-q", remote.url, "refs/tags/main")
    refused(follow(), "both a branch and a tag main")


def test_an_unreachable_remote_leaves_the_tree(follow, remote, tree):
    before = everything_below(tree.parent)
    shutil.move(remote.url, f"{remote.url}.away")
    refused(follow(), remote.url, "cannot be reached", f"stays at {remote.first[:12]}")
    assert everything_below(tree.parent) == before


@pytest.mark.timeout(300)
def test_a_remote_that_never_answers_is_given_up(follow, remote, monkeypatch):
    import socket

    from omega.formula import repository

    monkeypatch.setattr(repository.run, "__kwdefaults__", {**repository.run.__kwdefaults__, "seconds": 1})
    # Over HTTP it is a child of git that waits, and it has to be ended as well.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        start = time.monotonic()
        refused(follow(remote=f"http://127.0.0.1:{silent.getsockname()[1]}/x"), "no answer within 1 s")
    assert time.monotonic() - start < 35


def test_a_half_made_release_is_made_anew(follow, remote, tree):
    new = remote.commit({"salt/new.txt": "new"})
    half = pathlib.Path(f"{tree}.releases/{new[:12]}")
    half.mkdir(parents=True)
    (half / "salt").write_text("half")
    (half.parent / "store.git").mkdir()
    assert follow()["result"] is True
    assert (tree / "salt/new.txt").read_text() == "new"


def test_a_run_that_dies_before_the_switch_leaves_the_old_revision(follow, remote, tree, monkeypatch):
    from omega.formula import release as formula_release

    remote.commit({"salt/a.txt": "a"})
    follow()
    used = head(tree)
    new = remote.commit({"salt/b.txt": "b"})

    def power_cut(*_):
        raise KeyboardInterrupt

    for moment in ("sync", "symlink", "replace"):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(formula_release.os, moment, power_cut)
            follow()
        assert head(tree) == used
        assert (tree / "salt/top.sls").read_text() == FILES["salt/top.sls"]
    assert follow()["result"] is True
    assert head(tree) == new


def test_the_master_is_restarted_when_it_has_old_modules_loaded(follow, remote, states, tree, master):
    remote.commit({"_utils/omega_probe.py": "def answer(name):\n    return {'name': name}\n"})
    assert "nonesuch would restart" in follow(test=True, master_service="nonesuch")["comment"]
    assert "and restart nonesuch" in follow(master_service="nonesuch")["comment"]
    remote.commit({"salt/new.txt": "new"})
    assert "nonesuch" not in follow(master_service="nonesuch")["comment"]


def test_two_runs_at_once_do_not_meet(follow, remote, tree, monkeypatch):
    from omega.formula import release as formula_release

    remote.commit({"salt/new.txt": "new"})
    monkeypatch.setattr(formula_release, "LOCK_SECONDS", 0.3)
    with formula_release.Releases(str(tree)).locked():
        refused(follow(), "another run")
    assert follow()["result"] is True


@pytest.fixture
def ssh_key(tmp_path):
    """Return (private key file, allowed-signers line) of a new key: ssh_key(name)."""

    def make(name):
        path = tmp_path / name
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
        return path, f"{name}@example.com {pathlib.Path(f'{path}.pub').read_text().strip()}"

    return make


def test_only_commits_signed_by_an_allowed_ssh_key_are_used(follow, remote, tree, ssh_key):
    (owner, line), (stranger, _) = ssh_key("owner"), ssh_key("stranger")
    refused(follow(signers=[line]), remote.first[:12], "no signature", "formula.signers")
    sign = ["-c", "gpg.format=ssh", "-c"]
    plain = list(remote.options)
    remote.options = [*plain, *sign, f"user.signingKey={stranger}"]
    foreign = remote.commit({"salt/a.txt": "a"}, "-S")
    refused(follow(signers=[line]), foreign[:12])
    assert head(tree) == remote.first
    remote.options = [*plain, *sign, f"user.signingKey={owner}"]
    signed = remote.commit({"salt/b.txt": "b"}, "-S")
    assert follow(signers=[line])["result"] is True
    assert head(tree) == signed
    assert follow(signers=[line])["changes"] == {}
    remote.options = plain
    remote.commit({"salt/c.txt": "c"})
    refused(follow(signers=[line], test=True), "no signature")
    remote.git("reset", "-q", "--hard", "HEAD~2")
    rewritten = remote.commit({"salt/c.txt": "another past"})
    refused(follow(signers=[line], allow_rewrite=True), rewritten[:12], "no signature")


def test_only_commits_signed_by_an_allowed_openpgp_key_are_used(follow, remote, tree, tmp_path, short_folder):
    if not shutil.which("gpg"):
        pytest.skip("gpg is not installed")
    home = short_folder
    gpg = ["gpg", "--homedir", str(home), "--batch", "--quiet", "--passphrase", ""]
    exported = {}
    for name in ("owner", "stranger"):
        subprocess.run([*gpg, "--quick-generate-key", f"{name}@example.com", "ed25519", "sign"], check=True)
        exported[name] = subprocess.run(
            [*gpg, "--armor", "--export", f"{name}@example.com"], check=True, capture_output=True, text=True
        ).stdout
    wrapper = tmp_path / "gpg-of-the-person"
    wrapper.write_text(f'#!/bin/sh\nexec gpg --homedir {home} "$@"\n')
    wrapper.chmod(0o755)
    remote.options += ["-c", f"gpg.program={wrapper}", "-c", "user.signingKey=owner@example.com"]
    signed = remote.commit({"salt/a.txt": "a"}, "-S")
    try:
        refused(follow(signers=[exported["stranger"]]), signed[:12], "no signature of an allowed signer")
        assert follow(signers=[exported["owner"]])["result"] is True
        assert head(tree) == signed
    finally:
        subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=False)


def test_this_formula_renders_for_every_node_of_its_example(states, tmp_path):
    """The real tree, with the real pillar: what `rpiomega bootstrap` leaves, and an update of it."""
    remote = Remote(tmp_path)
    for folder in ("salt", "pillar", "_modules", "_states", "_utils", "_pillar"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, remote.clone / folder, symlinks=True, ignore=ignore)
    remote.commit({".gitignore": "__pycache__/\n"})
    tree = tmp_path / "srv/formula"
    subprocess.run(["git", "clone", "-q", remote.url, str(tree)], check=True)
    master = tmp_path / "master"
    master.write_text(
        textwrap.dedent(f"""\
        root_dir: {tmp_path}/root
        file_roots: {{base: [{tree}/salt]}}
        pillar_roots: {{base: [{tree}/pillar]}}
        module_dirs: [{tree}]
        pillar_dirs: [{tree}/_pillar]
        ext_pillar: [{{rpiomega: {{secrets: {tmp_path}/secrets}}}}]
        """)
    )
    new = remote.commit({"README.md": "changed\n"})
    arguments = {"remote": remote.url, "rev": "main", "master_config": str(master), "master_service": ""}
    with states() as loaded:
        answer = loaded["formula.followed"](str(tree), **arguments)
        assert answer["result"] is True, answer
        assert head(tree) == new
        assert not (tmp_path / "secrets").exists()
        broken = "{% from 'rpiomega/map.jinja' import omega %}\n{{ omega.consul.nothing.at.all }}\n"
        remote.commit({"salt/consul/init.sls": broken})
        refused(loaded["formula.followed"](str(tree), **arguments), "rpiomega-master: ", "consul")
