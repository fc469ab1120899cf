"""Salt's settings as Salt itself reads them, and the files that overrule ours."""

from __future__ import annotations

import json
import os
from typing import Any

from omega.core.dropin import Lost
from rpiomega.node import salt_onedir, salt_pip
from rpiomega.node.board import Board
from rpiomega.node.step import StepError

BOUND = 120.0  # seconds; an old board needs some twenty to import Salt
# Keys that say which master a minion has and how it uses it. A file of no other keys is left from another master, or
# from a use of the board without one.
LEFTOVER = {
    "append_domain",
    "file_client",
    "file_roots",
    "hash_type",
    "id",
    "master",
    "master_alive_interval",
    "master_failback",
    "master_failback_interval",
    "master_finger",
    "master_port",
    "master_shuffle",
    "master_tries",
    "master_type",
    "pillar_roots",
    "publish_port",
    "random_master",
    "startup_states",
    "use_master_when_local",
    "verify_master_pubkey_sign",
}
RETIRED = ".before-rpiomega"  # minion.d/*.conf does not match it
# Runs in Salt's Python: its reader, which takes our file's text as given, on the card or not yet. Salt's own order is
# the file, default_include in the order of names, then `include` (salt/config/__init__.py, minion_config).
_ASK = """
import fnmatch, glob, json, logging, os, sys
import salt.config as config
logging.disable(logging.CRITICAL)
for name in [name for name in os.environ if name.startswith("SALT_")]:
    del os.environ[name]
role, main, ours, text, keys = json.loads(sys.argv[1])
read, files, errors = config._read_conf_file, [], []
def reading(path):
    if path == ours and text is not None:
        found = config.salt.utils.yaml.safe_load(text) or {}
    elif path.endswith("_schedule.conf"):
        found = {}
    else:
        try:
            found = read(path)
        except Exception as error:
            errors.append([path, " ".join(str(error).split())])
            found = {}
    files.append([path, sorted(map(str, found)), {key: found[key] for key in keys if key in found}])
    return found
class Globs:
    @staticmethod
    def glob(pattern):
        found = glob.glob(pattern)
        return found + [ours] * (text is not None and fnmatch.fnmatch(ours, pattern) and ours not in found)
config._read_conf_file, config.glob = reading, Globs
opts = getattr(config, role + "_config")(main)
print(json.dumps({"files": files, "errors": errors, "values": {key: opts.get(key) for key in keys}}, default=str))
"""


def python(board: Board, kind: str) -> str:
    """Return the path of the Python that runs Salt, an empty string if Salt is not installed yet."""
    path = salt_onedir.PYTHON if kind == "onedir" else f"{salt_pip.LINK}/bin/python"
    return board.path(path) if board.exists(path) else ""


def read(board: Board, program: str, role: str, ours: str, text: str | None, keys: list[str]) -> dict:
    """Return what Salt reads: ``files`` ([path, its keys, {key: value}], in the order of reading) and ``values``.

    `role`: minion or master; `ours`: path of our file, with `text` in place of what is on the card (None: as it is);
    `keys`: the settings asked for. Raise StepError if Salt cannot read a file, or does not read ours.
    """
    asked = [role, board.path(f"/etc/salt/{role}"), board.path(ours), text, [*keys, "default_include"]]
    result = board.shell.run([program, "-W", "ignore", "-c", _ASK, json.dumps(asked)], timeout=BOUND)
    lines = [line for line in result.output.splitlines() if line.startswith('{"files"')]
    if result.code or not lines:
        raise StepError(f"Salt cannot read /etc/salt/{role}: {result.last}", f"see `salt-{role} -l debug` on the board")
    found = json.loads(lines[-1])
    cut = "" if board.live else board.root.rstrip("/")
    for item in found["files"]:
        item[0] = item[0][len(cut) :] if item[0].startswith(cut) else item[0]
    if found["errors"]:
        path, error = found["errors"][0]
        cause = f"Salt cannot read {path[len(cut) :] if path.startswith(cut) else path}: {error[:200]}"
        raise StepError(cause, "correct that file or move it away, then run the bootstrap again")
    if text is not None and ours not in [path for path, _, _ in found["files"]]:
        pattern = found["values"]["default_include"]
        cause = f"Salt does not read {ours}: default_include in /etc/salt/{role} is {pattern}"
        raise StepError(cause, f"take default_include out of /etc/salt/{role}, then run the bootstrap again")
    return found


def lost(found: dict, keys: list[str], ours: str) -> list[Lost]:
    """Return those of `keys` that our file sets and that are not in force, each with the last file that sets it."""
    wanted: dict = next((values for path, _, values in found["files"] if path == ours), {})
    lacking = []
    for key in keys:
        now = found["values"].get(key)
        if key in wanted and not _has(now, wanted[key]):
            # Lists of several files are put together, so it may be a file before ours.
            by = [path for path, _, values in found["files"] if key in values and path != ours]
            lacking.append(Lost(key, _shown(wanted[key]), _shown(now), by[-1] if by else ""))
    return lacking


def leftovers(found: dict, lacking: list[Lost], ours: str) -> list[str]:
    """Return the files read after ours that set a key of `lacking` and say nothing but which master a minion has.

    The minion's main file is never one of them.
    """
    paths = [path for path, _, _ in found["files"]]
    after = found["files"][paths.index(ours) + 1 :] if ours in paths else []
    keys, folder = {item.key for item in lacking}, os.path.dirname(ours)
    return [
        path
        for path, names, _ in after
        if os.path.dirname(path) == folder and keys & set(names) and set(names) <= LEFTOVER
    ]


def refusal(item: Lost, ours: str) -> StepError:
    """Return the error for a setting that is not in force."""
    return StepError(item.cause(ours), f"{item.cure(ours)}, then run the bootstrap again")


def retire(board: Board, path: str) -> str:
    """Move a file out of the way, to a name that Salt does not read; return the new path."""
    number, kept = 1, f"{path}{RETIRED}"
    while board.exists(kept):
        number += 1
        kept = f"{path}{RETIRED}-{number}"
    os.rename(board.path(path), board.path(kept))
    return kept


def _has(now: Any, wanted: Any) -> bool:
    """Return whether a setting is as wanted. A list or a mapping may have more, after what is wanted."""
    if isinstance(wanted, dict):
        return isinstance(now, dict) and all(_has(now.get(key), value) for key, value in wanted.items())
    if isinstance(wanted, list):
        return isinstance(now, list) and now[: len(wanted)] == wanted
    return now == wanted


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
