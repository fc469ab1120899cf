"""`dropin.in_force`: on this machine's own files, by its own systemd and apt; and which states ask it."""

import os
from pathlib import Path

import pytest
from rpiomega.node.board import Board

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


def test_salts_loader_takes_the_file_as_well(tmp_path):
    import salt.config
    import salt.loader

    opts = salt.config.minion_config(None)
    opts.update(extension_modules=str(tmp_path), utils_dirs=[str(ROOT / "_utils")])
    assert "omega_dropin.lost" in salt.loader.utils(opts)


def test_the_boards_steps_use_the_same_file(files):
    files(OURS, 'RpiOmega::Test "ours";\n')
    Board().in_force(OURS)
    import omega_dropin
    from rpiomega.node import dropin

    assert os.path.samefile(omega_dropin.__file__, dropin.__file__)
