"""Carries an engine's settings out: data root, daemon.json, and as little of a restart as they need."""

import itertools
import json
import os

from omega.core import engine_fit, files, mask
from omega.docker import choice, config, data, engine, flags, logs, store

# What the site wanted last time ("ours"), and what the engine still needs ("pending": restart or reload).
RECORD = "/var/lib/rpiomega/docker.json"
# What a copy of the owner's file is called that the site's settings have taken something out of.
KEPT = ".before-rpiomega"
SEEN_BOUND = 15
# Where /info shows a setting that a reload takes over.
_SHOWN = {
    "labels": lambda info: info.get("Labels") or [],
    "registry-mirrors": lambda info: [url.rstrip("/") for url in info["RegistryConfig"]["Mirrors"] or []],
    # Until it is taken over, the engine joins no swarm.
    "live-restore": lambda info: [str(info["LiveRestoreEnabled"])],
}


class Settings:
    """The settings as they should be, beside what is there.

    :param path: daemon.json
    :param site: what the site wants in it
    :param service: omega.docker.service.Service, or what stands in for it
    :param move_data: whether the data may follow a changed data root
    :param defaults: settings for what neither site nor owner decides
    :param swarm: whether this node is to be in a swarm, which not all settings allow; None: nothing is judged
    :param info: decoded /info of the engine as it runs; None: none answers
    :raises omega.docker.config.ConfigError: daemon.json cannot be read, or does not fit the site's settings
    """

    def __init__(self, path, site, service, move_data=False, record=None, defaults=None, swarm=None, info=None):
        self.path, self.service, self.move_data, self.record = path, service, move_data, record or RECORD
        self.swarm = swarm
        self.program, self.arguments = service.program() if service else (None, [])
        self.flags = flags.settings(self.arguments)
        self.text = files.read(path)
        self.found = config.parse(path, self.text)
        self.known = config.parse(self.record, files.read(self.record))
        self.before = self.known.get("ours") or {}
        self.theirs = choice.merge(self.found, {}, self.before)
        if site.get("data-root") == data.DEFAULT and "data-root" not in self.theirs:
            site = {key: value for key, value in site.items() if key != "data-root"}
        if "data-root" in site:
            in_use = store.used(info) if info is not None else True
            site = config.image_store(site, self.found, self.before, in_use and store.holds_images(store.root()))
        try:
            self.ours, self.wanted = choice.settle(self.found, site, defaults or {}, self.before, self.flags, path)
        except choice.ChoiceError as error:
            raise config.ConfigError(str(error)) from error
        self.changes = mask.masked(config.difference(self.found, self.wanted))
        # The site's: a data root that the owner chose, on whatever disk, is used as it is.
        self.root = self.ours.get("data-root", data.DEFAULT)
        self.moves, self.kept = False, ""
        self.old_root = self.found.get("data-root") or self.found.get("graph") or data.DEFAULT
        self.images, self.info = None, info

    @property
    def remark(self):
        """What the reader should know besides, to end a comment with; mostly nothing."""
        return f"; {self.path} as its owner wrote it is kept in {self.kept}" if self.kept else ""

    def check(self):
        """Judge the settings, before anything is touched; return whether there is anything to do.

        :raises omega.docker.config.ConfigError, omega.docker.data.DataError: naming key or folder and the next step
        """
        if self.program is None:
            raise config.ConfigError("Docker is not installed: apply state docker.install")
        data.check_place(self.root)
        if self.swarm is not None:
            self._fit()
        if self.service.dependence() != data.dependence(self.root):
            self.changes["start only with its disk"] = data.mount_of(self.root) if self.root != data.DEFAULT else None
        if self.changes:
            self._judge()
        new_root = self.wanted.get("data-root", data.DEFAULT)
        if "data-root" in self.changes:
            self.moves = data.plan(self.old_root, new_root, self.move_data)
        self._plan_images(new_root)
        unfinished = data.incomplete(self.old_root) and not self.moves
        return bool(self.changes or self.pending or self.known.get("ours") != self.ours or unfinished)

    def _plan_images(self, new_root):
        features = self.wanted.get("features")
        if isinstance(features, dict) and features.get(config.IMAGE_STORE) is False:
            return
        self.images = store.move(self.old_root, new_root, self.root != data.DEFAULT, self.info)
        if self.images:
            self.images.plan(self.move_data, data.megabytes(self.old_root) if self.moves else 0)
            self.changes["images"] = {"old": self.images.old, "new": self.images.new}

    def _fit(self):
        """Refuse what the cluster cannot run with: said here, it costs no node that is half in it."""
        for key, why, cure in engine_fit.problems({**self.wanted, **self.flags}, swarm=self.swarm):
            where = f"docker.daemon.{key} of the site file" if key in self.ours else f"{key} in {self.path}"
            where = f"{key} in the unit of Docker (`systemctl cat docker`)" if key in self.flags else where
            raise config.ConfigError(f"{where}: {why}; {cure}, then apply again. Nothing was changed")

    def _judge(self):
        refusal = self._refusal(self.wanted)
        if not refusal:
            return
        if self._refusal(self.theirs):
            raise config.ConfigError(f"{self.path}: the engine refuses it: {refusal}. Correct it, then apply again")
        raise config.ConfigError(
            f"docker.daemon of the site file: the engine refuses it: {refusal}. {self.path} is as it was"
        )

    def _refusal(self, settings):
        """Return why the engine would not start with these settings, in its program's words; empty if it would."""
        try:
            config.validate(settings, self.program, self.arguments)
        except config.ConfigError as error:
            return str(error)
        options = settings.get("log-opts")
        driver = settings.get("log-driver") or self.flags.get("log-driver") or logs.DEFAULT
        options = options if isinstance(options, dict) else {}
        wrong = logs.unknown(driver, options)
        if wrong:
            return f"log-opts: {', '.join(wrong)}: no option of log driver {driver}"
        return "; ".join(f"log-opts: {clause}" for clause in logs.invalid(driver, options))

    @property
    def pending(self):
        """What is pending for these settings: "restart", "reload", or an empty text."""
        changes = config.difference(self.found, self.wanted)
        if self.images or config.needs_restart(changes) or self._known_pending() == "restart":
            return "restart"
        return "reload" if changes else self._known_pending()

    def _known_pending(self):
        # Up to 0.1 the record called it "owed".
        return self.known.get("pending", self.known.get("owed", ""))

    def write(self):
        """Put the settings in place, and record the pending restart or reload until the engine has done it.

        Where data moves, `restart` does that once it is there: after a power cut no engine starts on half of it.
        """
        pending = self.pending if self.copies or self.service.active() else ""
        self._remember(pending)
        problem = None if self.copies else self._place()
        if problem:
            files.write(self.record, json.dumps(self.known) + "\n", 0o600)
            raise config.ConfigError(problem)
        return pending

    def _place(self):
        """Write drop-in and daemon.json; return what went wrong, or None."""
        try:
            self.service.depend_on(data.dependence(self.root))
            if self.images:
                self.service.containerd_depends_on(data.dependence(self.root))
                self.images.place()
            if self.wanted != self.found:
                self._keep()
                self._put(json.dumps(self.wanted, indent=2) + "\n")
            for folder in (self.wanted.get("data-root", data.DEFAULT), self.images and self.images.new):
                data.complete(folder or self.root)
        except OSError as error:
            return f"{self.path} cannot be written: {error.strerror or error}"
        return None

    def _keep(self):
        """Keep a copy of the file beside it, before anything that the owner wrote there goes."""
        if self.text and choice.lost(self.found, self.wanted, self.before):
            self.kept = next(name for name in self._names() if files.read(name) in (None, self.text))
            files.write(self.kept, self.text, files.mode_of(self.path) or 0o644)

    def _names(self):
        yield f"{self.path}{KEPT}"
        yield from (f"{self.path}{KEPT}.{number}" for number in itertools.count(2))

    def restart(self):
        """Restart the engine with the new settings, its data moved if need be; return what went wrong, or None.

        If the engine does not start with them, it gets the old ones back.
        """
        problem = None
        if self.copies:
            problem = self.service.stop() or (self.service.stop_containerd() if self.images else None)
            problem = problem or self._copy() or self._place()
            problem = problem or (self.service.start_containerd() if self.images else None)
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
            if self.moves:
                data.copy(self.old_root, self.wanted.get("data-root", data.DEFAULT))
            if self.images:
                self.images.copy()
        except data.DataError as error:
            return str(error)
        return None

    def _back(self, problem, again):
        try:
            if files.read(self.path) != self.text:
                self._put(self.text)
            if self.images:
                self.images.back()
                self.service.containerd_depends_on(self._former())
                problem += "; " + said if (said := self.service.start_containerd()) else ""
            self.service.depend_on(self._former())
            files.write(self.record, json.dumps(self.known) + "\n", 0o600)
        except OSError as error:
            problem = f"{problem}; {self.path} cannot be written back: {error.strerror or error}"
        worse = again()
        now = f"and it does not run with the former ones either: {worse}" if worse else "the former ones are back"
        return f"the engine does not run with the new settings ({problem}); {now}"

    def _former(self):
        return data.dependence(self.before.get("data-root", data.DEFAULT))

    @property
    def copies(self):
        """Whether data is copied, for which the engine stands still."""
        return bool(self.moves or self.images)

    def _untold(self, base_url):
        """Return which reloaded setting the engine does not tell of, or None."""

        def seen():
            info = engine.info(base_url)
            for key, shown_in in _SHOWN.items():
                value = self.wanted.get(key, [])
                want = [str(each).rstrip("/") for each in (value if isinstance(value, list) else [value])]
                if key in self.changes and sorted(shown_in(info)) != sorted(want):
                    shown, asked = mask.masked(shown_in(info)), mask.masked(want)
                    return f"{key} is {shown} after a reload, not {asked}; see `journalctl -u docker`"
            return None

        return engine.wait(seen, SEEN_BOUND)

    def _put(self, text):
        if text is None:
            files.remove(self.path)
        else:
            # A link stays one: the owner keeps the file elsewhere.
            files.write(os.path.realpath(self.path), text, files.mode_of(self.path) or 0o644)

    def _remember(self, pending):
        files.write(self.record, json.dumps({**self.known, "ours": self.ours, "pending": pending}) + "\n", 0o600)
