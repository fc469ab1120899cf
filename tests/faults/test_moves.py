"""What an operator does: commands that states print are found, and only those that force nothing; schedules repeat."""

from itertools import islice

import moves
import nemesis
import pytest

NAMES = ["pi1", "pi2", "pi3", "pi4"]
RETIRE = "sudo salt pi3 state.apply pillar='{consul_retire: pi3}'"


@pytest.mark.parametrize(
    ("comment", "found"),
    [
        ("pi4 was removed by hand; run `docker swarm leave` there, then `salt '*' state.apply`", 2),
        (f"pi3 is one of 4 servers: on the master, one after the other: `sudo salt pi4 state.apply`, `{RETIRE}`", 2),
        ("the host name is kitchen; `sudo hostnamectl set-hostname pi4`, then `sudo systemctl restart docker`", 2),
        ("lost for ever? `docker swarm leave --force` or `salt pi1 swarm.force_new_cluster abc`", 0),
        ("see `journalctl -u docker`; `rm -rf /var/lib/docker/swarm`", 0),
        ("`sudo salt pi4 state.apply; reboot`", 0),
    ],
)
def test_printed_commands_are_found_but_for_those_that_force(comment, found):
    assert len(moves.printed({"pi4": [comment, comment]})) == found


def test_a_command_runs_where_it_belongs():
    wrong = {"pi4": [f"x: `docker swarm leave`, then `{RETIRE}`"], "pi2": "no answer"}
    assert moves.printed(wrong) == [("pi4", "docker swarm leave"), ("", RETIRE)]


def test_every_move_of_an_operator_is_one_and_is_chosen():
    for kind in nemesis.BY_HAND:
        assert callable(getattr(moves.Operator, kind.replace(" ", "_")))
        assert kind in nemesis.KINDS
    assert set(nemesis.APPLIED) - {"apply"} <= set(nemesis.BY_HAND)


def test_a_schedule_repeats_and_puts_each_kind_in_its_place():
    first, again = ([list(one) for one in islice(nemesis.schedule(7, NAMES), 400)] for _ in range(2))
    assert first == again
    drawn = [move for episode in first for move in episode]
    assert {move.kind for move in drawn} == set(nemesis.KINDS)
    assert {move.node for move in drawn if move.kind == "demote"} == set(NAMES[:-1])
    assert {move.node for move in drawn if move.kind in nemesis.LAST} == {NAMES[-1]}
