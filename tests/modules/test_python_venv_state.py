"""`python_venv.installed`: real environments with a small package that is built here, so no network is needed."""

import json
import os
import pathlib
import subprocess
import textwrap
import zipfile

import pytest


@pytest.fixture
def wheels(tmp_path, monkeypatch):
    """Two versions of a tool named `greet`; pip is told to look nowhere else."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    for version in ("1.0", "2.0"):
        info = f"greet-{version}.dist-info"
        with zipfile.ZipFile(folder / f"greet-{version}-py3-none-any.whl", "w") as wheel:
            wheel.writestr("greet.py", f"def main():\n    print('greet {version}')\n")
            wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: greet\nVersion: {version}\n")
            wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{info}/entry_points.txt", "[console_scripts]\ngreet = greet:main\n")
            wheel.writestr(f"{info}/RECORD", "")
    config = tmp_path / "pip.conf"
    config.write_text(textwrap.dedent(f"[global]\nno-index = true\nfind-links = {folder}\n"))
    monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    return folder


@pytest.fixture
def install(states, tmp_path, wheels):
    def install(requirement="greet>=1", test=False, python="/usr/bin/python3"):
        with states(test=test) as loaded:
            return loaded["python_venv.installed"](
                str(tmp_path / "venv"), requirement, {str(tmp_path / "greet"): "bin/greet"}, python
            )

    return install


def greeting(tmp_path):
    return subprocess.run([tmp_path / "greet"], capture_output=True, text=True, check=True).stdout.strip()


def test_a_tool_is_installed_linked_and_then_left_alone(install, tmp_path, monkeypatch):
    stamp, synced = tmp_path / "venv/a/rpiomega.json", []
    monkeypatch.setattr(os, "sync", lambda: synced.append(stamp.exists()))
    assert install()["changes"]
    assert (synced, stamp.exists()) == ([False], True), "the stamp comes after what it stands for"
    assert greeting(tmp_path) == "greet 2.0"
    assert install()["changes"] == {}


def test_a_pinned_version_replaces_another_once_it_is_there(install, tmp_path):
    install()
    assert install("greet==1.0", python="/no/python")["result"] is False
    assert greeting(tmp_path) == "greet 2.0"
    assert install("greet==1.0")["changes"]
    assert greeting(tmp_path) == "greet 1.0"
    assert {entry.name for entry in (tmp_path / "venv").iterdir()} == {"b", "current"}


def test_an_environment_of_the_former_layout_works_until_the_new_one_takes_its_place(install, tmp_path):
    """The folder itself was the environment."""
    venv = tmp_path / "venv"
    for command in (["/usr/bin/python3", "-m", "venv", venv], [venv / "bin/pip", "install", "-q", "greet==1.0"]):
        subprocess.run(command, check=True)
    python = str((venv / "bin/python").resolve())
    (venv / "rpiomega.json").write_text(json.dumps({"python": python, "version": "1.0"}))
    (tmp_path / "greet").symlink_to(venv / "bin/greet")
    assert install(python="/no/python")["result"] is False
    assert greeting(tmp_path) == "greet 1.0"
    predicted = install("greet==1.0", test=True)
    assert install("greet==1.0")["changes"] == predicted["changes"]
    assert greeting(tmp_path) == "greet 1.0"
    assert {entry.name for entry in venv.iterdir()} == {"a", "current"}
    assert install("greet==1.0")["changes"] == {}


def test_test_mode_predicts_and_writes_nothing(install, tmp_path):
    assert install(test=True)["result"] is None
    assert not (tmp_path / "venv").exists()
    install()
    assert install(test=True)["result"] is True


def test_an_interrupted_installation_is_made_anew(install, tmp_path):
    install()
    (tmp_path / "venv/current/rpiomega.json").unlink()
    assert install()["changes"]
    assert greeting(tmp_path) == "greet 2.0"


def test_what_an_interrupted_installation_left_goes(install, tmp_path):
    install()
    (tmp_path / "venv/b/bin").mkdir(parents=True)
    predicted = install(test=True)
    assert predicted["changes"] == {str(tmp_path / "venv/b"): "removed"}
    assert install()["changes"] == predicted["changes"]
    assert not (tmp_path / "venv/b").exists()


def test_an_environment_of_a_vanished_python_is_made_anew(install, tmp_path):
    install()
    stamp = tmp_path / "venv/current/rpiomega.json"
    stamp.write_text(json.dumps({**json.loads(stamp.read_text()), "python": "/usr/bin/python3.1"}))
    assert install()["changes"]


def test_a_package_that_does_not_exist_is_named(install):
    answer = install("nosuchtool==3")
    assert answer["result"] is False
    assert "nosuchtool" in answer["comment"]
    # Of a release that wants another Python, pip says no more than that there is none.
    python = pathlib.Path("/usr/bin/python3").resolve().name
    assert f"see that there is such a release for {python}, and that this node reaches" in answer["comment"]
    assert answer["changes"] == {}


def test_without_venv_the_packages_are_named(install):
    assert "install the packages python3 and python3-venv" in install(python="/bin/false")["comment"]
