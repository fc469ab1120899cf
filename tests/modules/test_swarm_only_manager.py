"""The certificate of the only manager, on a real daemon: what the engine refuses, and what brings it back.

Daemons share this machine's clock, so the certificate is moved in time instead: "the clock is an hour before the end"
is here a certificate that ends in an hour.
"""

import datetime
import re
import subprocess

import pytest
from consul_server import ConsulServer
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from dockerds import Dockerds, missing
from swarm_site import Site, own_ca

from omega.core.polling import until
from omega.swarm.api import Engine
from omega.swarm.record import RECORD

pytestmark = [pytest.mark.long, pytest.mark.skipif(bool(missing()), reason=missing() or "runs")]
DAY, HOUR = datetime.timedelta(days=1), datetime.timedelta(hours=1)
SERVICE = {
    "Name": "kept", "Mode": {"Replicated": {"Replicas": 0}}, "TaskTemplate": {"ContainerSpec": {"Image": "none"}},
}  # fmt: skip


def now():
    return datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A swarm of one manager, with a service."""
    with Dockerds(["pi1"]) as started, ConsulServer(acl=True, address=f"{started.subnet}.1") as consul:
        site = Site(started, {"pi1": "manager"}, consul, tmp_path_factory.mktemp("site"), inside=True)
        site.consul = consul
        site.form()
        api = Engine(started["pi1"].base_url).api
        api._raise_for_status(api._post_json(api._url("/services/create"), SERVICE))
        yield site


@pytest.fixture(scope="module")
def authority(site, tmp_path_factory):
    """(certificate, key) of the swarm's authority: one of our own, so that its certificates can be re-dated."""
    cert, key = own_ca(tmp_path_factory.mktemp("ca"))

    def own(spec):
        own = {"SigningCACert": cert.read_text(), "SigningCAKey": key.read_text()}
        return {**spec, "CAConfig": {**spec.get("CAConfig", {}), **own}}

    engine = Engine(site.dockerds["pi1"].base_url)
    engine.update_swarm(own)
    until(lambda: engine.cluster()["TLSInfo"]["TrustRoot"].strip() == cert.read_text().strip(), 60, "the new authority")
    until(lambda: certificate(site).issuer.rfc4514_string() == "CN=own", 60, "a certificate of it")
    loaded = x509.load_pem_x509_certificate(cert.read_bytes())
    return loaded, serialization.load_pem_private_key(key.read_bytes(), None)


def path_of(site):
    return site.dockerds["pi1"].root / "data/swarm/certificates/swarm-node.crt"


def certificate(site):
    return x509.load_pem_x509_certificates(path_of(site).read_bytes())[0]


def redate(site, authority, begin, end):
    """Give the node, at its next start, its own certificate with other dates, signed by the swarm's authority."""
    ca, key = authority
    site.dockerds["pi1"].stop()
    old = certificate(site)
    made = x509.CertificateBuilder(ca.subject, old.subject, old.public_key(), old.serial_number)
    made = made.not_valid_before(begin).not_valid_after(end)
    for extension in old.extensions:
        made = made.add_extension(extension.value, extension.critical)
    path_of(site).write_bytes(made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    site.dockerds["pi1"].start()


def test_f34_the_only_manager_renews_its_certificate_at_a_clock_before_its_end(site, authority):
    pi1 = site.dockerds["pi1"]
    cluster_id = site.consul.client().get(RECORD).json()["cluster_id"]
    redate(site, authority, now() - 91 * DAY, now() - HOUR)
    until(lambda: pi1.info()["LocalNodeState"] == "error", 60, "the engine to say what it makes of it")
    for allowed, words in ((False, "rejoin=True"), (True, "Certificate of the only manager")):
        result = site.apply("pi1", rejoin=allowed)["pi1"]
        assert (result["result"], result["changes"]) == (False, {})
        assert "expired at" in result["comment"]
        assert words in result["comment"], result["comment"]
    # Why no command of the product does it: the engine starts a swarm by force only on a manager that runs.
    forced = subprocess.run(
        ["docker", "-H", pi1.base_url, "swarm", "init", "--force-new-cluster"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert forced.returncode
    assert re.search("not a swarm manager", forced.stderr), forced.stderr

    redate(site, authority, now() - 90 * DAY, now() + HOUR)
    until(lambda: certificate(site).not_valid_after_utc > now() + DAY, 60, "a certificate renewed")
    engine = Engine(pi1.base_url)
    until(lambda: not engine.local().leaderless, 60, "a leader")
    year = {"NodeCertExpiry": 365 * 24 * 3600 * 10**9}  # ns; `docker swarm update --cert-expiry 8760h`
    engine.update_swarm(lambda spec: {**spec, "CAConfig": {**spec["CAConfig"], **year}})
    redate(site, authority, now() - 90 * DAY, now() + HOUR)
    until(lambda: certificate(site).not_valid_after_utc > now() + 364 * DAY, 60, "a certificate for a year")
    pi1.restart()
    until(lambda: not engine.local().leaderless, 60, "a leader")
    assert engine.local().cluster_id == cluster_id
    assert [service["Spec"]["Name"] for service in engine.api.services()] == ["kept"]
    again = site.apply("pi1")["pi1"]
    assert (again["result"], again["changes"]) == (True, {}), again["comment"]
