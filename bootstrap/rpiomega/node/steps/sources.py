"""Package caches, mirrors and certificate authorities of the site, before anything is downloaded."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from urllib.parse import urlsplit

from rpiomega.node import apt, job_steps
from rpiomega.node.files import File
from rpiomega.node.step import Diff, Step, StepError

APT = "/etc/apt/apt.conf.d/80rpiomega-proxy"
# pip reads this before /etc/pip.conf, which belongs to the system (Raspberry Pi OS adds piwheels there).
PIP = "/etc/xdg/pip/pip.conf"
CAS = "/usr/local/share/ca-certificates/rpiomega"
BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
MARK = "# Written by rpiomega from `sources` of the site file.\n"
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


class Sources(Step):
    """The site's cache of packages, index of Python packages and certificate authorities."""

    name = job_steps.Sources.step
    args: job_steps.Sources

    def check(self) -> Diff:
        diff = Diff()
        for file in self._files():
            diff += file.diff(self.board)
        if self._unbundled():
            diff.add("build the bundle of certificate authorities")
        if not diff and self.args.apt_proxy and shutil.which("apt-config"):
            self.board.in_force(APT, "set sources.apt_proxy in the site file to that proxy")
        return diff

    def apply(self) -> None:
        changed = [file.path for file in self._files() if file.apply(self.board)]
        if not self.board.live:
            return
        if any(path.startswith(CAS) for path in changed) or self._unbundled():
            apt.install(self.board, ["ca-certificates"])
            self.board.shell.must(["update-ca-certificates"], "see this node's log", timeout=180)

    def _unbundled(self) -> bool:
        """Return whether the system's bundle lacks a certificate of the site, as after a run that was interrupted."""
        bundle = self.board.read(BUNDLE) or ""
        return any(pem not in bundle for pem in self._certificates())

    def _certificates(self) -> list[str]:
        return _PEM.findall(self.args.ca)

    def _files(self) -> list[File]:
        proxy = self.args.apt_proxy
        wanted = [File(APT, f'{MARK.replace("#", "//")}Acquire::http::Proxy "{proxy}";\n' if proxy else None)]
        wanted.append(File(PIP, self._pip()))
        names = {pem: f"{CAS}/{hashlib.sha256(pem.encode()).hexdigest()[:16]}.crt" for pem in self._certificates()}
        paths = {path: f"{pem}\n" for pem, path in names.items()}
        if self.args.ca and not paths:
            raise StepError("sources.ca_bundle holds no certificate", "give a PEM file")
        wanted += [File(path, pem) for path, pem in paths.items()]
        folder = self.board.path(CAS)
        present = os.listdir(folder) if os.path.isdir(folder) else []
        wanted += [File(f"{CAS}/{name}", None) for name in sorted(present) if f"{CAS}/{name}" not in paths]
        return wanted

    def _pip(self) -> str | None:
        index, lines = self.args.pip_index, []
        if index:
            lines.append(f"index-url = {index}")
            if urlsplit(index).scheme == "http":
                lines.append(f"trusted-host = {urlsplit(index).hostname}")
        if self.args.ca:
            lines.append(f"cert = {BUNDLE}")
        if lines:
            return MARK + "[global]\n" + "\n".join(lines) + "\n"
        old = self.board.read(PIP)
        # Not ours: leave it.
        return old if old is not None and not old.startswith(MARK) else None
