"""`dropin.in_force`: on this machine's own files, by its own systemd and apt; and which states ask it."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OURS = "/etc/apt/apt.conf.d/81rpiomega-test"
OTHER = "/etc/apt/apt.conf.d/82mine-test"


@pytest.fixture
def files():
    """Write a file of the machine, removed afterwards."""
    written = []

    def write(path, text):
        written.append(path)
        Path(path).write_text(text, encoding="utf-8")

    yield write
    for path in set(written):
        os.unlink(path)


def test_a_setting_that_another_file_overrules_fails_with_its_name(states, files):
    with states() as loaded:
        assert loaded["dropin.in_force"](OURS)["comment"] == f"{OURS} does not exist: nothing to check"
        files(OURS, 'RpiOmega::Test "ours";\n')
        assert loaded["dropin.in_force"](OURS)["result"] is True
        files(OTHER, 'RpiOmega { Test "theirs"; };\n')
        said = loaded["dropin.in_force"](OURS)
    assert said["result"] is False and said["changes"] == {}
    assert said["comment"] == (
        f"node: RpiOmega::Test of {OURS} is not in force: it is theirs instead of ours ({OTHER} sets it): "
        f"take RpiOmega::Test out of {OTHER}, or move that file away, then apply again"
    )
