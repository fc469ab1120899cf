"""The systemd of the tests starts in a cgroup of its own or not at all: it moves all processes of the one it has."""

import pathlib

import pytest
import systemd_node


def members():
    return {path: (path / "cgroup.procs").read_text().split() for path in systemd_node.cgroups()}


def test_without_a_cgroup_of_its_own_systemd_is_not_started(sshd, monkeypatch):
    ours = members()
    assert all(str(pathlib.Path("/proc/self").resolve().name) in pids for pids in ours.values())
    monkeypatch.setattr(systemd_node, "cgroups", list)
    node = systemd_node.SystemdNode(sshd)
    try:
        with pytest.raises(pytest.skip.Exception, match=systemd_node.LACK):
            node.start()
    finally:
        node.stop()
    assert not list(node.folder.glob("real"))  # nothing after the check was done
