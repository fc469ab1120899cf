"""The program that feeds a node's checks writes to the journal, on the card: only what is new."""

import importlib.util
import json
from pathlib import Path

import pytest

PROGRAM = Path(__file__).resolve().parents[2] / "salt/consul/files/consul_health.py"


@pytest.fixture
def program():
    spec = importlib.util.spec_from_file_location("consul_health", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_an_agent_that_takes_one_report_of_two_is_told_of_once(program, tmp_path, monkeypatch, capsys):
    checks = [{"id": unit, "token": "t"} for unit in ("docker", "salt-minion")]
    (tmp_path / "consul.json").write_text(json.dumps({"checks": checks}))
    rounds = iter(range(3))

    def tell(check, token, status, output):
        if check == "docker":
            raise OSError("HTTP 404 Unknown check")

    monkeypatch.setattr(program, "look", lambda unit: ("passing", "well"))
    monkeypatch.setattr(program, "tell", tell)
    monkeypatch.setattr(program.time, "sleep", lambda seconds: next(rounds))
    with pytest.raises(StopIteration):
        program.main(tmp_path)
    assert capsys.readouterr().out.splitlines() == [
        "docker: passing, well",
        "salt-minion: passing, well",
        "agent: does not take the reports: docker: HTTP 404 Unknown check",
    ]
