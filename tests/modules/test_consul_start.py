"""A master that was re-created, with its secrets and without: it never starts a second Consul cluster."""

import shutil

import pytest
from consul_site import ConsulSite, until
from dockerds import missing

from omega.consul import servers as consul_servers
from omega.secrets import store as secrets_store

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(missing()), reason=missing())]
ROLES = {"pi1": ["master", "manager"], "pi2": ["manager"], "pi3": ["manager"]}


def new_card(site):
    """The master's agent and all it knew are gone, the secrets too."""
    site["pi1"].stop(kill=True)
    site["pi1"].wipe()
    shutil.rmtree(site["pi1"].config)
    (site.root / "marker").unlink()
    kept, site.store = site.store, secrets_store.Store(site.root / "made-again")
    return kept


@pytest.fixture
def site():
    """Three servers of one cluster."""
    with ConsulSite(ROLES) as site:
        yield site


def test_a_master_made_anew_is_refused_without_its_secrets(site, states):
    for name in ("pi2", "pi3"):  # servers that belong to no cluster yet
        site[name].write()
        site[name].start()
        log = site[name].folder / "log"
        until(lambda log=log: "agent running" in log.read_text(), f"{name} to run")
    assert "bootstrap.json" in site["pi1"].configure(states)["changes"]["files"]
    site.apply()

    new_card(site)
    for test in (True, False):
        done = site["pi1"].configure(states, test=test)
        assert (done["result"], done["changes"]) == (False, {})
        assert "with another certificate authority than this master's secrets" in done["comment"], done
        assert "put the copy of /etc/rpiomega/secrets back" in done["comment"]
    assert not site["pi1"].config.exists()
    before = site["pi2"].settings()
    done = site["pi2"].configure(states)
    assert (done["result"], done["changes"]) == (False, {})
    assert "another certificate authority and gossip key" in done["comment"], done
    assert site["pi2"].settings() == before


@pytest.mark.long
def test_a_master_made_anew_joins_with_its_secrets(site, states):
    site.apply()
    consul_servers.wait_good(site["pi1"].management(), tuple(ROLES), 60)
    site["pi1"].management().put("rpiomega/kept", {"by": "the cluster"})

    site.store = new_card(site)  # without the marker: a copy from before it was written
    assert "bootstrap.json" not in site["pi1"].configure(states)["changes"]["files"]
    site["pi1"].start()
    consul_servers.wait_good(site["pi2"].client(site.management()), tuple(ROLES), 60)
    assert site["pi1"].management().get("rpiomega/kept").json() == {"by": "the cluster"}
