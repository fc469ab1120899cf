"""The next step for what the docker command, the engine or a task says of a stack. Pure."""

import re

_HIDDEN = "[hidden]"
# What releases from 26 on say of every deployment, whatever is wrong with it.
_CHATTER = ("Since --detach=false was not specified", "In a future release, --detach=false")

# Of `docker stack deploy` 20.10, 26.1 and 28.2. {0} is what the first brackets match.
_DEPLOY = (
    (
        "Cannot connect to the Docker daemon|error during connect|the engine does not answer",
        "see `journalctl -u docker`",
    ),
    ("code = (?:Unavailable|DeadlineExceeded)|does not have a leader|lost leader", "see `docker node ls`, apply again"),
    (r"unsupported Compose file version: 1\.0", 'this docker command wants `version: "3.8"` as the first line'),
    ("unsupported Compose file version", 'write `version: "3.8"` as the first line'),
    ("version must be a string", 'write `version: "3.8"`, with the quotes'),
    (r"Additional property (\S+) is not allowed", "take `{0}` out or correct it: `docker stack` does not know it"),
    ("extends: Support", "write the service out, or lay a second file over the first"),
    (r"unsupported options: (\w+):", "replace `{0}`"),
    ("depends_on must be a list", "write a list of names; a swarm starts all services at once"),
    (r"env_file\S* must be", "write names of files; each has to be there"),
    (r"required variable (\S+) is missing", "give {0} in `env`"),
    ("invalid interpolation format", "write $$ for a $ that is no variable"),
    (r'network "(\S+)" is declared as external', "create it: `docker network create --driver overlay {0}`"),
    (r"(secret|config) not found: (\S+)", "create it on a manager: `docker {0} create {1} FILE`"),
    (r'undefined (network|volume|secret|config) "(\S+)"', "name {1} in `{0}s:` of the file"),
    (
        r"Unknown mode: \S+-job",
        "this docker command knows no jobs: use `replicated`, `global` or a newer docker command",
    ),
    ("Unknown mode", "use `replicated` or `global`"),
    ("Only networks scoped to the swarm", "write `driver: overlay`, or leave the driver out"),
    ("is already in use by service", "publish another port"),
    ("yaml: .*UTF-8|control characters are not allowed", "save the file as UTF-8 text"),
    ("yaml: ", "correct the YAML there"),
    (
        "invalid env file|env file .* contains|poorly formatted environment",
        "write NAME=VALUE in each line of the env_file",
    ),
    ("no such file or directory", "put the file there"),
    ("is a directory", "name a file"),
    ("Non-string key|must be a string", "write text, in quotes where YAML takes it for a number, true or false"),
    ("constraint expected one operator", "write `node.role == manager`"),
    ("only updates to Labels are allowed", "give the new content another `name:`"),
)

# Of tasks: engine 20.10; words of the scheduler from swarmkit (manager/scheduler/filter.go).
_LOGS = "see `docker service logs {service}`"
_TASK = (
    (
        "No such image|manifest unknown|pull access denied|repository does not exist",
        "does `docker pull` of it work on {node}? A private registry needs `with_registry_auth`",
    ),
    ("no matching manifest|exec format error|unsupported platform", "use an image for the architecture of the nodes"),
    ("toomanyrequests|rate limit", "log in to the registry and set `with_registry_auth`, or apply again later"),
    (
        r"bind source path does not exist: (\S+)",
        "create {0} on {node} and on each other node that may run it, or set a placement constraint",
    ),
    ("mount path must be absolute", "write absolute paths in `volumes:`"),
    (
        "failed to mount local volume|while mounting volume|VolumeDriver",
        "correct `driver_opts` of the volume, and remove the volume with the old ones on {node}: `docker volume rm`",
    ),
    ("invalid mount config", "correct `volumes:`"),
    ("host-mode port already in use", "another service has this port of the node: publish another"),
    (
        "port is already allocated|address already in use|failed programming external connectivity",
        "another program on {node} has the port: find it with `ss -ltnup`, or publish another",
    ),
    ("constraints not satisfied", "compare `placement` with the labels in `docker node inspect NODE`"),
    ("insufficient resources", "ask for less in `resources.reservations`, or add nodes"),
    ("max replicas per node", "raise `max_replicas_per_node`, or add nodes"),
    ("not available for new tasks", "see `docker node ls`: a node must be ready and active"),
    ("missing plugin", "install the plugin on the nodes"),
    ("unhealthy container", "the healthcheck fails: correct it, or " + _LOGS),
    (
        "executable file not found|exec: |no such file or directory: unknown|permission denied: unknown",
        "correct `command` or `entrypoint`: the image has no such program",
    ),
    (r"non-zero exit \(137\)", "killed, as for lack of memory (`limits.memory`, `dmesg` on {node}); " + _LOGS),
    ("non-zero exit", _LOGS),
)


def _first(table, said):
    for pattern, step in table:
        found = re.search(pattern, said)
        if found:
            return step, found.groups()
    return "", ()


# A warning of the docker command's logger. What is deprecated works.
_WARNING = re.compile(r'^time="[^"]*" level=warning msg="(.*)"$', re.MULTILINE)
_WARNED = (("ignoring IP-address", "a port of a stack is open on every address of the nodes: filter it in a firewall"),)


def warnings(said):
    """
    Return what the docker command warns of, a clause each, with what follows from it.

    :param said: its standard error
    """
    found = [message.replace('\\"', '"') for message in _WARNING.findall(said) if "deprecated" not in message]
    steps = [(message, _first(_WARNED, message)[0]) for message in dict.fromkeys(found)]
    return [f"{message} ({step})" if step else message for message, step in steps]


def failure(said):
    """
    Return in one line what the docker command said of a failure, without its remarks on itself and without what it
    quotes of the files: a line of an env_file or a value may be a password.
    """
    said = _WARNING.sub("", said)
    line = " ".join(" ".join(line for line in said.splitlines() if not line.startswith(_CHATTER)).split())
    if "required variable" not in line:
        line = re.sub(r'(invalid interpolation format for [^:]*: )".*"', rf"\1{_HIDDEN}", line)
    line = re.sub(r"(unknown anchor )'[^']*'", rf"\1{_HIDDEN}", line)
    line = re.sub(r"(variable |on line )'.*?'(?= contains| *$)", rf"\1{_HIDDEN}", line)
    line = re.sub(r"(invalid utf8 bytes at line \d+): .*", r"\1", line)
    return re.sub(r"(cannot unmarshal \S+) `.*?`", rf"\1 {_HIDDEN}", line)


def remarks(said):
    """
    Return the names of the options that the docker command says it does not support in a stack and leaves out.

    :param said: its standard error
    """
    names, listed = [], False
    for line in said.splitlines():
        if line.startswith("Ignoring unsupported options: "):
            names += line.partition(": ")[2].split(", ")
        elif listed and re.match(r"\w+: ", line):
            names.append(line.partition(":")[0])
        elif line.strip():
            listed = line.startswith("Ignoring deprecated options")
    return names


def of_deployment(said):
    """Return what to do about a failed `docker stack deploy`, as a clause."""
    step, groups = _first(_DEPLOY, said)
    return step.format(*groups) if step else "correct it"


def of_task(error, node, service):
    """
    Return what to do about a task's error, as a clause.

    :param error: `Err` of the task's status
    :param node: name of its node, "" if it has none
    :param service: name of its service
    """
    step, groups = _first(_TASK, error)
    step = step or "see `docker service ps --no-trunc {service}`"
    return step.format(*groups, node=node or "a node", service=service)
