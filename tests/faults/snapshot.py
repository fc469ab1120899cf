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

from omega.consul import client as consul_client  # noqa: E402
from omega.consul import lock, snapshot  # noqa: E402

MANAGEMENT = "/etc/rpiomega/secrets/consul/management.token"
LOCK = "rpiomega/swarm/lock"


def main(node):
    """Hold the lock, save, restore."""
    with open(MANAGEMENT, encoding="ascii") as file:
        client = consul_client.connect(token=file.read().strip())
    with lock.hold(client, LOCK, node, wait=30), tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "now.snap")
        info = snapshot.save(client.clone(30), path)
        snapshot.restore(client.clone(30), path)
    print(json.dumps({"restored": info["index"]}))


if __name__ == "__main__":
    main(sys.argv[1])
