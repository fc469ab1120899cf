"""`rpiomega scan` finds virtual Pis by mDNS and neighbour table, and looks inside where the key fits."""

import json
import subprocess
import sys

from rpiomega.lab import engine, pi


def scan(lab, *arguments):
    """Run `rpiomega scan --json` on a lab's network; give exit code and boards by address."""
    command = [sys.executable, "-m", "rpiomega", "scan", "--json", "--network", lab.subnet, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, {item["address"]: item for item in json.loads(done.stdout)}


def test_boards_are_found_named_and_looked_into(make_lab, docker, wait):
    lab = make_lab("scan", 2)
    addresses = [lab.leased_address(node) for node in lab.node_names()]
    code, found = scan(lab, "--site", str(lab.site_file))
    assert code == 0
    assert set(found) == set(addresses)  # neither router nor package cache
    for item in found.values():
        assert item["login"] == "key" and "trixie" in item["system"] and item["machine"]
        assert item["node"] in lab.node_names()
        assert any(name.startswith("raspberrypi") for name in item["names"])

    def seen(key, *arguments):
        code, found = scan(lab, *arguments)
        return code, {address: item[key] for address, item in found.items()}

    # Without the site file the boards still are there, by their names; the key is not known.
    other = ("--site", str(lab.folder / "none.sls"), "--user", "nobody")
    refused = dict.fromkeys(addresses, "key refused")
    wait("both to refuse the key", 60, lambda: seen("login", *other) == (0, refused))
    # One whose SSH is off is told apart, not lost.
    engine.run(pi.find(docker, lab, "rpiomega-2"), "systemctl stop ssh.service ssh.socket; true")
    told = {addresses[0]: "answers", addresses[1]: "refused"}
    wait("one to refuse SSH", 60, lambda: seen("ssh", "--site", str(lab.site_file)) == (0, told))
