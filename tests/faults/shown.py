"""What goes wrong on the lab is printed as it happens: a run of all rows takes hours, pytest's own report ends it."""

from __future__ import annotations

import contextlib
import time

LONGEST = 3000  # characters of a cause


class Shown:
    """A pytest plugin. `say` prints a line at once, also where output is captured."""

    def __init__(self, config, folder: str) -> None:
        """`folder`: of whose tests failures are printed, as in a node ID."""
        self.config, self.folder = config, folder

    def say(self, text: str) -> None:
        """Print lines with the time of day."""
        plugins = self.config.pluginmanager
        reporter, capture = plugins.get_plugin("terminalreporter"), plugins.get_plugin("capturemanager")
        if reporter is None:
            return  # a worker of pytest-xdist: its reports are printed by the process that started it
        with capture.global_and_fixture_disabled() if capture else contextlib.nullcontext():
            reporter.ensure_newline()
            reporter.write_line(f"{time.strftime('%H:%M:%S')} {text}")
            reporter.flush()

    def pytest_runtest_logreport(self, report) -> None:
        """Print a failure with its cause and place; the traceback follows at the end."""
        if report.failed and report.nodeid.startswith(f"{self.folder}/"):
            self.say(failure(report))


def failure(report) -> str:
    """Return a failed report in words: the test, in which part of it, why, where."""
    part = {"setup": " while the cluster was made ready", "teardown": " after the row"}.get(report.when, "")
    crash = getattr(report.longrepr, "reprcrash", None)
    cause = crash.message if crash else str(report.longrepr)
    place = f" ({crash.path}:{crash.lineno})" if crash else ""
    return f"{report.nodeid.rpartition('::')[2]} failed{part}: {cause.strip()[:LONGEST]}{place}"
