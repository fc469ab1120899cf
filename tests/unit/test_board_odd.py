"""What steps make of odd names, of files that the card lost, and of nodes that have said nothing yet."""

import os

import pytest
import yaml

from rpiomega.node import salt_pip
from rpiomega.node.board import Board
from rpiomega.node.job_steps import Salt, ServedFile
from rpiomega.node.steps.cluster import _node
from rpiomega.node.steps.inventory import SUMS, known_sums, missing_files
from rpiomega.node.steps.minion import Minion


@pytest.fixture
def board(tmp_path):
    return Board(str(tmp_path))


@pytest.mark.parametrize("name", ["no", "null", "010", "rpiomega-2"])
def test_the_minion_is_called_what_the_node_is_called(board, name):
    (file,) = Minion(board, {"id": name, "master": "192.0.2.1", "kind": "onedir"})._files()
    assert yaml.safe_load(file.text)["id"] == name


def test_a_node_that_has_not_reported_to_its_swarm_is_shown_by_its_id():
    silent = {"ID": "x1", "Description": {}, "Status": {"State": "unknown"}, "Spec": {"Availability": "active"}}
    assert _node(silent)["name"] == "x1"
    assert _node({**silent, "Description": {"Hostname": "pi4"}})["name"] == "pi4"


def test_a_build_of_salt_is_marked_finished_once_it_is_on_the_card(board, tmp_path, monkeypatch):
    monkeypatch.setattr(salt_pip, "HOME", str(tmp_path))
    python, mark, synced = tmp_path / "build/bin/python", tmp_path / "build" / salt_pip.MARK, []
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\necho salt 3008.1\n")
    python.chmod(0o755)
    monkeypatch.setattr(os, "sync", lambda: synced.append(mark.exists()))
    salt_pip.Pip(board, Salt("pip", "3008", key="build"))._prove()
    assert (synced, mark.exists()) == ([False], True)


def test_archives_whose_sums_the_card_lost_are_brought_again(board, tmp_path):
    path = tmp_path / SUMS[1:]
    path.parent.mkdir(parents=True)
    path.write_bytes(b'{"consul.tar": [\xff')
    assert known_sums(board) == {}
    assert missing_files(board, [ServedFile("consul.tar", "0", 1)]) == ["consul.tar"]
