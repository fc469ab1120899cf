"""Boot arguments, memory cgroup, word size, power supply and heat."""

from __future__ import annotations

import os
import platform
import re
import sys

from rpiomega.node.steps.cmdline import CMDLINES, Cmdline

# The firmware's word, in the kernels of Raspberry Pi OS (drivers/hwmon/raspberrypi-hwmon.c, raspberrypi/linux).
THROTTLED = (
    "/sys/devices/platform/soc/soc:firmware/get_throttled",
    "/sys/devices/platform/axi/axi:firmware/get_throttled",
)
TEMPERATURE = "/sys/class/thermal/thermal_zone0/temp"


def read(board, args: dict) -> dict:
    """Return ``cmdline`` (path, number of lines), ``memory_cgroup`` (effective), ``asked`` (flags), ``bits``..."""
    step = Cmdline(board, {})
    diff = step.check()
    return {
        "cmdline": _cmdline(board),
        "memory_cgroup": step.data["memory_cgroup"],
        "flags_missing": bool(diff),
        "reboot": step.data.get("reboot", ""),
        "notes": step.notes,
        "container": board.container(),
        "model": board.model(),
        "system": board.release().get("PRETTY_NAME", ""),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "bits": 64 if sys.maxsize > 2**32 else 32,
        "userland": _architecture(board),
        "memory_mb": _memory(board),
        "swap_mb": _memory(board, "SwapTotal"),
    }


def _cmdline(board) -> dict:
    for path in CMDLINES:
        text = board.read(path)
        if text is not None and "DO NOT EDIT" not in text:
            lines = [line for line in text.splitlines() if line.strip()]
            return {"path": path, "lines": len(lines), "root": bool(re.search(r"(^|\s)root=", text))}
    return {}


def _architecture(board) -> str:
    if not board.has("dpkg"):
        return ""
    return board.shell.run(["dpkg", "--print-architecture"], timeout=10).output.strip()


def _memory(board, key: str = "MemTotal") -> int:
    found = re.search(rf"^{key}:\s+(\d+) kB", board.read("/proc/meminfo") or "", re.MULTILINE)
    return int(found.group(1)) // 1024 if found else 0


def power(board, args: dict) -> dict:
    """Return the firmware's throttling bits (None where there is no such firmware) and the temperature in degrees."""
    found: dict = {"throttled": None, "celsius": None}
    if board.has("vcgencmd"):
        output = board.shell.run(["vcgencmd", "get_throttled"], timeout=5).output
        word = re.search(r"throttled=(0x[0-9a-fA-F]+)", output)
        if word:
            found["throttled"] = int(word.group(1), 16)
    if found["throttled"] is None:
        for path in THROTTLED:
            text = (board.read(path) or "").strip()
            if re.fullmatch(r"[0-9a-fA-F]+", text):
                found["throttled"] = int(text, 16)
    heat = (board.read(TEMPERATURE) or "").strip() if os.path.exists(board.path(TEMPERATURE)) else ""
    if re.fullmatch(r"-?\d+", heat):
        found["celsius"] = int(heat) / 1000
    return found
