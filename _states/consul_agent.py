"""The Consul agent of a node: its configuration folder, its container, and the moment it is ready for use.

The configuration holds secrets, so it is built here from the node's own pillar and never passes through a
rendered SLS, a file diff or a return.
"""

import os

from omega.consul import agent, start, trouble, versions
from omega.consul import client as consul_client
from omega.consul import restart as consul_restart
from omega.consul import retire as consul_retire
from omega.core import files as core_files
from omega.core import pillar as salt_pillar
from omega.docker import containers
from omega.docker import engine as docker_engine
from omega.site import nodes as site_nodes

# Set under test=True by `configured`, for `running`: the files it would find are not there yet.
STALE = "rpiomega.consul_agent.stale"


def upgradable(name, image, allow=False):
    """Fail where the agent that runs here must not become the image's release: an older one, or one too far ahead.

    It changes nothing, and comes before the configuration, whose syntax follows the release. The rules are in
    ``_utils/omega/consul/versions.py``.

    :param name: the container's name
    :param image: the image that it shall run
    :param allow: go on all the same
    :return: Salt's state return

    .. code-block:: yaml

        consul.version:
          consul_agent.upgradable:
            - name: rpiomega-consul
            - image: hashicorp/consul:1.22.7
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": f"{name}: no agent runs here yet"}
    try:
        engine = docker_engine.connect()
    except docker_engine.EngineError as error:
        return containers.no_engine(name, error, {}, __opts__["test"])
    try:
        present, found = containers.container(engine, name), containers.image(engine, image)
        if present is None or containers.LABEL not in present.labels:
            return ret
        now = present.attrs["Config"]["Image"]
        if found and found.id == present.attrs["Image"]:
            return {**ret, "comment": f"{name} runs {image}"}
        look_inside = not __opts__["test"]
        labels = found.labels if found else None
        wanted = versions.of_image(engine, image, found and found.id, labels, look_inside)
        running = versions.of_image(engine, now, present.attrs["Image"], present.labels, look_inside)
    except docker_engine.EngineError as error:
        return {**ret, "result": False, "comment": str(error)}
    unknown = [of for of, release in ((now, running), (image, wanted)) if release is None]
    if unknown:
        later = "" if look_inside else "; without test=True the image itself is asked"
        why = f"{' and '.join(unknown)} does not tell its release{later}"
        return {**ret, "comment": f"{name}: not checked whether {now} may become {image}: {why}"}
    shown = f"{name}: Consul {versions.text(running)} may become {versions.text(wanted)}"
    problem = versions.refusal(running, wanted)
    if not problem or _servers_have(wanted):
        return {**ret, "comment": shown}
    if allow:
        return {**ret, "comment": f"{shown}, by allow_unsupported_upgrade of the site file: {problem}"}
    cure = f"or take a snapshot and write {versions.ALLOW} in the site file"
    return {**ret, "result": False, "comment": f"{name}: {problem}; {cure}"}


def _servers_have(wanted):
    """Whether this node is no server and the servers are as new already, by gossip: a client has no data to lose. Such
    a node was off during the steps between."""
    site = salt_pillar.site(__pillar__)
    if __opts__["id"] in site_nodes.consul_servers(site):
        return False
    try:
        servers = versions.of_servers(_client())
    except consul_client.ConsulError:
        return False
    return bool(servers) and all(release[:2] >= wanted[:2] for release in servers)


@core_files.disk_errors_returned
def configured(name, image, marker, raft_multiplier=5):
    """Have the agent's configuration folder as the site and this node's secrets say.

    A server that shall be a client by the site file is left alone, with the commands to run, unless the pillar of this
    call says ``consul_retire: <its name>``: then it leaves Consul's servers in good order. A node of another cluster
    than the secrets' is left alone, too, and no cluster is started where another node has one
    (``_utils/omega/consul/start.py``).

    :param name: path of the folder on the node, mode 0700, files 0600
    :param image: the agent's container image; its version decides the syntax
    :param marker: path of the file that says the cluster exists (see ``consul_acl.cluster_tokens``)
    :param raft_multiplier: factor of Raft's time-outs, 1 to 10
    :return: Salt's state return; ``changes`` names files, never their text

    .. code-block:: yaml

        consul.config:
          consul_agent.configured:
            - name: /etc/rpiomega/consul
            - image: hashicorp/consul:1.22.7
            - marker: /etc/rpiomega/secrets/consul/bootstrapped
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": f"{name} is as it should be"}
    node, site = __opts__["id"], salt_pillar.site(__pillar__)
    secrets = salt_pillar.secrets(__pillar__)
    problem = _missing(node, site, secrets)
    if problem:
        return {**ret, "result": False, "comment": problem}
    config = agent.build(
        site,
        node,
        image,
        secrets["consul"],
        secrets.get("management_token"),
        raft_multiplier=raft_multiplier,
        checked=_checked(),
    )
    problem = start.other_cluster(name, secrets["consul"])
    if problem:
        return {**ret, "result": False, "comment": f"{name}: {problem}"}
    try:
        bootstrap = _may_start(name, node, site, secrets["consul"], marker)
    except consul_client.ConsulError as error:
        return {**ret, "result": False, "comment": f"{name}: {error}"}
    wanted = agent.files(config, secrets["consul"], bootstrap)
    stale = [file for file, text in wanted.items() if not _is(os.path.join(name, file), text)]
    retired = [file for file in agent.RETIRED if os.path.exists(os.path.join(name, file))]
    if not stale and not retired:
        return ret
    shrinks = not config["server"] and consul_retire.is_server(_text(name))
    if shrinks:
        try:
            flag, patience = __pillar__.get(consul_retire.FLAG), 0 if __opts__["test"] else consul_retire.PATIENCE
            problem = consul_retire.refusal(_client(), site, node, flag, patience)
        except consul_client.ConsulError as error:
            problem = str(error)
        if problem:
            return {**ret, "result": False, "comment": f"{name}: {problem}"}
    ret["changes"] = {what: sorted(files) for what, files in (("files", stale), ("removed", retired)) if files}
    said = "; ".join(
        f"{verb} {', '.join(sorted(files))}" for verb, files in (("write", stale), ("remove", retired)) if files
    )
    if __opts__["test"]:
        __context__[STALE] = bool(stale)
        leaves = f"{node} would leave Consul's servers and become a client; " if shrinks else ""
        return {**ret, "result": None, "comment": f"{name}: {leaves}would {said}"}

    def write():
        before = {file: core_files.read(os.path.join(name, file)) for file in (*stale, *retired)}
        for folder in sorted({os.path.dirname(os.path.join(name, file)) for file in wanted}):
            os.makedirs(folder, mode=0o700, exist_ok=True)
            os.chmod(folder, 0o700)
        for file in stale:
            core_files.write(os.path.join(name, file), wanted[file], 0o600)
        for file in retired:
            core_files.remove(os.path.join(name, file))
        return before

    def restore(before):
        for file, text in before.items():
            if text is not None:
                core_files.write(os.path.join(name, file), text, 0o600)

    if shrinks and __pillar__.get(consul_retire.FLAG) == node:
        try:
            following = consul_retire.retire(_client(), site, node, write, restore)
        except consul_client.ConsulError as error:
            return {**ret, "result": False, "changes": {}, "comment": f"{name}: {error}"}
        text = f"{name}: {node} has left Consul's servers and is a client now"
        return {**ret, "comment": f"{text}; next, {following}" if following else text}
    write()
    return {**ret, "comment": f"{name}: did {said}"}


