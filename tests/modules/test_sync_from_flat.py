"""A minion's own copies of the formula's modules, from the flat files of version 0.1 to the package `omega`."""

import json
import pathlib
import subprocess
import sys

import commands
import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
OLD = {
    "_utils/omega_files.py": "SAYS = 'flat'\n",
    "_modules/swarm.py": "import omega_files\n\n\ndef info():\n    return omega_files.SAYS\n",
}


@pytest.fixture
def call(tmp_path):
    """Run salt-call of a minion whose file server is `root`: its own process, as a job on a minion is one."""

    def call(root, function):
        folders = {"root_dir": str(tmp_path), "cachedir": str(tmp_path / "cache"), "pki_dir": str(tmp_path / "pki")}
        config = {**folders, "id": "pi", "file_client": "local", "file_roots": {"base": [str(root)]}}
        config["extension_modules"] = str(tmp_path / "extmods")
        config["fileserver_list_cache_time"] = 0  # the second root comes within the 20 s of the first one's list
        (tmp_path / "minion").write_text(yaml.safe_dump(config))
        salt_call = pathlib.Path(sys.executable).with_name("salt-call")
        command = [salt_call, "-c", tmp_path, "--out=json", "--log-level=quiet", function]
        done = subprocess.run(command, capture_output=True, text=True, timeout=commands.BOUND, check=False)
        return json.loads(done.stdout)["local"] if done.stdout.startswith("{") else done.stdout + done.stderr

    return call


def test_an_update_leaves_no_flat_file_and_no_stale_import(call, tmp_path):
    old, extmods = tmp_path / "old", tmp_path / "extmods"
    for name, text in OLD.items():
        (old / name).parent.mkdir(parents=True, exist_ok=True)
        (old / name).write_text(text)
    call(old, "saltutil.sync_all")
    assert call(old, "swarm.info") == "flat"
    before = call(ROOT / "salt", "rpiomega_modules.digest")
    assert "is not available" in before, "the digest says that this node is not up to date: it has none"

    call(ROOT / "salt", "saltutil.sync_all")
    assert not list(extmods.rglob("omega_*.py"))
    assert (extmods / "utils/omega/swarm/record.py").is_file()
    assert call(ROOT / "salt", "rpiomega_modules.digest")
    answer = str(call(ROOT / "salt", "swarm.info"))
    assert "flat" not in answer and "omega_files" not in answer and "is not available" not in answer, answer
