"""Docker from a repository laid out and signed as Docker's own: install, pin, hold, upgrade, change of source.

One virtual Pi after the other, trixie and bookworm; the engine that is replaced carries a swarm, a container, a volume.
"""

import io
import json
import tarfile

import pytest
import yaml

from rpiomega.lab import demo, engine, lifecycle, pi, remote, state, vendor

pytestmark = pytest.mark.long
PILLAR = "/srv/rpiomega/pillar/site.sls"
VENDOR = ["containerd.io", "docker-ce", "docker-ce-cli"]


class Board:
    """One virtual Pi, master of its own site, set up by the bootstrap."""

    def __init__(self, client, release, vendors):
        lifecycle.down(client, "vendor")
        self.lab = lifecycle.up(client, state.Lab("vendor", release, 1, vendor=vendors), print)
        self.name = self.lab.node_names()[0]
        self.container = pi.find(client, self.lab, self.name)
        self.versions = {part: found["versions"] for part, found in vendor.repositories(client, self.lab).items()}
        demo.bootstrap(self.lab)

    def run(self, command, bound=120, check=True):
        return remote.run(self.lab, self.name, command, bound, check=check)

    def site(self, **docker):
        """Change keys of section docker in the master's copy of the site file; None takes a key out."""
        content = yaml.safe_load(self.run(f"sudo cat {PILLAR}"))
        section = content["rpiomega"]["docker"]
        section.update(docker)
        content["rpiomega"]["docker"] = {key: value for key, value in section.items() if value is not None}
        self.container.put_archive("/srv/rpiomega/pillar", tarred("site.sls", yaml.safe_dump(content)))

    def apply(self, what="docker", test=False):
        """Apply a state; return id -> result, changes, comment."""
        command = f"sudo salt-call --out=json state.apply {what} {'test=True' if test else ''}"
        text = self.run(command, 900, check=False)
        states = json.loads(text[text.index("{") :])["local"]
        assert isinstance(states, dict), states
        return {entry["__id__"]: entry for entry in states.values()}

    def packages(self):
        text = self.run("dpkg-query -W -f '${Package} ${db:Status-Status} ${Version}\\n'")
        rows = [line.split() for line in text.splitlines()]
        return {row[0]: row[2] for row in rows if row[1] == "installed"}

    def engine(self):
        """What must survive everything: swarm, container, its data."""
        return {
            "swarm": self.run("sudo docker info --format '{{.Swarm.LocalNodeState}} {{.Swarm.Cluster.ID}}'"),
            "running": self.run("sudo docker ps --filter name=keep --format '{{.Names}} {{.ID}}'"),
            "data": self.run("sudo docker run --rm -v keep:/k rpiomega/smoke:1 cat /k/data"),
        }


def tarred(name, text):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        member = tarfile.TarInfo(name)
        member.size, member.mode = len(text), 0o640
        tar.addfile(member, io.BytesIO(text.encode()))
    return buffer.getvalue()


@pytest.fixture(scope="module", params=["trixie", "bookworm"])
def board(request):
    client = engine.connect()
    yield Board(client, request.param, "docker")
    lifecycle.down(client, "vendor")


@pytest.fixture(scope="module")
def whole(board):
    """The board after its first apply, with something to lose."""
    demo.accept(board.lab)
    # A single state does not bring the modules, as the whole would.
    board.run("sudo salt-call saltutil.sync_all", 300)
    first = board.apply("docker,consul,swarm")
    assert [entry["comment"] for entry in first.values() if entry["result"] is not True] == []
    archive = next(board.lab.folder.glob("rpiomega-smoke*.tar.gz"))
    board.container.put_archive("/var/tmp", tarred_file(archive))
    board.run(f"sudo docker load -i /var/tmp/{archive.name}")
    board.run("sudo docker run --rm -v keep:/k rpiomega/smoke:1 sh -c 'echo precious > /k/data'")
    board.run("sudo docker run -d --name keep --restart always -v keep:/k rpiomega/smoke:1 sleep 1000000")
    board.before = board.engine()
    assert board.before["data"] == "precious"
    assert board.before["swarm"].startswith("active ")
    return board


