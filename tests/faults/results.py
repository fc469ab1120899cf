"""The table of faults and what came of each: `.lab/<lab>-results/results.json`, one entry per test, written as it ends.

`rpiomega lab down` keeps that folder. A row that passed counts as long as the product's files are those it passed with.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from pathlib import Path

import yaml

from rpiomega.lab import state

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"
# What runs on the nodes or acts on them. A result says nothing about other files of these.
PRODUCT = ["bootstrap/rpiomega", "_modules", "_states", "_utils", "_pillar", "salt"]
PRODUCT += [f":(exclude)bootstrap/rpiomega/{name}" for name in ("lab", "commands/lab.py", "verify/suite")]


def table() -> dict[str, dict]:
    """Row ID -> row of faults.yaml."""
    return {row["id"]: row for row in yaml.safe_load((HERE / "faults.yaml").read_text())["faults"]}


def row_of(name: str) -> str:
    """The row a test is for, such as F21 of `test_f21_leader_killed`; empty if it is for none."""
    found = re.match(r"test_([a-z]\d+)_", name)
    return found[1].upper() if found else ""


def chosen(words: str, rows) -> set[str]:
    """Row IDs out of a line such as `F21, g01`, of those in `rows`; ValueError names one that is not among them."""
    found = {word.upper() for word in re.split(r"[ ,]+", words) if word}
    if wrong := sorted(found - set(rows)):
        raise ValueError(f"no row {', '.join(wrong)} has a test: choose of {', '.join(sorted(rows))}")
    return found


def folder() -> Path:
    """Where results and histories are kept; what an earlier version left in the lab's own folder is moved there."""
    lab = state.Lab(os.environ.get("RPIOMEGA_FAULTS_LAB", "faults"))
    for pattern in ("results.json", "nemesis-*.jsonl"):
        for old in lab.folder.glob(pattern):
            lab.results.mkdir(parents=True, exist_ok=True)
            if not (lab.results / old.name).exists():
                old.rename(lab.results / old.name)
    return lab.results


def path() -> Path:
    """The file of the results."""
    return folder() / "results.json"


def load() -> dict[str, dict]:
    """Row ID -> entry; empty if nothing has been run."""
    return json.loads(path().read_text()) if path().exists() else {}


def save(key: str, entry: dict, of: str = "") -> None:
    """Put one entry in; `of`: the commit that the cluster runs, if it is not the checkout's."""
    known = load()
    known[key] = {**entry, "commit": of or commit(), "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    path().parent.mkdir(parents=True, exist_ok=True)
    temporary = path().with_suffix(".new")
    temporary.write_text(json.dumps(dict(sorted(known.items())), indent=1) + "\n")
    temporary.replace(path())


def prune(names: set[str]) -> None:
    """Forget tests that are no more: their row has tests among `names`, but by other names."""
    rows = {row_of(name) for name in names}
    known = load()
    kept = {key: entry for key, entry in known.items() if key in names or entry.get("row") not in rows}
    if kept != known:
        path().write_text(json.dumps(kept, indent=1) + "\n")


def forget() -> None:
    """Forget the rows, and what was checked after them; a nemesis is not run again with them."""
    known = {key: entry for key, entry in load().items() if key.startswith("nemesis")}
    if path().exists():
        path().write_text(json.dumps(known, indent=1) + "\n")


def commit() -> str:
    """The checkout's commit, abbreviated."""
    command = ["git", "-C", str(ROOT), "rev-parse", "--short=7", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or "unknown"


def changed(since: str, until: str = "HEAD", root: Path = ROOT) -> list[str]:
    """Return the product's files that differ between two commits; a commit that is not here, as one line."""
    command = ["git", "-C", str(root), "diff", "--name-only", since, until, "--", *PRODUCT]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return [f"no such commit here: {since} or {until}"]
    return done.stdout.splitlines()


def standing(known: dict[str, dict], differ=changed) -> tuple[set[str], dict[str, str]]:
    """Return the tests that have passed on the product as it is, and commit by test of those that passed on another.

    :param known: as of `load`
    :param differ: since which commit which product files have changed
    """
    passed = {key: entry["commit"] for key, entry in known.items() if entry["outcome"] == PASSED}
    old = {of for of in set(passed.values()) if differ(of)}
    return {key for key, of in passed.items() if of not in old}, {k: of for k, of in passed.items() if of in old}
