"""`consul_agent.upgradable` on a real Docker Engine: which release runs, which one an image has, what is refused."""

import uuid

import consul_server
import pytest
import tiny_image
from consul_site import ConsulSite, until
from dockerds import missing

from omega.docker import containers as docker_containers

docker = pytest.importorskip("docker")
SITE = {"cluster": "omega", "nodes": {"pi1": {"address": "192.0.2.1", "roles": ["master", "manager"]}}}


@pytest.fixture(scope="module")
def engine():
    return docker.DockerClient(base_url="unix:///var/run/docker.sock")


@pytest.fixture
def place(engine):
    """place(tag, **labels): an image of this test's own repository; all of them and their containers are removed."""
    repository = f"rpiomega/test-{uuid.uuid4().hex[:12]}"

    def make(tag, root=tiny_image.root, **labels):
        changes = [f"LABEL org.opencontainers.image.{key}={value}" for key, value in labels.items()]
        # Another image for each tag: of the same one there is nothing to upgrade.
        changes.append(f"LABEL test={uuid.uuid4().hex}")
        engine.api.import_image_from_data(root(), repository=repository, tag=tag, changes=changes)
        return f"{repository}:{tag}"

    yield make
    for container in engine.containers.list(all=True, filters={"name": repository.partition("/")[2]}):
        container.remove(force=True)
    for image in engine.images.list(repository):
        engine.images.remove(image.id, force=True)


@pytest.fixture
def judge(engine, states):
    """judge(now, wanted): the state's return on a node whose agent has the image `now`."""

    def call(now, wanted, test=False, minion="pi1", pillar=None, **arguments):
        name = f"{now.partition('/')[2].partition(':')[0]}-agent"
        for old in engine.containers.list(all=True, filters={"name": name}):
            old.remove(force=True)
        labels = {docker_containers.LABEL: "x"}
        engine.containers.create(now, name=name, entrypoint=["sleep"], command=["600"], labels=labels)
        with states(test=test, pillar={"rpiomega": SITE, **(pillar or {})}, minion_id=minion) as loaded:
            return loaded["consul_agent.upgradable"](name, wanted, **arguments)

    return call


@pytest.mark.parametrize("test", [False, True])
def test_a_jump_and_a_way_back_are_refused_and_predicted(place, judge, test):
    now = place("1.20.6")
    jump = judge(now, place("1.23.0"), test)
    assert (jump["result"], jump["changes"]) == (False, {})
    assert "name a release of 1.22 in consul.image first" in jump["comment"]
    assert "allow_unsupported_upgrade: true" in jump["comment"]
    back = judge(now, place("1.19.2"), test)
    assert (back["result"], back["changes"]) == (False, {})
    assert "Consul 1.19.2 is older than 1.20.6" in back["comment"]
    assert judge(now, place("1.22.7"), test)["result"] is True
    allowed = judge(now, place("1.19.3"), test, allow=True)
    assert allowed["result"] is True
    assert "by allow_unsupported_upgrade of the site file: Consul 1.19.3 is older" in allowed["comment"]


def test_an_image_that_is_not_there_yet_is_judged_by_its_tag(place, judge):
    refused = judge(place("1.20.6"), "hashicorp.invalid/consul:1.8.7", test=True)
    assert refused["result"] is False
    assert "1.8.7 is older than 1.20.6" in refused["comment"]


def test_hashicorps_labels_say_the_release_where_the_tag_does_not(place, judge):
    now = place("latest", title="consul", version="1.20.6")
    refused = judge(now, place("stable", title="consul", version="1.19.2"), test=True)
    assert refused["result"] is False
    assert "Consul 1.19.2 is older than 1.20.6" in refused["comment"]
    # An image made from HashiCorp's, with a tag of the owner's own.
    assert "1.19.2 is older" in judge(now, place("7.3", title="consul", version="1.19.2"))["comment"]


def consul_root():
    """An image with this machine's Consul program."""
    return tiny_image.root(usr_bin_consul=consul_server.binary())


def test_the_program_is_asked_where_nothing_else_tells(engine, place, judge):
    """And a label that belongs to another base image is not taken for Consul's."""
    asked, now = place("edge", root=consul_root, title="ubuntu", version="24.04"), place("3.0.0")
    before = {container.id for container in engine.containers.list(all=True, filters={"ancestor": asked})}
    predicted = judge(now, asked, test=True)
    assert predicted["result"] is True
    assert f"{asked} does not tell its release; without test=True the image itself is asked" in predicted["comment"]
    release = ".".join(map(str, consul_server.version()))
    refused = judge(now, asked)
    assert refused["result"] is False
    assert f"Consul {release} is older than 3.0.0" in refused["comment"]
    assert {one.id for one in engine.containers.list(all=True, filters={"ancestor": asked})} == before


def test_an_image_without_consul_fails_in_one_line(place, judge):
    answer = judge(place("1.20.6"), place("edge"))
    assert (answer["result"], answer["changes"]) == (False, {})
    assert "the engine does not run `consul version` in it" in answer["comment"]
    assert "\n" not in answer["comment"]


def test_a_node_without_an_agent_and_an_unchanged_image_pass(engine, place, judge, states):
    with states(pillar={"rpiomega": SITE}) as loaded:
        fresh = loaded["consul_agent.upgradable"](f"rpiomega-none-{uuid.uuid4().hex[:8]}", "hashicorp/consul:1.22.7")
    assert (fresh["result"], fresh["changes"]) == (True, {})
    same = place("edge")
    assert judge(same, same)["result"] is True


@pytest.mark.slow
@pytest.mark.skipif(bool(missing()), reason=missing())
def test_a_client_that_was_off_during_the_steps_between_follows_its_servers(place, judge):
    """Its own agent tells by gossip what the servers run; a server with the same image is refused."""
    with ConsulSite({"pi1": ["master", "manager"], "pi2": ["worker"]}) as site:
        site.apply()
        client = site["pi2"].client()
        until(lambda: "pi1" in client.alive(), "the client knows its server")
        now, wanted = place("1.2.4"), place(".".join(map(str, consul_server.version())))
        newer = place("1.99.0")

        def asked(node, image):
            url = {"consul.url": f"http://{site[node].address}:8500"}
            return judge(now, image, minion=node, pillar={**site[node].pillar(), **url})

        assert asked("pi2", wanted)["result"] is True, asked("pi2", wanted)
        assert asked("pi2", newer)["result"] is False
        assert asked("pi1", wanted)["result"] is False
        site["pi1"].stop(kill=True)
        # Without a server the client's agent may forget the token, and then says as little of the servers.
        until(lambda: not asked("pi2", wanted)["result"], "the client misses its server")
