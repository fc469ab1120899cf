"""`docker_engine.installed` with the real apt and dpkg, in a root of its own, from a repository that moves on."""

import fcntl
import hashlib
import inspect
import os
import shutil
import subprocess
import sys

import ailing_engine
import pytest

from omega.core import apt
from omega.docker import data

PACKAGES = ["docker-ce", "docker-ce-cli", "containerd.io"]
OLD, NEW = "5:28.4.0-1", "5:28.5.2-1"

pytestmark = pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("dpkg-deb"), reason="needs root and dpkg")


class Repository:
    """A flat repository of packages without content."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()

    def offer(self, version, scripts=(), others=(), depends=()):
        """Offer Docker in this version, and no other.

        `scripts`: {package: what is run once it is unpacked}; `others`: {package: version} of those with another one;
        `depends`: {package: what it needs}.
        """
        engine, others, depends = version, dict(others), dict(depends)
        for path in self.folder.iterdir():
            path.unlink()
        entries = []
        for name in [*PACKAGES, *(name for name in others if name not in PACKAGES)]:
            version = others.get(name, engine)
            tree = self.folder.parent / f"{name}-{version}"
            (tree / "DEBIAN").mkdir(parents=True, exist_ok=True)
            control = f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: t <t@example.org>\n"
            control += f"Depends: {depends[name]}\n" if name in depends else ""
            (tree / "DEBIAN/control").write_text(f"{control}Description: none\n")
            if name in scripts:
                (tree / "DEBIAN/postinst").write_text(scripts[name])
                (tree / "DEBIAN/postinst").chmod(0o755)
            # Its file name has the version, as everywhere: what a list from yesterday names is gone today.
            file = self.folder / f"{name}_{version.partition(':')[2]}.deb"
            subprocess.run(["dpkg-deb", "-Znone", "--build", tree, file], check=True, capture_output=True)
            content = file.read_bytes()
            digest = hashlib.sha256(content).hexdigest()
            entries.append(f"{control}Filename: {file.name}\nSize: {len(content)}\nSHA256: {digest}\n")
        (self.folder / "Packages").write_text("\n".join(entries))


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """The one source of an apt and a dpkg with a root of their own."""
    made = Repository(tmp_path / "repository")
    for folder in (
        "lists/partial",
        "cache/archives/partial",
        "etc/sources.list.d",
        "root",
        "dpkg/info",
        "dpkg/updates",
    ):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "dpkg/status").touch()
    (tmp_path / "etc/sources.list").write_text(f"deb [trusted=yes] copy:{made.folder} ./\n")
    config = {
        "Dir::Etc": tmp_path / "etc",
        "Dir::Cache": tmp_path / "cache",
        "Dir::State": tmp_path,
        "Dir::State::status": tmp_path / "dpkg/status",
        "Dir::Log": tmp_path,
        "APT::Sandbox::User": "root",
    }
    (tmp_path / "apt.conf").write_text("".join(f'{key} "{value}";\n' for key, value in config.items()))
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))
    monkeypatch.setenv("DPKG_ADMINDIR", str(tmp_path / "dpkg"))
    monkeypatch.setenv("DPKG_ROOT", str(tmp_path / "root"))
    monkeypatch.setattr(data, "DEFAULT", str(tmp_path / "data"))
    return made


@pytest.fixture
def install(states, tmp_path):
    def install(version="", test=False, engine=f"unix://{tmp_path}/none"):
        with states(test=test) as loaded:
            module = inspect.unwrap(loaded["docker_engine.installed"]).__globals__
            module["HELD"] = str(tmp_path / "held")
            module["_answers"] = lambda: None  # the packages hold no engine
            module["_stopping"].__defaults__ = (engine,)  # this machine's own is no part of it
            return loaded["docker_engine.installed"](
                "vendor", PACKAGES, ["docker.io"], version, runtime=["containerd.io"]
            )

    return install


def installed():
    command = ["dpkg-query", "-W", "-f", "${Package} ${Version}\n"]
    return dict(line.split() for line in subprocess.run(command, capture_output=True, text=True).stdout.splitlines())


def held():
    return subprocess.run(["apt-mark", "showhold"], check=True, capture_output=True, text=True).stdout.split()


def update():
    subprocess.run(["apt-get", "-q", "update"], check=True, capture_output=True)


def test_the_lists_are_fetched_anew_for_a_version_they_do_not_offer(repository, install, tmp_path):
    repository.offer(OLD)
    update()
    assert install("28.4")["result"] is True
    assert installed() == dict.fromkeys(PACKAGES, OLD)
    repository.offer(NEW)
    before = sorted(path.name for path in (tmp_path / "lists").iterdir())
    predicted = install("28.5", test=True)
    assert predicted["result"] is None
    assert predicted["changes"] == dict.fromkeys(PACKAGES[:2], {"old": OLD, "new": "28.5"})
    assert sorted(path.name for path in (tmp_path / "lists").iterdir()) == before
    done = install("28.5")
    assert done["result"] is True, done
    assert installed()["docker-ce"] == NEW
    refused = install("99")
    assert refused["result"] is False
    assert f"docker.version 99: the repository offers {NEW}" in refused["comment"]


def test_a_hold_is_seen_and_goes_with_the_version_of_the_site(repository, install):
    repository.offer(OLD)
    update()
    assert install("28.4")["result"] is True
    assert held() == sorted(PACKAGES)
    assert install("28.4")["changes"] == {}
    assert install()["changes"] == {f"{name} hold": {"old": True, "new": False} for name in PACKAGES}
    assert held() == []


# What Docker's own packages need (docker-ce 28 and 29).
OLD_NEEDS = {"docker-ce": "containerd.io (>= 1.7.27), docker-ce-cli"}
NEW_NEEDS = {"docker-ce": "containerd.io (>= 2.1.5), docker-ce-cli, nftables"}
VERSION_29 = "5:29.7.2-1"


def test_a_pinned_engine_goes_to_a_release_that_needs_a_newer_containerd(repository, install):
    repository.offer(OLD, others={"containerd.io": "1.7.28-1"}, depends=OLD_NEEDS)
    update()
    assert install("28.4")["result"] is True
    # A security fix comes while the engine stays where the site has pinned it, and a new major version does not.
    repository.offer(OLD, others={"containerd.io": "1.7.29-1"}, depends=OLD_NEEDS)
    update()
    change = {"containerd.io": {"old": "1.7.28-1", "new": "1.7.29-1"}}
    assert install("28.4", test=True)["changes"] == change
    assert install("28.4")["changes"] == change
    assert installed() == {"docker-ce": OLD, "docker-ce-cli": OLD, "containerd.io": "1.7.29-1"}
    assert held() == sorted(PACKAGES)
    repository.offer(VERSION_29, others={"containerd.io": "2.2.1-1", "nftables": "1.1"}, depends=NEW_NEEDS)
    update()
    assert install("28.4")["changes"] == {}
    predicted = install("29", test=True)
    assert predicted["changes"]["containerd.io"] == {"old": "1.7.29-1", "new": "2.2.1-1"}
    done = install("29")
    assert done["result"] is True, done
    assert done["changes"] == predicted["changes"]
    new = {"docker-ce": VERSION_29, "docker-ce-cli": VERSION_29, "containerd.io": "2.2.1-1", "nftables": "1.1"}
    assert installed() == new
    assert held() == sorted(PACKAGES)
    assert install("29")["changes"] == {}


def test_a_release_whose_needs_nobody_offers_is_refused_before_anything_stops(repository, install):
    repository.offer(OLD, others={"containerd.io": "1.7.28-1"}, depends=OLD_NEEDS)
    update()
    assert install("28.4")["result"] is True
    repository.offer(VERSION_29, others={"containerd.io": "2.0.9-1", "nftables": "1.1"}, depends=NEW_NEEDS)
    update()
    answer = install("29")
    assert (answer["result"], answer["changes"]) == (False, {})
    assert "docker-ce needs containerd.io (>= 2.1.5)" in answer["comment"]
    assert "\n" not in answer["comment"]
    assert installed()["docker-ce"] == OLD


def interrupt(tmp_path, script=""):
    """Leave dpkg as a power cut does: a record in the journal that is not in the status file yet."""
    (tmp_path / "dpkg/updates/0001").write_text(
        "Package: half\nStatus: install ok unpacked\nMaintainer: t <t@example.org>\nArchitecture: all\nVersion: 1\n"
        "Description: none\n"
    )
    if script:
        (tmp_path / "dpkg/info/half.postinst").write_text(script)
        (tmp_path / "dpkg/info/half.postinst").chmod(0o755)


def test_an_interrupted_dpkg_is_finished_before_states_of_salt_install(repository, states, tmp_path):
    with states() as real, states(test=True) as ahead:
        assert real["dpkg.configured"]("x")["changes"] == {}
        interrupt(tmp_path, "#!/bin/sh\nexit 1\n")
        predicted = ahead["dpkg.configured"]("x")
        assert (predicted["result"], (tmp_path / "dpkg/updates/0001").exists()) == (None, True)
        failed = real["dpkg.configured"]("x")
        assert (failed["result"], failed["changes"]) == (False, {})
        assert failed["comment"].startswith("node: dpkg was interrupted before, and cannot finish: ")
        (tmp_path / "dpkg/info/half.postinst").unlink()
        interrupt(tmp_path)
        done = real["dpkg.configured"]("x")
        assert (done["result"], done["changes"], installed()) == (True, predicted["changes"], {"half": "1"})
        assert real["dpkg.configured"]("x")["changes"] == {}


@pytest.fixture
def other_dpkg(repository, tmp_path):
    """Another process that works with dpkg's database; `end` lets it finish its work."""
    program = (
        "import fcntl, os, sys\n"
        "lock = open(sys.argv[1] + '/lock-frontend', 'w')\n"
        "fcntl.lockf(lock, fcntl.LOCK_EX)\n"
        "print('locked', flush=True)\n"
        "sys.stdin.read()\n"
        "os.unlink(sys.argv[1] + '/updates/0001')\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "dpkg")]
    interrupt(tmp_path)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"locked\n"
        yield process
        process.kill()


def test_another_dpkg_at_work_is_no_interrupted_one(states, tmp_path, monkeypatch, other_dpkg):
    really = apt.run
    calls = []

    def run(*command):
        done = really(*command)
        if not calls:
            other_dpkg.communicate()
        calls.append(command)
        return done

    monkeypatch.setattr(apt, "run", run)
    with states() as real, states(test=True) as ahead:
        predicted = ahead["dpkg.configured"]("x")
        assert (predicted["result"], predicted["changes"]) == (True, {})
        assert "another dpkg is at work" in predicted["comment"]
        done = real["dpkg.configured"]("x")
    assert (done["result"], done["changes"]) == (True, {}), done
    assert calls


def test_another_dpkg_that_does_not_end_is_named(states, monkeypatch, other_dpkg):
    monkeypatch.setattr(apt, "LOCK_BOUND", 0)
    with states() as real:
        done = real["dpkg.configured"]("x")
    assert (done["result"], done["changes"]) == (False, {})
    assert f"process {other_dpkg.pid} holds the dpkg frontend lock" in done["comment"]
    assert f"`ps -p {other_dpkg.pid}`" in done["comment"] and "\n" not in done["comment"]


@pytest.mark.parametrize("test", [False, True])
def test_a_card_that_does_not_let_dpkgs_folder_be_read(repository, states, tmp_path, test):
    (tmp_path / "dpkg/updates").rmdir()
    (tmp_path / "dpkg/updates").write_text("")  # as root everything can be read
    with states(test=test) as loaded:
        done = loaded["dpkg.configured"]("x")
    assert (done["result"], done["changes"]) == (False, {})
    assert "Not a directory" in done["comment"] and "dpkg/updates" in done["comment"]


def test_an_interrupted_dpkg_is_finished_before_packages_change(repository, install, tmp_path):
    repository.offer(OLD)
    update()
    interrupt(tmp_path)
    refused = subprocess.run(["apt-get", "-y", "install", "docker-ce"], capture_output=True, text=True, check=False)
    assert "dpkg was interrupted" in refused.stderr
    done = install()
    assert done["result"] is True, done
    assert installed() == {**dict.fromkeys(PACKAGES, OLD), "half": "1"}


def test_what_did_not_happen_is_no_change(repository, install):
    repository.offer(OLD)
    update()
    with ailing_engine.serve() as url:
        answer = install(engine=url)
    assert (answer["result"], answer["changes"]) == (False, {}), answer
    assert "was left alone" in answer["comment"]
    # apt comes as far as it can: one package does not let itself be configured.
    script = "#!/bin/sh\nexit 1\n"
    repository.offer(NEW, scripts={"containerd.io": script})
    update()
    answer = install()
    assert answer["result"] is False
    assert answer["changes"] == {name: {"old": "", "new": NEW} for name in PACKAGES[:2]}, answer


def test_a_first_installation_outlives_lists_from_yesterday_and_needs_no_library(repository, install, monkeypatch):
    """As under salt-ssh, whose copy of Salt has neither the Docker SDK nor py-consul."""
    monkeypatch.setitem(sys.modules, "docker", None)
    repository.offer(OLD)
    update()
    repository.offer(NEW)
    done = install()
    assert done["result"] is True, done
    assert installed() == dict.fromkeys(PACKAGES, NEW)


class Downloads:
    """The lock of the downloads, as the daily update of the package lists and apt-get hold it."""

    def __init__(self, folder):
        self.path, self.file = folder / "cache/archives/lock", None

    def take(self):
        self.file = self.path.open("w")
        fcntl.lockf(self.file, fcntl.LOCK_EX)


def test_another_apt_is_waited_for_before_packages_are_fetched_and_installed(
    repository, install, tmp_path, monkeypatch
):
    repository.offer(OLD)
    update()
    downloads, run, refused = Downloads(tmp_path), apt.run, []

    def watched(*command):
        done = run(*command)
        if "Could not get lock" in done.stderr:
            refused.append("--download-only" in command)
            downloads.file.close()
        elif "--download-only" in command:
            downloads.take()
        return done

    monkeypatch.setattr(apt, "run", watched)
    downloads.take()
    done = install()
    assert done["result"] is True, done
    assert installed() == dict.fromkeys(PACKAGES, OLD)
    assert refused == [True, False]


def test_another_apt_that_does_not_end_is_named(repository, install, tmp_path, monkeypatch):
    monkeypatch.setattr(apt, "LOCK_BOUND", 0)
    repository.offer(OLD)
    update()
    downloads = Downloads(tmp_path)
    downloads.take()
    answer = install()
    downloads.file.close()
    assert (answer["result"], answer["changes"]) == (False, {})
    assert f"archives/lock (process {os.getpid()} (" in answer["comment"]
    assert "wait for it to end" in answer["comment"]
    assert installed() == {}


def test_an_engine_nobody_offers_is_named_with_where_apt_looked(repository, install):
    (repository.folder / "Packages").touch()
    answer = install()
    assert (answer["result"], answer["changes"]) == (False, {})
    for part in ("no package source offers docker-ce for", "docker.sources", "apt-cache policy", "distribution"):
        assert part in answer["comment"]


def test_lists_that_cannot_be_fetched_are_one_line(repository, install):
    answer = install()
    assert (answer["result"], answer["changes"]) == (False, {})
    assert "the package lists cannot be fetched: the package source copy:" in answer["comment"]
    assert "\n" not in answer["comment"]
