"""What salt/swarm gives its states: the site's keys, under names the states know."""

import importlib.util
import inspect
from pathlib import Path

import pytest
import salt.config
import salt.loader
import salt.template
import yaml

ROOT = Path(__file__).resolve().parents[2]
NODES = {
    "pi1": {"address": "192.0.2.1", "roles": ["master", "manager"]},
    "pi2": {"address": "192.0.2.2", "roles": ["worker"]},
}
EVERY_SETTING = {
    "autolock": True,
    "unlock": "never",
    "task_history": 3,
    "heartbeat_tick": 2,
    "election_tick": 20,
    "snapshot_interval": 1,
    "keep_old_snapshots": 0,
    "log_entries_for_slow_followers": 0,
    "dispatcher_heartbeat": "9s",
    "cert_expiry": "30d",
    "external_cas": [],
    "ca_force_rotate": 0,
    "labels": {"a": "b"},
    "labels_state": "replace",
}
STACK = {
    "compose": "web/compose.yml",
    "overrides": ["web/more.yml"],
    "env": {"A": "1"},
    "prune": True,
    "resolve_image": "never",
    "with_registry_auth": True,
    "wait": False,
    "timeout": 9,
}


@pytest.fixture(scope="module")
def render(tmp_path_factory):
    """The states of one node, {ID: (function, arguments)}, with these keys of the site's section `swarm`."""
    root = tmp_path_factory.mktemp("minion")

    def rendered(node, **swarm):
        site = {"cluster": "omega", "nodes": NODES, "swarm": swarm}
        opts = salt.config.minion_config(None)
        opts.update(id=node, file_client="local", file_roots={"base": [str(ROOT / "salt")]}, grains={"id": node})
        opts.update(root_dir=str(root), cachedir=str(root / "cache"), pillar={"rpiomega": site})
        functions = salt.loader.minion_mods(opts, utils=salt.loader.utils(opts))
        renderers = salt.loader.render(opts, functions)
        sls = str(ROOT / "salt" / "swarm" / "init.sls")
        found = salt.template.compile_template(sls, renderers, "jinja|yaml", [], [], saltenv="base", sls="swarm")
        found.pop("include")
        return {name: _call(state) for name, state in found.items()}

    return rendered


def _call(state):
    ((function, arguments),) = state.items()
    return function, {key: value for item in arguments for key, value in item.items()}


@pytest.fixture(scope="module")
def states():
    spec = importlib.util.spec_from_file_location("swarm_states", ROOT / "_states" / "swarm.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_the_site_does_not_set_is_not_given_to_the_state(render):
    made = render("pi1")
    assert [name for name in made if name.startswith("swarm.stack")] == []
    given = made["swarm.cluster"][1]
    assert given == {
        "name": "omega",
        "unlock": "keep",
        "labels": {},
        "labels_state": "merge",
        "require": [{"swarm": "swarm.member"}],
    }
    assert not {"data_path_addr", "data_path_port", "default_addr_pool", "subnet_size"} & set(made["swarm.member"][1])


def test_every_setting_of_the_site_reaches_its_state_by_a_name_it_knows(render, states):
    schema = yaml.safe_load((ROOT / "salt" / "rpiomega" / "site.yaml").read_text())["site"]["swarm"]
    assert set(EVERY_SETTING) == set(schema["spec"])
    fixed = {"data_path_addr": "eth1", "data_path_port": 4790, "default_addr_pool": ["10.1.0.0/16"], "subnet_size": 26}
    made = render("pi1", spec=EVERY_SETTING, stacks={"web": STACK, "old": {"compose": "x", "state": "absent"}}, **fixed)
    for name, function in (("swarm.member", "member"), ("swarm.cluster", "cluster")):
        given = made[name][1]
        assert fixed.items() <= given.items()
        assert set(given) - {"require"} <= set(inspect.signature(getattr(states, function)).parameters)
    assert EVERY_SETTING.items() <= made["swarm.cluster"][1].items()
    function, given = made["swarm.stack.web"]
    assert function == "swarm.stack"
    files = ["web/compose.yml", "web/more.yml"]
    kept = {key: value for key, value in STACK.items() if key != "overrides"}
    assert {**kept, "compose": files}.items() <= given.items()
    assert set(given) - {"require"} <= set(inspect.signature(states.stack).parameters)
    assert made["swarm.stack.old"][0] == "swarm.stack_absent"
    worker = render("pi2", stacks={"web": STACK})
    assert "swarm.cluster" in worker
    assert "swarm.stack.web" not in worker


def test_every_function_and_state_is_documented(states, load_modules):
    loaded = load_modules()
    functions = {name: loaded[name] for name in loaded if name.startswith("swarm.")}
    assert {"swarm.info", "swarm.rotate_ca", "swarm.reconcile_nodes", "swarm.look_after"} < set(functions)
    named = ("member", "nodes_managed", "tended", "absent", "cluster", "node", "stack", "stack_absent")
    for name, function in {**functions, **{name: getattr(states, name) for name in named}}.items():
        own = [f":param {parameter}:" for parameter in inspect.signature(function).parameters]
        wanted = [*own, ":return:"] + (["CLI Example:", ":raises CommandExecutionError:"] if name in functions else [])
        assert [text for text in wanted if text not in function.__doc__] == [], name


def test_names_of_earlier_versions_are_the_same_states_and_functions(tmp_path):
    opts = salt.config.minion_config(None)
    opts.update(id="pi1", module_dirs=[str(ROOT)], root_dir=str(tmp_path), cachedir=str(tmp_path), file_client="local")
    functions = salt.loader.minion_mods(opts, utils=salt.loader.utils(opts))
    states = salt.loader.states(opts, functions, salt.loader.utils(opts), None)
    assert states["swarm.tended"].__doc__ == states["swarm.nodes_managed"].__doc__
    assert functions["swarm.look_after"].__doc__ == functions["swarm.reconcile_nodes"].__doc__
