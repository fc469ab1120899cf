"""Carries an engine's settings out: data root, daemon.json, and as little of a restart as they need."""

import json

from omega.core import files
from omega.docker import config, data, engine

# What the site wanted last time ("ours"), and what the engine has still to do ("owed": restart or reload).
RECORD = "/var/lib/rpiomega/docker.json"
TOLD_BOUND = 15
# Under what name /info tells of a setting that a reload takes over.
_TOLD = {
    "labels": lambda info: info.get("Labels") or [],
    "registry-mirrors": lambda info: [url.rstrip("/") for url in info["RegistryConfig"]["Mirrors"] or []],
}


class Settings:
    """The settings as they should be, beside what is there.

    :param path: daemon.json
    :param ours: what the site wants in it
    :param service: omega.docker.service.Service, or what stands in for it
    :param move_data: whether the data may follow a changed data root
    :raises omega.docker.config.ConfigError: daemon.json cannot be read
    """

    def __init__(self, path, ours, service, move_data=False, record=None):
        self.path, self.service, self.move_data, self.record = path, service, move_data, record or RECORD
        self.text = files.read(path)
        self.found = config.parse(path, self.text)
        self.known = config.parse(self.record, files.read(self.record))
        before = self.known.get("ours") or {}
        self.ours = config.image_store(ours, self.found, before, data.in_containerd())
        self.wanted = config.merge(self.found, self.ours, before)
        self.changes = config.difference(self.found, self.wanted)
        self.root = self.wanted.get("data-root", data.DEFAULT)
        self.moves = False

    @property
    def remark(self):
        """What the reader should know besides, to end a comment with; mostly nothing."""
        features = self.wanted.get("features")
        below = isinstance(features, dict) and features.get(config.IMAGE_STORE) is False
        if self.root == data.DEFAULT or below or not data.in_containerd():
            return ""
        return "; the images in /var/lib/containerd are not on the disk of data_root: see docs/docker.md, Data root"

    def check(self):
        """Judge the settings, before anything is touched; return whether there is anything to do.

        :raises omega.docker.config.ConfigError, omega.docker.data.DataError: naming key or folder and the next step
        """
        program, flags = self.service.program()
        if program is None:
            raise config.ConfigError("Docker is not installed: apply state docker.install")
        data.check_place(self.root)
        if self.service.dependence() != data.dependence(self.root):
            self.changes["start only with its disk"] = data.mount_of(self.root) if self.root != data.DEFAULT else None
        if self.changes:
            try:
                config.validate(self.wanted, program, flags)
            except config.ConfigError as error:
                raise config.ConfigError(
                    f"docker.daemon of the site file: the engine refuses it: {error}. {self.path} is as it was"
                ) from error
        if "data-root" in self.changes:
            self.moves = data.plan(self.found.get("data-root", data.DEFAULT), self.root, self.move_data)
        return bool(self.changes or self.owed or self.known.get("ours") != self.ours)

    @property
    def owed(self):
        """What the engine has still to do for these settings: "restart", "reload", or an empty text."""
        changes = config.difference(self.found, self.wanted)
        if config.needs_restart(changes) or self.known.get("owed") == "restart":
            return "restart"
        return "reload" if changes else self.known.get("owed", "")

    def write(self):
        """Put the settings in place, remembering what the engine owes until it has done it.

        Where data moves, `restart` does that once it is there: after a power cut no engine starts on half of it.
        """
        owed = self.owed if self.moves or self.service.active() else ""
        self._remember(owed)
        if not self.moves:
            self._place()
        return owed

    def _place(self):
        self.service.depend_on(data.dependence(self.root))
        if self.wanted != self.found:
            self._put(json.dumps(self.wanted, indent=2) + "\n")

    def restart(self):
        """Restart the engine with the new settings, its data moved if need be; return what went wrong, or None.

        If the engine does not start with them, it gets the old ones back.
        """
        problem = None
        if self.moves:
            problem = self.service.stop() or self._copy()
            if problem is None:
                self._place()
        problem = problem or self.service.restart()
        if problem is None:
            self._remember("")
            return None
        return self._back(problem, self.service.restart)

    def reload(self, base_url=engine.SOCKET):
        """Have the running engine take the new settings over; return what went wrong, or None."""
        problem = self.service.reload() or self._untold(base_url)
        if problem is None:
            self._remember("")
            return None
        return self._back(problem, self.service.reload)

    def _copy(self):
        try:
            data.copy(self.found.get("data-root", data.DEFAULT), self.root)
        except data.DataError as error:
            return str(error)
        return None

    def _back(self, problem, again):
        self._put(self.text)
        self.service.depend_on(data.dependence(self.found.get("data-root", data.DEFAULT)))
        files.write(self.record, json.dumps(self.known) + "\n")
        worse = again()
        now = f"and it does not run with the former ones either: {worse}" if worse else "the former ones are back"
        return f"the engine does not run with the new settings ({problem}); {now}"

    def _untold(self, base_url):
        """Return which reloaded setting the engine does not tell of, or None."""

        def seen():
            info = engine.info(base_url)
            for key, told in _TOLD.items():
                want = [str(value).rstrip("/") for value in self.wanted.get(key, [])]
                if key in self.changes and sorted(told(info)) != sorted(want):
                    return f"{key} is {told(info)} after a reload, not {want}; see `journalctl -u docker`"
            return None

        return engine.wait(seen, TOLD_BOUND)

    def _put(self, text):
        if text is None:
            files.remove(self.path)
        else:
            files.write(self.path, text, files.mode_of(self.path) or 0o644)

    def _remember(self, owed):
        files.write(self.record, json.dumps({**self.known, "ours": self.ours, "owed": owed}) + "\n")
