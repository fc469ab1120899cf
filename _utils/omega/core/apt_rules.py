"""How this project calls apt and dpkg, and what their errors mean. Standard library only: states and board share it."""

from __future__ import annotations

import contextlib
import os
import re

LOCKED = "Could not get lock"
# As dpkg itself says it (lib/dpkg/file.c): another one is at work, or a frontend such as apt.
_IN_USE = r"dpkg: error: (dpkg[\w ]*lock) was locked by (?:another|\S+) process with pid (\d+)"
# A file of the owner's stays as it is: without a terminal dpkg cannot ask, and leaves the package unpacked.
CONFFILES = ("--force-confdef", "--force-confold")
DPKG = ("dpkg", *CONFFILES)
APT = (
    "apt-get",
    "-y",
    "-q",
    *(word for option in CONFFILES for word in ("-o", f"Dpkg::Options::={option}")),
    "-o",
    "DPkg::Lock::Timeout=120",  # seconds
    "-o",
    "Acquire::Retries=2",
    # A source that cannot be fetched is an error, and not a warning (apt 2.1 and newer know the option).
    "-o",
    "APT::Update::Error-Mode=any",
)
ENVIRONMENT = {
    "DEBIAN_FRONTEND": "noninteractive",
    "DEBIAN_PRIORITY": "critical",
    "NEEDRESTART_MODE": "l",
    "UCF_FORCE_CONFFOLD": "1",
    "LC_ALL": "C.UTF-8",
}

_UPDATE = "see `apt-get update` on this node"
_KEY = "compare the fingerprint in the site file with the vendor's install guide"
# As gpgv's and sqv's callers say it (apt 2 and apt 3).
_SIGNATURE = r"(?:GPG error|OpenPGP signature verification failed): (\S+) [^\n]*?"
# Pattern, cause, next step. The first match counts; `{0}`, `{1}`... are the pattern's groups.
_CAUSES = [
    (
        r"No space left on device|not have enough free space|You don't have enough free space",
        "no space is left",
        "free some (`df -h`, `apt-get clean`)",
    ),
    (r"Read-only file system", "the file system is read-only", "look for errors of the card with `dmesg`"),
    (
        r"Could not get lock (\S+?)\. It is held by (process [^\n]*)",
        "another package manager holds {0} ({1})",
        "wait for it to end (`pgrep -a apt`, `pgrep -a dpkg`)",
    ),
    (_IN_USE, "process {1} holds the {0}", "wait for it to end (`ps -p {1}`)"),
    (r"Could not get lock (\S+)", "{0} is locked", "wait for the other package manager (`pgrep -a apt`)"),
    (
        r"Conflicting values set for option ([\w-]+) regarding source (\S+) (\S+): (\S*) != (\S*)",
        "{1} {2} is configured twice, with {0} {3} and {4}",
        "remove one of the two: `grep -rn {1} /etc/apt/sources.list /etc/apt/sources.list.d`",
    ),
    (
        r"Conflicting values set for option ([\w-]+) regarding source (\S+) (\S+)",
        "{1} {2} is configured twice, with different values of {0}",
        "remove one of the two: `grep -rn {1} /etc/apt/sources.list /etc/apt/sources.list.d`",
    ),
    (
        r"(?:Unable to parse package file|Problem with MergeList) (/\S*/lists/\S+)",
        "the package list {0} is damaged",
        "on this node: `sudo rm {0}`, then `sudo apt-get update`",
    ),
    (
        r"(?:Unable to parse package file |Problem with MergeList |dpkg: error: parsing file ')(/[^\s']*/status)",
        "{0} is damaged, as after a power cut or by a worn card",
        "keep a copy of it, put the newest that is whole in its place (/var/backups/dpkg.status.0, then "
        "dpkg.status.1.gz), and see `sudo dpkg --audit`",
    ),
    (
        r"The package (\S+) needs to be reinstalled, but I can't find an archive for it",
        "{0} is half-installed, and no package source has it",
        "on this node: `sudo apt-get update && sudo apt-get install --reinstall {0}`, or "
        "`sudo dpkg --remove --force-remove-reinstreq {0}`",
    ),
    (
        r"(?:Invalid record in the preferences file|Syntax error) (/[^\s:,]+)",
        "apt cannot read {0}",
        "correct that file, or move it away",
    ),
    (
        r"(?:Malformed (?:line|entry)|Type '\S*' is not known on line|Unable to parse package file)[^\n/]*(/\S+)",
        "apt cannot read {0}",
        "correct that file, or rename it to *.disabled",
    ),
    (
        r"Repository '(\S+) [^']*' changed its '([^']+)' value from '([^']*)' to '([^']*)'",
        "{0} has changed its {1} from '{2}' to '{3}'",
        "if you expect that, as at a new release of the system: `sudo apt-get update --allow-releaseinfo-change` there",
    ),
    (
        r"Failed to fetch (\S+)\s+(40[137]\s[^\[\n]*\w)",
        "the package source {0} refuses this node ({1})",
        "check its address, the login that it may want (`man apt_auth.conf`), and sources.apt_proxy of the site file",
    ),
    (
        r"Failed to fetch (\S+)\s+(?:Clears|S)igned file isn't valid",
        "{0}: something else answers than a package source",
        "look for the login page of a captive portal in this network, then check sources.apt_proxy of the site file",
    ),
    (
        r"Release file for (\S+) is not valid yet",
        "{0} is from the future: the clock of this node is behind",
        "check `timedatectl`",
    ),
    (
        r"Release file for (\S+) is expired",
        "{0} is out of date: the mirror is no longer updated, or the clock of this node is ahead",
        "check `timedatectl`, then choose another mirror",
    ),
    (
        rf"{_SIGNATURE}(?:EXPKEYSIG|EXPSIG|is not live)[^\n]*",
        "the signing key of {0} has expired",
        f"vendors extend keys: remove its file in /etc/apt/keyrings, and this fetches it again; else {_KEY}",
    ),
    (
        rf"{_SIGNATURE}(?:REVKEYSIG|is revoked)[^\n]*",
        "the signing key of {0} was revoked",
        f"the vendor uses another one now: {_KEY}",
    ),
    (
        rf"{_SIGNATURE}(?:BADSIG|manipulated)[^\n]*",
        "the signature of {0} does not fit: a proxy has changed the file, or the mirror is being updated",
        "try again later, then check sources.apt_proxy of the site file",
    ),
    (
        rf"{_SIGNATURE}(?:NO_PUBKEY|Missing key) (\w+)",
        "{0} is signed by key {1}, which its entry does not trust",
        _KEY,
    ),
    (
        rf"{_SIGNATURE}: (?:Clears|S)igned file isn't valid",
        "{0}: something else answers than a package source",
        "look for the login page of a captive portal in this network, then check sources.apt_proxy of the site file",
    ),
    (rf"{_SIGNATURE}: ([^\n]+)", "the signature of {0} is not accepted ({1})", _KEY),
    (r"The repository '(\S+) [^']*' is not signed", "{0} is not signed by a key that its entry trusts", _KEY),
    (
        r"The repository '(\S+) (\S+) [^']*' does not have a Release file",
        "{0} has no suite {1}",
        "check the address and the suite (code name) of that source",
    ),
    (
        r"Certificate verification failed: ([^\n]*?)\.? *(?:\[|$|Could not)",
        "the certificate of a package source is not trusted ({0})",
        "check the clock, and sources.ca_bundle of the site file",
    ),
    (
        r"Failed to fetch (\S+)\s+(?:Hash Sum mismatch|File has unexpected size)",
        "{0} is not what its index says: the mirror is being updated, or a proxy gives an old copy",
        "try again later, then check sources.apt_proxy of the site file",
    ),
    (
        r"Failed to fetch (\S+)\s+([^\n]+)",
        "the package source {0} does not answer ({1})",
        "check the network, and sources.apt_proxy of the site file",
    ),
    (r"Could not (?:resolve|connect)[^\n]*", "a package source does not answer", "check DNS and network"),
    (r"Unable to locate package (\S+)", "no package source has {0}", "check the sources with `apt-get update`"),
    (r"Version '(\S+)' for '(\S+)' was not found", "no package source has {1} {0}", "see `apt-cache policy {1}`"),
    (r"Package '?(\S+?)'? has no installation candidate", "no package source has {0}", "see `apt-cache policy {0}`"),
    (r"has no installation candidate", "no package source has it", "check the sources with `apt-get update`"),
    (
        r"unmet dependencies:\s*\n\s*(\S+) : (?:Pre)?-?Depends: ([^\n]+)",
        "{0} needs {1}",
        "see `apt-mark showhold` and `apt-cache policy {0}`",
    ),
    (
        r"error processing (?:package|archive) (\S+) \(--\w+\):\s*\n\s*end of file on stdin at conffile prompt",
        "{0} asks which version of its configuration file to use",
        "on this node: `sudo dpkg --force-confdef --force-confold --configure -a`",
    ),
    (
        r"dpkg: error processing (?:package|archive) (\S+) \((--\w+)\):\s*\n\s*([^\n]+)",
        "dpkg failed at {0} ({1}: {2})",
        "see `dpkg --audit` and /var/log/apt/term.log, then `sudo dpkg --configure -a`",
    ),
    (
        r"dpkg was interrupted",
        "an installation was interrupted before",
        "on this node: `sudo dpkg --force-confdef --force-confold --configure -a`",
    ),
]


