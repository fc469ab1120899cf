"""What `pytest tests/verify --hosts=…` needs to know: the site file, which node a host is, where the answers go.

    pytest tests/verify --site pillar/site.sls --hosts=ssh://pi@192.168.1.10,ssh://pi@192.168.1.11 --sudo
    pytest tests/verify --site /srv/rpiomega/pillar/site.sls --hosts='salt://*'      # on the master: docs/verify.md

A file has the checks of one state (`test_docker.py`: `docker`). A check's name says, as a sentence, what it checks;
its marker `cure` (of the function or the file) says what to do when it does not hold. `--report FILE` takes one JSON
line per check and node; `rpiomega verify` makes its report of them.
"""

import json
import pathlib
import re

import pytest
import yaml

from rpiomega.verify.suite.wanted import docker_of, read_site

NOT_A_STATE = {"board": "rpiomega bootstrap {node}"}
FAILED = re.compile(
    r"Unexpected exit code (?P<code>\d+) for CommandResult\(.*?, command=b(['\"])(?P<command>.*?)\2, "
    r"_stdout=b(['\"])(?P<stdout>.*?)\4, _stderr=b(['\"])(?P<stderr>.*?)\6\)",
    re.DOTALL,
)
APPLY = "on the master: sudo salt {node} state.apply {state}"


def pytest_addoption(parser):
    parser.addoption("--site", default="pillar/site.sls", help="the site file the cluster was made from")
    parser.addoption("--report", help="file for one JSON line per check and node; with --collect-only, of all checks")


def pytest_configure(config):
    config.addinivalue_line("markers", "cure(text): what to do when the check fails; {node} is the node's name")


def described(item):
    """Return a check as the report knows it: state, name, name as a sentence (`promise`), cure."""
    state = item.path.stem.removeprefix("test_")
    marker = item.get_closest_marker("cure")
    cure = marker.args[0] if marker else NOT_A_STATE.get(state, APPLY.replace("{state}", state))
    check = item.originalname.removeprefix("test_")
    return {"state": state, "check": check, "promise": check.replace("_", " "), "cure": cure}


def write(config, rows):
    if rows and config.getoption("--report"):
        with open(config.getoption("--report"), "a", encoding="utf-8") as file:
            file.writelines(f"{json.dumps(row)}\n" for row in rows)


def pytest_collection_finish(session):
    if session.config.option.collectonly:
        write(session.config, [described(item) for item in session.items])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.when == "call" or (report.when == "setup" and not report.passed):
        row = described(item)
        row["node"] = node_name(item.funcargs["host"], item.config) if "host" in item.funcargs else ""
        row["cure"] = row["cure"].replace("{node}", row["node"])
        row["result"] = {"passed": "ok"}.get(report.outcome, report.outcome)
        row["cause"] = "" if report.passed else cause(call.excinfo.value)
        write(item.config, [row])
    return report


def cause(error):
    """Return the first line of what an error says: the check's own words, not pytest's rewriting of the expression."""
    text = str(getattr(error, "msg", "") or error)
    # testinfra's own, for a command it did not expect to fail: what the command said is more to the point.
    if failed := FAILED.search(text):
        command = failed["command"].removeprefix("sudo /bin/sh -c ").strip("'")
        said = (failed["stderr"] or failed["stdout"] or "no word").replace("\\n", " ").strip()
        return f"`{command}` ends with {failed['code']}: {said}"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def node_name(host, config):
    """Return which node of the site a host is: by the name it is reached by, else by its own name for itself."""
    known = yaml.safe_load(pathlib.Path(config.getoption("--site")).read_text())["rpiomega"]["nodes"]
    if host.backend.hostname in known:
        return host.backend.hostname
    if not hasattr(host, "own_name"):
        host.own_name = host.check_output("hostname")
    return host.own_name


@pytest.fixture(scope="session")
def site(pytestconfig):
    """The site file over the formula's defaults."""
    return read_site(pytestconfig.getoption("--site"))


@pytest.fixture(scope="module")
def name(host, pytestconfig):
    """The node's name."""
    return node_name(host, pytestconfig)


@pytest.fixture(scope="module")
def node(site, name):
    """The site's entry of this node."""
    assert name in site["nodes"], f"the host calls itself {name}, which the site file does not know"
    return site["nodes"][name]


@pytest.fixture(scope="module")
def docker(site, node):
    """Docker's settings on this node."""
    return docker_of(site, node)


@pytest.fixture(scope="module")
def docker_info(host):
    """What the node's engine says of itself."""
    answer = host.run("docker info --format '{{json .}}'")
    assert answer.rc == 0, f"the Docker Engine does not answer: {answer.stderr.strip()}"
    return json.loads(answer.stdout)


@pytest.fixture(scope="module")
def consul(host, site):
    """Run the `consul` program of the node's agent with the node's own token; give its output."""

    def run(arguments):
        # The token goes from file to environment inside the node: it is in no argument list, test output or job cache.
        # It does not begin with NAME=: Salt would take it for a keyword argument.
        script = (
            "export CONSUL_HTTP_TOKEN=$(python3 -c \"import json;print(json.load(open('{dir}/consul.json'))"
            "['acl']['tokens']['agent'])\") && docker exec -e CONSUL_HTTP_TOKEN {container} consul {arguments}"
        ).format(dir=site["consul"]["config_dir"], container=site["consul"]["container"], arguments=arguments)
        result = host.run(script)
        assert result.rc == 0, f"`consul {arguments}` fails: {(result.stderr.strip() or 'no word').splitlines()[-1]}"
        return result.stdout

    return run
