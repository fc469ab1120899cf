"""What goes wrong is printed as it happens, and a repair says what it does and why."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from nodes import Failed
from repair import repair

HERE = Path(__file__).parent
CONFTEST = f"""
import sys
sys.path.insert(0, {str(HERE)!r})
import shown

def pytest_configure(config):
    config.pluginmanager.register(shown.Shown(config, "rows"), "shown")
"""
# The second row looks at what its own run has printed by then.
ROWS = """
import pathlib
import pytest

@pytest.fixture
def closed():
    yield
    raise AssertionError("I8: managers a, b")

def test_f01_first(closed):
    assert 1 == 2, "pi3 is no manager"

def test_f02_second():
    seen = pathlib.Path("output").read_text()
    assert "test_f01_first failed: AssertionError: pi3 is no manager" in seen
    assert "test_f01_first failed after the row: AssertionError: I8: managers a, b" in seen
"""


def test_a_failure_is_printed_before_the_next_row_runs(tmp_path):
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "test_rows.py").write_text(ROWS)
    with (tmp_path / "output").open("w") as output:
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), "rows"]
        subprocess.run(command, cwd=tmp_path, stdout=output, stderr=subprocess.STDOUT, timeout=120, check=False)
    said = (tmp_path / "output").read_text()
    assert "1 failed, 1 passed, 1 error" in said, said


class Broken:
    """A cluster that becomes whole after `needs`: nothing, an apply, a rebuild."""

    def __init__(self, needs):
        self.needs, self.names, self.lab, self.did = needs, [], SimpleNamespace(name="faults"), []

    def on(self):
        return []

    def wait_salt(self, nodes):
        pass

    def apply(self):
        self.did.append("apply")
        return {"pi2": {"swarm_|-swarm.member_|-x_|-member": {"result": False, "comment": "no manager answers"}}}

    def wait_healthy(self, bound):
        if self.needs == "nothing" or self.did == [self.needs]:
            return
        raise Failed(f"the cluster is not whole after {bound} s: pi2: swarm inactive")

    def rebuild(self):
        self.did.append("rebuild")

    def problems(self):
        return [] if self.needs in ("nothing", *self.did) else ["pi2: swarm inactive"]


@pytest.mark.parametrize(("needs", "did"), [("nothing", []), ("apply", ["apply"]), ("rebuild", ["apply", "rebuild"])])
def test_a_repair_says_each_step_with_its_reason(needs, did):
    cluster, said = Broken(needs), []
    done = repair(cluster, ["pi2: swarm error"], said.append)
    assert cluster.did == did
    assert said == [f"repair: {step}" for step in done]
    assert "because: pi2: swarm error" in done[0]
    assert all("because: the cluster is not whole after" in step for step in done[1:])
    if needs == "rebuild":
        assert "lab faults" in done[-1] and "no manager answers" in done[-1]


def test_a_new_lab_that_is_not_whole_is_an_error():
    with pytest.raises(Failed, match="lab faults is new and not whole: pi2: swarm inactive"):
        repair(Broken("more"), ["pi2: swarm error"], print)
