"""`container.image_present` and `container.running` against a real Docker Engine."""

import time
import uuid

import ailing_engine
import pytest
import tiny_image

from omega.docker import containers as docker_containers
from omega.docker import engine as docker_engine

docker = pytest.importorskip("docker")


@pytest.fixture(scope="module")
def engine():
    client = docker.DockerClient(base_url="unix:///var/run/docker.sock")
    yield client


@pytest.fixture(scope="module")
def image(engine):
    with tiny_image.on_host(engine) as tag:
        yield tag


@pytest.fixture
def name(engine):
    """A container name nobody else uses; the container is removed afterwards."""
    made = f"rpiomega-test-{uuid.uuid4().hex[:8]}"
    yield made
    for container in engine.containers.list(all=True, filters={"name": made}):
        container.remove(force=True)


@pytest.fixture
def run(states, name, image):
    def run(test=False, seconds="600", **settings):
        with states(test=test) as loaded:
            return loaded["container.running"](
                name, image, entrypoint=["sleep"], command=[seconds], restart="no", stop_timeout=1, **settings
            )

    return run


def test_a_container_is_created_once_and_then_left_alone(engine, name, run):
    assert run()["changes"] == {name: "create"}
    first = engine.containers.get(name).id
    again = run()
    assert again["result"] is True
    assert again["changes"] == {}
    assert engine.containers.get(name).id == first


def test_what_is_predicted_is_what_is_done_and_nothing_is_written(engine, name, run):
    predicted = run(test=True)
    assert predicted["result"] is None
    assert engine.containers.list(all=True, filters={"name": name}) == []
    assert run()["changes"] == predicted["changes"]
    assert run(test=True)["result"] is True


def test_other_settings_make_a_new_container(engine, name, run):
    run()
    first = engine.containers.get(name).id
    assert run(seconds="601")["changes"] == {name: "replace"}
    assert engine.containers.get(name).id != first


def test_a_stopped_container_is_started_again(engine, name, run):
    run()
    first = engine.containers.get(name)
    first.kill()
    assert run()["changes"] == {name: "start"}
    assert engine.containers.get(name).id == first.id


def test_a_changed_configuration_file_makes_a_new_container(name, run, tmp_path):
    (tmp_path / "settings").write_text("one")
    run(config=[str(tmp_path)])
    assert run(config=[str(tmp_path)])["changes"] == {}
    (tmp_path / "settings").write_text("two")
    assert run(config=[str(tmp_path)])["changes"] == {name: "replace"}


def test_a_container_is_removed_with_a_prediction_and_its_volume_stays(engine, name, run, states):
    run(volumes=[f"{name}:/data"])
    with states(test=True) as loaded:
        predicted = loaded["container.absent"](name)
    assert (predicted["result"], engine.containers.get(name).status) == (None, "running")
    with states() as loaded:
        assert loaded["container.absent"](name, stop_timeout=1)["changes"] == predicted["changes"] == {name: "remove"}
        assert loaded["container.absent"](name)["changes"] == {}
    engine.volumes.get(name).remove()


def test_a_container_of_somebody_else_stays(engine, image, name, states):
    engine.containers.create(image, ["sleep", "60"], name=name)
    with states() as loaded:
        answer = loaded["container.absent"](name)
    assert (answer["result"], answer["changes"]) == (True, {})
    assert engine.containers.get(name)


def test_a_container_of_somebody_else_is_not_replaced(engine, image, name, run):
    others = engine.containers.create(image, ["sleep", "60"], name=name)
    for test in (True, False):
        answer = run(test=test)
        assert (answer["result"], answer["changes"]) == (False, {})
        assert f"{name}: a container of that name was made by others; remove or rename it" in answer["comment"]
    assert engine.containers.get(name).id == others.id


def test_a_new_image_is_predicted_as_what_it_does(name, run, states):
    def predicted():
        with states(test=True) as loaded:
            return loaded["container.running"](name, "rpiomega/absent:1")["changes"]

    assert predicted() == {name: "create"}
    run()
    assert predicted() == {name: "replace"}


def test_a_container_that_ends_again_and_again_is_started_at_once(engine, image, name, states):
    def run():
        with states() as loaded:
            return loaded["container.running"](name, image, entrypoint=["sleep"], command=["0"], stop_timeout=1)

    def look():
        return engine.containers.get(name).attrs

    run()
    end = time.monotonic() + 30
    while look()["RestartCount"] < 5 or not look()["State"]["Restarting"]:  # the next one comes seconds later
        assert time.monotonic() < end, look()
        time.sleep(0.05)
    before = look()["State"]["StartedAt"]
    assert run()["changes"] == {name: "start"}
    assert look()["State"]["StartedAt"] != before


def test_an_archive_is_loaded_when_the_image_is_missing(engine, states, tmp_path):
    tag = f"rpiomega/archived:{uuid.uuid4().hex[:8]}"
    tiny_image.build(engine, tag)
    archive = tmp_path / "image.tar"
    archive.write_bytes(b"".join(engine.images.get(tag).save(named=True)))
    engine.images.remove(tag, force=True)
    with states() as loaded:
        assert loaded["container.image_present"](tag, archive=str(archive))["changes"] == {tag: "loaded"}
        assert loaded["container.image_present"](tag, archive=str(archive))["changes"] == {}
    engine.images.remove(tag, force=True)


def test_an_archive_of_another_image_is_called_so(engine, image, states, tmp_path):
    archive = tmp_path / "image.tar"
    archive.write_bytes(b"".join(engine.images.get(image).save(named=True)))
    with states() as loaded:
        answer = loaded["container.image_present"]("rpiomega/absent:1", archive=str(archive))
    assert answer["result"] is False
    assert "holds another image" in answer["comment"]


def test_a_damaged_archive_is_named(states, tmp_path):
    archive = tmp_path / "image.tar"
    archive.write_bytes(b"no tarball" * 100)
    with states() as loaded:
        answer = loaded["container.image_present"]("rpiomega/absent:1", archive=str(archive))
    assert (answer["result"], answer["changes"]) == (False, {})
    assert f"rpiomega/absent:1: {archive} cannot be loaded" in answer["comment"]
    assert "docker save" in answer["comment"]


@pytest.mark.parametrize(("hang", "cause"), [(False, "no space left on device"), (True, "Read timed out")])
def test_an_engine_that_does_not_do_what_it_is_told_is_named_with_its_cause(hang, cause):
    spec = docker_containers.spec_of(tiny_image.TAG, None, None, "bridge", "", [], [], "no")
    with ailing_engine.serve(hang) as url:
        client = docker_engine.connect(url, timeout=0.3)
        for answer in (docker_containers.running(client, "one", spec), docker_containers.absent(client, "one")):
            assert (answer["result"], answer["changes"]) == (False, {})
            assert cause in answer["comment"]
            assert "journalctl -u docker" in answer["comment"]


def test_a_registry_that_does_not_answer_is_named(states):
    with states() as loaded:
        answer = loaded["container.image_present"]("127.0.0.1:9/nothing:1")
    assert answer["result"] is False
    assert "127.0.0.1:9/nothing:1 cannot be pulled" in answer["comment"]


def test_a_missing_image_is_named(states):
    with states() as loaded:
        answer = loaded["container.running"]("rpiomega-test-none", "rpiomega/absent:1")
    assert answer["result"] is False
    assert "rpiomega/absent:1 is not on this node" in answer["comment"]
