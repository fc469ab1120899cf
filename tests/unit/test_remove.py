"""`rpiomega remove`: what is refused, and what the user has to say for it to go on."""

import pytest
from click.testing import CliRunner

from rpiomega import cli
from rpiomega.errors import NodeError
from rpiomega.remove import Known, Options, Removal

SITE = """\
rpiomega:
  cluster: omega
  nodes:
    m: {address: 192.168.1.10, roles: [master, manager]}
    w: {address: 192.168.1.11}
"""
DOWN = {"id": "x", "state": "down", "role": "worker", "availability": "active", "recorded": True, "refused": ""}
GONE = {"consul": "absent", "refused": "", "token": False, "policy": False, "secrets": False}


@pytest.fixture
def site_file(tmp_path):
    path = tmp_path / "site.sls"
    path.write_text(SITE)
    return path


def call(site_file, *arguments):
    return CliRunner().invoke(cli.main, ["remove", "--site", str(site_file), *arguments])


def test_a_node_of_the_site_file_is_refused_with_its_line(site_file):
    done = call(site_file, "w")
    assert done.exit_code == 2
    assert f"delete its entry at {site_file}:5" in done.output


@pytest.mark.parametrize("arguments", [("gone", "--replace"), ("m", "--replace"), ("a b",), ()])
def test_bad_input_ends_before_anything_is_asked(site_file, arguments):
    assert call(site_file, *arguments).exit_code == 2


def known(answers=False, swarm=(), published="x", **consul):
    view = {"cluster_id": "c", "published": published, "entries": list(swarm)}
    return Known(True, answers, "m", view, {**GONE, **consul})


def check(seen, **options):
    """None if it may go on, else what is said."""
    run = Removal(None, None, "w", Options(**options), None, print)
    try:
        return run.check(seen)
    except NodeError as error:
        return str(error)


def test_a_node_that_answers_may_leave():
    assert check(known(answers=True, swarm=[{**DOWN, "state": "ready"}], consul="alive")) is None


def test_a_node_that_does_not_answer_goes_only_if_it_is_said_to_be_dead():
    seen = known(swarm=[DOWN], consul="failed")
    assert "--force-dead" in check(seen)
    assert check(seen, force_dead=True) is None


def test_one_that_only_its_minion_is_dead_of_stays_even_then():
    assert "the swarm sees it as ready" in check(known(swarm=[{**DOWN, "state": "ready"}]), force_dead=True)
    assert "Consul sees it alive" in check(known(consul="alive"), force_dead=True)


def test_what_the_quorum_needs_stays():
    manager = {**DOWN, "role": "manager", "refused": "the quorum would be lost"}
    assert "it has to stay: the quorum" in check(known(swarm=[manager], consul="failed"), force_dead=True)
    assert "it has to stay: only 1" in check(known(answers=True, refused="only 1 healthy"))


def test_a_removal_that_was_cut_short_goes_on_without_force():
    assert check(known(published="", swarm=[DOWN], consul="left", token=True)) is None


def test_only_a_dead_node_is_replaced_and_a_dead_manager_may_be():
    assert "it is not dead: its minion answers" in check(known(answers=True), replace=True)
    manager = {**DOWN, "role": "manager", "refused": "the quorum would be lost"}
    assert check(known(swarm=[manager], consul="failed"), replace=True) is None
