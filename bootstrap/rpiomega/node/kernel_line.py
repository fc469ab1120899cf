"""The kernel's command line as text of a boot file: which line counts, its words, and edits that touch nothing else.

Sources: next_arg() and parse_args() of the kernel (lib/cmdline.c, kernel/params.c) for words, quotes and ``--``;
cgroup_disable() of kernel/cgroup/cgroup.c; raspberrypi/linux#6980 for the flags; k3s#3283 for the one line.
"""

from __future__ import annotations

from collections.abc import Callable

FLAGS = ("cgroup_enable=memory", "cgroup_memory=1")
_SPACE = " \t\n\v\f\r"


def split(text: str) -> tuple[str, str, str]:
    """Return (before, line, after), which joined are `text`; `line` is what the firmware passes to the kernel.

    That is the first line which is not empty, up to its end or its first NUL. All other lines have no effect.
    """
    start = 0
    while True:
        end = min((at for at in (text.find("\n", start), text.find("\0", start)) if at >= 0), default=len(text))
        line = text[start:end]
        if line.strip(_SPACE) or text[end : end + 1] != "\n":
            break
        start = end + 1
    line = line.rstrip(_SPACE)
    return text[:start], line, text[start + len(line) :]


def words(line: str) -> list[str]:
    """Return the words of a command line as the kernel splits it: a quoted value may contain spaces."""
    return [word for _, word in _pairs(line)[0]]


def holds(found: list[str], flag: str) -> bool:
    """Return whether a flag is effective in `found`; ``cgroup_enable=cpuset,memory`` has ``cgroup_enable=memory``."""
    key, _, value = flag.partition("=")
    given = [_value(word) for word in found[: _end(found)] if _key(word) == key]
    return any(value in item.split(",") for item in given) if key == "cgroup_enable" else given[-1:] == [value]


def add(line: str, flags: tuple[str, ...] = FLAGS) -> str:
    """Return a command line that has `flags`; every other word and the space between them stay.

    ``memory`` goes from ``cgroup_disable=``. What follows ``--`` is for init and stays there.
    """
    pairs, tail = _pairs(line)
    end = _end([word for _, word in pairs])
    kernel, init = [], pairs[end:]
    for gap, word in pairs[:end]:
        left = _enabled(word)
        if left:
            kernel.append((gap, left))
    # All that follows an unfinished quote belongs to that value.
    after = [kernel.pop()] if kernel and kernel[-1][1].count('"') % 2 else []
    missing = [flag for flag in flags if not holds([word for _, word in kernel], flag)]
    if not missing and kernel + after == pairs[:end]:
        return line
    return _join(pairs, kernel + [(" ", flag) for flag in missing] + after + init, tail)


def replace(line: str, unwanted: Callable[[str], bool], new: str = "") -> str:
    """Return a command line without the words for which ``unwanted(word)`` is true, and with `new` among the rest.

    `new` takes the place of the first word that goes, else it is the kernel's last word.
    """
    pairs, tail = _pairs(line)
    end = _end([word for _, word in pairs])
    kept, place = [], None
    for gap, word in pairs[:end]:
        if not unwanted(word):
            kept.append((gap, word))
        elif place is None:
            place = len(kept)
    if new:
        if place is None:
            place = len(kept) - (1 if kept and kept[-1][1].count('"') % 2 else 0)
        kept.insert(place, (" ", new))
    return line if kept == pairs[:end] else _join(pairs, kept + pairs[end:], tail)


def edit(text: str, change: Callable[[str], str]) -> str:
    """Return a boot file's text with ``change(line)`` in the place of the line that counts; other lines stay."""
    before, line, after = split(text)
    new = change(line)
    return text if new == line else before + new + (after or "\n")


def _join(old: list[tuple[str, str]], new: list[tuple[str, str]], tail: str) -> str:
    gaps = [old[0][0] if old else "", *(gap or " " for gap, _ in new[1:])]
    return "".join(gap + word for gap, (_, word) in zip(gaps, new)) + tail


def _pairs(line: str) -> tuple[list[tuple[str, str]], str]:
    """Return ([(space before, word)], space at the end)."""
    found, gap, word, quoted = [], "", "", False
    for letter in line:
        if letter in _SPACE and not quoted:
            if word:
                found.append((gap, word))
                gap, word = "", ""
            gap += letter
            continue
        word += letter
        quoted ^= letter == '"'
    if word:
        found.append((gap, word))
        gap = ""
    return found, gap


def _end(found: list[str]) -> int:
    return found.index("--") if "--" in found else len(found)


def _key(word: str) -> str:
    # The kernel takes a dash for an underscore, and quotes around the whole word or its value.
    return word.strip('"').partition("=")[0].replace("-", "_")


def _value(word: str) -> str:
    return word.strip('"').partition("=")[2].strip('"')


def _enabled(word: str) -> str:
    """Return a word without ``memory`` in ``cgroup_disable=``; empty where nothing is left of it."""
    if _key(word) != "cgroup_disable" or "memory" not in _value(word).split(","):
        return word
    left = ",".join(item for item in _value(word).split(",") if item != "memory")
    return f"cgroup_disable={left}" if left else ""
