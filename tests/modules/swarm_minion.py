"""States and functions of a node of a swarm_site, called in this process: a salt-call costs seconds each."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]


class Minion:
    """:param site: a swarm_site.Site; `changed` are keys of the minion's configuration"""

    def __init__(self, site, name: str, **changed) -> None:
        self.name, self.site, self.changed = name, site, changed
        self.grains: dict = {"ip_interfaces": {}}
        self.options = {**yaml.safe_load((site.root / name / "minion").read_text()), **changed}

    def _loaded(self, folder: str, test: bool, file: str = "swarm"):
        """A file of the module `swarm` with the names that Salt's loader gives it."""
        spec = importlib.util.spec_from_file_location(f"{self.name}_{folder}_{file}", ROOT / folder / f"{file}.py")
        module = importlib.util.module_from_spec(spec)
        files = {"cp.get_file": self._copied}
        module.__opts__ = {**self.options, "test": test}
        module.__pillar__ = self.site.pillar
        module.__grains__ = self.grains
        module.__salt__ = files
        spec.loader.exec_module(module)
        return module

    def _copied(self, source: str, path: str, makedirs: bool = False) -> str:
        found = self.site.root / self.name / "states" / source[len("salt://") :]
        if not found.is_file():
            return ""
        shutil.copyfile(found, path)
        return path

    def call(self, function: str, *args, **kwargs):
        """Return what the execution function `swarm.NAME` returns."""
        name = function.partition(".")[2]
        for file in ("swarm", "swarm_keys", "swarm_upkeep"):
            found = getattr(self._loaded("_modules", False, file), name, None)
            if found:
                return found(*args, **kwargs)
        raise LookupError(function)

    def state(self, function: str, name: str, test: bool = False, **kwargs) -> dict:
        """Return what the state `swarm.NAME` returns."""
        return getattr(self._loaded("_states", test), function.partition(".")[2])(name, **kwargs)
