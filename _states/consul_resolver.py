"""Whether this node's own resolver answers Consul's names: systemd-resolved sends ``*.consul`` to the agent."""

from omega.core import files

PORT = 8600
# systemd-resolved takes a port since 246 (resolved.conf(5)); `~` makes the domain a route and no search domain.
DROP_IN = f"# Managed by Salt, salt/consul/resolver.sls.\n[Resolve]\nDNS=127.0.0.1:{PORT}\nDomains=~consul\n"
SERVICE = "systemd-resolved"


@files.disk_errors_returned
def forwarded(name):
    """Have systemd-resolved ask the Consul agent for ``*.consul``.

    :param name: path of the drop-in
    :return: Salt's state return; False, with what else can be done, where no systemd-resolved runs
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": f"{SERVICE} asks Consul for *.consul"}
    if not __salt__["service.status"](SERVICE):
        comment = (
            f"{__opts__['id']} runs no {SERVICE}, so consul.dns cannot be set up here: install it, or let your "
            f"resolver forward the domain (dnsmasq: server=/consul/127.0.0.1#{PORT}), or set consul.dns: false. "
            f"127.0.0.1:{PORT} answers in any case"
        )
        return {**ret, "result": False, "comment": comment}
    return _have(ret, DROP_IN)


@files.disk_errors_returned
def absent(name):
    """Have no such drop-in.

    :param name: its path
    :return: Salt's state return
    """
    return _have({"name": name, "result": True, "changes": {}, "comment": f"{SERVICE} knows nothing of Consul"}, None)


def _have(ret, text):
    path = ret["name"]
    before = files.read(path)
    if before == text:
        return ret
    ret["changes"] = {path: "write" if text else "remove"}
    if __opts__["test"]:
        return {**ret, "result": None, "comment": f"would {ret['changes'][path]} {path} and restart {SERVICE}"}
    _put(path, text)
    if __salt__["service.status"](SERVICE) and not __salt__["service.restart"](SERVICE):
        # Without a resolver the node finds nobody any more, and the next run shall try again.
        _put(path, before)
        back = "and is back" if __salt__["service.restart"](SERVICE) else "nor with what was there before"
        comment = f"{SERVICE} did not restart, so {path} is as it was, {back}: see `journalctl -u {SERVICE}`"
        return {**ret, "result": False, "changes": {}, "comment": comment}
    return {**ret, "comment": f"{path}: {ret['changes'][path]}, {SERVICE} restarted"}


def _put(path, text):
    if text:
        files.write(path, text)
    else:
        files.remove(path)
