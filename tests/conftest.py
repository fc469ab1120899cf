"""Salt puts `_utils` on the module path when it loads our modules; the tests do the same."""

import contextlib
import logging
import pathlib
import sys
import tempfile

import commands
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "_utils"))
# yamllint's rules make `0o10` a number for every YAML loader of the process, and Salt's loader imports them where
# yamllint is installed: a linter of this checkout, of no minion.
sys.modules["yamllint"] = None


pytest_runtest_makereport = commands.pytest_runtest_makereport


def pytest_unconfigure():
    # Salt keeps early log records and hands them out as Python ends, when pytest has closed the stream.
    logging.raiseExceptions = False


@pytest.fixture
def short_folder():
    """A folder for sockets: their paths have at most 107 characters, and pytest's own folders are long."""
    with tempfile.TemporaryDirectory() as folder:
        yield pathlib.Path(folder)


@pytest.fixture
def states(tmp_path):
    """Give the states as a minion loads them: `with states(test=True, pillar={…}) as loaded`."""

    @contextlib.contextmanager
    def load(test=False, pillar=None, minion_id="node"):
        import salt.config
        import salt.loader

        opts = salt.config.minion_config(None)
        opts.update(
            id=minion_id,
            test=test,
            file_client="local",
            root_dir=str(tmp_path),
            cachedir=str(tmp_path / "cache"),
            extension_modules=str(tmp_path / "extmods"),
            utils_dirs=[str(ROOT / "_utils")],
            module_dirs=[str(ROOT)],
            file_roots={"base": [str(ROOT / "salt")]},
            pillar=pillar or {},
        )
        opts["grains"] = salt.loader.grains(opts)
        utils = salt.loader.utils(opts)
        modules = salt.loader.minion_mods(opts, utils=utils)
        yield salt.loader.states(opts, modules, utils, None)

    return load
