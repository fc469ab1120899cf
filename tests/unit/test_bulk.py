"""Many nodes side by side: what ends them all, and in which order."""

import os
import threading

import click
import pytest
from rich.console import Console

from rpiomega.bulk import Bulk
from rpiomega.errors import Stopped
from rpiomega.keys import Key, blame
from rpiomega.site import Node

DONE = {"event": "done", "step": "hostname", "status": "changed", "seconds": 0, "diff": [], "notes": []}


@pytest.fixture
def unread():
    """A file that nobody reads any more."""
    reader, writer = os.pipe()
    with os.fdopen(writer, "w", encoding="utf-8") as file:
        os.close(reader)
        yield file
        os.dup2(os.open(os.devnull, os.O_WRONLY), file.fileno())


@pytest.mark.parametrize("as_json", [False, True])
def test_a_reader_that_goes_away_ends_the_run_in_order_as_ctrl_c_does(tmp_path, unread, as_json):
    stop, both = threading.Event(), threading.Barrier(2)

    def work(row):
        both.wait(20)
        row.event(DONE)
        assert stop.wait(20), "nobody ended this node"
        raise Stopped

    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        bulk = Bulk(["a", "b"], tmp_path, 2, Console(file=nowhere if as_json else unread, force_terminal=False))
        if as_json:
            bulk.on_event = lambda event: click.echo("{}", file=unread)
        assert bulk.run(work, stop.set) is False
        bulk.close()
    assert {name: (row.state, row.error) for name, row in bulk.rows.items()} == dict.fromkeys("ab", ("stopped", None))


@pytest.mark.parametrize(
    ("seen", "cause", "cure"),
    [
        ({}, "the master has not seen this minion's key within 15 s", "192.168.1.10:4505"),
        ({"accepted": "ff"}, "holds another key under this name (accepted ff; the board's is aa)", "salt-key -d a"),
        ({"rejected": "aa"}, "its key was rejected on the master", "salt-key -d a"),
        ({"accepted": "aa"}, "", ""),
    ],
)
def test_a_key_that_cannot_be_accepted_is_its_nodes_failure_with_cause_and_cure(tmp_path, seen, cause, cure):
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        bulk = Bulk(["a"], tmp_path, 1, Console(file=nowhere))
        bulk.run(lambda row: None, lambda: None)
        blame(bulk, [Key("a", "aa", seen)], Node(name="m", address="192.168.1.10"), 15)
        bulk.close()
    assert bool(bulk.failed()) is bool(cause)
    said = bulk.rows["a"].error
    assert (cause in said.cause and cure in said.cure) if cause else said is None
