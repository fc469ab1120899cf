"""What a row can start from besides a whole cluster: nodes as before the first apply; a node that gets another address.

Each function registers with the row's fault what has to be undone, and that comes after all that the row injects.
"""

from __future__ import annotations

CONFIG, SECRETS, SNAPSHOTS = "/etc/rpiomega/consul", "/etc/rpiomega/secrets", "/var/lib/rpiomega/consul-snapshots"
CONSUL = "rpiomega-consul"  # the agent's container and its volume; of salt/rpiomega/defaults.yaml, as the folders above
UNITS = "rpiomega-consul-health.service rpiomega-consul-snapshot.timer"
# Docker, Salt, keys and images stay: the bootstrap and the states before Consul are another matter.
RESET = f"""
systemctl disable --now {UNITS} 2>/dev/null
docker swarm leave --force >/dev/null 2>&1
docker rm -f {CONSUL} >/dev/null 2>&1
docker volume rm {CONSUL} >/dev/null 2>&1
rm -rf {CONFIG} {SECRETS}/swarm {SECRETS}/consul {SNAPSHOTS}
test -z "$(docker volume ls -q --filter name=^{CONSUL}$)" && test ! -e {CONFIG}
"""


def first_forming(fault, cluster) -> None:
    """Put swarm and Consul of all nodes back to before the first apply, by force, as no part of the product does.

    The row injects its fault then and applies (`cluster.apply()`). What is not whole after healing is applied again.
    """
    fault.operator = True
    fault.touched.update(cluster.names)
    fault.undo_later("the steady service", cluster.steady)
    fault.undo_later("a first forming without the fault", lambda: form(cluster))
    for node in reversed(cluster.names):
        cluster.run(node, RESET, 120)
    cluster.wait("every node to be in no swarm and without Consul", 60, lambda: clean(cluster))


def clean(cluster) -> bool:
    """Whether no node is in a swarm or answers for Consul."""
    return all(fact["state"] == "inactive" and not fact["alive"] for fact in cluster.look().values())


def form(cluster) -> None:
    """Apply all states unless the cluster is whole."""
    if cluster.problems():
        cluster.wait_salt(cluster.names)
        cluster.must_apply()


def move_address(fault, cluster, node: str, address: str, readdress: bool = True) -> None:
    """Give a node another address by the site file and the bootstrap, as an owner does; its engine keeps the old one.

    The row applies then. Healing gives the node its address back, and applies.

    :param readdress: the site's `swarm.readdress` meanwhile; True while healing in any case
    """
    before = dict(cluster.site["nodes"][node])
    swarm = dict(cluster.site.get("swarm") or {})

    def edit(entry: dict, settings: dict) -> None:
        def change(site: dict) -> None:
            site["nodes"][node] = entry
            site.pop("swarm", None)
            site.update({"swarm": settings} if settings else {})

        cluster.change_site(change)
        cluster.wait_salt(cluster.names)  # a new site may restart the master

    def back() -> None:
        if cluster.address(node) != before["address"]:
            edit({**before, "host": cluster.address(node)}, {**swarm, "readdress": True})
            cluster.apply()
            form(cluster)
        edit(before, swarm)

    fault.touched.add(node)
    fault.undo_later(f"address of {node}", back)
    # It is reached where it is now until it has moved.
    edit({**before, "host": before["address"], "address": address}, {**swarm, "readdress": readdress})
