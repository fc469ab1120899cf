"""
Which of the cluster's nodes an entry of the swarm's node list is: pure decisions.

An entry is known by its NodeID alone, which each node writes under its own key in Consul; nobody but that node and the
managers may write there. A hostname is what a machine calls itself: it decides only between two keys that have the same
NodeID, as after a key that a removed node left behind.
"""


def same_host(name, hostname):
    """Return whether a hostname is a node's name; letters' case does not count (RFC 4343)."""
    return name.casefold() == hostname.casefold()


def current(published, node, site=()):
    """
    Return the name whose key says that it is this entry now, "" if none does or several do.

    :param published: {name: omega.swarm.record.Published}
    :param node: omega.swarm.api.Node
    :param site: names of the site's nodes: a key of one of these goes before the key of another
    """
    return _one([name for name, entry in published.items() if entry.node_id and entry.node_id == node.id], node, site)


def former(published, node, site=()):
    """Return the name whose node was this entry before, "" if none says so, or as long as a key has it as its own."""
    if any(entry.node_id == node.id for entry in published.values()):
        return ""
    return _one([name for name, entry in published.items() if node.id in entry.previous], node, site)


def _one(names, node, site):
    names = [name for name in names if name in site] or names
    if len(names) != 1:
        names = [name for name in names if same_host(name, node.hostname)]
    return names[0] if len(names) == 1 else ""


def shown(node):
    """Return an entry's hostname for the reader, or that it has none."""
    return node.hostname or "an entry without a hostname"
