"""Programs that tests run: one that fails is shown with all that it said."""

import json
import subprocess

import pytest

BOUND = 300  # seconds; an idle machine needs a few for anything here that is given it


def parsed(done):
    """Return the JSON that a finished program printed; AssertionError with its exit code and output if it did not."""
    try:
        return json.loads(done.stdout)
    except ValueError:
        raise AssertionError(f"{done.args} ended with {done.returncode}: {done.stdout}\n{done.stderr}") from None


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(call):
    """Show what a program said that `check=True` or its time ended a test for: the exception alone does not."""
    report = (yield).get_result()
    error = call.excinfo and call.excinfo.value
    if isinstance(error, (subprocess.CalledProcessError, subprocess.TimeoutExpired)):
        for name in ("stdout", "stderr"):
            said = getattr(error, name)
            report.sections.append((f"{name} of the command", said.decode() if isinstance(said, bytes) else said or ""))
