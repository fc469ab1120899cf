"""Which packages Docker comes from: the plan for apt, from what is installed, offered and held."""

import os

import pytest

from omega.core import apt
from omega.docker import data, packages
from omega.docker import service as docker_service
from omega.docker.packages import PackageError, Plan, choose, fits, plan

VENDOR = ["docker-ce", "docker-ce-cli", "containerd.io"]
DEBIAN = ["docker.io", "docker-cli"]
NEW, OLD = "5:28.5.2-1~debian.13~trixie", "5:28.4.0-1~debian.13~trixie"
IO = "26.1.5+dfsg1-9+b9"
OFFERED = {"docker-ce": [NEW, OLD], "docker-ce-cli": [NEW, OLD], "containerd.io": ["1.7.28-1"], "docker.io": [IO]}


def state(installed=None, held=()):
    return {"installed": installed or {}, "offered": OFFERED, "held": list(held)}


def vendor(version=NEW):
    return {"docker-ce": version, "docker-ce-cli": version, "containerd.io": "1.7.28-1"}


@pytest.mark.parametrize("wanted", [NEW, "28", "28.5", "28.5.2"])
def test_a_release_is_named_by_its_first_numbers_or_in_full(wanted):
    assert choose(wanted, [NEW, OLD], None) == NEW
    assert fits(NEW, wanted)


@pytest.mark.parametrize("wanted", ["2", "28.5.20", "28.50", "29", NEW[:-1]])
def test_numbers_that_only_begin_alike_are_another_release(wanted):
    with pytest.raises(PackageError, match=f"docker.version {wanted}.*{NEW}, {OLD}"):
        choose(wanted, [NEW, OLD], None)


def test_a_fitting_engine_stays_when_a_newer_one_is_out():
    assert plan(VENDOR, DEBIAN, "28", state(vendor(OLD), VENDOR)).changes == {}


def test_without_a_version_nothing_is_upgraded_and_nothing_held():
    assert plan(VENDOR, DEBIAN, "", state(vendor(OLD))).changes == {}


def test_another_version_brings_engine_and_command_line_there_and_the_hold_along():
    made = plan(VENDOR, DEBIAN, "28.5.2", state(vendor(OLD), VENDOR), own_holds=VENDOR)
    assert made.install == {"docker-ce": NEW, "docker-ce-cli": NEW}
    assert {"docker-ce", "docker-ce-cli"} <= set(made.hold)
    assert made.unhold == []


def test_a_version_that_is_no_longer_wanted_frees_what_was_held_for_it_only():
    made = plan(VENDOR, DEBIAN, "", state(vendor(), [*VENDOR, "docker-cli"]), own_holds=VENDOR)
    assert made.unhold == sorted(VENDOR)
    assert not made.touches


def newer(version, installed=None, held=()):
    return {**state(installed or vendor(OLD), held), "newer": {"containerd.io": version, "docker-ce": NEW}}


def runtime(wanted, state, own=VENDOR):
    return plan(VENDOR, DEBIAN, wanted, state, own_holds=own, runtime=["containerd.io"]).install


def test_another_engine_brings_the_runtime_along_whatever_its_release_and_whoever_holds_it():
    for held, own in ((VENDOR, VENDOR), (["containerd.io"], [])):
        made = plan(VENDOR, DEBIAN, "28.5.2", newer("2.1.5-1", held=held), own_holds=own, runtime=["containerd.io"])
        assert made.install == {"docker-ce": NEW, "docker-ce-cli": NEW, "containerd.io": "2.1.5-1"}
        assert made.changes["containerd.io"] == {"old": "1.7.28-1", "new": "2.1.5-1"}
        assert "containerd.io" in made.hold


@pytest.mark.parametrize("wanted", ["28.4", ""])
def test_between_engines_the_runtime_follows_its_major_version_only(wanted):
    held = VENDOR if wanted else []
    assert runtime(wanted, newer("1.7.29-1", held=held)) == {"containerd.io": "1.7.29-1"}
    assert runtime(wanted, newer("1.8.0-1", held=held)) == {"containerd.io": "1.8.0-1"}
    assert runtime(wanted, newer("2.2.0-1", held=held)) == {}


def test_the_runtime_gets_the_fixes_of_its_major_version_beside_a_newer_one():
    found = newer("2.2.1-1", held=VENDOR)
    found["offered"] = {**OFFERED, "containerd.io": ["2.2.1-1", "1.7.30-1", "1.7.29-1", "1.7.28-1", "1.7.27-1"]}
    assert runtime("28.4", found) == {"containerd.io": "1.7.30-1"}
    found["offered"]["containerd.io"].remove("1.7.28-1")
    assert runtime("28.4", found) == {}


def test_a_runtime_that_the_owner_holds_stays():
    assert runtime("", newer("1.7.29-1", held=["containerd.io"]), own=[]) == {}


def test_the_other_source_goes_in_the_same_transaction():
    made = plan(VENDOR, [*DEBIAN, "containerd", "runc"], "", state({"docker.io": IO, "containerd": "1.7.24"}))
    assert set(made.install) == set(VENDOR)
    assert made.remove == ["docker.io", "containerd"]


def test_an_older_engine_is_refused_unless_asked_for():
    with pytest.raises(PackageError, match="docker.io 26.* older than the engine that is there .*allow_downgrade"):
        plan(DEBIAN, VENDOR, "", state(vendor()))
    assert plan(DEBIAN, VENDOR, "", state(vendor()), allow_downgrade=True).remove == VENDOR
    with pytest.raises(PackageError, match="older"):
        plan(VENDOR, DEBIAN, "28.4", state(vendor()))


def test_an_earlier_patch_of_the_same_release_is_no_downgrade():
    assert plan(VENDOR, DEBIAN, "28.5.2", state(vendor("5:28.5.3-1~debian.13~trixie"))).install["docker-ce"] == NEW


@pytest.fixture
def hanging(tmp_path, monkeypatch):
    """Programs that do not end."""
    for name in ("apt-get", "apt-mark", "dpkg-query", "systemctl"):
        (tmp_path / name).write_text("#!/bin/sh\nexec sleep 60\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(data, "DEFAULT", str(tmp_path))
    for module in (apt, docker_service):
        monkeypatch.setattr(module, "BOUND", 0.2)


@pytest.mark.usefixtures("hanging")
def test_a_program_that_does_not_end_is_named():
    with pytest.raises(apt.AptError, match="`dpkg-query` did not end within 0.2 s"):
        packages.look(["docker-ce"])
    with pytest.raises(apt.AptError, match="`apt-get` did not end within 0.2 s"):
        packages.fetch(Plan({"docker-ce": ""}))
    assert "Docker may be off: `apt-get` did not end" in packages.carry_out(Plan({"docker-ce": ""}))
    assert "`apt-mark` did not end" in packages.mark(Plan(hold=["docker-ce"]))
    service = docker_service.Service()
    assert "`systemctl restart docker.service` did not end within 0.2 s" in service.restart()
    assert service.active() is False
