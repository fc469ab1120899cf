"""Put the measured table into docs/reliability.md: `python -m tests.faults.report [results.json ...]`.

Takes what `make faults` has recorded (default: .lab/faults-results/results.json), writes the lines between two marks.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import results  # beside this file

PAGE = results.ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- begin of the table: python -m tests.faults.report -->", "<!-- end of the table -->"
# What invariants.check_group looks at.
GROUP = "no secret found by its value, nothing changed by a second apply, nothing written by test=True"
HEAD = "| row | fault | what was injected | result | seconds (bound) | lost |\n|---|---|---|---|---|---|"


def lines(known: dict[str, dict], differ=results.changed) -> list[str]:
    """One line of the table per test, in the order of the rows; rows without a result are said to have none.

    A result of another commit than the last one measured is said to be of that, and whether the product is another.

    :param differ: between which two commits which product files differ
    """
    found, marks = [], of_others(known, differ)
    for key, row in results.table().items():
        entries = [entry for entry in known.values() if entry.get("row") == key]
        fault = row["fault"].replace("|", "/")
        if not entries:
            found.append(f"| {key} | {fault} | | not run | | |")
        for entry in entries:
            found.append(f"| {key} | {fault} | {_middle(entry, row, marks)} |")
    return found


def of_others(known: dict[str, dict], differ=results.changed) -> dict[str, str]:
    """Return what to say of each commit that is not the last one measured; `differ` as for `lines`."""
    newest = max((entry["at"], entry["commit"]) for entry in known.values())[1] if known else ""
    others = {entry["commit"] for entry in known.values()} - {newest}
    return {of: f" at {of}" + (", product changed since" if differ(of, newest) else "") for of in others}


def _middle(entry: dict, row: dict, marks: dict[str, str]) -> str:
    commit = marks.get(entry["commit"], "")
    if entry["outcome"] == results.SKIPPED:
        reason = entry["reason"].removeprefix("Skipped: ").replace("|", "/")
        return f"{reason} | skipped | ({row['bound_s']}) | "
    more = "; ".join(f"{name}: {value}" for name, value in entry["measured"].items() if not name.startswith("_"))
    what = entry["injected"].replace("|", "/") + (f" ({more})" if more else "")
    seconds = "" if entry["seconds"] is None else f"{entry['seconds']:g} "
    return f"{what} | {entry['outcome']}{commit} | {seconds}({entry['bound']}) | {entry['lost']}"


def others(known: dict[str, dict], differ=results.changed) -> list[str]:
    """One line per check after a run of rows, and per nemesis. `differ` as for `lines`."""
    found, marks = [], of_others(known, differ)
    for key, entry in known.items():
        outcome = f"{entry['outcome']}{marks.get(entry['commit'], '')}"
        problems = f": {'; '.join(entry['problems'])[:400]}" if entry.get("problems") else ""
        if key.startswith("after "):
            found.append(f"- {key}: {GROUP}: {outcome}, in {entry['took']} s{problems}")
        elif key.startswith("nemesis"):
            whole, lock = entry["whole again, s"], entry["lock"]
            struck = ", ".join(f"{count} {kind}" for kind, count in entry["struck"].items())
            found.append(
                f"- {key}, {entry['minutes']:g} minutes: {outcome}; {entry['episodes']} episodes ({struck}), "
                f"whole again after {whole['worst']:g} s at worst; the lock held {lock['held']} times, "
                f"{lock['writes']} writes under it{problems}"
            )
    return found


def summary(known: dict[str, dict], differ=results.changed) -> str:
    """How many rows passed, of which commits, when; and which of them with another product. `differ` as for `lines`."""
    rows = results.table()
    by_row = {key: [e["outcome"] for e in known.values() if e.get("row") == key] for key in rows}
    passed = sum(bool(found) and set(found) == {results.PASSED} for found in by_row.values())
    commits = [e["commit"] for e in sorted(known.values(), key=lambda entry: entry["at"])]
    marks = of_others(known, differ)
    older = sorted({e["row"] for e in known.values() if "row" in e and "product changed" in marks.get(e["commit"], "")})
    days = sorted({entry["at"][:10] for entry in known.values()})
    return (
        f"{passed} of {len(rows)} rows passed with all their tests, on {', '.join(days) or 'no day'} "
        f"(last at commit {commits[-1] if commits else 'none'}; {len(set(commits))} in all). "
        + (f"With other files of the product than that commit's: {', '.join(older)}. " if older else "")
        + "Each time is one measurement on a noisy shared machine."
    )


def main(paths: list[str]) -> None:
    """Write the page."""
    known: dict[str, dict] = {}
    for path in paths or [str(results.path())]:
        known |= json.loads(Path(path).read_text())
    text = PAGE.read_text()
    before, after = text.index(BEGIN) + len(BEGIN), text.index(END)
    more = others(known)
    table = "\n".join([summary(known), "", HEAD, *lines(known), *([""] if more else []), *more])
    PAGE.write_text(f"{text[:before]}\n{table}\n{text[after:]}")
    print(f"{PAGE.relative_to(results.ROOT)}: {len(known)} results")


if __name__ == "__main__":
    main(sys.argv[1:])
