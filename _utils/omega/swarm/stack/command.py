"""The docker command of one stack: what it would do, and its failures in one line with the next step."""

import os
import shutil
import subprocess

from omega.core.mask import HIDDEN
from omega.swarm.api import SwarmError
from omega.swarm.stack import check, hints
from omega.swarm.stack.files import Files
from omega.swarm.stack.proxy import rehearsal

BOUND = 300  # seconds; asking a registry for digests may take long
RESOLVE = ("always", "changed", "never")


class Command:
    """
    `docker stack deploy` of one stack.

    :param name: the stack's name
    :param env: mapping of values for `${NAME}`; they go by the command's environment, which only root can read
    :param prune: True: services that the files do not name are removed
    :param resolve_image: one of RESOLVE
    :param with_registry_auth: True: the nodes get the registry login of `home`
    :param docker: the docker command, a name or a path
    :param home: folder with .docker/config.json
    :raises SwarmError: "refused" for an unknown `resolve_image`
    """

    def __init__(
        self,
        name,
        env=None,
        prune=False,
        resolve_image="changed",
        with_registry_auth=False,
        docker="docker",
        home="/root",
    ):
        if resolve_image not in RESOLVE:
            raise SwarmError("refused", f"resolve_image {resolve_image!r}: must be one of {', '.join(RESOLVE)}")
        self.name, self.binary, self.home = name, docker, home
        self.files: Files  # set by `lay_out`
        self.env = {str(key): _text(value) for key, value in (env or {}).items()}
        self._options = ["--resolve-image", resolve_image]
        self._options += ["--prune"] if prune else []
        self._options += ["--with-registry-auth"] if with_registry_auth else []

    def lay_out(self, compose, folder, fetch):
        """Make private copies of the compose files; arguments as of omega.swarm.stack.files.Files."""
        self.files = Files(compose, folder, fetch, self.home)

    def rehearse(self, engine):
        """
        Return (list of Noted that the command would send, list of warnings).

        :param engine: omega.swarm.api.Engine
        :raises SwarmError: "refused" for what the command refuses or what cannot work in this swarm, with the next step
        """
        while True:
            with rehearsal(engine.base_url) as (address, noted, unknown):
                code, said = self._run(address)
            if not code:
                break
            if unknown:
                cause = f"this docker command sends {', '.join(unknown)}, which cannot be rehearsed"
                raise self._refused(f"{cause}; use another release of it")
            if not self.files.fetch_missing(said):
                raise self._failed(said)
        found = check.problems(noted, engine.services(), self.files)
        if found:
            raise self._refused(self.hidden("; ".join(found)))
        return noted, self._warnings(noted, said)

    def deploy(self, address):
        """
        Deploy.

        :param address: the engine's, for DOCKER_HOST
        :raises SwarmError: "refused" if the command fails, which may have done a part; "timeout"
        """
        code, said = self._run(address)
        if code:
            raise self._failed(said)

    def _warnings(self, noted, said):
        names = hints.remarks(said)
        if names:
            yield f"stack {self.name}: docker leaves out what it does not support in a stack: {', '.join(names)}"
        for warning in hints.warnings(said):
            yield f"stack {self.name}: docker: {self.hidden(self.files.readable(warning))}"
        for secret in self.files.secrets_of_master(noted):
            yield (
                f"stack {self.name}: secret {secret} is a file of the master, which every node can read; make it with "
                "`docker secret create` and write `external: true`, or give an absolute path on the managers"
            )

    def _refused(self, said):
        return SwarmError("refused", f"stack {self.name}: {said}")

    def _failed(self, said):
        line = hints.failure(said)
        shown = self.hidden(self.files.readable(line))
        named = ", ".join(self.files.shown)
        return self._refused(f"docker stack deploy: {shown}; {hints.of_deployment(line)} ({named})")

    def _run(self, address):
        """(exit code, what it said)."""
        binary = shutil.which(self.binary)
        if not binary:
            raise SwarmError("refused", f"{self.binary} is not installed: apply the state docker")
        argv = [binary, "stack", "deploy", *self._options]
        for path in self.files.paths:
            argv += ["--compose-file", path]
        # What a shell has: values that may be given in `env`, and are recognised in a result if they are not.
        shell = {"HOME": self.files.home, "PWD": self.files.working}
        own = {
            "PATH": os.environ.get("PATH", os.defpath),
            "DOCKER_HOST": address,
            "DOCKER_CONFIG": os.path.join(self.home, ".docker"),
        }
        try:
            done = subprocess.run(
                [*argv, self.name],
                env={**shell, **self.env, **own},
                cwd=self.files.working,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=BOUND,
                check=False,
                stdin=subprocess.DEVNULL,
            )
        except subprocess.TimeoutExpired:
            cure = "see whether its registries answer, or set `resolve_image: never`"
            cause = f"docker stack deploy took over {BOUND} s"
            raise SwarmError("timeout", cause, cure, f"stack {self.name}") from None
        return done.returncode, done.stderr or (done.stdout if done.returncode else "")

    def hidden(self, value):
        """`value`, a text or what JSON has, without the values of `env`."""
        if isinstance(value, dict):
            return {key: self.hidden(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.hidden(item) for item in value]
        if not isinstance(value, str):
            return value
        for secret in sorted(self.env.values(), key=len, reverse=True):
            if len(secret) > 3:
                value = value.replace(secret, HIDDEN)
        return value


def _text(value):
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
