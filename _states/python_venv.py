"""A command-line tool in a virtual environment of its own, linked onto the PATH."""

import json
import os
import shutil
import subprocess

from packaging.requirements import Requirement

STAMP = "rpiomega.json"
PIP_SECONDS = 900


def installed(name, requirement, links=None, python="/usr/bin/python3"):
    """Have a tool installed in its own virtual environment.

    A stamp is written last: an environment that an interrupted run left behind, or that belongs to a Python the
    system no longer has, is made anew.

    :param name: path of the environment
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
    links = {link: os.path.join(name, target) for link, target in (links or {}).items()}
    ret = {"name": name, "result": True, "changes": {}, "comment": f"{requirement} is installed in {name}"}
    build = not _built(name, requirement)
    relink = [link for link, target in links.items() if not _links_to(link, target)]
    if not build and not relink:
        return ret
    ret["changes"] = {**({name: requirement} if build else {}), **{link: links[link] for link in relink}}
    if __opts__["test"]:
        return {**ret, "result": None, "comment": f"would install {requirement} in {name}"}
    if build:
        problem = _build(name, requirement, python)
        if problem:
            return {**ret, "result": False, "changes": {}, "comment": problem}
    for link in relink:
        _link(link, links[link])
    return {**ret, "comment": f"installed {requirement} in {name}"}


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
    shutil.rmtree(path, ignore_errors=True)
    pip = [os.path.join(path, "bin/pip"), "--disable-pip-version-check", "install", "--quiet", requirement]
    for command in ([python, "-m", "venv", path], pip):
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=PIP_SECONDS)
        except OSError as error:
            return f"{path}: {command[0]} does not run: {error}"
        except subprocess.TimeoutExpired:
            return f"{path}: `{' '.join(command)}` took more than {PIP_SECONDS} s"
        except subprocess.CalledProcessError as error:
            last = (error.stderr or error.stdout).strip().splitlines()[-1:] or ["no output"]
            return f"{path}: `{' '.join(command)}` failed: {last[0]}"
    stamp = {
        "python": os.path.realpath(os.path.join(path, "bin/python")),
        "version": _version(path, Requirement(requirement).name),
    }
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
