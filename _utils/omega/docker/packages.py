"""Where a node's Docker comes from: what apt has to do to get there, and doing it in one transaction."""

import os
import re
from dataclasses import dataclass, field

from omega.core import apt, files
from omega.docker import data

ENGINES = ("docker-ce", "docker.io")
# Debian leaves it in the data root as docker.io is removed, and purging docker.io then runs it: it deletes all data.
NUKE = "nuke-graph-directory.sh"


class PackageError(apt.AptError):
    """Docker cannot be had as the site wants it; the text says what to do next."""


@dataclass
class Plan:
    """What apt has to do: install ``{name: version or ""}``, remove names; which are held then, which no longer."""

    install: dict = field(default_factory=dict)
    remove: list = field(default_factory=list)
    hold: list = field(default_factory=list)
    unhold: list = field(default_factory=list)
    changes: dict = field(default_factory=dict)

    @property
    def touches(self):
        """True if packages come or go; a hold alone disturbs nobody."""
        return bool(self.install or self.remove)


def upstream(version):
    """Return the release in a package's version as numbers: ``5:28.5.1-1~debian.13~trixie`` is (28, 5, 1)."""
    return tuple(int(part) for part in re.findall(r"^(?:\d+:)?([\d.]*\d)", version)[0].split("."))


def fits(version, wanted):
    """Tell whether a package's version is the one wanted: the whole of it, or the first numbers of its release."""
    if version == wanted:
        return True
    if not re.fullmatch(r"[\d.]+", wanted):
        return False
    numbers = upstream(wanted)
    return upstream(version)[: len(numbers)] == numbers


def choose(wanted, offered, installed):
    """Return which version of the engine to have.

    :param wanted: the site's, not empty
    :param offered: what the repository has, the newest first
    :param installed: the present one, or None; it stays if it fits
    :raises PackageError: nothing that is offered fits
    """
    if installed and fits(installed, wanted):
        return installed
    for version in offered:
        if fits(version, wanted):
            return version
    known = ", ".join(offered[:5]) or "no version at all"
    raise PackageError(f"docker.version {wanted}: the repository offers {known}; choose one of them")


def known(engine, wanted, state):
    """Tell whether what is installed or offered would do.

    :param engine: name of its package
    :param wanted: the site's version, or an empty text: any
    :param state: as `look` returns it
    """
    versions = [state["installed"].get(engine), *state["offered"].get(engine, [])]
    return any(version and (not wanted or fits(version, wanted)) for version in versions)


def offered(engine, state, suite, architecture):
    """Return if the engine is there, or some package source has it.

    :param engine: name of its package
    :param state: as `look` returns it
    :param suite: the system's code name
    :param architecture: of its packages
    :raises PackageError: naming where apt looked, and the next step
    """
    if engine in state["installed"] or state["offered"].get(engine):
        return
    where, other = ("docker.sources", "distribution") if engine == ENGINES[0] else ("*", "vendor")
    raise PackageError(
        f"no package source offers {engine} for {suite} on {architecture}, by /etc/apt/sources.list.d/{where}: see "
        f"`apt-get update` and `apt-cache policy {engine}`, or write `docker: {{source: {other}}}` in the site file"
    )


def plan(packages, conflicting, wanted, state, allow_downgrade=False, own_holds=(), runtime=()):
    """Return the Plan that brings a node's Docker to `packages`.

    The runtime below the engine has releases of its own. Another engine may need a newer one, so it comes along then.
    Between engines it follows the releases of its major version, for their security fixes, unless the owner holds it.

    :param packages: names; the first is the engine
    :param conflicting: names of the other source's packages, which go
    :param wanted: the site's version, or an empty text
    :param state: mapping with ``installed`` {name: version}, ``offered`` {name: [versions]}, ``newer`` {name: version
        to which apt would upgrade}, ``held`` names
    :param allow_downgrade: whether an older engine may replace a newer one
    :param own_holds: names that this project has held before
    :param runtime: names of the packages below the engine, such as containerd.io
    :raises PackageError: the version is not offered, or is older than what is there
    """
    installed, engine, made = state["installed"], packages[0], Plan()
    made.remove = [name for name in conflicting if name in installed]
    version = choose(wanted, state["offered"].get(engine, []), installed.get(engine)) if wanted else ""
    same = [name for name in packages if version and version in state["offered"].get(name, [])]
    for name in packages:
        target = version if name == engine or name in same else ""
        if name not in installed or (target and installed[name] != target):
            made.install[name] = target
    for name in runtime:
        newer = state.get("newer", {}).get(name)
        if newer and engine not in made.install:
            held = name in state["held"] and name not in own_holds
            newer = None if held else _same_major(installed[name], newer, state["offered"].get(name, []))
        if newer:
            made.install[name] = newer
    _refuse_downgrade(made, engine, state, allow_downgrade)
    before, keep = set(state["held"]), set(packages) if wanted else set()
    # Held once more where one is installed: apt may lift the hold of a package that it changes.
    made.hold = sorted(keep - before | (keep & set(made.install)))
    made.unhold = sorted((set(own_holds) & before) - keep - set(made.remove))
    for name, target in made.install.items():
        made.changes[name] = {"old": installed.get(name, ""), "new": target or "the newest"}
    made.changes.update({name: {"old": installed[name], "new": ""} for name in made.remove})
    made.changes.update({f"{name} hold": {"old": False, "new": True} for name in made.hold if name not in before})
    made.changes.update({f"{name} hold": {"old": True, "new": False} for name in made.unhold})
    return made


