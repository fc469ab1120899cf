"""`rpiomega scan` finds virtual Pis by mDNS and neighbour table, and looks inside where the key fits."""

import subprocess
import sys

import commands

from rpiomega.lab import engine, pi


def scan(lab, *arguments):
    """Run `rpiomega scan --json` on a lab's network; give exit code and boards by address."""
    command = [sys.executable, "-m", "rpiomega", "scan", "--json", "--network", lab.subnet, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=commands.BOUND, check=False)
    return done.returncode, {item["address"]: item for item in commands.parsed(done)}


def test_boards_are_found_named_and_looked_into(make_lab, docker, wait):
    lab = make_lab("scan", 2)
    addresses = [lab.leased_address(node) for node in lab.node_names()]
    known = ("--site", str(lab.site_file))

    def every_login():
        code, found = scan(lab, *known)
        logins = {address: item["login"] for address, item in found.items()}
        return (code, logins) == (0, dict.fromkeys(addresses, "key")) and found or print(code, logins)

    # On a busy machine its own bounds end what would have come. Neither router nor package cache are found.
    found = wait("both boards and no others, by the key", 90, every_login)
    for item in found.values():
        assert "trixie" in item["system"] and item["machine"]
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
    wait("one to refuse SSH", 60, lambda: seen("ssh", *known) == (0, told))
