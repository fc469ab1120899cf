"""The recovery kit as the master's secrets have it, on a board: omega.core.recovery_kit, which a drill uses, too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from omega.core import recovery_kit
from omega.core.errors import Failure
from omega.core.recovery_kit import FIELDS, FOLDER, digest, key_file
from rpiomega.node.step import StepError

if TYPE_CHECKING:
    from rpiomega.node.board import Board

__all__ = ["FIELDS", "FOLDER", "INIT", "MARK", "digest", "fields", "key_file", "mark"]

MARK = f"{FOLDER}/{recovery_kit.MARK}"
INIT = "run `rpiomega backup init` on the workstation"


def fields(board: Board) -> dict:
    """Return the kit's fields from the files of the master. Raise StepError if a file is missing."""
    try:
        return recovery_kit.fields(str(board.path(FOLDER)))
    except Failure as error:
        raise StepError(f"{FOLDER}: {error.cause}", error.cure) from None


def mark(board: Board) -> dict:
    """Return `recovery_kit.mark` of the board. Raise StepError as `fields`."""
    try:
        return recovery_kit.mark(str(board.path(FOLDER)))
    except Failure as error:
        raise StepError(f"{FOLDER}: {error.cause}", error.cure) from None
