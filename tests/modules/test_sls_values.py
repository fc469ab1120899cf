"""A name that YAML reads as something else, such as a number or `no`, reaches the states as the site file has it."""

from pathlib import Path

import pytest
import salt.config
import salt.loader
import salt.template

ROOT = Path(__file__).resolve().parents[2]
KEY = {"capabilities": ["listFiles"], "file": "1e3", "bucket": "123456"}
SITE = {
    "cluster": "123",
    "nodes": {"pi1": {"address": "192.0.2.1", "roles": ["master", "manager"]}},
    "users": {"admin": "no"},
    "b2": {"buckets": {"123456": {}}, "application_keys": {"1": KEY}},
    "cache": {"images": True, "image": "1:30"},
    "consul": {"image": "1:30"},
    "swarm": {"stacks": {"123": {"compose": "web.yml"}, "null": {"compose": "web.yml", "state": "absent"}}},
}


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    """arguments(SLS, ID): those of one state."""
    root = str(tmp_path_factory.mktemp("minion"))
    opts = salt.config.minion_config(None)
    grains = {"id": "pi1", "virtual": "physical"}
    opts.update(id="pi1", file_client="local", file_roots={"base": [str(ROOT / "salt")]}, grains=grains)
    opts.update(root_dir=root, cachedir=f"{root}/cache")
    opts.update(pillar={"rpiomega": SITE, "rpiomega_secrets": {"b2": {"key_id": "a", "key": "b"}}})
    renderers = salt.loader.render(opts, salt.loader.minion_mods(opts, utils=salt.loader.utils(opts)))

    def rendered(sls, name):
        path = str(ROOT / "salt" / f"{sls}.sls")
        state = salt.template.compile_template(path, renderers, "jinja|yaml", [], [], saltenv="base", sls=sls)[name]
        (given,) = state.values()
        return {key: value for item in given for key, value in item.items()}

    return rendered


@pytest.mark.parametrize(
    ("sls", "state", "argument", "value"),
    [
        ("b2/init", "b2.account", "name", "no"),
        ("b2/init", "b2.bucket.123456", "name", "123456"),
        ("b2/init", "b2.key.1", "name", "1"),
        ("docker/config", "docker.group", "addusers", ["no"]),
        ("consul/init", "consul.image", "name", "1:30"),
        ("consul/init", "consul.version", "image", "1:30"),
        ("consul/init", "consul.config", "image", "1:30"),
        ("consul/init", "consul.agent", "image", "1:30"),
        ("registry/init", "registry.image", "name", "1:30"),
        ("registry/init", "registry.container", "image", "1:30"),
        ("swarm/init", "swarm.member", "name", "123"),
        ("swarm/init", "swarm.stack.123", "name", "123"),
        ("swarm/init", "swarm.stack.null", "name", "null"),
    ],
)
def test_a_name_stays_text(arguments, sls, state, argument, value):
    assert arguments(sls, state)[argument] == value


def test_a_refused_release_of_consul_leaves_configuration_and_agent_alone(arguments):
    """Its syntax follows the release: written before a refusal, it would end the agent at its next start."""
    before = {"consul.version": "consul.image", "consul.config": "consul.version", "consul.agent": "consul.config"}
    for state, wanted in before.items():
        required = [name for one in arguments("consul/init", state)["require"] for name in one.values()]
        assert wanted in required, state
