"""What `swarm.stack` makes of other people's compose files; the docker commands on this machine are the judges."""

import base64
import subprocess

import pytest
import stack_site
from dockerds import missing
from stack_site import COMMANDS, IMAGE, JUDGE, MANAGERS, deploy, writes

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "runs")

HEAD = "version: '3.8'\nservices:\n  app:\n    image: 127.0.0.1:1/tiny:1\n"
PASSWORD = "hunter2-not-shown"


site, minion, engine = stack_site.site, stack_site.minion, stack_site.engine


@pytest.fixture
def put(site, request):
    """Function that puts {name: text} into the master's folder `FOLDER` of this test and returns its name."""

    def put(files):
        folder = site.root / MANAGERS[0] / "states" / "own" / str(abs(hash(request.node.name)))
        for name, text in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return f"own/{folder.name}"

    return put


def predicted(site, minion, compose, **kwargs):
    """The result under test=True, of each docker command there is; nothing may be sent."""
    before, found = writes(site), []
    for command in COMMANDS:
        found.append(deploy(minion, "web", compose=compose, docker=command, test=True, **kwargs))
        assert "\n" not in found[-1]["comment"]
    assert writes(site) == before
    return found


FILES = {
    "compose.yml": HEAD
    + "    env_file: ['${F:-app.env}', ../common/all.env]\n"
    + "    deploy: {replicas: 0}\n"
    + "    configs: [conf, other]\n"
    + "    secrets: [key]\n"
    + "networks: {default: {external: true, name: host}}\n"
    + "configs: {conf: {file: ./conf/web.conf}, other: {file: '${PWD}/conf/other.conf'}}\n"
    + "secrets: {key: {file: key.txt}}\n",
    "app.env": f"PASSWORD={PASSWORD}\n",
    "conf/web.conf": "listen 80\n",
    "conf/other.conf": "listen 81\n",
    "key.txt": "sesame\n",
    "../common/all.env": "MODE=on\n",
}


def test_files_beside_the_compose_file_come_along(site, minion, engine, put):
    folder = put(FILES)
    for result in predicted(site, minion, f"{folder}/compose.yml"):
        assert (result["result"], set(result["changes"])) == (
            None,
            {"service web_app", "config web_conf", "config web_other", "secret web_key"},
        ), result["comment"]
        assert [
            line for line in result["warnings"] if "secret web_key is a file of the master, which every node" in line
        ]
        assert PASSWORD not in str(result)
    # A second file is taken relative to the first one's folder, as by the docker command.
    over = put({"over/more.yml": "version: '3.8'\nservices: {app: {env_file: app.env}}\n"})
    for result in predicted(site, minion, [f"{folder}/compose.yml", f"{over}/over/more.yml"]):
        assert result["result"] is None, result["comment"]
    # Content that stands in the pillar or an SLS file is taken relative to the root of the master's files.
    given = {"version": "3.8", "services": {"app": {"image": IMAGE, "env_file": f"./{folder}/app.env"}}}
    for result in predicted(site, minion, given):
        assert result["result"] is None, result["comment"]

    done = deploy(minion, "web", compose=f"{folder}/compose.yml")
    assert done["result"] is True, done["comment"]
    configs = {item["Spec"]["Name"]: base64.b64decode(item["Spec"]["Data"]) for item in engine.listed("configs")}
    assert configs == {"web_conf": b"listen 80\n", "web_other": b"listen 81\n"}
    env = next(item for item in engine.services())["Spec"]["TaskTemplate"]["ContainerSpec"]["Env"]
    assert sorted(env) == ["MODE=on", f"PASSWORD={PASSWORD}"]
    again = predicted(site, minion, f"{folder}/compose.yml")
    assert [(result["result"], result["changes"]) for result in again] == [(True, {})] * len(COMMANDS)
    assert minion.state("swarm.stack_absent", "web", timeout=120)["result"] is True


