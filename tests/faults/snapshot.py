"""Runs on the master with Salt's Python: save a snapshot of Consul and restore it at once, with nothing in between.

    snapshot.py NODE

The swarm's lock is held meanwhile, so nobody writes the record that the restore would take back. Prints one JSON line.
"""

import glob
import json
import os
import sys
import tempfile

sys.path[:0] = glob.glob("/var/cache/salt/minion/extmods/utils")

import omega_consul  # noqa: E402
import omega_consul_snapshot  # noqa: E402
import omega_lock  # noqa: E402

MANAGEMENT = "/etc/rpiomega/secrets/consul/management.token"
LOCK = "rpiomega/swarm/lock"


def main(node):
    """Hold the lock, save, restore."""
    with open(MANAGEMENT, encoding="ascii") as file:
        client = omega_consul.connect(token=file.read().strip())
    with omega_lock.hold(client, LOCK, node, wait=30), tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "now.snap")
        info = omega_consul_snapshot.save(client.clone(30), path)
        omega_consul_snapshot.restore(client.clone(30), path)
    print(json.dumps({"restored": info["index"]}))


if __name__ == "__main__":
    main(sys.argv[1])
