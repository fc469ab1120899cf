"""A Consul server with ACLs that all modules share, and our execution module as a minion loads it."""

import pathlib

import pytest
from consul_server import ConsulServer

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def consul_server():
    """One real server, ACL default-deny."""
    with ConsulServer(acl=True) as server:
        yield server


@pytest.fixture
def minion_options(tmp_path):
    """Options of a minion that uses this checkout: minion_options(pillar=..., **configuration)."""

    def options(pillar=None, **configuration):
        import salt.config

        opts = salt.config.minion_config(None)
        opts.update(
            id="pi1",
            file_client="local",
            root_dir=str(tmp_path),
            cachedir=str(tmp_path / "cache"),
            extension_modules=str(tmp_path / "extmods"),
            utils_dirs=[str(ROOT / "_utils")],
            module_dirs=[str(ROOT)],
            pillar=pillar or {},
            **configuration,
        )
        return opts

    return options


@pytest.fixture
def load_modules(minion_options):
    """Execution modules as a minion loads them: load_modules(pillar=..., **configuration)["consul.get"]."""
    from saltfactories.utils.functional import Loaders

    def load(pillar=None, **configuration):
        return Loaders(minion_options(pillar, **configuration)).modules

    return load
