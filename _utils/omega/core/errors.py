"""The base of the product's errors, and the one place that puts them into words."""

from __future__ import annotations


def line(cause: str, cure: str = "", subject: str = "") -> str:
    """
    Return ``subject: cause; cure``.

    :param cause: what is wrong, and why
    :param cure: what to do or to type next; "" if the cause says it
    :param subject: the node, key or file; "" if the cause names it
    """
    return f"{subject}: " * bool(subject) + cause + f"; {cure}" * bool(cure)


class Failure(Exception):
    """What a user can do something about. `cause`, `cure` and `subject` are those of `line`, which str() returns."""

    transient: bool = False  # True if the same call may succeed later without anybody changing anything

    def __init__(self, cause: str, cure: str = "", subject: str = "") -> None:
        # The arguments are kept by BaseException.__new__, so a copy or a pickle of a subclass is built from its own.
        self.cause, self.cure, self.subject = cause, cure, subject

    def __str__(self) -> str:
        return line(self.cause, self.cure, self.subject)


class KindOfFailure(Failure):
    """A failure that callers tell apart by its `kind`, a short text; `TRANSIENT` has the kinds that pass."""

    TRANSIENT: frozenset[str] | tuple[str, ...] = frozenset()

    def __init__(self, kind: str, cause: str, cure: str = "", subject: str = "") -> None:
        super().__init__(cause, cure, subject=subject)
        self.kind = kind

    @property
    def transient(self) -> bool:  # type: ignore[override]  # nobody sets it
        """True if the same call may succeed later without anybody changing anything."""
        return self.kind in self.TRANSIENT
