"""What a failed state has to say (I6): what is wrong, of whom, and what to do next."""

from __future__ import annotations

import re

import results

# States of the product; Salt's own say what Salt says.
OWN = {path.stem for path in (results.ROOT / "_states").glob("*.py")}
# A node, an address, a file or a key: whatever is wrong, it has a name.
SUBJECT = re.compile(r"https?://|(^|[ (`])/\w|\d+\.\d+\.\d+\.\d+")
STEPS = "apply bring check correct free give install let open recover reboot remove rename restart restore retire run"
STEPS += " see set start unlock wait"
STEP = re.compile(rf"`[^`]+`|docs/\w+|\b({STEPS.replace(' ', '|')})\b")


def unclear(key: str, comment: str, names: list[str]) -> str:
    """Return what is missing in the comment of a failed state, an empty string if nothing is.

    :param key: as in a return: `module_|-ID_|-name_|-function`
    :param names: of the site's nodes
    """
    if "Traceback" in comment or len(comment) < 20:
        return "no clear comment"
    # Of those that did not run for another's failure it names the other, which speaks for itself.
    if key.split("_|-")[0] not in OWN or comment.startswith("One or more requisite failed: "):
        return ""
    if not any(name in comment for name in names) and not SUBJECT.search(comment):
        return "no node, address or file is named"
    return "" if STEP.search(comment) else "no next step"
