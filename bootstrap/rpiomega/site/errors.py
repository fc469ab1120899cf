"""What is wrong with a site file, one line per problem."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from omega.core import mask
from omega.core.errors import Failure, line


@dataclass(frozen=True)
class Problem:
    """One defect: where it is (`key` is a path such as ``("nodes", "pi", "address")``), why, and what is allowed."""

    key: tuple
    cause: str
    allowed: str = ""
    line: int | None = None

    def text(self, path: Path) -> str:
        """Return the defect as one line: ``file:line: key.path: cause; what is allowed``."""
        where = f"{path}:{self.line}" if self.line else f"{path}"
        dotted = ".".join(mask.key(part) for part in self.key)
        return line(self.cause, self.allowed, f"{where}: {dotted}" if dotted else where)


class SiteError(Failure):
    """The site file cannot be used. `problems` holds every defect found, in the file's order."""

    def __init__(self, path: Path, problems: list[Problem]):
        self.path = path
        self.problems = sorted(problems, key=lambda problem: problem.line or 0)
        super().__init__("\n".join(problem.text(path) for problem in self.problems))
