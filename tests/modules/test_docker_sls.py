"""Which repository salt/docker gives each system, by the grains that Salt itself reads from its os-release."""

from pathlib import Path

import pytest
import salt.config
import salt.grains.core
import salt.loader
import salt.template

ROOT = Path(__file__).resolve().parents[2]
SITE = {"cluster": "omega", "nodes": {"pi1": {"address": "192.0.2.1", "roles": ["master", "manager"]}}}


def os_release(name, ident, codename, like=""):
    return {
        "NAME": name,
        "ID": ident,
        "VERSION_CODENAME": codename,
        "VERSION_ID": "1",
        **({"ID_LIKE": like} if like else {}),
    }


DEBIAN, ARMBIAN = "Debian GNU/Linux", "Armbian"
SYSTEMS = {
    "Debian bookworm": (os_release(DEBIAN, "debian", "bookworm"), "arm64", "debian"),
    "Debian trixie, and Raspberry Pi OS 64-bit": (os_release(DEBIAN, "debian", "trixie"), "arm64", "debian"),
    "Debian trixie 32-bit": (os_release(DEBIAN, "debian", "trixie"), "armhf", "debian"),
    "Debian after the next": (os_release(DEBIAN, "debian", "duke"), "arm64", "debian"),
    "Ubuntu noble": (os_release("Ubuntu", "ubuntu", "noble", "debian"), "arm64", "ubuntu"),
    "Ubuntu to come": (os_release("Ubuntu", "ubuntu", "zesty", "debian"), "arm64", "ubuntu"),
    "Armbian of Debian": (os_release(ARMBIAN, "debian", "bookworm"), "arm64", "debian"),
    "Armbian of Ubuntu": (os_release(ARMBIAN, "ubuntu", "noble", "debian"), "arm64", "ubuntu"),
    "Armbian with an ID of its own": (os_release(ARMBIAN, "armbian", "jammy", "ubuntu debian"), "arm64", "ubuntu"),
}


@pytest.fixture
def render(tmp_path):
    """State docker.repository of a system, as (function, arguments)."""

    def rendered(release, architecture, **docker):
        grains = {"id": "pi1", "osarch": architecture, **salt.grains.core._os_release_to_grains(release)}
        opts = salt.config.minion_config(None)
        opts.update(id="pi1", file_client="local", file_roots={"base": [str(ROOT / "salt")]}, grains=grains)
        opts.update(root_dir=str(tmp_path), cachedir=str(tmp_path / "cache"))
        opts.update(pillar={"rpiomega": {**SITE, "docker": docker}})
        functions = salt.loader.minion_mods(opts, utils=salt.loader.utils(opts))
        renderers = salt.loader.render(opts, functions)
        sls = str(ROOT / "salt/docker/repository.sls")
        found = salt.template.compile_template(
            sls, renderers, "jinja|yaml", [], [], saltenv="base", sls="docker.repository"
        )
        ((function, arguments),) = (
            (key, value) for key, value in found["docker.repository"].items() if not key.startswith("__")
        )
        return function, {key: value for argument in arguments for key, value in argument.items()}

    return rendered


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_system_gets_the_packages_made_for_it(render, system):
    release, architecture, distribution = SYSTEMS[system]
    function, arguments = render(release, architecture)
    assert function == "apt_repository.present"
    assert arguments["uri"] == f"https://download.docker.com/linux/{distribution}"
    assert arguments["suite"] == release["VERSION_CODENAME"]


@pytest.mark.parametrize(
    ("release", "architecture", "said"),
    [
        (os_release("Raspbian GNU/Linux", "raspbian", "bookworm", "debian"), "armhf", "up to release 28 only"),
        (os_release(ARMBIAN, "armbian", "sid"), "arm64", "nobody knows whether Armbian sid takes Docker's packages"),
    ],
    ids=["Raspberry Pi OS 32-bit", "a codename nobody knows"],
)
def test_a_system_without_packages_is_named_with_the_way_out(render, release, architecture, said):
    function, arguments = render(release, architecture)
    assert function == "test.fail_without_changes"
    assert said in arguments["name"]
    assert arguments["name"].startswith("pi1: ")
    assert "`docker: {source: distribution}` at nodes.pi1" in arguments["name"]
    assert {"docker_engine": "docker.install"} in arguments["require_in"]
    assert render(release, architecture, source="distribution")[0] == "apt_repository.absent"
