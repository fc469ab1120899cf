"""`vendor_docker.py RELEASE ROOT`: Debian's Docker under the names, versions and paths of Docker's own repository."""

import pathlib
import shutil
import subprocess
import sys
import tempfile

import vendor_apt as apt

# As Docker numbers its packages. The programs inside are Debian's and say so.
VERSIONS = ("28.5.1", "28.5.2", "29.7.2")
CONTAINERD = ("1.7.28-1", "1.7.29-1", "2.2.1-1")
NUMBERS = {"bookworm": "12", "trixie": "13"}
# What docker-ce depends on, by its major version (deb/common/control of docker-ce-packaging, branches 28.x and master).
NEEDS = {
    "28": "containerd.io (>= 1.7.27), docker-ce-cli, iptables, libseccomp2",
    "29": "containerd.io (>= 2.1.5), docker-ce-cli, iptables, nftables, libseccomp2",
}
OLD = "docker.io, docker-engine, docker-cli"
RELATIONS = {
    "docker-ce": {
        "Conflicts": "docker.io, docker-engine",
        "Replaces": OLD,
    },
    "docker-ce-cli": {"Conflicts": "docker-engine, docker-cli", "Replaces": OLD},
    "containerd.io": {
        "Provides": "containerd, runc",
        "Conflicts": "containerd, runc",
        "Replaces": "containerd, runc",
    },
}


def main(release, root):
    """Make the repository for a release of Debian in the folder `root`."""
    linux = root / "linux/debian"
    pool = linux / f"dists/{release}/pool/stable/{apt.architecture()}"
    vendor = f"~debian.{NUMBERS[release]}~{release}"
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        engine, containerd = apt.download("docker.io", work / "engine"), apt.download("containerd", work / "containerd")
        needs = {"docker-ce": [apt.fields(engine)["Depends"]], "containerd.io": [apt.fields(containerd)["Depends"]]}
        subprocess.run(["cp", "-a", str(apt.download("runc", work / "runc") / "usr"), str(containerd)], check=True)
        init = engine / "usr/bin/docker-init"
        init.unlink(missing_ok=True)
        shutil.copy2(apt.download("tini", work / "tini") / "usr/bin/tini-static", init)
        client = work / "client"
        if has("docker-cli"):
            apt.download("docker-cli", client)
            client /= "tree"
        else:
            split_client(engine, client)
        trees = {"docker-ce": engine, "docker-ce-cli": client}
        restart_on_upgrade(engine / "DEBIAN/postinst")
        for package, tree in trees.items():
            for version in VERSIONS:
                depends = NEEDS[version.split(".")[0]] if package == "docker-ce" else ""
                control = {"Package": package, "Version": f"5:{version}-1{vendor}"}
                apt.build(tree, {**control, **described(package, needs, depends)}, pool)
        for version in CONTAINERD:
            control = {"Package": "containerd.io", "Version": version + vendor, **described("containerd.io", needs)}
            apt.build(containerd, control, pool)
    versions = [f"5:{version}-1{vendor}" for version in VERSIONS]
    apt.publish(linux, release, "stable", linux / "gpg", {"versions": versions})


def restart_on_upgrade(script):
    """Let an upgrade restart the engine, as Docker's package does; Debian's leaves the old one running."""
    text, start = script.read_text(), "deb-systemd-invoke start 'docker.service'"
    if start not in text:
        raise SystemExit(f"{script} starts the engine in another way than known here")
    script.write_text(text.replace(start, "deb-systemd-invoke ${2:+re}start 'docker.service'"))


def has(package):
    """Tell whether the distribution has a package of that name."""
    return bool(subprocess.run(["apt-cache", "show", package], capture_output=True, check=False).stdout)


def split_client(engine, client):
    """Move the command line, which older releases pack with the engine, into a tree of its own."""
    (client / "usr/bin").mkdir(parents=True)
    (engine / "usr/bin/docker").rename(client / "usr/bin/docker")


def described(package, needs, depends=""):
    """Return the relations of a package: Docker's, with the libraries that Debian's build of the program needs."""
    libraries = [
        need for line in needs.get(package, []) for need in line.split(", ") if need.startswith(("lib", "adduser"))
    ]
    depends = ", ".join(filter(None, [depends, *libraries]))
    relations = {**RELATIONS[package], **({"Depends": depends} if depends else {})}
    return {**relations, "Description": f"{package}, repacked from Debian's"}


if __name__ == "__main__":
    main(sys.argv[1], pathlib.Path(sys.argv[2]))
