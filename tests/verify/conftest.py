"""What `pytest tests/verify --hosts=…` needs to know: the site file, and which of its nodes a host is.

    pytest tests/verify --site pillar/site.sls --hosts=ssh://pi@192.168.1.10,ssh://pi@192.168.1.11 --sudo
    sudo pytest tests/verify --site /srv/rpiomega/pillar/site.sls --hosts='salt://*'
"""

import json
import pathlib

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]


def pytest_addoption(parser):
    parser.addoption("--site", default=str(ROOT / "pillar/site.sls"), help="the site file the cluster was made from")


@pytest.fixture(scope="session")
def site(pytestconfig):
    """The site file over the formula's defaults, one level deep."""
    defaults = yaml.safe_load((ROOT / "salt/rpiomega/site.yaml").read_text())["site"]
    for key, value in yaml.safe_load((ROOT / "salt/rpiomega/defaults.yaml").read_text()).items():
        defaults[key] = {**defaults[key], **value}
    own = yaml.safe_load(pathlib.Path(pytestconfig.getoption("site")).read_text())["rpiomega"]
    merged = {**defaults, **own}
    for key, value in defaults.items():
        if isinstance(value, dict):
            merged[key] = {**value, **(own.get(key) or {})}
    return merged


@pytest.fixture(scope="module")
def name(host):
    """The node's own name for itself."""
    return host.check_output("hostname")


@pytest.fixture(scope="module")
def node(site, name):
    """The site's entry of this node."""
    assert name in site["nodes"], f"the host calls itself {name}, which the site file does not know"
    return site["nodes"][name]


@pytest.fixture(scope="module")
def docker_info(host):
    """What the node's engine says of itself."""
    return json.loads(host.check_output("docker info --format '{{json .}}'"))


@pytest.fixture(scope="module")
def consul(host, site):
    """Run the `consul` program of the node's agent with the node's own token; give its output."""

    def run(arguments, allowed=(0,)):
        # The token goes from file to environment inside the node: it is in no argument list and no test output.
        script = (
            "CONSUL_HTTP_TOKEN=$(python3 -c \"import json;print(json.load(open('{dir}/consul.json'))"
            "['acl']['tokens']['agent'])\") docker exec -e CONSUL_HTTP_TOKEN {container} consul {arguments}"
        ).format(dir=site["consul"]["config_dir"], container=site["consul"]["container"], arguments=arguments)
        result = host.run(script)
        assert result.rc in allowed, f"consul {arguments}: {result.stderr}"
        return result.stdout

    return run
