"""`vendor_salt.py RELEASE ROOT`: Salt from the Python package index under the names and paths of Salt's own repository.

Two point releases, and the second looks for the libraries of `salt-pip` in another folder, as after a change of the
Python that is bundled (salt#70513).
"""

import importlib.metadata
import pathlib
import shutil
import subprocess
import sys
import tempfile

import vendor_apt as apt

HOME = "/opt/saltstack/salt"
COMMANDS = {
    "salt-common": ["salt-pip"],
    "salt-minion": ["salt-minion", "salt-call"],
    "salt-master": ["salt-master", "salt", "salt-key", "salt-run", "salt-cp"],
}
UNIT = """[Unit]
Description=The {name} of Salt
After=network.target

[Service]
Type=notify
NotifyAccess=all
KillMode=process
LimitNOFILE=8192
ExecStart=/usr/bin/{name}

[Install]
WantedBy=multi-user.target
"""
POSTINST = """#!/bin/sh
set -e
[ -d /run/systemd/system ] || exit 0
systemctl daemon-reload
systemctl enable --quiet {name}.service
systemctl restart {name}.service || true
"""
SALT_PIP = """#!/bin/sh
# Puts libraries beside Salt, in the folder of this release's Python.
[ "$1" != install ] || export PIP_TARGET={extras}
exec {home}/bin/python3 -m pip "$@"
"""


def main(release, root):
    """Make the repository in the folder `root`/saltproject-deb; `release` does not matter to it, as with Salt's own."""
    top = root / "saltproject-deb"
    subprocess.run([sys.executable, "-m", "venv", "--copies", HOME], check=True)
    command = [f"{HOME}/bin/pip", "install", "--quiet", "--no-cache-dir", "--no-compile", "salt~=3008.0"]
    subprocess.run(command, check=True)
    (site,) = pathlib.Path(HOME).glob("lib/python3.*/site-packages")
    (found,) = importlib.metadata.distributions(name="salt", path=[str(site)])
    major, _, minor = found.version.partition(".")
    versions = [f"{major}.{int(minor) + step}" for step in (0, 1)]
    python = "{}.{}".format(*sys.version_info[:2])
    for version, bundled in zip(versions, (python, f"{python}.next")):
        extras = f"{HOME}/extras-{bundled}"
        (site / "salt_onedir_extras.pth").write_text(f"{extras}\n")
        pip = pathlib.Path(HOME, "bin/salt-pip")
        pip.write_text(SALT_PIP.format(extras=extras, home=HOME))
        pip.chmod(0o755)
        with tempfile.TemporaryDirectory() as folder:
            for package in COMMANDS:
                build(package, version, pathlib.Path(folder, package), top / "pool")
    apt.publish(top, "stable", "main", root / "public", {"versions": versions})


def build(package, version, tree, pool):
    """Make one package of a release in `tree`."""
    binaries = tree / "usr/bin"
    binaries.mkdir(parents=True)
    for command in COMMANDS[package]:
        (binaries / command).symlink_to(f"{HOME}/bin/{command}")
    control = {"Package": package, "Version": version, "Description": f"{package}, of the Python package index"}
    if package == "salt-common":
        shutil.copytree(HOME, tree / HOME.lstrip("/"), symlinks=True)
    else:
        control["Depends"] = f"salt-common (= {version})"
        unit = tree / f"usr/lib/systemd/system/{package}.service"
        unit.parent.mkdir(parents=True)
        unit.write_text(UNIT.format(name=package))
        script = tree / "DEBIAN/postinst"
        script.parent.mkdir()
        script.write_text(POSTINST.format(name=package))
        script.chmod(0o755)
    apt.build(tree, control, pool)


if __name__ == "__main__":
    main(sys.argv[1], pathlib.Path(sys.argv[2]))