def running(name, image, config_dir, volume, timeout=300):
    """Have the agent's container running with this image and configuration, re-created when either changed.

    Of Consul's servers one at a time is replaced, whenever and wherever states are applied: see
    ``_utils/omega/consul/restart.py``. A server that cannot be spared is left running, with the reason.

    :param name: the container's name
    :param image: its image, present on the node
    :param config_dir: path of the configuration folder, of ``configured``
    :param volume: the named volume of Consul's data
    :param timeout: seconds to wait for this server's turn, and again for its return
    :return: Salt's state return

    .. code-block:: yaml

        consul.agent:
          consul_agent.running:
            - name: rpiomega-consul
            - image: hashicorp/consul:1.22.7
            - config_dir: /etc/rpiomega/consul
            - volume: rpiomega-consul
    """
    test = __opts__["test"]
    spec = containers.spec_of(
        image,
        entrypoint=["consul"],
        command=["agent", f"-config-dir={agent.CONFIG_DIR}"],
        network_mode="host",
        user="0",
        cap_drop=["ALL"],
        volumes=[f"{config_dir}:{agent.CONFIG_DIR}:ro", f"{volume}:{agent.DATA_DIR}"],
        restart="always",
    )
    try:
        engine = docker_engine.connect()
    except docker_engine.EngineError as error:
        return containers.no_engine(name, error, {name: "create"}, test)

    def in_turn(restart):
        try:
            client = _client()
        except consul_client.ConsulError as error:
            return f"{name} was not replaced: {error}", ""
        return consul_restart.in_turn(
            client,
            __opts__["id"],
            restart,
            timeout,
            ails=lambda: trouble.last_error(name, engine),
        )

    files = [os.path.join(config_dir, file) for file in agent.FILES]
    ret = containers.running(engine, name, spec, files, test=test, around=in_turn)
    if test and __context__.pop(STALE, False) and ret["result"] is True:
        return {**ret, "result": None, "changes": {name: "replace"}, "comment": f"{name}: would replace the container"}
    return ret


