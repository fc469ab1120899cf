"""Docker's data root is measured and copied within a time, or left as it was."""

import json
import os

import pytest
from dockerds import missing

from omega.docker import data, settings
from omega.docker import service as docker_service


@pytest.fixture
def hanging(tmp_path, monkeypatch):
    """A `cp` and a `du` that do not end, as on a disk that does not answer."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("cp", "du"):
        (programs / name).write_text("#!/bin/sh\nexec sleep 60\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setattr(data, "COPY_BOUND", 0.2)
    monkeypatch.setattr(data, "MEASURE_BOUND", 0.2)


@pytest.fixture
def roots(tmp_path):
    """An old data root with a volume, and a place for a new one."""
    (tmp_path / "old/volumes/one").mkdir(parents=True)
    (tmp_path / "old/volumes/one/file").write_text("content")
    return str(tmp_path / "old"), str(tmp_path / "new")


def test_a_data_root_is_copied_whole(roots):
    old, new = roots
    data.copy(old, new)
    assert data.incomplete(new), "nothing names it yet: a power cut now must not leave two roots"
    assert data.complete(new) is True
    assert sorted(os.listdir(new)) == ["volumes"]
    assert data.holds(new) == ["volumes"]


@pytest.mark.usefixtures("hanging")
def test_a_copy_that_does_not_end_is_given_up_and_leaves_nothing(roots):
    old, new = roots
    with pytest.raises(data.DataError, match=f"{old} was not copied to {new}: `cp` did not end within"):
        data.copy(old, new)
    assert os.listdir(new) == []


def test_what_an_interrupted_copy_left_counts_as_free(roots, monkeypatch):
    old, new = roots
    monkeypatch.setattr(data, "check_place", lambda path: None)
    monkeypatch.setattr(data, "_free", lambda path: 1)
    os.makedirs(f"{new}/volumes")
    for folder, size in ((old, 3), (new, 2)):
        with open(f"{folder}/volumes/data", "wb") as file:
            file.write(bytes(size << 20))
    with open(os.path.join(new, data.COPYING), "wb"):
        pass
    assert data.plan(old, new, move=True) is True


@pytest.mark.usefixtures("hanging")
def test_a_disk_that_cannot_be_measured_is_named(roots, monkeypatch):
    monkeypatch.setattr(data, "check_place", lambda path: None)
    with pytest.raises(data.DataError, match=f"how much {roots[0]} holds is unknown: `du` did not end"):
        data.plan(*roots, move=True)


class Systemd(docker_service.Service):
    """What systemd does with an engine, as far as files tell of it: what its settings said at each start."""

    def __init__(self, path):
        self.path, self.started_on, self.text = path, [], None

    def program(self):
        return "/usr/sbin/dockerd", []

    def active(self):
        return True

    def stop(self):
        return None

    def restart(self):
        self.started_on.append(json.loads(self.path.read_text()).get("data-root"))

    def dependence(self):
        return self.text

    def depend_on(self, text):
        self.text = text


@pytest.mark.skipif(bool(missing()), reason=missing() or "")
def test_a_power_cut_while_data_is_copied_leaves_the_engine_its_old_data_root(roots, tmp_path, monkeypatch):
    old, new = roots
    path = tmp_path / "daemon.json"
    path.write_text(json.dumps({"data-root": old}))
    service = Systemd(path)
    monkeypatch.setattr(data, "check_place", lambda path: None)

    def run():
        found = settings.Settings(
            str(path), {"data-root": new}, service, move_data=True, record=str(tmp_path / "record")
        )
        assert found.check() is True
        return found.write() and found.restart()

    def power_cut(bound, *command):
        if command[0] == "cp":
            os.makedirs(f"{new}/volumes")
            raise KeyboardInterrupt
        return whole(bound, *command)

    with monkeypatch.context() as once:
        whole = data._run
        once.setattr(data, "_run", power_cut)
        with pytest.raises(KeyboardInterrupt):
            run()
    assert json.loads(path.read_text())["data-root"] == old, "what starts now is half of the data"
    assert service.text is None

    assert run() is None
    assert service.started_on == [new]
    assert data.mount_of(new) in service.text
    with open(f"{new}/volumes/one/file", encoding="utf-8") as file:
        assert file.read() == "content"


def test_a_data_root_that_the_link_at_the_old_place_leads_to_is_where_the_data_is(tmp_path, monkeypatch):
    """As a guide for a Pi with an SSD has it: `ln -s /mnt/ssd/docker /var/lib/docker`."""
    monkeypatch.setattr(data, "check_place", lambda path: None)
    (tmp_path / "ssd/docker/volumes/own").mkdir(parents=True)
    (tmp_path / "docker").symlink_to(tmp_path / "ssd/docker")
    for old in (tmp_path / "docker", f"{tmp_path}/ssd/docker/", f"{tmp_path}/ssd/../ssd/docker"):
        for move in (False, True):
            assert data.plan(str(old), f"{tmp_path}/ssd/docker", move) is False
    with pytest.raises(data.DataError, match="is inside of"):
        data.plan(f"{tmp_path}/ssd/docker", f"{tmp_path}/ssd/docker/data", True)
