"""Waiting with a bound, by a clock that only the waiting moves; and the base of the errors."""

import copy
import pickle
import subprocess
import sys

import pytest

from omega.core.errors import Failure, KindOfFailure
from omega.core.polling import NotYet, TimedOut, seeing, until, until_clear
from rpiomega import agent


class Clock:
    """Seconds that pass only in a pause, or in a look that says so."""

    def __init__(self):
        self.now, self.pauses = 100.0, []

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        """Let the seconds pass."""
        assert seconds > 0
        self.pauses.append(seconds)
        self.now += seconds


class Busy(KindOfFailure):
    """Passes when it is busy."""

    TRANSIENT = frozenset({"busy"})


@pytest.fixture
def clock():
    """A clock that stands until somebody pauses."""
    return Clock()


@pytest.fixture
def wait(clock):
    """Wait by that clock."""
    return lambda look, bound, *arguments, **options: until(
        look, bound, *arguments, clock=clock, sleep=clock.sleep, **options
    )


def looks(*results):
    """Return a look with these results, one after the other; it raises those that are errors."""
    left = list(results)

    def look():
        result = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(result, Exception):
            raise result
        return result

    return look


def test_the_first_true_result_is_returned_without_a_pause(wait, clock):
    assert wait(looks("here"), 10) == "here"
    assert clock.pauses == []


def test_a_false_result_an_unfinished_look_and_a_passing_error_are_looked_at_again(wait, clock):
    assert wait(looks(None, NotYet("half"), Busy("busy", "later"), 7), 10, pause=2) == 7
    assert clock.pauses == [2, 2, 2]


def test_the_error_says_what_was_awaited_how_long_and_what_was_seen_last(wait):
    with pytest.raises(TimedOut, match=r"^waited 3 s for a leader; last seen: half$") as late:
        wait(looks(Busy("busy", "later"), NotYet("half")), 3, "a leader")
    assert (late.value.what, late.value.bound, late.value.seen, late.value.error) == ("a leader", 3, "half", None)


def test_the_error_has_the_last_error_without_its_cure(wait):
    busy = Busy("busy", "it is busy", "come back", "pi1")
    with pytest.raises(TimedOut) as late:
        wait(looks(busy), 3, "an answer")
    assert (late.value.seen, late.value.error) == ("pi1: it is busy", busy)


def test_a_probe_says_what_it_saw(wait):
    assert wait(seeing(looks(("", "half"), ("all", ""))), 3) == "all"
    with pytest.raises(TimedOut, match="last seen: half$"):
        wait(seeing(looks(([], "half"))), 3)


@pytest.mark.parametrize(("bound", "shown"), [(1800, "1800"), (0.3, "0.3"), (0.999988, "1"), (-2.5, "0")])
def test_the_bound_is_shown_as_people_write_it(bound, shown):
    assert str(TimedOut("x", bound)) == f"waited {shown} s for x; last seen: nothing"


def test_nothing_seen_is_called_nothing(wait):
    with pytest.raises(TimedOut, match="last seen: nothing"):
        wait(looks(NotYet("half"), None), 1)


def test_an_error_that_does_not_pass_is_raised_at_once(wait, clock):
    with pytest.raises(Busy, match="broken"):
        wait(looks(Busy("broken", "broken")), 10)
    with pytest.raises(KeyError):
        wait(looks(KeyError("x")), 10)
    assert clock.pauses == []


@pytest.mark.parametrize("passing", [OSError, (ValueError, OSError), lambda error: "reset" in str(error)])
def test_which_errors_pass_is_chosen(wait, passing):
    assert wait(looks(ConnectionResetError("reset"), 1), 10, passing=passing) == 1
    with pytest.raises(Busy):
        wait(looks(Busy("busy", "busy")), 10, passing=passing)


def test_the_last_look_is_made_when_the_bound_has_passed_and_none_later(wait, clock):
    with pytest.raises(TimedOut):
        wait(looks(None), 1.25, pause=0.5)
    assert clock.pauses == [0.5, 0.5, 0.25]

    def slow():
        clock.now += 40

    with pytest.raises(TimedOut):
        wait(slow, 30)
    assert len(clock.pauses) == 3


@pytest.mark.parametrize("bound", [0, -5])
def test_without_time_it_looks_once(wait, bound):
    assert wait(looks(1), bound) == 1
    with pytest.raises(TimedOut):
        wait(looks(None, 1), bound)


def test_the_caller_chooses_the_error(wait):
    def failure(late):
        return Busy("late", f"no leader after {late.bound} s: {late.seen}")

    with pytest.raises(Busy, match="^no leader after 2 s: half$"):
        wait(looks(NotYet("half")), 2, failure=failure)


@pytest.mark.parametrize(
    ("seen", "text"),
    [
        (NotYet("half"), "pi1: no leader: half; start it"),
        (Busy("busy", "it is busy", "come back"), "pi1: no leader: it is busy; start it"),
        (None, "pi1: no leader; start it"),
    ],
)
def test_what_was_seen_last_is_added_to_the_cause_of_the_error_to_raise(wait, seen, text):
    failure = Busy("late", "no leader", "start it", "pi1")
    with pytest.raises(Busy) as late:
        wait(looks(seen), 2, failure=failure)
    assert (str(late.value), str(pickle.loads(pickle.dumps(late.value)))) == (text, text)


def test_a_pause_that_raises_ends_the_waiting(clock):
    def stopped(_seconds):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        until(looks(None), 10, clock=clock, sleep=stopped)


@pytest.mark.parametrize(
    ("seen", "left"),
    [
        (["one is down", ""], ""),
        ([["a", "b"], ["b"], []], []),
        (["one is down", None], None),
        (["two are down", "one is down"], "one is down"),
        ([["a", "b"], ["b"]], ["b"]),
        (["one is down", Busy("busy", "it is busy", "come back")], "it is busy; come back"),
        ([Busy("busy", "it is busy"), "one is down"], "one is down"),
    ],
)
def test_a_problem_is_awaited_until_it_is_gone_or_left(clock, seen, left):
    assert until_clear(looks(*seen), 3, pause=1, clock=clock, sleep=clock.sleep) == left
    assert len(clock.pauses) == (1 if not left and len(seen) == 2 else 2 if not left else 3)


def test_by_default_real_time_passes():
    with pytest.raises(TimedOut):
        until(looks(None), 0.02, pause=0.01)


def test_the_board_has_it_too(tmp_path):
    program = tmp_path / "node.pyz"
    program.write_bytes(agent.zipapp())
    line = "import sys; sys.path[:0] = sys.argv[1:]; from omega.core.polling import until; print(until(lambda: 5, 0))"
    argv = [sys.executable, "-I", "-S", "-c", line, str(program)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("5\n", "")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("it is down", "start it", "pi1"), "pi1: it is down; start it"),
        (("it is down", "start it"), "it is down; start it"),
        (("it is down", "", "pi1"), "pi1: it is down"),
        (("it is down",), "it is down"),
    ],
)
def test_a_failure_is_one_line_of_subject_cause_and_cure(arguments, text):
    assert str(Failure(*arguments)) == text
    assert str(Busy("busy", *arguments)) == text


def test_a_failure_can_be_copied_and_sent_to_another_process():
    for again in (copy.copy(Busy("busy", "a", "b")), pickle.loads(pickle.dumps(Busy("busy", "a", "b")))):
        assert (str(again), again.kind, again.transient) == ("a; b", "busy", True)