def ready(name, timeout=300):
    """Wait until the local agent answers, its cluster has a leader and this node's token is known.

    Changes nothing, so it runs the same way under ``test=True`` but does not wait there.

    :param name: the agent's container, whose last error is named where the wait fails
    :param timeout: seconds to wait at the most
    :return: Salt's state return; on failure the comment holds the last thing seen
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": "Consul is ready"}
    try:
        consul_client.from_salt(__opts__, __pillar__).wait_ready(0 if __opts__["test"] else timeout)
    except consul_client.ConsulError as error:
        if __opts__["test"] and error.kind != "missing":
            return {**ret, "result": None, "comment": f"would wait for Consul: {error}"}
        return {**ret, "result": False, "comment": trouble.explained(error, name)}
    return ret


def _may_start(name, node, site, secrets, marker):
    """Only the master starts a cluster, only once in the life of its secrets (the marker stands with them), and only
    where no other node has one."""
    if node != site_nodes.master(site) or os.path.exists(marker):
        return False
    begun = os.path.exists(os.path.join(name, agent.BOOTSTRAP))
    return begun or not start.cluster_of(site, node, secrets)


def _client():
    """Of the local agent. The master's token for the ACLs is known to Consul even before it knows the nodes' tokens."""
    management = salt_pillar.management_token(__pillar__)
    return consul_client.from_salt(__opts__, __pillar__, token=management)


def _checked():
    """Without a master no salt-minion runs, and its check would be critical for ever."""
    masterless = __opts__.get("file_client") == "local"
    return [unit for unit in agent.CHECKED if not (masterless and unit == "salt-minion")]


def _missing(node, site, secrets):
    if node not in site_nodes.nodes(site):
        cure = f"`rpiomega remove {node}` takes it out of the cluster; to keep it, add it to the site file"
        return f"{node} is not among the site's nodes: {cure}"
    if site_nodes.master(site) is None:
        return "no node of the site has the role master: give it to one in pillar/site.sls"
    if not secrets.get("consul"):
        return (
            f"the master gave {node} no Consul secrets: check ext_pillar `rpiomega` in "
            "/etc/salt/master.d/rpiomega.conf and restart salt-master"
        )
    return None


def _text(folder):
    return core_files.read(os.path.join(folder, "consul.json"))


def _is(path, text):
    return core_files.read(path) == text and core_files.mode_of(path) == 0o600
