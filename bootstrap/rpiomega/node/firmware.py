"""Which file the Raspberry Pi firmware reads the kernel's command line from: config.txt decides, not its usual name.

Sources: raspberrypi.com/documentation/computers/config_txt.html (``cmdline``, ``os_prefix``, ``include``, conditional
filters); raspi-config (``/proc/device-tree/chosen/os_prefix``); Ubuntu's piboot-try (folders ``current`` and ``new``).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from typing import Any

CONFIG, DEFAULT = "config.txt", "cmdline.txt"
_SETTING = re.compile(r"(os_prefix|cmdline)\s*[= \t]\s*(.*)")
_INCLUDE = re.compile(r"include\s+(\S+)")
_DEPTH = 8


def command_lines(read: Callable[[str], str | None], model: str = "", booted_prefix: str | None = None) -> list[str]:
    """Return the names of the files the firmware may take the command line from, relative to the boot partition.

    Usually one. Several where a condition in config.txt cannot be decided from here (a pin, a display, a serial
    number; any model if `model` is empty), or where Ubuntu has new boot files that it will try at the next boot.
    `read(name)` returns a file's text or None. `booted_prefix` is the ``os_prefix`` this system was started with.
    """
    values = {"os_prefix": {""}, "cmdline": {DEFAULT}}
    given: set[str] = set()
    _follow(read, CONFIG, _models(model) if model else None, {}, values, given, 0)
    prefixes = values["os_prefix"]
    if booted_prefix is not None and "os_prefix" not in given:
        prefixes = {booted_prefix}
    found = [_inside(prefix + name) for prefix in sorted(prefixes) for name in sorted(values["cmdline"])]
    found = [name for name in found if name and read(name) is not None]
    # The firmware ignores a prefix that leads nowhere.
    found = found or [name for name in sorted(values["cmdline"]) if read(name) is not None]
    # Ubuntu copies current/ to new/ when it installs a kernel; after its trial new/ becomes current/.
    waiting = [re.sub("^current/", "new/", name) for name in found if name.startswith("current/")]
    if (read("new/state") or "").strip() in ("unknown", "trying"):
        found += [name for name in waiting if read(name) is not None]
    return found


def _inside(name: str) -> str:
    path = posixpath.normpath(name.lstrip("/"))
    return "" if path.startswith("..") else path


def _follow(
    read: Callable[[str], str | None], name: str, models: Any, state: dict, values: dict, given: Any, depth: int
) -> None:
    """Apply one file; `state` is filter -> holds (True, False, None: cannot be decided), across included files."""
    if depth > _DEPTH:
        return
    for line in (read(name) or "").split("\n"):
        line = line.strip()
        section = re.fullmatch(r"\[(.*)\]", line)
        active = _all(state)
        if section:
            _section(section[1].strip().lower(), models, state)
        elif active is False or not line or line.startswith("#"):
            continue
        elif include := _INCLUDE.fullmatch(line):
            _follow(read, include[1], models, state, values, given, depth + 1)
        else:
            setting = _SETTING.fullmatch(line)
            if setting:
                key, value = setting[1], setting[2].strip()
                given.add(key)
                values[key] = {value} if active else values[key] | {value}


def _all(state: dict) -> bool | None:
    if False in state.values():
        return False
    return None if None in state.values() else True


def _section(name: str, models: set[str] | None, state: dict) -> None:
    """Take a filter into account: one of another kind narrows, one of the same kind replaces."""
    if name == "all":
        state.clear()
    elif name == "none":
        state["none"] = False
    elif name == "tryboot":
        # Only for the one boot that tries new files.
        state["tryboot"] = False
    elif re.fullmatch(r"(pi|cm)\d+\w*\+?", name):
        state["model"] = None if models is None else name in models
    else:
        state[re.findall(r"[a-z_-]*", name)[0]] = None


def _models(model: str) -> set[str]:
    """Return the model filters that hold for a device tree's model."""
    found = re.match(r"Raspberry Pi (Compute Module ?)?(Zero|Model|\d+)?(.*)", model)
    if not found:
        return set()
    module, kind, rest = found[1], found[2] or "", found[3]
    plus = "+" if "Plus" in rest else ""
    if module:
        number = kind if kind.isdigit() else "1"
        suffix = "s" if rest.startswith("S") else "l" if "Lite" in rest else ""
        return {f"pi{number}", f"cm{number}{suffix}{plus}"} | ({"cm5"} if number == "5" else set())
    if kind == "Zero":
        return {"pi0"} | ({"pi0w"} if " W" in rest else set()) | ({"pi02"} if rest.startswith(" 2") else set())
    if kind in ("400", "500"):
        return {f"pi{kind[0]}", f"pi{kind}"}
    number = kind if kind.isdigit() else "1"
    return {f"pi{number}", f"pi{number}{plus}"}
