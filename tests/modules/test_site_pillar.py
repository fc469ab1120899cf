"""The master's copy of the site file, edited by hand: whatever is wrong stops every node's states, in one line."""

import json
import pathlib
import subprocess
import sys

import commands
import pytest
from salt.exceptions import SaltRenderError

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOOD = """\
rpiomega:
  cluster: o
  nodes:
    pi1: {address: 192.168.1.10, roles: [master, manager]}
    pi2: {address: 192.168.1.11, roles: [manager]}
"""


@pytest.fixture
def load(tmp_path):
    """The ext_pillar of pi2 as the master loads it, for a site file beside which the formula's example stands."""

    def load(content):
        import salt.config
        import salt.loader

        own = tmp_path / "pillar"
        own.mkdir()
        if content is not None:
            (own / "site.sls").write_bytes(content)
        opts = salt.config.master_config(None)
        opts.update(pillar_dirs=[str(ROOT / "_pillar")], module_dirs=[], id="pi2")
        opts["pillar_roots"] = {"base": [str(own), str(ROOT / "pillar")]}
        return salt.loader.pillars(opts, {})["rpiomega"]("pi2", {}, secrets=str(tmp_path / "secrets"))

    return load


def test_a_sound_file_gives_the_node_its_secrets(load):
    assert load(GOOD.encode())["rpiomega_secrets"]["consul"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "pillar/site.sls: cannot be read: No such file or directory; `rpiomega bootstrap` of the master brings"),
        (b"", "pillar/site.sls: the top-level key `rpiomega` is missing"),
        (b"\xff", "pillar/site.sls: cannot be read: it is not UTF-8 text"),
        (GOOD.replace("  nodes", "\tnodes").encode(), "pillar/site.sls:3: not plain YAML: "),
        (GOOD.replace("pi2", "pi1").encode(), "site.sls:5: not plain YAML: `pi1` is there twice (first in line 4)"),
        (GOOD.replace("[manager]", "[master, manager]").encode(), "pi2.roles: a second master (pi1 is one already)"),
        (GOOD.replace("master, ", "").encode(), "rpiomega.nodes: no node has the role master"),
        (GOOD.replace("1.11", "1.10").encode(), "nodes.pi2.address: 192.168.1.10 is the address of pi1 too"),
        (GOOD.replace("[manager]", "[manager, worker]").encode(), "nodes.pi2.roles: either manager or worker"),
        (GOOD.replace("manager", "worker").encode(), "rpiomega.nodes: no node has the role manager"),
    ],
)
def test_a_slip_is_named_with_file_cause_and_next_step(load, content, said):
    with pytest.raises(SaltRenderError) as caught:
        load(content)
    (line,) = str(caught.value).splitlines()
    assert said in line


def test_a_copy_from_before_an_update_is_not_used(tmp_path):
    """In a process of its own, as a worker of the master is: Salt has what a minion synced on the path already."""
    script = """
import json, sys
import salt.config, salt.loader
opts = salt.config.master_config(sys.argv[1])
salt.loader.pillars(opts, {})["rpiomega"]
from omega.site import check
print(json.dumps([sys.argv[2] in sys.path, check.__file__]))
"""
    old, config = tmp_path / "extmods/utils", tmp_path / "master"
    (old / "omega/site").mkdir(parents=True)
    for name in ("__init__", "site/__init__", "site/check"):
        (old / f"omega/{name}.py").write_text("")
    config.write_text(json.dumps({"extension_modules": str(old.parent), "pillar_dirs": [str(ROOT / "_pillar")]}))
    command = [sys.executable, "-c", script, str(config), str(old)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=commands.BOUND)
    assert commands.parsed(done) == [True, str(ROOT / "_utils/omega/site/check.py")]
