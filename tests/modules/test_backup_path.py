"""From `rpiomega backup init` over pillar and states to saved and forgotten snapshots, against the stand-in for B2."""

import dataclasses
import json
import os
import pathlib

import backup_master
import pytest
import restic_program
import salt.config
import salt.loader
import yaml

from omega.backup import restic, retention
from rpiomega.lab.b2 import server

ROOT = pathlib.Path(__file__).resolve().parents[2]
NODES = ("pi1", "pi2")


@pytest.fixture(scope="module")
def service():
    with server.running() as found:
        yield found


@pytest.fixture
def site(service):
    found = backup_master.site(service).model_dump(mode="json", exclude_unset=True)
    for entry in found["nodes"].values():
        entry.pop("name")  # in the file it is the entry's key
    return found


@pytest.fixture
def apply(states, service, site, tmp_path):
    """apply("configured", "pi1"): a state on a node, with the pillar that the master's secrets give it."""
    board = backup_master.Board(tmp_path / "root")
    backup_master.init(service, board)
    (tmp_path / "pillar").mkdir()
    (tmp_path / "pillar/site.sls").write_text(yaml.safe_dump({"rpiomega": site}))

    def given(node):
        opts = salt.config.master_config(None)
        opts.update(pillar_dirs=[str(ROOT / "_pillar")], module_dirs=[], id=node)
        opts["pillar_roots"] = {"base": [str(tmp_path / "pillar")]}
        return salt.loader.pillars(opts, {})["rpiomega"](node, {}, secrets=str(board.folder.parent))

    def apply(state, node, test=False, **arguments):
        pillar = {"rpiomega": site, **given(node)}
        secrets = pillar["rpiomega_secrets"]["backup"]
        assert "problem" not in secrets, secrets
        with states(test=test, pillar=pillar, minion_id=node) as loaded:
            answer = loaded[f"backup.{state}"](str(tmp_path / node), **arguments)
        values = [secrets["password"], secrets["key"], secrets.get("recovery", secrets["key"])]
        assert not [value for value in values if value in str(answer)]
        return answer

    return apply


def here(folder, tmp_path):
    """A node's repository as its timer opens it."""
    found = restic.own(str(folder))
    return dataclasses.replace(found, program=restic_program.path(), cache=str(tmp_path / "cache"))


def test_the_whole_path_with_the_very_keys_of_init(apply, service, tmp_path):
    settings = {"keep": {"daily": 1, "weekly": 0, "monthly": 0}}
    for node in NODES:
        assert apply("configured", node, settings=settings)["result"] is True
    arguments = {"program": restic_program.path()}
    wanted = dict.fromkeys(NODES, "repository made, recovery key added")
    assert apply("repositories_present", "pi1", test=True, **arguments)["changes"] == wanted
    made = apply("repositories_present", "pi1", **arguments)
    assert (made["result"], made["changes"]) == (True, wanted), made["comment"]
    assert apply("repositories_present", "pi1", **arguments)["changes"] == {}

    content = tmp_path / "content"
    content.write_text("of pi2")
    own = here(tmp_path / "pi2", tmp_path)
    tags = ["--tag", "rpiomega,group=files,run=1,mode=hot", "--host", "pi2"]
    for day in (1, 2, 3):
        restic.run(own, ["backup", str(content), "--time", f"2026-01-0{day} 02:00:00", *tags])
    assert len(restic.snapshots(own)) == 3

    # A node's key opens no other node's repository, with that one's password neither.
    password = (tmp_path / "pi1/password").read_text()
    (tmp_path / "stolen").write_text(password)
    other = dataclasses.replace(own, url=own.url.replace("/pi2", "/pi1"), password_file=str(tmp_path / "stolen"))
    with pytest.raises(restic.ResticError) as caught:
        restic.run(other, ["cat", "config", "--no-lock"], seconds=60)
    assert caught.value.kind == "denied", caught.value

    found = retention.forget_all(str(tmp_path / "pi1"), str(tmp_path / "forget.json"), restic_program.path())
    assert found == {"pi1": {"ok": True, "kept": 0, "removed": 0}, "pi2": {"ok": True, "kept": 1, "removed": 2}}
    assert len(restic.snapshots(own)) == 1
    restic.run(own, ["check"])
    assert json.loads((tmp_path / "forget.json").read_text())["nodes"] == found
    assert os.stat(tmp_path / "forget.json").st_mode & 0o777 == 0o600
    assert pathlib.Path(own.aws_file).stat().st_mode & 0o777 == 0o600
