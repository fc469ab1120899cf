"""Revisions of the formula side by side, and a link that names the one in use. The bootstrap and the state share it.

Beside the tree `/srv/rpiomega/formula` is the folder `/srv/rpiomega/formula.releases`::

    store.git        what was fetched
    0123456789ab     a git worktree of each revision: the one in use, and the one before

The tree is a symbolic link to a worktree. A worktree is complete and on the disk before the link is renamed into place,
and rename(2) is atomic: whenever the power goes, the link names a whole revision, the old or the new one.
"""

from __future__ import annotations

import os

from omega.core import files

# Where the store remembers the commit of the last switch, and the branch or tag it was taken from.
REF, CONFIG = "refs/rpiomega/applied", "rpiomega.rev"
# For people, too: `git fetch` in the tree does what it does in any clone.
REFSPEC = "+refs/heads/*:refs/remotes/origin/*"


def folder(tree: str) -> str:
    """Return the folder of the revisions that belong to ``tree``."""
    return f"{tree.rstrip('/')}.releases"


def store(home: str) -> str:
    """Return the repository in the folder ``home`` of revisions."""
    return os.path.join(home, "store.git")


def place(tree: str, home: str, commit: str) -> str:
    """Return the path in ``home`` for a worktree of ``commit``; never the one in use."""
    path = os.path.join(home, commit[:12])
    return f"{path}.again" if os.path.realpath(tree) == os.path.realpath(path) else path


def switch(tree: str, path: str) -> str | None:
    """Make the link ``tree`` name the folder ``path``.

    :return: where a folder went that was in the link's place, as the bootstrap of version 0.1 left it; else None.
        Should the power go between these two renames, `rpiomega bootstrap` makes the link
    """
    os.sync()  # files first, the name after them
    link, kept = f"{tree}.next", None
    files.remove(link)
    os.symlink(os.path.relpath(path, os.path.dirname(tree)), link)
    if os.path.isdir(tree) and not os.path.islink(tree):
        names = (f"{tree}.before{number}" for number in ("", *range(2, 1000)))
        kept = next(name for name in names if not os.path.lexists(name))
        os.rename(tree, kept)
    os.replace(link, tree)
    files.sync_folder(os.path.dirname(tree))
    return kept
