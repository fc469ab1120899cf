"""The few things asked of git for a checkout that follows its remote. Every call is bounded and asks nobody."""

import os
import signal
import subprocess
import tempfile

from omega.core.errors import Failure

ASK_SECONDS, FETCH_SECONDS = 40, 600
PGP = "-----BEGIN PGP PUBLIC KEY BLOCK-----"


class FormulaError(Failure):
    """One line: what is wrong, and what to do next."""


class GitFailed(Exception):
    """A git command that failed; the text is git's last line."""


def run(folder, *arguments, seconds=ASK_SECONDS, environment=None):
    """Return what `git -C folder arguments` prints; GitFailed if it fails or takes longer than ``seconds``."""
    # The whole group is ended: git leaves the reading to a child, which would hold the output open.
    with subprocess.Popen(
        ["git", "-C", folder, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env={**_environment(), **(environment or {})},
        start_new_session=True,
    ) as process:
        try:
            out, err = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise GitFailed(f"no answer within {seconds} s") from None
    if process.returncode:
        lines = [line for line in err.strip().splitlines() if not line.startswith("hint:")]
        telling = [line for line in lines if line.startswith(("fatal:", "error:", "ssh:"))]
        raise GitFailed((telling or lines or [f"exit code {process.returncode}"])[0])
    return out.strip()


def _environment():
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return {
        **kept,
        "LC_ALL": "C.UTF-8",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_SSH_COMMAND": "ssh -o BatchMode=yes -o ConnectTimeout=10",
    }


def head(folder):
    """Return the commit a checkout is at, or None if there is no checkout."""
    try:
        return run(folder, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")
    except GitFailed:
        return None


def edits(folder):
    """Return the paths of a checkout that differ from its commit; new ones count unless git ignores them."""
    lines = run(folder, "status", "--porcelain", "--untracked-files=all", "--no-renames").splitlines()
    return [line.split(maxsplit=1)[1] for line in lines]


def tip(folder, remote, rev):
    """Return ``(commit, ref)`` a branch or tag of a remote is at.

    :param folder: any folder; only the remote is asked
    :raises FormulaError: it cannot be reached, has no such branch or tag, or has both
    """
    try:
        out = run(folder, "ls-remote", "--", remote, f"refs/heads/{rev}", f"refs/tags/{rev}", f"refs/tags/{rev}^{{}}")
    except GitFailed as error:
        raise FormulaError(f"{remote} cannot be reached ({error})", "check network, address and key of it") from None
    found = {ref: commit for commit, ref in (line.split() for line in out.splitlines())}
    branch, tag = f"refs/heads/{rev}", f"refs/tags/{rev}"
    if branch in found and tag in found:
        raise FormulaError(f"{remote} has both a branch and a tag {rev}", "rename one of them")
    if branch not in found and tag not in found:
        raise FormulaError(f"{remote} has no branch or tag {rev}", "check formula.branch of the site file")
    ref = branch if branch in found else tag
    return found.get(f"{ref}^{{}}") or found[ref], ref


def fetch(store, remote, ref):
    """Bring a branch or tag into the bare repository ``store``; return its commit."""
    local = ref.replace("refs/heads/", "refs/remotes/origin/")
    try:
        run(store, "fetch", "--quiet", "--no-tags", "--", remote, f"+{ref}:{local}", seconds=FETCH_SECONDS)
    except GitFailed as error:
        raise FormulaError(f"{remote} stopped answering ({error})", "check the network, then run it again") from None
    return run(store, "rev-parse", f"{local}^{{commit}}")


def descends(store, old, new):
    """Say whether ``new`` has ``old`` in its past."""
    try:
        run(store, "merge-base", "--is-ancestor", old, new)
    except GitFailed:
        return False
    return True


def check_signature(folder, commit, signers):
    """Raise FormulaError unless ``commit`` has a good signature of one of ``signers``.

    :param signers: lines of an allowed-signers file (ssh-keygen(1): ``NAME ssh-ed25519 AAAA...``) and armored OpenPGP
        public keys, in any mixture
    """
    cause = f"commit {commit[:12]} has no signature of an allowed signer"
    step = "sign it, or put its signer's public key under formula.signers of the site file"
    with tempfile.TemporaryDirectory(prefix="rpiomega-signers-") as home:
        allowed = os.path.join(home, "allowed_signers")
        with open(allowed, "w", encoding="utf-8") as file:
            file.writelines(f"{line.strip()}\n" for line in signers if PGP not in line)
        environment = {"GNUPGHOME": home}
        _import_keys(home, [key for key in signers if PGP in key])
        try:
            # gpg.minTrustLevel stays at its default: every key of this home is one the site trusts.
            run(folder, "-c", f"gpg.ssh.allowedSignersFile={allowed}", "verify-commit", commit, environment=environment)
        except GitFailed as error:
            raise FormulaError(f"{cause} ({error})", step) from None


def _import_keys(home, keys):
    for key in keys:
        try:
            command = ["gpg", "--homedir", home, "--batch", "--quiet", "--no-autostart", "--import"]
            subprocess.run(command, input=key, text=True, check=True, capture_output=True, timeout=60)
        except FileNotFoundError:
            raise FormulaError("gpg is not installed", "install gnupg, or sign with ssh keys") from None
        except subprocess.SubprocessError as error:
            last = ((getattr(error, "stderr", None) or str(error)).strip().splitlines())[-1]
            raise FormulaError(f"an OpenPGP key under formula.signers is no good ({last})", "export it again") from None
