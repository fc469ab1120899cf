"""State registry, and its use by the Docker Engine of every node."""

import pytest

from rpiomega.verify.suite.wanted import registry_of


@pytest.fixture
def registry(site):
    """The address of the master's registry."""
    if not site["cache"]["images"]:
        pytest.skip("the site has cache.images: false")
    return registry_of(site)


@pytest.mark.cure("on the master: sudo salt {node} state.apply docker")
def test_the_engine_asks_the_masters_registry_first(docker_info, registry):
    mirrors = docker_info["RegistryConfig"]["Mirrors"] or ["none"]
    assert mirrors[0].rstrip("/") == registry, f"its first mirror is {mirrors[0]}"


@pytest.mark.cure("on the master: sudo journalctl -u docker-registry; it ends if the registry behind it is not reached")
def test_the_masters_registry_answers(host, node, site, registry):
    if "master" not in node["roles"]:
        pytest.skip("only the master has the registry")
    if not site["cache"]["image"]:
        assert host.service("docker-registry").is_enabled, "docker-registry is not enabled"
    script = f"import urllib.request as r; print(r.urlopen('{registry}/v2/', timeout=5).status)"
    answer = host.run("python3 -c %s", script)
    assert answer.stdout.strip() == "200", f"{registry} says {(answer.stderr.strip() or 'nothing').splitlines()[-1]}"
