"""State `backup` under the site's options, compiled by Salt: units and timers of each node, and no secret in it."""

import json
import pathlib
import shutil
import subprocess

import pytest
import salt.config
import salt.loader
from backup_pillar import NODES, SECRETS, pillar_of

ROOT = pathlib.Path(__file__).resolve().parents[2]
FILES = ROOT / "salt/backup/files"
UNITS = ("rpiomega-backup", "rpiomega-backup-drill", "rpiomega-backup-forget")


@pytest.fixture(scope="module")
def render(tmp_path_factory):
    """render("pi2", backup={...}) gives {(ID, state): chunk} of state `backup` on that node."""
    root = tmp_path_factory.mktemp("minion")
    opts = salt.config.minion_config(None)
    opts.update(
        file_client="local",
        root_dir=str(root),
        cachedir=str(root / "cache"),
        extension_modules=str(root / "extmods"),
        module_dirs=[str(ROOT)],
        file_roots={"base": [str(ROOT / "salt")]},
    )
    grains = salt.loader.grains(opts)

    def render(node="pi1", secrets=True, **backup):
        pillar = {"rpiomega": {"cluster": "omega", "nodes": NODES, "backup": {"bucket": "omega-backup", **backup}}}
        pillar.update({"rpiomega_secrets": pillar_of(node, "/store")["rpiomega_secrets"]} if secrets else {})
        here = {**opts, "id": node, "pillar": pillar, "grains": {**grains, "id": node}}
        low = salt.loader.minion_mods(here, utils=salt.loader.utils(here))["state.show_low_sls"]("backup")
        assert all(isinstance(chunk, dict) for chunk in low), low
        assert not [key for key, secret in SECRETS.items() if secret in json.dumps(low)]
        return {(chunk["__id__"], chunk["state"]): chunk for chunk in low}

    return render


def running(found):
    return {name for (name, state), chunk in found.items() if state == "service" and chunk["fun"] == "running"}


def test_each_node_has_its_timers_and_the_master_the_upkeep(render):
    master, worker = render("pi1"), render("pi2")
    assert running(master) == {f"{unit}.timer" for unit in UNITS}
    assert running(worker) == {"rpiomega-backup.timer", "rpiomega-backup-drill.timer"}
    assert ("backup.repositories", "backup") in master
    assert ("backup.repositories", "backup") not in worker
    assert worker["rpiomega-backup-forget.timer", "service"]["fun"] == "dead"
    assert worker["backup.files", "backup"]["settings"]["keep"] == {"daily": 7, "weekly": 4, "monthly": 6}
    assert worker["backup.restic", "backup"]["version"] == "0.19.1"


def test_a_site_without_a_bucket_has_no_timer_no_unit_and_no_file(render):
    found = render("pi1", bucket="")
    assert running(found) == set()
    assert {name for (name, state), chunk in found.items() if chunk["fun"] == "absent"} == {
        f"{unit}.{kind}" for unit in UNITS for kind in ("timer", "service")
    }
    assert found["backup.files", "backup"]["fun"] == "unconfigured"
    assert ("backup.restic", "backup") not in found


def test_a_run_without_the_masters_secrets_leaves_backups_as_they_are(render):
    assert render("pi1", secrets=False) == {}
    assert render("pi1", secrets=False, bucket="") == {}


def test_a_drill_can_be_monthly_or_off(render):
    def calendar(**backup):
        chunk = render("pi2", **backup)["rpiomega-backup-drill.timer", "file"]
        return chunk["context"]["calendar"] if chunk["fun"] == "managed" else None

    assert calendar() == "Sun *-*-* 02:30:00"
    assert calendar(drill={"every": "monthly"}, schedule="23:30") == "*-*-01 01:30:00"
    assert calendar(drill={"every": "off"}) is None


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze reads the times")
@pytest.mark.parametrize("backup", [{}, {"schedule": "22:15"}, {"drill": {"every": "monthly"}}])
def test_systemd_understands_every_time(render, backup):
    chunks = [chunk for chunk in render("pi1", **backup).values() if "calendar" in chunk.get("context", {})]
    assert len(chunks) == 3
    for chunk in chunks:
        command = ["systemd-analyze", "calendar", chunk["context"]["calendar"]]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze reads the units")
def test_systemd_understands_the_units(render, tmp_path):
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin/salt-call"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    names = []
    for (name, state), chunk in render("pi1").items():
        if state != "file":
            continue
        text = (FILES / chunk["source"].rsplit("/", 1)[1]).read_text()
        for key, value in chunk.get("context", {}).items():
            text = text.replace("{{ " + key + " }}", value)
        (tmp_path / name).write_text(text.replace("=salt-call ", f"={program} "))
        names.append(str(tmp_path / name))
    assert len(names) == 6
    done = subprocess.run(["systemd-analyze", "verify", *names], capture_output=True, text=True, check=False)
    ours = [line for line in done.stderr.splitlines() if "rpiomega-backup" in line]
    assert ours == []
