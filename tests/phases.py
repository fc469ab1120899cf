"""Pytest plugin: how long each folder of tests took, before pytest's own last line."""

import collections
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
durations = collections.Counter()


@pytest.hookimpl
def pytest_runtest_logreport(report):
    folder = pathlib.PurePath(report.nodeid.partition("::")[0]).parent
    durations[str(folder)] += report.duration


@pytest.hookimpl
def pytest_terminal_summary(terminalreporter):
    parts = ", ".join(f"{folder} {seconds:.0f} s" for folder, seconds in durations.items())
    terminalreporter.write_line(f"phases: {parts}")
