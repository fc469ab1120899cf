"""State repo as Salt renders it, and its schedule in a real minion."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import commands
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(sys.executable).parent
SIGNERS = ["p@example.com ssh-ed25519 AAAA"]
FORMULA = {"remote": "https://example.com/x.git", "branch": "v1", "signers": SIGNERS, "every": 7}
START_SECONDS = 180


@pytest.fixture
def root(short_folder):
    """The minion's root."""
    return short_folder


@pytest.fixture
def config(tmp_path, root):
    """Configuration folder of a minion that has no master."""
    site = {"cluster": "omega", "nodes": {"m": {"address": "10.0.0.1", "roles": ["master"]}}, "formula": FORMULA}
    (tmp_path / "pillar").mkdir()
    (tmp_path / "pillar/top.sls").write_text("base: {'*': [site]}")
    (tmp_path / "pillar/site.sls").write_text(json.dumps({"rpiomega": site}))
    options = {"id": "m", "root_dir": str(root), "file_client": "local", "master_type": "disable"}
    options.update(module_dirs=[str(ROOT)], file_roots={"base": [str(ROOT / "salt")]})
    options["pillar_roots"] = {"base": [str(tmp_path / "pillar")]}
    options.update(sock_dir="/s", log_file="/log")  # below root_dir
    (tmp_path / "minion").write_text(json.dumps(options))
    return tmp_path


@pytest.fixture
def call(config):
    def call(*arguments):
        command = [BIN / "salt-call", "-c", config, "--out=json", "--log-level=quiet", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=commands.BOUND)
        return commands.parsed(done)["local"]

    return call


def followed(low):
    """Return the arguments the state gives to `formula.followed`, those of Salt's own left out."""
    (chunk,) = [chunk for chunk in low if chunk["state"] == "formula"]
    return {key: chunk[key] for key in chunk if not key.startswith("__") and key not in ("state", "fun", "order")}


def test_a_rewrite_that_was_meant_changes_no_other_argument(call):
    plain = followed(call("state.show_low_sls", "repo"))
    assert plain["allow_rewrite"] is False
    assert (plain["remote"], plain["rev"], plain["signers"]) == (FORMULA["remote"], "v1", SIGNERS)
    meant = followed(call("state.show_low_sls", "repo", 'pillar={"allow_rewrite": true}'))
    assert meant == {**plain, "allow_rewrite": True}


def test_the_schedule_is_set_once(call, config, root):
    """A schedule is asked of the running minion, which keeps it in its own words and does not run it yet."""
    command = [BIN / "salt-minion", "-c", config, "--log-level=quiet", "--log-file-level=info"]
    with subprocess.Popen(command, start_new_session=True) as minion:
        try:
            bound = time.monotonic() + START_SECONDS
            while not list((root / "s").glob("*pub*.ipc")):
                assert time.monotonic() < bound, f"the minion has no event socket after {START_SECONDS} s"
                assert minion.poll() is None, "the minion has ended"
            schedule = ["state.sls_id", "repo.schedule", "repo"]
            first, second = (call(*schedule) for _ in range(2))
        finally:
            os.killpg(minion.pid, signal.SIGKILL)  # asked to end, it takes six seconds
    for answer, changes in ((first, {"rpiomega-formula": "added"}), (second, {})):
        assert isinstance(answer, dict), answer
        (state,) = answer.values()
        assert (state["result"], state["changes"]) == (True, changes), state
    log = (root / "log").read_text()
    assert "rpiomega-formula" in log
    assert "Running scheduled job" not in log
