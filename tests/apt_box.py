"""A real apt with folders, keys and repositories of its own, for the tests of keys and sources."""

import hashlib
import os
import pathlib
import subprocess


def architecture():
    """Return dpkg's name of this machine's architecture."""
    return subprocess.run(["dpkg", "--print-architecture"], check=True, capture_output=True, text=True).stdout.strip()


class Gpg:
    """A gpg with a home of its own (`home`: a short path, it holds sockets)."""

    def __init__(self, home):
        self.home = str(home)
        os.chmod(home, 0o700)

    def __call__(self, *arguments, binary=False, data=None):
        command = ["gpg", "--homedir", self.home, "--batch", "--yes", "--quiet", "--pinentry-mode", "loopback"]
        done = subprocess.run([*command, "--passphrase", "", *arguments], check=True, capture_output=True, input=data)
        return done.stdout if binary else done.stdout.decode()

    def make(self, name, algorithm="ed25519", expire="never", past=None):
        """Make a key that signs and return its fingerprint; `past`: seconds since 1970 at which it is made."""
        clock = ["--faked-system-time", str(past)] if past else []
        self(*clock, "--quick-generate-key", name, algorithm, "sign", expire)
        rows = [row.split(":") for row in self("--with-colons", "--list-keys", f"={name}").splitlines()]
        return next(row[9] for row in rows if row[0] == "fpr")

    def export(self, *names, armor=False):
        """Return the public keys, armored or binary, as bytes."""
        return self(*(["--armor"] if armor else []), "--export", *names, binary=True)

    def close(self):
        """End the agent that gpg has started."""
        subprocess.run(["gpgconf", "--homedir", self.home, "--kill", "all"], check=True)


class Box:
    """An apt below `root`, as a board has it: `etc/apt/sources.list`, `sources.list.d`, `keyrings`."""

    def __init__(self, root):
        self.root = pathlib.Path(root)
        self.apt = self.root / "etc/apt"
        self.parts = self.apt / "sources.list.d"
        for folder in (
            "etc/apt/sources.list.d",
            "etc/apt/keyrings",
            "etc/apt/preferences.d",
            "etc/apt/apt.conf.d",
            "var/lib/apt/lists/partial",
            "var/cache/apt/archives/partial",
        ):
            (self.root / folder).mkdir(parents=True)
        self.config = self.root / "apt.conf"
        options = {
            "Dir": f"{self.root}/",
            "Dir::State::status": "/var/lib/dpkg/status",
            "APT::Sandbox::User": "root",
            "Acquire::Retries": "0",
        }
        self.config.write_text("".join(f'{key} "{value}";\n' for key, value in options.items()))

    def get(self, *arguments):
        """Run apt-get on these folders; return the finished process with output as text."""
        environment = {**os.environ, "APT_CONFIG": str(self.config), "LC_ALL": "C.UTF-8"}
        command = ["apt-get", "-o", "APT::Update::Error-Mode=any", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)

    def update(self):
        """Return "" if `apt-get update` succeeds, else what it prints."""
        done = self.get("update")
        return done.stdout + done.stderr if done.returncode else ""

    def targets(self):
        """Return the addresses of the indexes apt reads."""
        done = self.get("indextargets", "--no-release-info", "--format", "$(URI)")
        assert done.returncode == 0, done.stderr
        return done.stdout.split()


def publish(folder, gpg, signer, suite="trixie", **fields):
    """Make an empty signed repository in `folder`; `fields` join the Release file (Origin, Codename, Suite...)."""
    top = pathlib.Path(folder) / "dists" / suite
    index = f"stable/binary-{architecture()}/Packages"
    (top / index).parent.mkdir(parents=True, exist_ok=True)
    (top / index).touch()
    head = {
        "Suite": suite,
        "Components": "stable",
        "Architectures": architecture(),
        "Date": "Sat, 01 Jan 2022 00:00:00 UTC",
        **{key.replace("_", "-"): value for key, value in fields.items()},
    }
    text = "".join(f"{key}: {value}\n" for key, value in head.items())
    release = f"{text}SHA256:\n {hashlib.sha256().hexdigest()} 0 {index}\n".encode()
    (top / "InRelease").write_bytes(gpg("--local-user", signer, "--clearsign", binary=True, data=release))
