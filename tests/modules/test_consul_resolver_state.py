"""`consul_resolver`: the drop-in for systemd-resolved, and what is said where no such service runs."""

import inspect

import pytest


@pytest.fixture
def path(tmp_path):
    return tmp_path / "resolved.conf.d" / "rpiomega-consul.conf"


@pytest.fixture
def resolver(states, path):
    """resolver("forwarded", runs=[]): with a systemd-resolved whose restarts go into `runs`, or without one."""

    def call(function, test=False, runs=None, starts=lambda: True):
        with states(test=test) as loaded:
            state = loaded[f"consul_resolver.{function}"]
            if runs is not None:
                services = {
                    "service.status": lambda name: True,
                    "service.restart": lambda name: runs.append(name) or starts(),
                }
                inspect.unwrap(state).__globals__["__salt__"] = services
            return state(str(path))

    return call


def test_without_systemd_resolved_it_says_what_else_can_be_done(resolver, path):
    answer = resolver("forwarded", runs=None)
    assert answer["result"] is False
    assert "127.0.0.1#8600" in answer["comment"]
    assert "consul.dns: false" in answer["comment"]
    assert not path.exists()
    assert resolver("absent") == {**answer, "result": True, "comment": "systemd-resolved knows nothing of Consul"}


def test_the_drop_in_is_written_once_and_taken_away_again(resolver, path):
    restarts = []
    predicted = resolver("forwarded", test=True, runs=restarts)
    assert (predicted["result"], path.exists(), restarts) == (None, False, [])
    assert resolver("forwarded", runs=restarts)["changes"] == predicted["changes"]
    assert "DNS=127.0.0.1:8600" in path.read_text()
    assert "Domains=~consul" in path.read_text()
    assert resolver("forwarded", runs=restarts)["changes"] == {}
    assert restarts == ["systemd-resolved"]
    assert resolver("absent", test=True, runs=restarts)["result"] is None
    assert path.exists()
    assert resolver("absent", runs=restarts)["result"] is True
    assert not path.exists()
    assert len(restarts) == 2


def test_a_resolver_that_does_not_start_with_the_drop_in_gets_back_what_it_had(resolver, path):
    restarts = []
    for _ in range(2):
        answer = resolver("forwarded", runs=restarts, starts=lambda: not path.exists())
        assert (answer["result"], answer["changes"], path.exists()) == (False, {}, False)
        assert f"did not restart, so {path} is as it was, and is back" in answer["comment"]
    assert len(restarts) == 4
    path.parent.mkdir(exist_ok=True)
    path.write_text("somebody's")
    answer = resolver("absent", runs=restarts, starts=lambda: False)
    assert (answer["result"], path.read_text()) == (False, "somebody's")
    assert "nor with what was there before" in answer["comment"]
