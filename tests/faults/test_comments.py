"""A failed state's comment is clear if it says of whom, what, and what next."""

import comments
import pytest

NAMES = ["pi1", "pi2"]
KEY = "swarm_|-swarm.member_|-site_|-member"
GOOD = "pi2: pi1 may hold a swarm, which it has not finished; recover pi1 and apply the state there"


@pytest.mark.parametrize(
    ("key", "comment"),
    [
        (KEY, GOOD),
        (KEY, "One or more requisite failed: consul.consul.ready"),
        ("file_|-x_|-/etc/x_|-managed", "Source file salt://x not found in saltenv"),
    ],
)
def test_what_is_clear(key, comment):
    assert comments.unclear(key, comment, NAMES) == ""


@pytest.mark.parametrize(
    ("comment", "why"),
    [
        ("Traceback (most recent call last): pi1; run it again", "no clear comment"),
        ("pi1: run it again", "no clear comment"),
        ("the swarm has no leader at all; apply the state later", "no node, address or file is named"),
        ("pi1: the engine refused it: something is wrong", "no next step"),
    ],
)
def test_what_is_not(comment, why):
    assert comments.unclear(KEY, comment, NAMES) == why


@pytest.mark.parametrize(
    "comment",
    [
        "pi4 was removed from the swarm by hand (node abc): leave and restart there",
        "pi4 calls itself kitchen: rename it back",
        "pi3 is a Consul server and shall be a worker; retire it",
    ],
)
def test_what_an_operator_did_by_hand_is_said_with_a_step(comment):
    assert comments.unclear(KEY, comment, [*NAMES, "pi3", "pi4"]) == ""
