"""The package as `pip install` brings it: in an environment of its own, without a checkout beside it."""

import json
import pathlib
import shutil
import socket
import subprocess
import sys
import sysconfig

import commands
import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
PACKED = ("setup.py", "setup.cfg", "pyproject.toml", "README.md", "LICENSE", "bootstrap", "_utils", "salt")
OWN = socket.gethostname()

pytestmark = pytest.mark.slow


def run(*command, **more):
    words = [str(word) for word in command]
    return subprocess.run(words, capture_output=True, text=True, check=True, timeout=commands.BOUND, **more).stdout


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """Python of an environment with the wheel; what it depends on is this environment's, this checkout is not there."""
    folder = tmp_path_factory.mktemp("wheel")
    source, wheels, venv = folder / "source", folder / "wheels", folder / "venv"
    source.mkdir()
    for name in PACKED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
        copy(ROOT / name, source / name, **({"symlinks": True} if copy is shutil.copytree else {}))
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", wheels, source)
    shutil.rmtree(source)
    run(sys.executable, "-m", "venv", "--without-pip", venv)
    python = venv / "bin/python"
    (wheel,) = wheels.iterdir()
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel)
    # A path in a .pth file, unlike `site-packages` itself, does not bring its own .pth files: not the editable install.
    paths = {key: sysconfig.get_path(key) for key in ("purelib", "platlib")}
    own = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    pathlib.Path(own, "dependencies.pth").write_text("\n".join(dict.fromkeys(paths.values())))
    return python


@pytest.fixture
def folder(tmp_path):
    """A folder with nothing but a site file, of this machine."""
    nodes = {OWN: {"address": "10.0.0.1", "roles": ["master", "manager"]}}
    (tmp_path / "pillar").mkdir()
    (tmp_path / "pillar/site.sls").write_text(yaml.safe_dump({"rpiomega": {"cluster": "one", "nodes": nodes}}))
    return tmp_path


def test_every_module_is_packed(python, folder):
    """Each of the checkout, and its data, in the same place below its package."""
    for name, root in (("rpiomega", ROOT / "bootstrap"), ("omega", ROOT / "_utils")):
        packed = pathlib.Path(run(python, "-c", f"import {name}; print({name}.__path__[0])", cwd=folder).strip())
        assert ROOT not in packed.parents
        own = {path.relative_to(root / name) for path in (root / name).rglob("*") if path.is_file()}
        missing = {path for path in own if path.suffix != ".pyc" and not (packed / path).is_file()}
        assert missing == set()


def test_an_installed_rpiomega_lists_the_same_checks_as_a_checkout(python, folder):
    assert "--only" in run(python, "-m", "rpiomega", "verify", "--help", cwd=folder)
    listed = run(python, "-m", "rpiomega", "verify", "--list", cwd=folder)
    assert listed.strip() in (ROOT / "docs/verify.md").read_text()


def test_an_installed_rpiomega_reads_the_site_over_the_formulas_defaults(python, folder):
    """Each check of this machine, which is no node, has a result; none ends in a mistake of its own."""
    report = folder / "report"
    suite = run(python, "-c", "from rpiomega.verify import checks; print(checks.FOLDER)", cwd=folder).strip()
    assert not suite.startswith(str(ROOT))
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", suite, f"--rootdir={suite}"]
    only = "the_node_has_its_name or the_packages_of_formula or the_secrets_folder or the_journal"
    command += ["-k", only, "--hosts=local://", f"--report={report}"]
    done = subprocess.run(
        [str(word) for word in command], cwd=folder, capture_output=True, text=True, timeout=commands.BOUND, check=False
    )
    assert report.exists(), done.stdout + done.stderr
    rows = {row["check"]: row for row in map(json.loads, report.read_text().splitlines())}
    assert len(rows) == 5, done.stdout
    assert {row["node"] for row in rows.values()} == {OWN}
    assert rows["the_node_has_its_name"]["result"] == "ok"
    assert not [row for row in rows.values() if "Error" in row["cause"]]
