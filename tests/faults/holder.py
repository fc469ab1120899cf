"""Runs on a node with Salt's Python: contend for a lock with the product's own code, hold it, say what happens.

    holder.py KEY NODE TTL LOCK_DELAY HOLD WAIT

Prints JSON lines: {"at": seconds since the epoch, "event": "held" | "written" | "lost" | "released" | ..., "fence": n}.
While it holds the lock it writes KEY-out once a second under the lock, as the record is written.
"""

import glob
import json
import sys
import time

sys.path[:0] = glob.glob("/var/cache/salt/minion/extmods/utils")

from omega.consul import client as consul_client  # noqa: E402
from omega.consul import lock as consul_lock  # noqa: E402

AGENT = "/etc/rpiomega/consul/consul.json"


def say(event, **more):
    """Print one line."""
    print(json.dumps({"at": time.time(), "event": event, **more}), flush=True)


def main(key, node, ttl, lock_delay, hold, wait):
    """Contend, hold, write, release."""
    with open(AGENT, encoding="utf-8") as file:
        client = consul_client.connect(token=json.load(file)["acl"]["tokens"]["agent"])
    say("contends")
    try:
        with consul_lock.hold(client, key, node, ttl=ttl, lock_delay=lock_delay, wait=wait) as lock:
            say("held", fence=lock.fence, session=lock.session)
            end = time.monotonic() + hold
            while time.monotonic() < end:
                began = time.time()
                entry = client_get(client, f"{key}-out")
                if entry is not False:
                    lock.write(f"{key}-out", {"by": node, "fence": lock.fence, "at": began}, entry)
                    say("written", fence=lock.fence, seconds=round(time.time() - began, 2))
                lock.check()
                time.sleep(1)
        say("released", fence=lock.fence)
    except consul_client.ConsulError as error:
        say("lost" if error.kind == "lost" else error.kind, text=str(error))


def client_get(client, key):
    """The key's index, 0 if there is none, False if Consul cannot say."""
    try:
        entry = client.get(key)
    except consul_client.ConsulError as error:
        if not error.transient:
            raise
        return False
    return entry.modify_index if entry else 0


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(float, sys.argv[3:7]))
