"""What a real run has saved is proven by a drill, restored, and proven again: with the run's own manifests."""

import os
import sqlite3

import backup_repository
import backup_site

from omega.backup import drill, restore, restore_volume
from omega.backup.restore import Wanted

daemon, node = backup_site.daemon, backup_site.node


def prove(node):
    return drill.Drill(node.repository, node.places, node.client, parts=1, secrets=str(node.root / "none")).run()


def test_a_run_is_proven_and_restored(node):
    first, second, dumped = node.volume(), node.volume(), node.volume()
    backup_repository.fill(node.path(first))
    with sqlite3.connect(node.path(second) / "one.db") as database:
        database.execute("create table t (x)")
    check = f"[ -e /{first.name}/suid ] && [ -e $RPIOMEGA_RESTORED/{second.name}/one.db ]"
    service = node.container(volumes=[first, second], labels={"rpiomega.backup.check": check})
    labels = {
        "rpiomega.backup": "dump",
        "rpiomega.backup.dump": f"echo rows of {dumped.name}",
        "rpiomega.backup.restore": f'read line; echo "$line" >/{dumped.name}/restored',
        "rpiomega.backup.check": 'read line <$RPIOMEGA_RESTORED/dump && [ -n "$line" ]',
    }
    node.container(volumes=[dumped], labels=labels)
    report = node.run()
    assert report["ok"], report
    proven = prove(node)
    assert proven["cause"] == ""
    joint = f"volume:{min(first.name, second.name)}"
    assert {"files", joint, f"volume:{dumped.name}", "repository"} <= {one["name"] for one in proven["checks"]}

    service.remove(force=True)
    saved = backup_repository.picture(node.path(first))
    for volume in (first, second):
        for path in node.path(volume).iterdir():
            os.system(f"rm -rf '{path}'") if path.is_dir() else path.unlink()
        restore_volume.restore_volume(node.repository, node.client, volume.name, Wanted(), node.places)
    assert backup_repository.picture(node.path(first)) == saved
    assert (node.path(second) / "one.db").stat().st_size > 0
    restore_volume.restore_volume(node.repository, node.client, dumped.name, Wanted(), node.places)
    assert (node.path(dumped) / "restored").read_text() == f"rows of {dumped.name}\n"
    (node.home / "letter.txt").unlink()
    restore.restore_file(node.repository, str(node.home / "letter.txt"), Wanted(), None, node.places)
    assert (node.home / "letter.txt").read_text() == "dear"
    assert node.run()["ok"]
    assert prove(node)["ok"]
    assert [name for name in os.listdir(node.places.state) if name.startswith(("drill-", "restore-"))] == []