RELATIVE = "volume ./html:/x: this path is relative to salt://"


@pytest.mark.parametrize(
    ("volumes", "said"),
    [
        ("['./html:/x']", RELATIVE),
        ("['.:/x']", "volume .:/x: this path is relative to salt://"),
        ("['../up:/x']", "volume ./../up:/x: this path is relative to salt://"),
        ("['../../../../up:/x']", "this path is relative to salt://"),
        ("['${PWD}/html:/x']", RELATIVE),
        ("['$PWD/html:/x:ro']", RELATIVE),
        ("[{type: bind, source: ./html, target: /x}]", RELATIVE),
        ("[{type: bind, source: html, target: /x}]", RELATIVE),
        ("['~/html:/x']", "volume ~/html:/x: `~` and ${HOME} are root's home folder"),
        ("['${HOME}/html:/x']", "volume ~/html:/x: `~` and ${HOME} are root's home folder"),
        ("[{type: bind, source: ~/html, target: /x}]", "`~` and ${HOME} are root's home folder"),
        ("['C:\\data:/x']", "volume C:\\data:/x: no absolute path of a Linux node"),
        ("['v:/x']\nvolumes: {v: {}}", "docker takes `v:` for a drive of Windows; give the volume a longer name"),
        ("['/srv/html:x']", "volume /srv/html:x: the path in the container must begin with /"),
        ("['/a:/x', '/b:/x']", "two volumes have the path /x in the container"),
        (
            "['vol:/x']\nvolumes: {vol: {driver_opts: {type: none, o: bind, device: ./d}}}",
            "device ./d: no absolute path",
        ),
        (
            "['vol:/x']\nvolumes: {vol: {driver_opts: {type: none, o: 'rw,bind', device: '${PWD}/d'}}}",
            "path is relative to",
        ),
        ("['vol:/x']\nvolumes: {vol: {driver_opts: {o: bind, device: '${HOME}/d'}}}", "are root's home folder"),
    ],
)
def test_host_paths_that_the_nodes_do_not_have_are_refused(site, minion, put, volumes, said):
    folder = put({"c.yml": f"{HEAD}    volumes: {volumes}\n"})
    for result in predicted(site, minion, f"{folder}/c.yml"):
        assert (result["result"], result["changes"]) == (False, {}), said
        assert "stack web: service web_app: " in result["comment"]
        assert said in result["comment"]


def test_paths_that_the_nodes_may_have_are_taken(site, minion, put, tmp_path):
    volumes = "['/srv/html:/x', data:/y, '/var/run/docker.sock:/var/run/docker.sock', nfs:/z]"
    nfs = "volumes: {data: {}, nfs: {driver_opts: {type: nfs, o: 'addr=10.0.0.1,rw', device: ':/export'}}}\n"
    folder = put({"c.yml": f"{HEAD}    volumes: {volumes}\n{nfs}"})
    # A path on the manager is meant as it is by hand, and who gives PWD or HOME says what they are.
    (tmp_path / "c.yml").write_text(f"{HEAD}    volumes: ['./html:/x', '${{PWD}}/more:/y']\n")
    given = put({"d.yml": f"{HEAD}    volumes: ['${{PWD}}/html:/x', '~/data:/y']\n    environment: ['A=${{HOME}}']\n"})
    wanted = (
        (f"{folder}/c.yml", {}),
        (str(tmp_path / "c.yml"), {}),
        (f"{given}/d.yml", {"PWD": "/srv/web", "HOME": "/home/pi"}),
    )
    for compose, env in wanted:
        for result in predicted(site, minion, compose, env=env):
            assert result["result"] is None, result["comment"]


