"""The firmware's throttling word of Raspberry Pi boards.

Source: `vcgencmd get_throttled` in raspberrypi.com/documentation/computers/os.html.
"""

from __future__ import annotations

from collections.abc import Iterator

from rpiomega.doctor.finding import Finding

NOW = {0: "under-voltage", 1: "processor slowed by the firmware", 2: "throttled", 3: "soft temperature limit"}
SINCE = 16  # the same four, since boot
_HOT = 80.0


def decode(word: int) -> tuple[list[str], list[str]]:
    """Return what happens now, and what has happened since boot but does not now."""
    now = [name for bit, name in NOW.items() if word >> bit & 1]
    past = [name for bit, name in NOW.items() if word >> (bit + SINCE) & 1 and name not in now]
    return now, past


def check(node: str, facts: dict) -> Iterator[Finding]:
    """Judge power supply and heat."""
    word, celsius = facts["power"].get("throttled"), facts["power"].get("celsius")
    if word is not None:
        yield from _throttled(node, word)
    if celsius is not None and celsius >= _HOT:
        yield Finding(
            node,
            "temperature",
            "warning",
            f"{celsius:.0f} degrees Celsius",
            "the processor is slowed down from 80 degrees on",
            "give it a heat sink or fan, or more air",
        )


def _throttled(node: str, word: int) -> Iterator[Finding]:
    now, past = decode(word)
    if now:
        yield Finding(
            node,
            "throttled",
            "error",
            f"now: {', '.join(now)} (0x{word:x})",
            _why(now),
            _cure(now),
        )
    if past:
        yield Finding(
            node,
            "throttled",
            "warning",
            f"since boot: {', '.join(past)} (0x{word:x})",
            _why(past),
            _cure(past),
        )


def _why(names: list[str]) -> str:
    if "under-voltage" in names:
        return "a weak supply corrupts the card and resets USB devices under load"
    return "the board is slower than it could be, and answers late under load"


def _cure(names: list[str]) -> str:
    if "under-voltage" in names:
        return "use the board's own power supply (Pi 4: 5 V 3 A, Pi 5: 5 V 5 A) and a short, thick cable"
    return "cool the board; `vcgencmd measure_temp` shows the temperature"
