"""A command-line tool in a virtual environment of its own, linked onto the PATH."""

import json
import os
import shutil
import subprocess

from packaging.requirements import Requirement

from omega.core import files

STAMP = "rpiomega.json"
CURRENT = "current"
SLOTS = ("a", "b")
PIP_SECONDS = 900
VENV_STEP = "install the packages python3 and python3-venv, and see that the disk is not full"


@files.disk_errors_returned
def installed(name, requirement, links=None, python="/usr/bin/python3"):
    """Have a tool installed in its own virtual environment.

    A new environment is made beside the one in use, so the tool works all the time and stays if the new one cannot be
    had: `current` in the folder leads to the environment in use, ``a`` or ``b``, and all else there is removed after
    the switch. A stamp is written last: an environment that an interrupted run left behind, or that belongs to a
    Python the system no longer has, is re-created.

    :param name: path of a folder for the environments and nothing else
    :param requirement: what pip shall install, such as ``b2>=4``
    :param links: ``{link path: path inside the environment}``
    :param python: the interpreter to build on
    :return: Salt's state return

    .. code-block:: yaml

        b2.cli:
          python_venv.installed:
            - name: /opt/rpiomega/b2
            - requirement: b2>=4
            - links: {/usr/local/bin/b2: bin/b2}
    """
    current = os.path.join(name, CURRENT)
    links = {link: os.path.join(current, target) for link, target in (links or {}).items()}
    ret = {"name": name, "result": True, "changes": {}, "comment": f"{requirement} is installed in {name}"}
    build = not _built(current, requirement)
    relink = [link for link, target in links.items() if not _links_to(link, target)]
    stale = [] if build else _stale(name)
    if not build and not relink and not stale:
        return ret
    ret["changes"] = {**({name: requirement} if build else {}), **{link: links[link] for link in relink}}
    ret["changes"].update(dict.fromkeys(stale, "removed"))
    if __opts__["test"]:
        return {**ret, "result": None, "comment": f"would install {requirement} in {name}"}
    if build:
        slot = next(slot for slot in SLOTS if not _links_to(current, slot))
        problem = _build(os.path.join(name, slot), requirement, python)
        if problem:
            return {**ret, "result": False, "changes": {}, "comment": problem}
        _link(current, slot)
    for link in relink:
        _link(link, links[link])
    for path in _stale(name):
        _remove(path)
    return {**ret, "comment": f"installed {requirement} in {name}"}


def _stale(name):
    """Return what is in the folder beside the environment in use: a former one, or what an interrupted run left."""
    current = os.path.join(name, CURRENT)
    used = {CURRENT, os.readlink(current)}
    return [os.path.join(name, entry) for entry in sorted(os.listdir(name)) if entry not in used]


def _remove(path):
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)


def _built(path, requirement):
    try:
        with open(os.path.join(path, STAMP), encoding="utf-8") as file:
            stamp = json.load(file)
    except (OSError, ValueError):
        return False
    # The environment's python is a link to the system's: after an upgrade of the system it points elsewhere.
    python = os.path.realpath(os.path.join(path, "bin/python"))
    return (
        stamp.get("python") == python and os.path.exists(python) and _satisfies(path, stamp.get("version"), requirement)
    )


def _satisfies(path, version, requirement):
    wanted = Requirement(requirement)
    return version is not None and version in wanted.specifier and version == _version(path, wanted.name)


def _version(path, distribution):
    """Return the installed version from the environment's metadata, without starting its Python."""
    prefix = distribution.replace("-", "_").lower() + "-"
    lib = os.path.join(path, "lib")
    for python in os.listdir(lib) if os.path.isdir(lib) else []:
        for entry in os.listdir(os.path.join(lib, python, "site-packages")):
            if entry.lower().startswith(prefix) and entry.endswith(".dist-info"):
                return entry[len(prefix) : -len(".dist-info")]
    return None


def _build(path, requirement, python):
    """Make the environment; return what went wrong in words, with nothing left of it, or None."""
    shutil.rmtree(path, ignore_errors=True)
    problem = _make(path, requirement, python)
    if problem:
        shutil.rmtree(path, ignore_errors=True)
    return problem


def _make(path, requirement, python):
    pip = [os.path.join(path, "bin/pip"), "--disable-pip-version-check", "install", "--quiet", requirement]
    version = os.path.basename(os.path.realpath(python))
    # Of a release that wants another Python, pip says no more than that there is none.
    pip_step = f"see that there is such a release for {version}, and that this node reaches pip's package index"
    for command, step in (([python, "-m", "venv", path], VENV_STEP), (pip, pip_step)):
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=PIP_SECONDS)
        except OSError as error:
            return f"{path}: {command[0]} does not run: {error}; {step}"
        except subprocess.TimeoutExpired:
            return f"{path}: `{' '.join(command)}` took more than {PIP_SECONDS} s; {step}"
        except subprocess.CalledProcessError as error:
            last = (error.stderr or error.stdout).strip().splitlines()[-1:] or ["no output"]
            return f"{path}: `{' '.join(command)}` failed: {last[0]}; {step}"
    stamp = {
        "python": os.path.realpath(os.path.join(path, "bin/python")),
        "version": _version(path, Requirement(requirement).name),
    }
    os.sync()  # the stamp after what it stands for: a power cut leaves no stamp on files without content
    with open(os.path.join(path, STAMP), "w", encoding="utf-8") as file:
        json.dump(stamp, file)
    return None


def _links_to(link, target):
    return os.path.islink(link) and os.readlink(link) == target


def _link(link, target):
    temporary = f"{link}.rpiomega"
    if os.path.lexists(temporary):
        os.unlink(temporary)
    os.symlink(target, temporary)
    os.replace(temporary, link)
