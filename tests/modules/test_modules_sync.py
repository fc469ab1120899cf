"""Modules reach a node with its next full apply, and nothing is asked for when none has changed. A real salt-call."""

import json
import pathlib
import shutil
import subprocess
import sys

import commands
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SALT_CALL = pathlib.Path(sys.executable).parent / "salt-call"
OURS = ["rpiomega/modules.sls", "_modules/rpiomega_modules.py", "_utils/omega/core/modules.py"]
STATE = """
import probe_words

def said(name):
    return {"name": name, "result": True, "changes": {}, "comment": probe_words.WORDS}
"""


class Node:
    """A node and what its master serves; a state of the formula says the words of a module of _utils."""

    def __init__(self, path):
        self.served, self.config, self.extmods = path / "served", path / "config", path / "root/extmods"
        for name in OURS:
            (self.served / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / "salt" / name, self.served / name)
        (self.served / "_states").mkdir()
        (self.served / "_states/probe.py").write_text(STATE)
        (self.served / "top.sls").write_text("base: {'*': [rpiomega.modules, probe]}")
        (self.served / "probe.sls").write_text("probe: {probe.said: []}")
        self.say("first")
        (path / "pillar").mkdir()
        site = {"cluster": "omega", "nodes": {"m": {"address": "10.0.0.1", "roles": ["master", "manager"]}}}
        (path / "pillar/site.sls").write_text(json.dumps({"rpiomega": site}))
        (path / "pillar/top.sls").write_text("base: {'*': [site]}")
        options = {"id": "m", "root_dir": str(path / "root"), "extension_modules": "/extmods", "file_client": "local"}
        options |= {"autoload_dynamic_modules": False, "utils_dirs": [str(ROOT / "_utils")]}
        options |= {"pillar_dirs": [str(ROOT / "_pillar")], "file_roots": {"base": [str(self.served)]}}
        options |= {"pillar_roots": {"base": [str(path / "pillar")]}}
        options["ext_pillar"] = [{"rpiomega": {"secrets": str(path / "secrets")}}]
        self.config.mkdir()
        (self.config / "minion").write_text(json.dumps(options))

    def say(self, words):
        (self.served / "_utils/probe_words.py").write_text(f"WORDS = {words!r}\n")

    def apply(self, *arguments):
        """Return what the formula's state said, and whether modules were synced."""
        command = [SALT_CALL, "-c", self.config, "--out=json", "--log-level=quiet", "state.apply", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=commands.BOUND)
        states = {state["__id__"]: state for state in commands.parsed(done)["local"].values()}
        return states["probe"]["comment"], "rpiomega.modules" in states

    def mtimes(self):
        return {path: path.stat().st_mtime_ns for path in self.extmods.rglob("*") if path.is_file()}


@pytest.fixture
def node(tmp_path):
    return Node(tmp_path)


def test_a_change_is_used_by_the_very_apply_that_brings_it_and_no_change_costs_nothing(node):
    assert node.apply("test=True") == ("first", True), "a new node can say what would change"
    before = node.mtimes()
    assert before
    assert node.apply() == ("first", False)
    after = node.mtimes()
    assert {path: after.get(path) for path in before} == before, "what Python compiled is kept, for the next to load"
    node.say("second")
    assert node.apply() == ("second", True)


def test_what_differs_is_brought_again_and_what_the_master_lacks_goes(node):
    node.apply()
    strange = node.extmods / "utils/strange.py"
    strange.write_text("")
    (node.extmods / "utils/probe_words.py").write_text("")  # as a power cut leaves it
    assert node.apply() == ("first", True)
    assert not strange.exists()
    (node.extmods / "modules/rpiomega_modules.py").write_text("")
    assert node.apply() == ("first", True), "this one compares"
