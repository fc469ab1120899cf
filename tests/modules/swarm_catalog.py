"""What Consul says of nodes that run no agent of their own, as the nodes of a swarm_site."""

from __future__ import annotations

import threading

from omega.consul import client as consul_client

LOOK = 0.2  # seconds; in between a node that Consul's leader has dropped is missing


class Catalog:
    """
    Nodes in Consul's catalog with the check of a member. The leader drops, once a minute, whom Serf does not know:
    while the block runs, a thread puts them back.

    >>> with Catalog(consul, dockerds) as catalog:
    ...     catalog.set("pi1")

    :param consul: started ConsulServer
    :param dockerds: started Dockerds, for the addresses
    """

    def __init__(self, consul, dockerds) -> None:
        self._client, self._dockerds = consul.client(), dockerds
        self._wanted: dict[str, tuple[str, str]] = {}
        self._lock, self._over = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True)

    def set(self, name: str, status: str = "passing", address: str = "") -> None:
        """Have a node there with this status, from now on; one that is no daemon here needs an address."""
        with self._lock:
            self._wanted[name] = status, address or self._dockerds[name].address
            self._register(name, *self._wanted[name])

    def forget(self, name: str) -> None:
        """Take a node out."""
        with self._lock:
            self._wanted.pop(name, None)
            self._client.request("put", "/v1/catalog/deregister", data={"Node": name})

    def _register(self, name: str, status: str, address: str) -> None:
        check = {"CheckID": "serfHealth", "Name": "Serf Health Status", "Status": status}
        body = {"Node": name, "Address": address, "Check": check}
        self._client.request("put", "/v1/catalog/register", data=body)

    def _keep(self) -> None:
        while not self._over.wait(LOOK):
            try:
                with self._lock:
                    self._put_back()
            except consul_client.ConsulError as error:  # a test may have frozen the server
                if not error.transient:
                    raise

    def _put_back(self) -> None:
        checks = self._client.request("get", "/v1/health/state/any")[1]
        seen = {check["Node"] for check in checks if check["CheckID"] == "serfHealth"}
        for name in self._wanted.keys() - seen:
            self._register(name, *self._wanted[name])

    def __enter__(self) -> Catalog:
        self._thread.start()
        return self

    def __exit__(self, *_exc) -> None:
        self._over.set()
        self._thread.join(10)
