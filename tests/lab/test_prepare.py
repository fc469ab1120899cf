"""Boards before Salt, on virtual Pis: a copied card, password logins, time zone and locale."""

import subprocess
import sys

import commands
import pytest
import yaml

from rpiomega import agent, prepare
from rpiomega.errors import NodeError
from rpiomega.lab import remote
from rpiomega.node import job_steps
from rpiomega.site import load
from rpiomega.ssh import Pool, Settings


@pytest.fixture(scope="module")
def lab(make_lab):
    """Two virtual Pis; the second carries a copy of the first one's card."""
    made = make_lab("prepare", 2)
    pack = "sudo tar -C /etc -cf - machine-id ssh/ssh_host_ed25519_key ssh/ssh_host_ed25519_key.pub | base64 -w0"
    card = remote.run(made, "rpiomega-master", pack)
    root(made, "rpiomega-2", f"echo {card} | base64 -d | tar -C /etc -xf - && systemctl reload ssh")
    forget = ["ssh-keygen", "-R", made.leased_address("rpiomega-2"), "-f", made.folder / "known_hosts"]
    subprocess.run(forget, capture_output=True, check=True)
    # The lab's ssh_config asks for strict checking, which the connection keeps.
    key = root(made, "rpiomega-2", "cut -d' ' -f1,2 /etc/ssh/ssh_host_ed25519_key.pub").strip()
    with (made.folder / "known_hosts").open("a") as known:
        known.write(f"rpiomega-2,{made.leased_address('rpiomega-2')} {key}\n")
    return made


def root(lab, node, script):
    """Run a shell script on a node as root, through the container engine: SSH may not get in."""
    from rpiomega.lab import engine, pi

    return engine.run(pi.find(engine.connect(), lab, node), ["sh", "-c", script])


@pytest.fixture
def connected(lab):
    """Node -> a connection and a way to run steps on it."""
    # Through an ssh_config with aliases: the keys must be remembered under those as well.
    with Pool(Settings("pi", config=lab.ssh_config)) as pool:

        def connect(node):
            board = pool.remote([node])
            board.connect(10)

            def job(steps):
                return agent.run(board, steps, lambda event: None)

            return board, job

        yield connect


IDENTITY = [job_steps.Identity()]


def test_a_copied_card_gets_an_identity_of_its_own_and_stays_reachable(lab, connected):
    identities = prepare.Identities()
    first, second = connected("rpiomega-master"), connected("rpiomega-2")
    own = {name: job(IDENTITY)["identity"]["data"] for name, (_, job) in
           {"rpiomega-master": first, "rpiomega-2": second}.items()}  # fmt: skip
    assert own["rpiomega-master"]["machine_id"] == own["rpiomega-2"]["machine_id"]
    assert identities.claim("rpiomega-master", own["rpiomega-master"]) == {}
    same = identities.claim("rpiomega-2", own["rpiomega-2"])
    assert same == {"machine_id": "rpiomega-master", "host_keys": "rpiomega-master"}
    done = prepare.renew(second[1], second[0], same, force=False)
    assert done["status"] == "changed"
    now = second[1](IDENTITY)["identity"]["data"]
    assert now["machine_id"] != own["rpiomega-master"]["machine_id"]
    assert not set(now["host_keys"].values()) & set(own["rpiomega-master"]["host_keys"].values())
    assert identities.claim("rpiomega-2", now) == {}
    # Connections of their own, with the keys that were just remembered: any other would be refused.
    assert prepare.prove_key(second[0])
    assert remote.run(lab, "rpiomega-2", "hostname")


def test_the_copy_that_is_a_swarm_member_is_not_the_one_to_change():
    identities = prepare.Identities()
    identities.claim("a", {"machine_id": "1", "host_keys": {}, "swarm": False})
    with pytest.raises(NodeError, match="rpiomega bootstrap a"):
        identities.claim("b", {"machine_id": "1", "host_keys": {}, "swarm": True})


def test_password_logins_go_off_and_the_key_still_opens(lab, connected):
    board, job = connected("rpiomega-2")
    prepare.harden(job, board, "pi")
    assert "passwordauthentication no" in root(lab, "rpiomega-2", "sshd -T")
    assert prepare.prove_key(board)
    # Nobody's key is there: hardening must refuse, and change nothing.
    job([job_steps.Sshd("keep", "pi")])
    assert "passwordauthentication yes" in root(lab, "rpiomega-2", "sshd -T")
    root(lab, "rpiomega-2", "mv /home/pi/.ssh/authorized_keys /home/pi/.ssh/away")
    try:
        assert not prepare.prove_key(board)
        with pytest.raises(NodeError, match="no key login has been proven"):
            prepare.harden(job, board, "pi")
        assert "passwordauthentication yes" in root(lab, "rpiomega-2", "sshd -T")
    finally:
        root(lab, "rpiomega-2", "mv /home/pi/.ssh/away /home/pi/.ssh/authorized_keys")


def test_a_hardening_that_locks_keys_out_is_taken_back(lab, connected):
    board, job = connected("rpiomega-2")
    # Another file that takes effect with the same reload: what an owner's own settings may do.
    later = "echo 'PubkeyAuthentication no' > /etc/ssh/sshd_config.d/20-own.conf"
    root(lab, "rpiomega-2", later)
    try:
        with pytest.raises(NodeError, match="they are on again"):
            prepare.harden(job, board, "pi")
        assert "passwordauthentication yes" in root(lab, "rpiomega-2", "sshd -T")
    finally:
        root(lab, "rpiomega-2", "rm /etc/ssh/sshd_config.d/20-own.conf; systemctl reload ssh")


def test_time_zone_and_locale_are_effective(lab, connected):
    _, job = connected("rpiomega-2")
    steps = [
        job_steps.Sources(load(lab.site_file).sources.apt_proxy),
        job_steps.Timezone("Europe/Berlin"),
        job_steps.Locale("en_GB.UTF-8"),
    ]
    done = job(steps)
    assert done["timezone"]["status"] == done["locale"]["status"] == "changed"
    assert remote.run(lab, "rpiomega-2", "date +%Z") in ("CET", "CEST")
    assert "en_GB.utf8" in remote.run(lab, "rpiomega-2", "locale -a")
    assert "LANG=en_GB.UTF-8" in remote.run(lab, "rpiomega-2", "cat /etc/default/locale")
    assert {step: event["status"] for step, event in job(steps).items() if step != "facts"} == {
        "sources": "ok",
        "timezone": "ok",
        "locale": "ok",
    }


def test_a_dry_run_tells_all_of_it_and_changes_nothing(lab):
    site = yaml.safe_load(lab.site_file.read_text())
    site["rpiomega"]["system"] = {"timezone": "Asia/Tokyo", "ssh_passwords": "off"}
    path = lab.folder / "dry.sls"
    path.write_text(yaml.safe_dump(site))
    before = remote.run(lab, "rpiomega-2", "readlink /etc/localtime; ls /etc/ssh/sshd_config.d")
    command = [sys.executable, "-m", "rpiomega", "bootstrap", "--dry-run", "--site", str(path), "rpiomega-2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=commands.BOUND, check=False)
    assert "-> Asia/Tokyo" in done.stdout, done.stdout + done.stderr
    assert "+PasswordAuthentication no" in done.stdout
    assert remote.run(lab, "rpiomega-2", "readlink /etc/localtime; ls /etc/ssh/sshd_config.d") == before
