"""Boot arguments, memory cgroup, word size, power supply and heat."""

from __future__ import annotations

import os
import platform
import re
import sys

from rpiomega.node import boot_files, kernel_line
from rpiomega.node.board import Board
from rpiomega.node.step import StepError
from rpiomega.node.steps.cmdline import Cmdline

# The firmware's word, in the kernels of Raspberry Pi OS (drivers/hwmon/raspberrypi-hwmon.c, raspberrypi/linux).
THROTTLED = (
    "/sys/devices/platform/soc/soc:firmware/get_throttled",
    "/sys/devices/platform/axi/axi:firmware/get_throttled",
)
TEMPERATURE = "/sys/class/thermal/thermal_zone0/temp"


def read(board: Board, args: dict) -> dict:
    """Return ``cmdline`` (see `_cmdline`), ``memory_cgroup`` (effective), ``flags_missing``, ``bits``...

    ``problem`` is [cause, cure] where a boot file is damaged or cannot be found, else None.
    """
    step, missing, problem = Cmdline(board, {}), False, None
    try:
        missing = bool(step.check())
    except StepError as error:
        problem = [error.cause, error.cure]
    return {
        "cmdline": _cmdline(board),
        "problem": problem,
        "memory_cgroup": step.data["memory_cgroup"],
        "flags_missing": missing,
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


def _cmdline(board: Board) -> dict:
    """Return of the file the firmware reads: ``path``, ``root`` (the line that counts names one), ``lines`` (that are
    not empty) and ``ignored`` (those without effect, comments left out); empty where there is no such file."""
    try:
        path = next((found.path for found in boot_files.find(board) if found.line), "")
    except StepError:
        path = ""
    if not path:
        return {}
    text = board.read(path) or ""
    line = kernel_line.split(text)[1]
    lines = [other.strip() for other in text.split("\n") if other.strip("\0\t\r ")]
    return {
        "path": path,
        "lines": len(lines),
        "root": any(word.startswith("root=") for word in kernel_line.words(line)),
        "ignored": [other for other in lines[1:] if not other.startswith("#")],
    }


def _architecture(board: Board) -> str:
    if not board.has("dpkg"):
        return ""
    return board.shell.run(["dpkg", "--print-architecture"], timeout=10).output.strip()


def _memory(board: Board, key: str = "MemTotal") -> int:
    found = re.search(rf"^{key}:\s+(\d+) kB", board.read("/proc/meminfo") or "", re.MULTILINE)
    return int(found.group(1)) // 1024 if found else 0


def power(board: Board, args: dict) -> dict:
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
