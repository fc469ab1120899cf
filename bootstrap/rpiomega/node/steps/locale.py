"""Locale: generated and made the default."""

from __future__ import annotations

import re

from rpiomega.node import apt, job_steps
from rpiomega.node.files import File
from rpiomega.node.step import Diff, Step, StepError

GEN = "/etc/locale.gen"
DEFAULT = "/etc/default/locale"


def edit_gen(text: str, wanted: str) -> str:
    """Return locale.gen(5) with the line of `wanted` in force; all other lines stay."""
    line = gen_line(wanted)
    # The package's own line knows the charset: de_DE@euro has ISO-8859-15.
    known = re.search(rf"^#?[ \t]*({re.escape(wanted)}[ \t]+\S+)[ \t]*$", text, re.MULTILINE)
    line = known[1] if known else line
    lines = text.splitlines()
    if any(old.split() == line.split() for old in lines):
        return "\n".join(lines) + "\n"
    for index, old in enumerate(lines):
        if old.lstrip("# \t").split() == line.split():
            lines[index] = line
            return "\n".join(lines) + "\n"
    return "\n".join([*lines, line]) + "\n"


def gen_line(wanted: str) -> str:
    """Return the line of locale.gen(5) for a locale; a modifier (``de_DE.UTF-8@euro``) is no part of the charset."""
    return f"{wanted} {wanted.partition('.')[2].partition('@')[0] or 'ISO-8859-1'}"


def edit_default(text: str, wanted: str) -> str:
    """Return the default locale's file with LANG set; other variables stay, LC_ALL goes (it would override)."""
    kept = [line for line in text.splitlines() if not re.match(r"\s*(export\s+)?(LANG|LC_ALL)=", line)]
    return "\n".join([*kept, f"LANG={wanted}"]) + "\n"


class Locale(Step):
    """The default locale, generated if it has to be."""

    name = job_steps.Locale.step
    args: job_steps.Locale

    def check(self) -> Diff:
        diff, wanted = Diff(), self.args.locale
        if not wanted:
            return diff
        for file in self._files(wanted):
            diff += file.diff(self.board)
        if self.board.live and not self._there(wanted):
            diff.add(f"generate the locale {wanted}")
        return diff

    def apply(self) -> None:
        wanted = self.args.locale
        for file in self._files(wanted):
            if file.path == GEN:
                file.apply(self.board)
        if self.board.live and not self._there(wanted):
            if not self.board.has("locale-gen"):
                apt.install(self.board, ["locales"])
                # The package's file has all names as comments; ours was there first.
                File(GEN, edit_gen(self.board.read(GEN) or "", wanted)).apply(self.board)
            self.board.shell.must(["locale-gen"], "see this node's log", timeout=600)
            if not self._there(wanted):
                raise StepError(f"there is no locale {wanted}", "see /usr/share/i18n/SUPPORTED on the board")
        # Last: a default that does not exist makes every program complain.
        for file in self._files(wanted):
            file.apply(self.board)

    def _files(self, wanted: str) -> list[File]:
        files = [File(DEFAULT, edit_default(self.board.read(DEFAULT) or "", wanted))]
        if not built_in(wanted):
            files.insert(0, File(GEN, edit_gen(self.board.read(GEN) or "", wanted)))
        return files

    def _there(self, wanted: str) -> bool:
        listed = self.board.shell.run(["locale", "-a"], timeout=10).output.split()
        return plain(wanted) in {plain(name) for name in listed}


def built_in(name: str) -> bool:
    """Return whether a locale is part of the C library."""
    return name in ("C", "POSIX", "C.UTF-8")


def plain(name: str) -> str:
    """Return a name as glibc compares it: en_GB.utf8 is en_GB.UTF-8."""
    language, dot, charset = name.partition(".")
    return language + dot + charset.lower().replace("-", "")
