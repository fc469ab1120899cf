"""A Consul server with ACLs that all modules share, and our execution module as a minion loads it."""

import pathlib
import uuid

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


# -- calls of the consul module on that server --------------------------------------------------------------


@pytest.fixture(scope="module")
def configuration(consul_server):
    return {"consul.url": consul_server.url, "consul.token": consul_server.token}


@pytest.fixture(scope="module")
def salt(load_modules, configuration):
    return load_modules(**configuration)


@pytest.fixture
def consul(salt):
    """consul("put", key=...): calls consul.put and gives its `data`; asserts that `res` is True."""

    def call(function, /, **arguments):
        answer = salt[f"consul.{function}"](**arguments)
        assert answer["res"] is True, answer
        return answer.get("data", answer)

    return call


@pytest.fixture
def refused(salt):
    """refused("put", ...): calls consul.put, asserts that `res` is False and gives the whole answer."""

    def call(function, /, **arguments):
        answer = salt[f"consul.{function}"](**arguments)
        assert answer["res"] is False, answer
        assert answer["message"]
        return answer

    return call


@pytest.fixture
def name():
    return f"test-{uuid.uuid4()}"
