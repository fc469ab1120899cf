"""Where the formula is on the master."""

from __future__ import annotations

from rpiomega.node.board import Board

BARE = "/srv/rpiomega/formula.git"
TREE = "/srv/rpiomega/formula"


def commit(board: Board, branch: str) -> str:
    """Return the commit the bare repository's branch is at, an empty string if there is none."""
    if not board.exists(f"{BARE}/HEAD") or not board.has("git"):
        return ""
    result = board.shell.run(["git", "--git-dir", BARE, "rev-parse", "--verify", "--quiet", f"refs/heads/{branch}"])
    return "" if result.code else result.output.strip()
