"""State packages."""

import pytest

PROXY = "/usr/local/lib/rpiomega/apt-cache-proxy"


@pytest.fixture
def cache(site):
    """The address of the master's package cache."""
    if not site["cache"]["packages"]:
        pytest.skip("the site has cache.packages: false")
    master = next(entry for entry in site["nodes"].values() if "master" in entry["roles"])
    return f"http://{master['address']}:{site['cache']['packages_port']}"


def test_the_packages_of_formula_site_role_and_node_are_installed(host, site, node):
    wanted = site["packages"]["development"] + site["packages"]["extra"] + node["packages"]
    for role in node["roles"]:
        wanted = wanted + site["packages"]["roles"].get(role, [])
    missing = [package for package in wanted if not host.package(package).is_installed]
    assert missing == [], f"not installed: {', '.join(missing)}"


def test_apt_looks_for_the_masters_cache(host, cache):
    found = host.check_output("apt-config dump Acquire::http::Proxy-Auto-Detect")
    assert f'"{PROXY}"' in found, "apt does not ask for it"
    answer = host.run(f"{PROXY} http://deb.debian.org/")
    # Without an answer apt goes on alone, and so do the states: the broken cache is the master's finding.
    assert answer.rc == 0, f"{PROXY} ends with {answer.rc}, which is an error to apt"
    assert answer.stdout.strip() in ("", cache), f"it says {answer.stdout.strip()}"


@pytest.mark.cure("on the master: sudo systemctl restart apt-cacher-ng")
def test_the_masters_cache_answers(host, node, cache):
    if "master" not in node["roles"]:
        pytest.skip("only the master has the cache")
    assert host.service("apt-cacher-ng").is_enabled, "apt-cacher-ng is not enabled"
    assert host.check_output(PROXY) == cache, f"nothing answers at {cache}"