# Files by the kinds that other people have: {name: (text, what docker's refusal is followed by, or "" if it takes it)}.
TEXTS = {
    "override": (HEAD + "    ports: !override ['8080:80']\n", ""),
    "reset": (HEAD + "    ports: !reset []\n", ""),
    "bom": ("\ufeff" + HEAD, ""),
    "utf-16": (HEAD.encode("utf-16"), ""),
    "crlf": (HEAD.replace("\n", "\r\n"), ""),
    "merge key": ("version: '3.8'\nx-a: &a {image: x, labels: {k: v}}\nservices: {app: {<<: *a}}\n", ""),
    "ports": (HEAD + "    ports: [22:22, 8080:80, 53:53/udp]\n", ""),
    "dollars": (HEAD + "    environment: {A: '$$X', B: '${V:-${W:-d}}', C: '${U}', D: $U}\n", ""),
    "documents": (HEAD + "---\n" + HEAD, ""),
    "ignored": (HEAD + "    build: .\n    restart: always\n    container_name: q\n    depends_on: [b]\n", ""),
    "no services": ("version: '3.8'\n", ""),
    "extends": (HEAD + "    extends: {file: b.yml, service: q}\n", "write the service out, or lay a second file"),
    "include": (HEAD + "include: [b.yml]\n", "take `include` out or correct it"),
    "develop": (HEAD + "    develop: {watch: []}\n", "take `develop` out"),
    "profiles": (HEAD + "    profiles: [a]\n", "take `profiles` out"),
    "memory": (HEAD + "    mem_limit: 50m\n", "Set resource limits using deploy.resources; replace `mem_limit`"),
    "version 2": ("version: '2'\nservices: {app: {image: x}}\n", 'write `version: "3.8"` as the first line'),
    "number": ("version: 3.8\nservices: {app: {image: x}}\n", 'write `version: "3.8"`, with the quotes'),
    "conditions": (HEAD + "    depends_on: {b: {condition: service_healthy}}\n", "write a list of names"),
    "env_file": (HEAD + "    env_file: [{path: a.env, required: false}]\n", "write names of files"),
    "needed": (HEAD + "    environment: {A: '${X:?say which}'}\n", 'say which"'),
    "needed too": (HEAD + "    environment: {A: '${X?}'}\n", "give X in `env`"),
    "tab": ("version: '3.8'\nservices:\n\tapp: {}\n", "cannot start any token; correct the YAML there"),
    "latin": ((HEAD + "    labels: {x: caf\xe9}\n").encode("latin-1"), "save the file as UTF-8 text"),
    "empty": ("", "op-level object must be a mapping; correct it"),
    "interpolation": (HEAD + f"    environment: {{PASSWORD: '{PASSWORD}${{'}}\n", "write $$ for a $"),
    "in a list": (HEAD + f"    environment: ['PASSWORD={PASSWORD}$%\"; x']\n", "write $$ for a $"),
    "anchor": (HEAD + f"    environment:\n      PASSWORD: *{PASSWORD}\n", "correct the YAML there"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_what_the_docker_command_takes_is_taken_and_what_it_refuses_is_refused(site, minion, put, tmp_path, name):
    text, step = TEXTS[name]
    folder = put({"c.yml": text})
    (tmp_path / "c.yml").write_bytes(text if isinstance(text, bytes) else text.encode())
    if JUDGE:
        judged = subprocess.run([JUDGE, "stack", "config", "-c", tmp_path / "c.yml"], capture_output=True, check=False)
        assert bool(judged.returncode) == bool(step), judged.stderr
    for result in predicted(site, minion, f"{folder}/c.yml"):
        assert result["result"] is not True or not result["changes"]
        assert (result["result"] is False) == bool(step), result["comment"]
        assert step in result["comment"]
        assert f"({('salt://' + folder)}/c.yml)" in result["comment"] or not step
        assert PASSWORD not in str(result)
        if name == "ignored":
            assert "docker leaves out what it does not support in a stack: build, restart, container_name" in str(
                result
            )


BROKEN_ENV = [
    f"PASS {PASSWORD}=x\n".encode(),
    f"={PASSWORD}\n".encode(),
    b"A=\xff\xfe" + PASSWORD.encode() + b"\n",
]


@pytest.mark.parametrize("content", BROKEN_ENV)
def test_a_line_of_an_env_file_is_in_no_message(site, minion, put, content):
    folder = put({"c.yml": HEAD + "    env_file: app.env\n", "app.env": content})
    for result in predicted(site, minion, f"{folder}/c.yml"):
        assert result["result"] is False
        assert "write NAME=VALUE in each line of the env_file" in result["comment"]
        text = str(result)
        assert PASSWORD not in text
        assert ", ".join(map(str, PASSWORD.encode())) not in text.replace(" ", ", ")


@pytest.mark.parametrize(
    ("rest", "said"),
    [
        ("  built: {build: .}\n", ("service web_built: it has no image", "no image specified")),
        ("  bad: {image: 'Bad_Image:1'}\n", ("'Bad_Image:1' is no valid name of an image", "must be lowercase")),
        ("  bad: {image: 'nginx:${TAG}'}\n", ("'nginx:' is no valid name of an image", "invalid reference format")),
        (f"  {'x' * 60}: {{image: x}}\n", ("63 at most; rename it",)),
        ("  a.b: {image: x}\n", ("letters, digits, - and _",)),
        (
            "  one: {image: x, ports: ['80:80']}\n  two: {image: x, ports: ['80:81']}\n",
            ("port 80/tcp is published by",),
        ),
        ("configs: {e: {file: ./empty}}\n", ("config web_e: its file has 0 bytes",)),
        ("secrets: {e: {file: ./big}}\n", ("secret web_e: its file has 512000 bytes",)),
        ("configs: {e: {file: ../../../gone}}\n", ("it is outside of the master's files",)),
        ("configs: {e: {file: /gone/too}}\n", ("open /gone/too: no such file or directory; put the file there",)),
        ("configs: {e: {file: ./folder}}\n", ("folder (named in salt://",)),
        ("networks: {default: {external: true, name: nope}}\n", ("`docker network create --driver overlay nope`",)),
        ("  s: {image: x, secrets: [sec]}\nsecrets: {sec: {external: true}}\n", ("`docker secret create sec FILE`",)),
        ("  s: {image: x, networks: [net]}\n", ("name net in `networks:` of the file",)),
        (
            "  s: {image: x, environment: ['A=${PWD}']}\n",
            ("service web_s: it uses ${PWD}, ${HOME} or a relative path",),
        ),
        ("  s: {image: x, deploy: {mode: nope}}\n", ("use `replicated` or `global`",)),
        (
            "  s: {image: x, networks: [lan]}\nnetworks: {lan: {driver: bridge}}\n",
            ("network web_lan has the driver bridge, which is one node's alone; write `driver: overlay`",),
        ),
        ("  s: {image: x, networks: [lan]}\nnetworks: {lan: {driver: macvlan}}\n", ("has the driver macvlan",)),
        ("  s: {image: x, ports: [{target: 80, published: 80, mode: hots}]}\n", ("port 80: mode hots; write `mode:",)),
        ("  s: {image: x, ports: ['80:80'], deploy: {endpoint_mode: dnsrr}}\n", ("can publish it with `mode: host`",)),
        ("  s: {image: x, deploy: {resources: {limits: {memory: 1M}}}}\n", ("limits: less than a container can have",)),
        ("  s: {image: x, deploy: {resources: {reservations: {cpus: '0.0001'}}}}\n", ("0.001 of cpus or more",)),
        (
            "  s: {image: x, deploy: {restart_policy: {condition: always}}}\n",
            ("restart_policy.condition always; write one of none, on-failure, any",),
        ),
        (
            "  s: {image: x, deploy: {update_config: {failure_action: stop}}}\n",
            ("update_config.failure_action stop; write one of pause, continue, rollback",),
        ),
    ],
)
def test_what_the_swarm_would_refuse_half_way_is_refused_before(site, minion, put, rest, said):
    folder = put({"c.yml": HEAD + rest, "empty": "", "big": "x" * 512000, "folder/x": "1"})
    for result in predicted(site, minion, f"{folder}/c.yml"):
        assert (result["result"], result["changes"]) == (False, {}), result["comment"]
        assert [clause for clause in said if clause in result["comment"]], result["comment"]


def test_what_the_docker_command_warns_of_is_a_warning_and_in_no_error(site, minion, put):
    folder = put({"c.yml": f"{HEAD}    ports: ['127.0.0.1:8080:80']\n"})
    for result in predicted(site, minion, f"{folder}/c.yml"):
        (warning,) = result["warnings"]
        assert warning.startswith("stack web: docker: ignoring IP-address (127.0.0.1:8080:80/tcp) service will listen")
        assert "is open on every address of the nodes" in warning
    folder = put({"c.yml": f"{HEAD}    configs: [c]\nconfigs: {{c: {{external: {{name: nope}}}}}}\n"})
    for result in predicted(site, minion, f"{folder}/c.yml"):
        assert "docker stack deploy: service app: config not found: nope; create it" in result["comment"]


def test_a_deployment_that_fails_half_way_lists_what_was_done(site, minion, engine, put):
    text = (
        HEAD
        + "    deploy: {replicas: 0}\n"
        + "  bad: {image: x, configs: [c], deploy: {placement: {constraints: ['node.role is manager']}}}\n"
        + "networks: {default: {external: true, name: host}}\n"
        + "configs: {c: {file: ./c.txt}}\n"
    )
    folder = put({"c.yml": text, "c.txt": "1"})
    for command in COMMANDS:
        failed = deploy(minion, "web", compose=f"{folder}/c.yml", docker=command)
        there = {f"config {item['Spec']['Name']}" for item in engine.listed("configs")}
        there |= {f"service {item['Spec']['Name']}" for item in engine.services()}
        assert (failed["result"], set(failed["changes"])) == (False, there), failed["comment"]
        assert "config web_c" in there
        assert "write `node.role == manager`" in failed["comment"]
        assert "(done before: config web_c" in failed["comment"]
        again = deploy(minion, "web", compose=f"{folder}/c.yml", docker=command, test=True)
        assert (again["result"], "service web_bad" in again["changes"]) == (None, True)
        assert not there & set(again["changes"])
        assert minion.state("swarm.stack_absent", "web", timeout=120)["result"] is True


def test_passwords_in_arguments_labels_and_volumes_are_in_no_change(site, minion, put):
    text = (
        HEAD
        + "    command: ['/bin/sleep', '--db-password=PASS', '--user=me', '--password', PASS, '--db', 'pg://a:PASS@db/x']\n"
        + "    healthcheck: {test: ['CMD', 'curl', '-u', 'admin:PASS', 'x'], interval: 1h}\n"
        + "    labels: {'traefik.http.middlewares.a.basicauth.users': 'me:PASS', tier: front}\n"
        + "    deploy: {replicas: 0}\n"
        + "    volumes: ['cifs:/x']\n"
        + "networks: {default: {external: true, name: host}}\n"
        + "volumes: {cifs: {driver_opts: {type: cifs, o: 'username=me,password=PASS', device: '//nas/x'}}}\n"
    )
    folder = put({"c.yml": text.replace("PASS", PASSWORD)})
    assert deploy(minion, "web", compose=f"{folder}/c.yml")["result"] is True
    put({"c.yml": text.replace("PASS", PASSWORD[::-1]).replace("=me", "=you").replace("front", "back")})
    for result in predicted(site, minion, f"{folder}/c.yml"):
        shown = str(result)
        assert result["result"] is None
        assert not [word for word in (PASSWORD, PASSWORD[::-1]) if word in shown]
        assert "username=you,password=[hidden]" in shown
        assert "'back'" in shown
    assert minion.state("swarm.stack_absent", "web", timeout=120)["result"] is True
