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


@pytest.fixture(scope="session")
def load_modules(tmp_path_factory):
    """Execution modules as a minion loads them: load_modules(pillar=..., **configuration)["consul.get"]."""
    import salt.config
    from saltfactories.utils.functional import Loaders

    def load(pillar=None, **configuration):
        root = tmp_path_factory.mktemp("minion")
        opts = salt.config.minion_config(None)
        opts.update(
            id="pi1",
            file_client="local",
            root_dir=str(root),
            cachedir=str(root / "cache"),
            extension_modules=str(root / "extmods"),
            utils_dirs=[str(ROOT / "_utils")],
            module_dirs=[str(ROOT)],
            pillar=pillar or {},
            **configuration,
        )
        return Loaders(opts).modules

    return load
