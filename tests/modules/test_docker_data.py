"""Docker's data root is measured and copied within a time, or left as it was."""

import os

import omega_docker_data
import pytest


@pytest.fixture
def hanging(tmp_path, monkeypatch):
    """A `cp` and a `du` that do not end, as on a disk that does not answer."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("cp", "du"):
        (programs / name).write_text("#!/bin/sh\nexec sleep 60\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setattr(omega_docker_data, "COPY_BOUND", 0.2)
    monkeypatch.setattr(omega_docker_data, "MEASURE_BOUND", 0.2)


@pytest.fixture
def roots(tmp_path):
    """An old data root with a volume, and a place for a new one."""
    (tmp_path / "old/volumes/one").mkdir(parents=True)
    (tmp_path / "old/volumes/one/file").write_text("content")
    return str(tmp_path / "old"), str(tmp_path / "new")


def test_a_data_root_is_copied_whole(roots):
    old, new = roots
    omega_docker_data.copy(old, new)
    assert sorted(os.listdir(new)) == ["volumes"]
    assert omega_docker_data.holds(new) == ["volumes"]


@pytest.mark.usefixtures("hanging")
def test_a_copy_that_does_not_end_is_given_up_and_leaves_nothing(roots):
    old, new = roots
    with pytest.raises(omega_docker_data.DataError, match=f"{old} was not copied to {new}: `cp` did not end within"):
        omega_docker_data.copy(old, new)
    assert os.listdir(new) == []


@pytest.mark.usefixtures("hanging")
def test_a_disk_that_cannot_be_measured_is_named(roots, monkeypatch):
    monkeypatch.setattr(omega_docker_data, "check_place", lambda path: None)
    with pytest.raises(omega_docker_data.DataError, match=f"how much {roots[0]} holds is unknown: `du` did not end"):
        omega_docker_data.plan(*roots, move=True)
