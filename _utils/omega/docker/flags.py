"""What a command line of dockerd says in the terms of daemon.json (moby daemon/command/config.go, config_unix.go)."""

# The flags that a daemon.json knows by another name.
_LISTS = {
    "host": "hosts",
    "label": "labels",
    "storage-opt": "storage-opts",
    "exec-opt": "exec-opts",
    "dns-opt": "dns-opts",
    "authorization-plugin": "authorization-plugins",
    "insecure-registry": "insecure-registries",
    "registry-mirror": "registry-mirrors",
    "node-generic-resource": "node-generic-resources",
    "default-address-pool": "default-address-pools",
    "dns": "dns",
    "dns-search": "dns-search",
}
_MAPS = {
    "log-opt": "log-opts",
    "feature": "features",
    "default-ulimit": "default-ulimits",
    "add-runtime": "runtimes",
    "cluster-store-opt": "cluster-store-opts",
}
_SHORT = {
    "H": "host",
    "g": "data-root",
    "s": "storage-driver",
    "b": "bridge",
    "l": "log-level",
    "p": "pidfile",
    "G": "group",
}
_BOOLEANS = {
    *("allow-direct-routing", "cri-containerd", "debug", "experimental", "icc", "init", "ip-forward", "ip6tables"),
    *("ip-forward-no-drop", "ip-masq", "iptables", "ipv6", "live-restore", "no-new-privileges", "raw-logs", "restart"),
    *("rootless", "selinux-enabled", "tls", "tlsverify", "userland-proxy", "validate"),
}


def settings(flags):
    """Return ``{key of daemon.json: value}`` of a command line: booleans, texts, and what may be repeated as in JSON.

    :param flags: list of arguments, without the program's name
    """
    found: dict = {}
    for name, value in _pairs(list(flags)):
        if name in _LISTS:
            found.setdefault(_LISTS[name], []).append(value)
        elif name in _MAPS:
            key, _, text = value.partition("=")
            found.setdefault(_MAPS[name], {})[key] = _boolean(text or "true") if name == "feature" else text
        else:
            found[name] = _boolean(value) if name in _BOOLEANS else value
    return found


def _pairs(words):
    while words:
        word = words.pop(0)
        name, equals, value = word.lstrip("-").partition("=")
        if not word.startswith("-"):
            continue
        if not word.startswith("--"):
            if name[:1] == "D":
                name, value = "debug", value or "true"
            elif name[:1] in _SHORT:
                value = word[2:].lstrip("=") or (words.pop(0) if words else "")
                name = _SHORT[name[:1]]
        elif not equals:
            value = "true" if name in _BOOLEANS else words.pop(0) if words else ""
        yield name, value


def _boolean(text):
    """Return the truth of a text as Go's strconv.ParseBool reads it."""
    return text in ("1", "t", "T", "true", "TRUE", "True")