def explain(output: str) -> tuple[str, str] | None:
    """Return (cause, next step) of the first thing in apt's or dpkg's output that is known, or None.

    :param output: what apt-get or dpkg printed in the locale C
    """
    for pattern, cause, cure in _CAUSES:
        found = re.search(pattern, output)
        if found:
            groups = [group or "?" for group in found.groups()]
            return _one_line(cause.format(*groups)), cure.format(*groups)
    return None


def errors(output: str) -> list[str]:
    """Return the lines that apt calls errors, without their mark; all lines if there are none."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return [line[3:] for line in lines if line.startswith("E: ")] or lines


def interrupted() -> bool:
    """Tell whether dpkg was interrupted: apt then refuses all work until ``dpkg --configure -a`` (dpkg(1)).

    So it looks as well while another dpkg is at work: see `in_use`.

    :raises OSError: the card does not let dpkg's folder be read
    """
    try:
        return any(name.isdigit() for name in os.listdir(f"{_folder()}/updates"))
    except FileNotFoundError:
        return False


def in_use() -> bool:
    """Return whether a process works with dpkg's database now: it has one of the locks (proc(5), "/proc/locks")."""
    inodes = set()
    for name in ("lock-frontend", "lock"):
        with contextlib.suppress(FileNotFoundError):
            inodes.add(str(os.stat(f"{_folder()}/{name}").st_ino))
    with open("/proc/locks", encoding="ascii") as locks:
        return any(line.split()[5].rpartition(":")[2] in inodes for line in locks if "->" not in line)


def refused_in_use(output: str) -> bool:
    """Return whether dpkg has refused to work because of another process that works with its database."""
    return re.search(_IN_USE, output) is not None


def _folder() -> str:
    return os.environ.get("DPKG_ADMINDIR", "/var/lib/dpkg")


def _one_line(text: str) -> str:
    return " ".join(text.split())
