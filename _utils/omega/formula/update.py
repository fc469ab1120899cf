"""Bring the master's formula to where its remote is, or say why not."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile

from omega.formula import repository as git
from omega.formula.release import Releases
from omega.formula.repository import FormulaError

RENDER_SECONDS = 900
SHOWN = 3


class Step:
    """What a run found: the tree stands at ``old``; ``new`` and ``path`` are set if it shall go to another revision."""

    def __init__(self, old, new=None, path=None):
        self.old, self.new, self.path = old, new, path


@contextlib.contextmanager
def planned(tree, remote, rev, signers=(), allow_rewrite=False, master_config="/etc/salt/master", rehearse=False):
    """Yield the `Step` to take and the `Releases` to take it with, everything that could refuse it already checked.

    :param rehearse: do all of it in a temporary folder
    :raises FormulaError: with cause and next step; the tree is as it was
    """
    old = git.head(tree)
    if old is None:
        raise FormulaError(f"{tree} is no git checkout", "run `rpiomega bootstrap` for the master")
    real = Releases(tree)
    with contextlib.ExitStack() as stack:
        if not rehearse and os.path.isdir(real.folder):
            stack.enter_context(real.locked())
        _refuse_edits(tree)
        new, ref = git.tip(tree, remote, rev)
        if new == old:
            if signers:
                git.check_signature(tree, old, signers)
            yield Step(old), real
            return
        releases = real
        if rehearse:
            scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="rpiomega-formula-"))
            releases = Releases(tree, scratch, real.store if os.path.isdir(real.store) else None)
        elif not os.path.isdir(real.folder):
            stack.enter_context(real.locked())
        known = old == real.applied()[0] or _is_published(tree)
        releases.prepare(remote)
        new = git.fetch(releases.store, remote, ref)
        _check_history(releases.store, old, new, known, real.applied()[1] or _branch(tree), rev, remote, allow_rewrite)
        if signers:
            git.check_signature(releases.store, new, signers)
        path = releases.check_out(new)
        _refuse_broken(tree, path, new, master_config)
        yield Step(old, new, path), releases


def _refuse_edits(tree):
    found = git.edits(tree)
    if found:
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        cause = f"{tree} holds changes nobody committed: {', '.join(found[:SHOWN])}{more}"
        raise FormulaError(cause, f"commit them to the remote, or `git -C {tree} stash -u`")


def _is_published(tree):
    """Say whether the checkout's commit is one that a fetch brought, and not one made here."""
    with contextlib.suppress(git.GitFailed):
        return git.run(tree, "rev-list", "--count", "HEAD", "--not", "--remotes", "--tags") == "0"
    return False


def _branch(tree):
    with contextlib.suppress(git.GitFailed):
        return git.run(tree, "symbolic-ref", "--short", "--quiet", "HEAD")
    return None


def _check_history(store, old, new, known, last_rev, rev, remote, allow_rewrite):
    if git.descends(store, old, new):
        return
    if not known:
        cause = f"the tree is at {old[:12]}, which {remote} does not have"
        raise FormulaError(cause, "push that commit to the remote, or reset the tree to what it was")
    # Another branch or tag in the site file is a decision; the same one with another past is not.
    if last_rev == rev and not allow_rewrite:
        cause = f"{rev} of {remote} was rewritten: {new[:12]} does not come after {old[:12]}, which is in use"
        once = """salt-call state.apply repo pillar='{"allow_rewrite": true}'"""
        raise FormulaError(cause, f"if that was meant, take it once: `{once}`")


def _refuse_broken(tree, path, commit, master_config):
    request = {"tree": tree, "candidate": path, "master_config": master_config}
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "render.py")
    try:
        done = subprocess.run(
            [sys.executable, "-I", script],
            input=json.dumps(request),
            capture_output=True,
            text=True,
            timeout=RENDER_SECONDS,
            check=False,
            cwd="/",
        )
        problems = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        problems = [f"rendering took more than {RENDER_SECONDS} s"]
    except ValueError:
        problems = (done.stderr.strip().splitlines() or ["the rendering ended without a word"])[-1:]
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise FormulaError(f"{commit[:12]} does not render: {problems[0]}{more}", "correct it in the remote")
