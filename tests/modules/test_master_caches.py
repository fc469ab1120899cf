"""What nodes do with the master's caches, there or not, and when a manager may reboot. Only real parts.

No public registry is asked: Debian's docker-registry stands in for Docker Hub, under its name and with TLS.
"""

import contextlib
import http.server
import os
import pathlib
import re
import socket
import subprocess
import threading
import time

import dockerds
import pytest
import tiny_image
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
HUB = "registry-1.docker.io"
BOUND = 30


def wait_for(what, ready):
    """Wait until `ready()` is true; it may raise OSError meanwhile."""
    end, last = time.monotonic() + BOUND, None
    while time.monotonic() < end:
        try:
            if ready():
                return
        except OSError as error:
            last = error
        time.sleep(0.1)
    pytest.fail(f"{what}: not within {BOUND} s ({last})")


@pytest.fixture
def probe(tmp_path):
    """Run the script that tells apt where the master's cache is: `probe(port)` gives what it prints."""
    import jinja2

    def probe(port):
        path = tmp_path / "apt-cache-proxy"
        text = (ROOT / "salt/packages/files/apt-cache-proxy").read_text()
        path.write_text(jinja2.Template(text).render(address="127.0.0.1", port=port))
        done = subprocess.run(["sh", path, "http://deb.debian.org/"], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), "apt takes any other end for an error of its own"
        return done.stdout.strip()

    return probe


def test_apt_is_told_of_a_cache_that_answers_and_of_no_other(probe):
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        server.RequestHandlerClass.log_message = lambda *_: None
        threading.Thread(target=server.serve_forever, args=(0.05,)).start()
        answer = probe(server.server_port)
        server.shutdown()
    assert answer == f"http://127.0.0.1:{server.server_port}"
    assert probe(server.server_port) == ""  # nobody listens any more
    with socket.create_server(("127.0.0.1", 0)) as frozen:  # the kernel takes connections for it
        assert probe(frozen.getsockname()[1]) == ""


@pytest.fixture
def program(tmp_path):
    """Debian's docker-registry, not installed."""
    folder = tmp_path / "registry"
    folder.mkdir()
    done = subprocess.run(["apt-get", "download", "docker-registry"], cwd=folder, capture_output=True, check=False)
    if done.returncode:
        pytest.skip("apt does not bring docker-registry")
    subprocess.run(["dpkg-deb", "-x", next(folder.glob("*.deb")), folder], check=True)
    return folder / "usr/bin/docker-registry"


@pytest.fixture
def nodes():
    """Two machines with a dockerd each, in networks of their own."""
    try:
        made = dockerds.Dockerds(["pi1", "pi2"])
    except dockerds.Unsupported as error:
        pytest.skip(str(error))
    yield made
    made.close()


@pytest.fixture
def serve(program, tmp_path):
    """Start a docker-registry: `serve("hub", settings)` gives the process and its log."""
    with contextlib.ExitStack() as stack:

        def serve(name, settings, url, **environment):
            (tmp_path / f"{name}.yml").write_text(yaml.safe_dump(settings))
            log = stack.enter_context((tmp_path / f"{name}.log").open("wb"))
            command = [program, "serve", tmp_path / f"{name}.yml"]
            process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **environment})
            stack.callback(process.wait)
            stack.callback(process.kill)
            host, port = url
            wait_for(name, lambda: socket.create_connection((host, port), 1).close() or True)
            return process, tmp_path / f"{name}.log"

        yield serve


@pytest.fixture
def certificate(tmp_path, nodes):
    """A certificate for Docker Hub's name and the stand-in's address, which signs itself."""
    crt, key = tmp_path / "hub.crt", tmp_path / "hub.key"
    names = f"subjectAltName=DNS:{HUB},IP:{nodes.subnet}.1"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    subprocess.run(
        [*command, "-days", "2", "-subj", f"/CN={HUB}", "-addext", names, "-keyout", key, "-out", crt],
        check=True,
        capture_output=True,
    )
    return crt, key


def settings_of(sls_text, folder, port, upstream):
    """Return the settings that state `registry` writes, for another folder, port and upstream."""
    found = re.search(r"- dataset:\n(.*?){% endif %}", sls_text, re.DOTALL)[1]
    for name, value in {"registry.folder": folder, "registry.port": port, "omega.cache.upstream": upstream}.items():
        found = found.replace("{{ " + name + " }}", str(value))
    return yaml.safe_load(found)


@pytest.mark.long
def test_the_nodes_fetch_an_image_once_and_go_on_without_the_master(nodes, serve, certificate, tmp_path, monkeypatch):
    crt, key = certificate
    monkeypatch.setenv("SSL_CERT_FILE", str(crt))
    host = f"{nodes.subnet}.1"
    storage = {"filesystem": {"rootdirectory": str(tmp_path / "hub")}}
    hub = {"version": "0.1", "storage": storage, "http": {"addr": f"{host}:443"}}
    hub["http"]["tls"] = {"certificate": str(crt), "key": str(key)}
    _, asked = serve("hub", hub, (host, 443))
    sls = (ROOT / "salt/registry/init.sls").read_text()
    master, _ = serve("master", settings_of(sls, tmp_path / "master", 5055, f"https://{host}"), (host, 5055))
    (tmp_path / "hosts").write_text(f"127.0.0.1 localhost\n{host} {HUB}\n")
    for node in nodes.nodes.values():
        (node.root / "daemon.json").write_text(f'{{"registry-mirrors": ["http://{host}:5055"]}}')
        node.run("mount", "--bind", str(tmp_path / "hosts"), "/etc/hosts")
    nodes.start()
    first, second = (nodes[name].client(timeout=120) for name in ("pi1", "pi2"))
    first.api.import_image_from_data(tiny_image.root(), repository=f"{HUB}/library/tiny", tag="1")
    assert "error" not in first.images.push(f"{HUB}/library/tiny", tag="1")
    first.images.remove(f"{HUB}/library/tiny:1", force=True)

    def layers():
        return re.findall(r'"GET /v2/library/tiny/blobs/', asked.read_text())

    first.images.pull("tiny", tag="1")
    before = len(layers())
    assert before > 0
    second.images.pull("tiny", tag="1")
    assert len(layers()) == before, "the second node's image came from upstream again"

    second.images.remove("tiny:1", force=True)
    master.kill()
    master.wait()
    second.images.pull("tiny", tag="1")
    assert f"{nodes['pi2'].address} " in asked.read_text(), "it came from somewhere else"


@pytest.mark.long
def test_a_manager_reboots_only_while_all_managers_are_there(nodes):
    nodes.start()
    one, two = nodes["pi1"], nodes["pi2"]
    script = ROOT / "salt/upgrades/files/can-reboot"

    def can_reboot():
        environment = {**os.environ, "DOCKER_HOST": one.base_url}
        return subprocess.run(["sh", script], env=environment, capture_output=True, text=True, check=False)

    assert can_reboot().returncode == 0  # in no swarm
    first = one.client(timeout=60)
    first.swarm.init(advertise_addr=one.address)
    token = first.swarm.attrs["JoinTokens"]["Manager"]
    two.client(timeout=60).swarm.join([f"{one.address}:2377"], token, advertise_addr=two.address)
    wait_for("both managers", lambda: can_reboot().returncode == 0)
    two.stop()
    wait_for("a refusal", lambda: can_reboot().returncode == 1)
    assert can_reboot().stderr.startswith("no reboot: ")
    one.stop()
    assert "no reboot: the state of this node in the swarm is unknown" in can_reboot().stderr
