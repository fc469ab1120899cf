"""Salt from a repository laid out and signed as Salt's own: one point release, then the next with another Python."""

import subprocess
import sys

import pytest
import yaml

from rpiomega.lab import engine, lifecycle, remote, state, vendor

pytestmark = pytest.mark.long
LIBRARIES = "sudo /opt/saltstack/salt/bin/python3 -c 'import consul, docker; print(docker.__file__)'"


@pytest.fixture(scope="module")
def lab():
    client = engine.connect()
    lifecycle.down(client, "onedir")
    made = lifecycle.up(client, state.Lab("onedir", "trixie", 1, vendor="docker salt"), print)
    served = vendor.repositories(client, made)["salt"]
    made.releases, made.repository = served["versions"], served["repository"]
    yield made
    lifecycle.down(client, "onedir")


def bootstrap(lab, **salt):
    content = yaml.safe_load(lab.site_file.read_text())
    content["rpiomega"]["salt"].update(salt)
    lab.site_file.write_text(yaml.safe_dump(content))
    command = [sys.executable, "-m", "rpiomega", "bootstrap", "--site", str(lab.site_file)]
    return subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)


def on_board(lab, command):
    return remote.run(lab, lab.node_names()[0], command, 120)


def installed(lab):
    text = on_board(lab, "dpkg-query -W -f '${Package} ${Version}\\n' salt-common salt-minion salt-master")
    return dict(line.split() for line in text.splitlines())


def test_a_key_of_another_fingerprint_is_refused(lab):
    pinned = lab.repository["fingerprint"]
    done = bootstrap(lab, source="onedir", repository={**lab.repository, "fingerprint": "0" * 40})
    assert done.returncode == 1
    assert f"Salt's signing key is {pinned}, expected {'0' * 40}" in done.stdout + done.stderr


def test_the_release_of_the_site_is_installed_and_kept(lab):
    older, newer = lab.releases
    done = bootstrap(lab, version=older, repository=lab.repository)
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(installed(lab).values()) == {older}
    on_board(lab, LIBRARIES)
    assert "salt-minion" not in on_board(lab, "sudo apt-get -qq update; apt-get -s upgrade | grep ^Inst || true")
    assert newer in on_board(lab, "apt-cache madison salt-minion")


def test_the_next_point_release_gets_its_libraries_back(lab):
    before = on_board(lab, LIBRARIES)
    done = bootstrap(lab, version=lab.releases[1])
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(installed(lab).values()) == {lab.releases[1]}
    after = on_board(lab, LIBRARIES)
    assert before != after
    assert on_board(lab, "systemctl is-active salt-minion salt-master").split() == ["active", "active"]
    assert "salt: changed" in done.stdout
    assert "salt: changed" not in bootstrap(lab).stdout