def tarred_file(path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(path, path.name)
    return buffer.getvalue()


def test_the_first_apply_installs_the_newest_from_the_vendors_repository(whole):
    packages, newest = whole.packages(), whole.versions["docker"][-1]
    assert packages["docker-ce"] == packages["docker-ce-cli"] == newest
    assert not {"docker.io", "containerd", "runc"} & set(packages)
    source = whole.run("cat /etc/apt/sources.list.d/docker.sources")
    assert "Signed-By: /etc/apt/keyrings/docker.asc" in source
    assert f"Suites: {whole.lab.release}" in source
    assert {key: entry["changes"] for key, entry in whole.apply().items() if entry["changes"]} == {}


def test_a_version_is_installed_and_held_and_moves_with_the_site(whole):
    older, newer, _ = whole.versions["docker"]
    whole.site(allow_downgrade=True)
    for wanted, version in ((older, older), (newer.split(":")[1].split("-")[0], newer)):
        whole.site(version=wanted)
        predicted = whole.apply(test=True)["docker.install"]
        assert (predicted["result"], predicted["changes"]["docker-ce"]["new"]) == (None, version)
        done = whole.apply()["docker.install"]
        assert done["result"] is True, done["comment"]
        assert whole.packages()["docker-ce"] == whole.packages()["docker-ce-cli"] == version
        assert sorted(whole.run("apt-mark showhold").split()) == VENDOR
        assert whole.engine() == whole.before
        assert whole.apply()["docker.install"]["changes"] == {}
    whole.site(version="99")
    refused = whole.apply()["docker.install"]
    assert refused["result"] is False
    assert newer in refused["comment"]
    whole.site(version=newer, allow_downgrade=None)


def test_a_pinned_engine_moves_to_a_release_that_needs_a_newer_containerd(whole):
    _, pinned, newest = whole.versions["docker"]
    offered = whole.run("apt-cache madison containerd.io | cut -d'|' -f2").split()
    assert whole.packages()["docker-ce"] == pinned
    anyhow = "sudo apt-get install -y -q --allow-change-held-packages --allow-downgrades"
    whole.run(f"{anyhow} containerd.io={offered[-1]} && sudo apt-mark hold containerd.io", 300)
    # What the vendor's packages need, apt does not do without.
    refused = whole.run(f"{anyhow} docker-ce={newest} 2>&1 || true", 300)
    assert "docker-ce : Depends: containerd.io (>= 2.1.5)" in refused
    # A fix within containerd's major version comes while the engine stays where it is pinned.
    before = whole.run("pidof dockerd")
    done = whole.apply()["docker.install"]
    assert done["changes"] == {"containerd.io": {"old": offered[-1], "new": offered[1]}}, done
    assert whole.packages()["docker-ce"] == pinned
    assert whole.run("pidof dockerd") == before
    assert whole.engine() == whole.before
    whole.site(version="29")
    predicted = whole.apply(test=True)["docker.install"]["changes"]
    assert predicted["containerd.io"] == {"old": offered[1], "new": offered[0]}
    done = whole.apply()["docker.install"]
    assert done["result"] is True, done["comment"]
    packages = whole.packages()
    assert (packages["docker-ce"], packages["containerd.io"]) == (newest, offered[0])
    assert "nftables" in packages
    assert sorted(whole.run("apt-mark showhold").split()) == VENDOR
    assert whole.engine() == whole.before
    whole.site(version=None)
    assert whole.apply()["docker.install"]["result"] is True
    assert whole.run("apt-mark showhold") == ""


def test_an_entry_of_another_guide_is_retired_and_apt_works(whole):
    uri = whole.run("sed -n 's/^URIs: //p' /etc/apt/sources.list.d/docker.sources")
    entry = f"deb [arch=amd64,arm64 signed-by=/usr/share/keyrings/docker.gpg] {uri} {whole.lab.release} stable"
    whole.run(f"echo '{entry}' | sudo tee /etc/apt/sources.list.d/docker.list")
    assert "Conflicting values set for option Signed-By" in whole.run("sudo apt-get update 2>&1 || true", 300)
    done = whole.apply()["docker.repository"]
    assert done["result"] is True, done["comment"]
    assert "docker.list.before-rpiomega.save" in done["comment"]
    whole.run("sudo apt-get -o APT::Update::Error-Mode=any update", 300)
    assert whole.run("cat /etc/apt/sources.list.d/docker.list.before-rpiomega.save") == entry
    assert whole.apply()["docker.repository"]["changes"] == {}


def test_a_key_of_another_fingerprint_stops_everything(whole):
    content = yaml.safe_load(whole.run(f"sudo cat {PILLAR}"))["rpiomega"]["docker"]["repository"]
    whole.site(repository={**content, "fingerprint": "0" * 40})
    states = whole.apply()
    assert states["docker.repository"]["result"] is False
    assert content["fingerprint"] in states["docker.repository"]["comment"]
    assert states["docker.install"]["result"] is False
    whole.site(repository=content)
    assert whole.apply()["docker.repository"]["result"] is True


def test_settings_the_engine_refuses_leave_it_alone(whole):
    before = whole.run("cat /etc/docker/daemon.json; pidof dockerd")
    whole.site(daemon={"log-drivr": "local"})
    refused = whole.apply()["docker.config"]
    assert refused["result"] is False
    assert "log-drivr" in refused["comment"]
    assert whole.run("cat /etc/docker/daemon.json; pidof dockerd") == before
    whole.site(daemon=None)


def test_the_source_changes_in_both_directions_and_nothing_is_lost(whole):
    whole.site(source="distribution")
    refused = whole.apply()["docker.install"]
    assert "allow_downgrade" in refused["comment"]
    assert whole.packages()["docker-ce"]
    engines = {"distribution": "docker.io", "vendor": "docker-ce"}
    for source in engines:
        whole.site(source=source, allow_downgrade=True)
        states = whole.apply()
        assert [entry["comment"] for entry in states.values() if entry["result"] is not True] == []
        packages = whole.packages()
        assert [name for name in engines.values() if name in packages] == [engines[source]]
        assert whole.engine() == whole.before
        assert whole.run("sudo ls /var/lib/docker").split().count("nuke-graph-directory.sh") == 0
        there = whole.run("ls /etc/apt/sources.list.d").split()
        assert ("docker.sources" in there) == (source == "vendor")
    whole.site(allow_downgrade=None)


def test_the_data_root_moves_to_its_disk_and_the_engine_does_not_start_without_it(whole):
    whole.site(data_root="/mnt/ssd/docker")
    assert "no disk is mounted" in whole.apply()["docker.config"]["comment"]
    whole.run("sudo mkdir -p /mnt/ssd && sudo mount -t tmpfs -o size=1g tmpfs /mnt/ssd")
    assert "move_data: true" in whole.apply()["docker.config"]["comment"]
    whole.site(move_data=True)
    done = whole.apply()["docker.config"]
    assert done["result"] is True, done["comment"]
    assert whole.engine() == whole.before
    assert whole.run("sudo docker info --format '{{.DockerRootDir}}'") == "/mnt/ssd/docker"
    whole.run("sudo systemctl stop docker.socket docker && sudo umount /mnt/ssd")
    assert whole.run("sudo systemctl start docker && echo started", check=False) == ""
    assert whole.run("ls /mnt/ssd") == ""
