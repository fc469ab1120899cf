"""Debian packages taken apart and put together again, and a signed apt repository of them. Runs in the image maker."""

import email.utils
import gzip
import hashlib
import json
import os
import pathlib
import re
import subprocess
import tempfile


def run(*command, **options):
    """Run a command, give what it prints; CalledProcessError if it fails."""
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, **options).stdout


def download(package, folder):
    """Fetch a package of the distribution into `folder`; return the unpacked tree, with control data in DEBIAN."""
    folder.mkdir(parents=True)
    run("apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", package, cwd=folder)
    (deb,) = folder.glob("*.deb")
    tree = folder / "tree"
    run("dpkg-deb", "--raw-extract", str(deb), str(tree))
    return tree


def fields(tree):
    """Return a tree's control fields."""
    text = (tree / "DEBIAN/control").read_text()
    return dict(re.findall(r"^(\S+): ((?:.|\n )*)$", text, re.MULTILINE))


def build(tree, control, pool):
    """Make a package of `tree` with these control fields, in the folder `pool`."""
    (tree / "DEBIAN").mkdir(parents=True, exist_ok=True)
    control = {"Maintainer": "rpiomega lab <root@localhost>", "Architecture": architecture(), **control}
    (tree / "DEBIAN/control").write_text("".join(f"{name}: {value}\n" for name, value in control.items()))
    pool.mkdir(parents=True, exist_ok=True)
    version = control["Version"].partition(":")[2] or control["Version"]
    target = pool / f"{control['Package']}_{version}_{control['Architecture']}.deb"
    # The quickest that every dpkg of these releases reads.
    run("dpkg-deb", "--root-owner-group", "-Zzstd", "-z1", "--build", str(tree), str(target))


def architecture():
    """Return dpkg's name of this machine's architecture."""
    return run("dpkg", "--print-architecture").strip()


def publish(root, suite, component, key_file, about):
    """Index the packages below `root`, sign the index with a new key, and leave its public half in `key_file`.

    `about` is written to `root`/about.json, with the key's fingerprint.
    """
    release = root / "dists" / suite
    binary = release / component / f"binary-{architecture()}"
    binary.mkdir(parents=True)
    packages = "".join(_entry(deb, root) for deb in sorted(root.rglob("*.deb")))
    (binary / "Packages").write_text(packages)
    (binary / "Packages.gz").write_bytes(gzip.compress(packages.encode(), mtime=0))
    sums = "".join(
        f" {hashlib.sha256(path.read_bytes()).hexdigest()} {path.stat().st_size} {path.relative_to(release)}\n"
        for path in sorted(binary.iterdir())
    )
    (release / "Release").write_text(
        f"Origin: rpiomega lab\nLabel: rpiomega lab\nSuite: {suite}\nCodename: {suite}\n"
        f"Date: {email.utils.formatdate(usegmt=True)}\nArchitectures: {architecture()}\nComponents: {component}\n"
        f"SHA256:\n{sums}"
    )
    about["fingerprint"] = _sign(release, key_file)
    (root / "about.json").write_text(json.dumps(about))


def _entry(deb, root):
    data = deb.read_bytes()
    head = run("dpkg-deb", "--field", str(deb)).strip()
    digest = hashlib.sha256(data).hexdigest()
    return f"{head}\nFilename: {deb.relative_to(root)}\nSize: {len(data)}\nSHA256: {digest}\n\n"


def _sign(release, key_file):
    """Sign with a key that ends with this function; return its fingerprint."""
    with tempfile.TemporaryDirectory() as home:
        gpg = ("gpg", "--homedir", home, "--batch", "--yes", "--pinentry-mode", "loopback", "--passphrase", "")
        run(*gpg, "--quiet", "--quick-generate-key", "rpiomega lab <root@localhost>", "rsa2048", "sign", "never")
        listed = run(*gpg, "--with-colons", "--list-keys")
        run(*gpg, "--clearsign", "--output", str(release / "InRelease"), str(release / "Release"))
        run(*gpg, "--armor", "--detach-sign", "--output", str(release / "Release.gpg"), str(release / "Release"))
        pathlib.Path(key_file).write_text(run(*gpg, "--armor", "--export"))
        subprocess.run(["gpgconf", "--homedir", home, "--kill", "gpg-agent"], env={**os.environ}, check=False)
    return re.findall(r"^fpr:+([0-9A-F]{40}):", listed, re.MULTILINE)[0]