def _same_major(now, newer, offered):
    """Return `newer` if it is of the major version `now`, else the newest one of that which is offered, or None."""
    if upstream(newer)[0] == upstream(now)[0]:
        return newer
    later = offered[: offered.index(now)] if now in offered else []
    return next((version for version in later if upstream(version)[0] == upstream(now)[0]), None)


def _refuse_downgrade(made, engine, state, allowed):
    now = next((state["installed"][name] for name in ENGINES if name in state["installed"]), None)
    offered = state["offered"].get(engine, [])
    then = made.install.get(engine) or (offered[0] if engine in made.install and offered else None)
    # Back to an earlier patch of the same release is how a bad one is got rid of.
    if now and then and upstream(then)[:2] < upstream(now)[:2] and not allowed:
        raise PackageError(
            f"{engine} {then} is older than the engine that is there ({now}), which may not read its data. Choose "
            "another docker.version or docker.source, or back up the volumes and write `allow_downgrade: true`"
        )


def look(names):
    """Return the `state` that `plan` wants, of these packages."""
    row = "${Package}\t${db:Status-Want}\t${db:Status-Status}\t${Version}\n"
    shown = apt.run("dpkg-query", "-W", "-f", row, *names).stdout
    rows = [line.split("\t") for line in shown.splitlines()]
    offered: dict[str, list[str]] = {}
    for line in apt.run("apt-cache", "madison", *names).stdout.splitlines():
        name, version, source = (part.strip() for part in line.split("|"))
        if source.endswith("Packages") and version not in offered.setdefault(name, []):
            offered[name].append(version)
    installed = {name: version for name, _, status, version in rows if status == "installed"}
    return {
        "installed": installed,
        "offered": offered,
        "newer": _newer(installed),
        "held": [name for name, want, _, _ in rows if want == "hold"],
    }


def _newer(installed):
    """Return {name: version} of those installed packages that apt would upgrade."""
    shown = apt.run("apt-cache", "policy", *installed).stdout if installed else ""
    candidates = dict(re.findall(r"^(\S+):\n\s+Installed: \S+\n\s+Candidate: (\S+)$", shown, re.MULTILINE))
    return {
        name: version
        for name, version in candidates.items()
        if version != installed.get(name)
        and apt.run("dpkg", "--compare-versions", version, "gt", installed.get(name, "")).returncode == 0
    }


def arguments(made):
    """Return what apt-get is given for a plan: installations and removals in one transaction."""
    # What may be held or go back has been decided before.
    options = ["--no-install-recommends", "--allow-change-held-packages", "--allow-downgrades"]
    wanted = [f"{name}={version}" if version else name for name, version in made.install.items()]
    return ["install", *options, *wanted, *(f"{name}-" for name in made.remove)]


def predict(made):
    """Have apt work the plan out without doing it.

    :raises PackageError: it cannot, or something else would have to go
    """
    done = apt.get("--simulate", *arguments(made))
    if done.returncode:
        names = " ".join(made.install)
        raise PackageError(f"apt cannot install Docker: {apt.problem(done)}; see `apt-cache policy {names}`")
    gone = set(re.findall(r"^Remv (\S+)", done.stdout, re.MULTILINE)) - set(made.remove)
    others = sorted(name for name in gone if not name.startswith("docker-ce"))
    if others:
        raise PackageError(f"Docker's packages would push {', '.join(others)} off this node: remove these first")


def fetch(made):
    """Download what the plan needs, while the engine still runs.

    :raises PackageError: a package source does not answer, or another apt does not end
    """
    done = apt.get("--download-only", *arguments(made))
    if done.returncode:
        raise PackageError(f"Docker's packages cannot be fetched: {apt.problem(done)}")


def carry_out(made):
    """Install and remove; return what went wrong in words, or None."""
    try:
        done = apt.get(*arguments(made))
    except apt.AptError as error:
        return f"apt could not finish, and Docker may be off: {error}, then `dpkg --configure -a`"
    finally:
        files.remove(os.path.join(data.DEFAULT, NUKE))
    if done.returncode:
        what = apt.problem(done)
        return f"apt could not finish, and Docker may be off: {what}; see `dpkg --audit`, /var/log/apt/term.log"
    return None


def mark(made):
    """Set and lift holds; return what went wrong in words, or None."""
    for verb, names in (("hold", made.hold), ("unhold", made.unhold)):
        if names:
            try:
                done = apt.run("apt-mark", verb, *names)
            except apt.AptError as error:
                return str(error)
            if done.returncode:
                return f"`apt-mark {verb} {' '.join(names)}` failed: {apt.problem(done)}"
    return None
