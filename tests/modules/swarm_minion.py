"""States and functions of a node of a swarm_site, called in this process: a salt-call costs seconds each."""

from __future__ import annotations

import salt.config
from saltfactories.utils.functional import Loaders


class Minion:
    """:param site: a swarm_site.Site; `changed` are keys of the minion's configuration"""

    def __init__(self, site, name: str, **changed) -> None:
        self.name = name
        self.config = str(site.root / name / "minion")
        self.changed = changed
        self._loaders = None

    def _modules(self):
        if self._loaders is None:
            opts = salt.config.minion_config(self.config)
            opts["utils_dirs"] = [f"{opts['module_dirs'][0]}/_utils"]
            opts.update(self.changed)
            self._loaders = Loaders(opts)
        return self._loaders.modules

    def call(self, function: str, *args, **kwargs):
        """Return what the execution function returns."""
        return self._modules()[function](*args, **kwargs)

    def state(self, function: str, name: str, **kwargs) -> dict:
        """Return what `state.single` makes of one state; test=True as on the command line."""
        returned = self.call("state.single", function, name, **kwargs)
        assert isinstance(returned, dict), returned
        return next(iter(returned.values()))
