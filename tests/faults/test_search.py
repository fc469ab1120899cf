"""The search for secrets finds every value that a secret has had, and nothing else."""

import json
import subprocess
import sys
from pathlib import Path

PROGRAM = Path(__file__).with_name("secrets_search.py")
WANTED = {"token": ["SWMTKN-1-now-a", "SWMTKN-1-before-b"], "key": ["SWMKEY-1-k"], "other": ["SWMTKN-1-other"]}


def search(*places):
    command = [sys.executable, str(PROGRAM), *map(str, places)]
    done = subprocess.run(command, input=json.dumps(WANTED), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_each_value_is_found_wherever_it_stands(tmp_path):
    earlier, both = tmp_path / "a" / "earlier", tmp_path / "both"
    earlier.parent.mkdir()
    earlier.write_bytes(b"\xff" * 5000 + b"SWMTKN-1-befor SWMTKN-1-before-b")
    both.write_text("SWMKEY-1-SWMKEY-1-k and SWMTKN-1-now-a")
    (tmp_path / "none").write_text("SWMTKN-1-now- SWMTKN-1-othe")
    (tmp_path / "empty").touch()
    found = {(name, where) for name, where, _ in search(tmp_path)}
    assert found == {("key", str(both)), ("token", str(both)), ("token", str(earlier))}


def test_what_everybody_can_read_is_told_from_what_only_root_can(tmp_path):
    tmp_path.chmod(0o755)
    for name, folder_mode, mode in (("open", 0o755, 0o644), ("file", 0o755, 0o600), ("folder", 0o700, 0o644)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "key").write_text("SWMKEY-1-k")
        (folder / "key").chmod(mode)
        folder.chmod(folder_mode)
    found = {Path(where).parent.name: everybody for _, where, everybody in search(tmp_path)}
    assert found == {"open": True, "file": False, "folder": False}
