"""`rpiomega backup init` against the stand-in for B2, with the board's real program on a folder."""

import contextlib
import pathlib
import resource
import threading

import backup_master
import pytest
from backup_master import init, refusal
from click.testing import CliRunner

from omega.b2.client import B2Error
from rpiomega import agent, cli
from rpiomega.backup.init import Init
from rpiomega.commands import backup_keys
from rpiomega.errors import NodeError
from rpiomega.lab.b2 import server
from rpiomega.node import backup_kit, job_steps
from rpiomega.ssh import SshError

pytestmark = pytest.mark.long

WRITES = ("b2_create", "b2_update", "b2_delete", "b2_hide", "upload")


@pytest.fixture
def service():
    with server.running() as found:
        yield found


@pytest.fixture
def board(tmp_path):
    return backup_master.Board(tmp_path / "root")


def tree(board):
    return {str(path): path.read_bytes() for path in sorted(board.folder.rglob("*")) if path.is_file()}


def key_names(service):
    return sorted(key.name for key in service.simulator.all_application_keys)


def test_the_first_run_makes_all_and_the_second_changes_nothing(service, board):
    assert init(service, board)
    bucket = service.simulator.bucket_name_to_bucket["omega-backup"]
    assert bucket.bucket_info == {"rpiomega-cluster": "omega"}
    assert bucket.lifecycle_rules == [{"fileNamePrefix": "hosts/", "daysFromHidingToDeleting": 30}]
    capabilities = {
        key.name: (set(key.capabilities), key.name_prefix_or_none) for key in service.simulator.all_application_keys
    }
    reads = {"listBuckets", "listAllBucketNames", "listFiles", "readFiles"}
    assert capabilities == {
        "rpiomega-omega-node-pi1": (reads | {"writeFiles"}, "hosts/pi1/"),
        "rpiomega-omega-node-pi2": (reads | {"writeFiles"}, "hosts/pi2/"),
        "rpiomega-omega-maintenance": (reads | {"writeFiles"}, "hosts/"),
        "rpiomega-omega-reader": (reads, "hosts/"),
    }
    modes = {path.relative_to(board.folder).as_posix(): path.stat().st_mode & 0o777 for path in board.folder.rglob("*")}
    assert {mode for name, mode in modes.items() if (board.folder / name).is_file()} == {0o600}
    assert {mode for name, mode in modes.items() if (board.folder / name).is_dir()} == {0o700}
    assert len((board.folder / "recovery").read_text().split()) == 12
    before = tree(board)
    service.requests.clear()
    lines = []
    assert not init(service, board, lines)
    assert lines == []
    assert tree(board) == before
    assert [call for call in service.requests if call.startswith(WRITES)] == []


def test_a_dry_run_says_all_and_writes_nothing(service, board):
    lines = []
    assert init(service, board, lines, dry_run=True)
    assert any("bucket omega-backup: would be made" in line for line in lines)
    assert sum("would be made" in line and "key" in line for line in lines) == 4
    assert [call for call in service.requests if call.startswith(WRITES)] == []
    assert tree(board) == {}


def test_a_run_cut_short_before_the_secrets_arrived_is_resumed(service, board, monkeypatch):
    whole = board.start
    calls = []

    def lost(script):
        calls.append(script)
        if len(calls) == 2:
            raise SshError("timeout", "connection lost", "try again")
        return whole(script)

    monkeypatch.setattr(board, "start", lost)
    with pytest.raises(SshError):
        init(service, board)
    assert len(key_names(service)) == 4
    stale = {key.application_key_id for key in service.simulator.all_application_keys}
    lines = []
    assert init(service, board, lines)
    assert any("the secret of the one at B2 is lost" in line for line in lines)
    assert len(key_names(service)) == len(set(key_names(service))) == 4
    now = {key.application_key_id: key.key for key in service.simulator.all_application_keys}
    assert not stale & set(now)
    for name in ("nodes/pi1/key", "nodes/pi2/key", "maintenance", "reader"):
        key_id, key = board.key(name)
        assert now[key_id] == key
    assert not init(service, board)


def test_an_immutable_bucket_cut_short_gets_its_retention_later(service, board, monkeypatch):
    service.faults.add("capped", on="b2_update_bucket", times=1)
    with pytest.raises(B2Error):
        init(service, board, immutable=7)
    bucket = service.simulator.bucket_name_to_bucket["omega-backup"]
    assert bucket.default_retention.mode.value is None
    init(service, board, immutable=7)
    assert (bucket.default_retention.mode.value, bucket.default_retention.period.duration) == ("compliance", 7)
    assert bucket.bucket_info == {"rpiomega-cluster": "omega"}
    assert not init(service, board, immutable=7)


def test_a_new_node_gets_its_key_and_nothing_else_changes(service, board):
    init(service, board)
    before = tree(board)
    lines = []
    init(service, board, lines, names=("pi1", "pi2", "pi3"))
    after = tree(board)
    assert {name for name in after if after[name] != before.get(name)} == {str(board.folder / "nodes/pi3/key")}
    assert len(lines) == 2


def test_a_key_deleted_in_the_console_is_made_again(service, board):
    init(service, board)
    key_id, _ = board.key("nodes/pi2/key")
    service.control("revoke", key_id=key_id)
    service.simulator.all_application_keys = [
        key for key in service.simulator.all_application_keys if key.application_key_id != key_id
    ]
    lines = []
    init(service, board, lines)
    assert any("not at B2 any more" in line for line in lines)
    assert board.key("nodes/pi2/key")[0] != key_id
    assert not init(service, board)


def test_rotation_replaces_every_key_and_keeps_the_phrase(service, board):
    init(service, board)
    before, phrase = tree(board), (board.folder / "recovery").read_text()
    init(service, board, rotate=True)
    after = tree(board)
    assert (board.folder / "recovery").read_text() == phrase
    assert sum(after[name] != before[name] for name in before) == 4
    assert len(key_names(service)) == 4
    assert not init(service, board)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"info": {}}, "was not made by `rpiomega backup init`"),
        ({"info": {"rpiomega-cluster": "sigma"}}, "another cluster, sigma"),
    ],
)
def test_a_bucket_that_is_not_the_clusters_is_refused(service, board, given, said):
    simulator = service.simulator
    token = simulator.authorize_account("", service.key_id, service.key)["authorizationToken"]
    simulator.create_bucket(simulator.API_URL, token, service.key_id, "omega-backup", "allPrivate", given["info"])
    with pytest.raises(NodeError, match=said):
        init(service, board)
    assert (key_names(service), tree(board)) == ([], {})


def test_a_name_of_another_account_is_refused(service, board):
    service.simulator.taken.add("omega-backup")
    with pytest.raises(NodeError, match="belongs to another account"):
        init(service, board)
    assert (key_names(service), tree(board)) == ([], {})


def test_other_settings_are_refused_and_changed_only_on_request(service, board):
    init(service, board)
    bucket = service.simulator.bucket_name_to_bucket["omega-backup"]
    with pytest.raises(NodeError, match="hidden_days is 60.*immutable is 9") as caught:
        init(service, board, hidden_days=60, immutable=9)
    assert "\n" not in str(caught.value)
    assert bucket.lifecycle_rules[0]["daysFromHidingToDeleting"] == 30
    init(service, board, hidden_days=60, immutable=9, change=True)
    assert bucket.lifecycle_rules[0]["daysFromHidingToDeleting"] == 60
    assert bucket.default_retention.mode.value == "compliance"


def test_a_key_that_cannot_do_it_is_refused_before_anything_is_made(service, board):
    simulator = service.simulator
    token = simulator.authorize_account("", service.key_id, service.key)["authorizationToken"]
    made = simulator.create_key(
        simulator.API_URL, token, service.key_id, ["listBuckets", "writeBuckets"], "weak", None, None, None
    )
    with pytest.raises(NodeError, match="lacks listKeys, writeKeys, deleteKeys"):
        init(service, board, key=(made["applicationKeyId"], made["applicationKey"]))
    with pytest.raises(B2Error, match="check the key's ID"):
        init(service, board, key=(service.key_id, "wrong"))
    assert service.simulator.bucket_name_to_bucket == {}


def test_the_masters_secrets_of_another_bucket_are_not_mixed(service, board):
    init(service, board)
    with pytest.raises(NodeError, match="the master has the keys of bucket omega-backup"):
        init(service, board, bucket="omega-other")
    assert list(service.simulator.bucket_name_to_bucket) == ["omega-backup"]


def test_a_bucket_that_is_gone_is_not_made_again_unasked(service, board):
    init(service, board)
    with server.running() as other, pytest.raises(NodeError, match="is not in this account"):
        init(other, board)
    assert other.simulator.bucket_name_to_bucket == {}


def test_a_key_of_the_owner_is_not_replaced(service, board):
    init(service, board)
    simulator = service.simulator
    token = simulator.authorize_account("", service.key_id, service.key)["authorizationToken"]
    mine = simulator.create_key(simulator.API_URL, token, service.key_id, ["listFiles"], "mine", None, None, None)
    (board.folder / "reader").write_text(f"key_id: {mine['applicationKeyId']}\nkey: {mine['applicationKey']}\n")
    before = tree(board)
    with pytest.raises(NodeError, match="reader on the master has the key mine .*, which init did not make"):
        init(service, board)
    assert tree(board) == before
    (board.folder / "reader").unlink()
    init(service, board)
    assert board.key("reader")[0] != mine["applicationKeyId"]


def test_the_board_overwrites_no_file_by_itself(service, board):
    init(service, board)
    before = tree(board)
    wrong = job_steps.BackupSecrets({"maintenance": "key_id: other\nkey: secret\n"}, {"maintenance": "not that one"})
    with pytest.raises(NodeError, match="maintenance is there with other content") as caught:
        agent.run(board, [wrong], lambda event: None)
    assert "secret" not in caught.value.cause.partition(backup_kit.FOLDER)[2].partition("/maintenance")[2]
    with pytest.raises(NodeError, match="no file of"):
        agent.run(board, [job_steps.BackupSecrets({"../other": "x"})], lambda event: None)
    assert tree(board) == before


def test_no_secret_is_in_argv_output_or_logs(service, board, tmp_path, monkeypatch, caplog):
    caplog.set_level("DEBUG")
    seen, done = set(), threading.Event()

    def watch():
        while not done.wait(0.02):
            for path in pathlib.Path("/proc").glob("[0-9]*"):
                for name in ("cmdline", "environ"):
                    try:
                        seen.add((path / name).read_bytes())
                    except OSError:
                        continue

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        done_init = command(service, board, tmp_path, monkeypatch, "init", f"{service.key_id}\n{service.key}\n")
        shown = command(service, board, tmp_path, monkeypatch, "kit", "", "--out", str(tmp_path / "kit.txt"))
    finally:
        done.set()
        watcher.join()
    assert (done_init.exit_code, shown.exit_code) == (0, 0), done_init.output + shown.output
    secrets = [key.key for key in service.simulator.all_application_keys]
    secrets += [service.key, (board.folder / "recovery").read_text().strip()]
    texts = [caplog.text.encode(), done_init.output.encode(), shown.output.encode(), *seen]
    texts += [path.read_bytes() for path in tmp_path.rglob("*.log")]
    for secret in secrets:
        assert not any(secret.encode() in text for text in texts)
    assert any(b"node.pyz" in text for text in seen)  # the watcher saw the board's part
    assert {path.stat().st_mode & 0o777 for path in tmp_path.glob("kit.txt*")} == {0o600}


def command(service, board, tmp_path, monkeypatch, name, typed, *arguments):
    """Run a command as a user, with the board in the place of the master's SSH."""
    wanted = backup_master.site(service)
    file = tmp_path / "site.sls"
    file.write_text(backup_master.text(service))

    @contextlib.contextmanager
    def master(*_):
        yield wanted, board

    monkeypatch.setattr(backup_keys, "_master", master)
    return CliRunner().invoke(cli.main, ["backup", name, "--site", str(file), *arguments], input=typed)


@pytest.mark.parametrize(("name", "text"), [("reader", "key_id: 1"), ("bucket.json", "{"), ("bucket.json", "[]")])
def test_damaged_secrets_end_the_making_of_a_kit_in_one_line(service, board, tmp_path, monkeypatch, name, text):
    init(service, board)
    (board.folder / name).write_text(text)
    shown = command(service, board, tmp_path, monkeypatch, "kit", "", "--out", str(tmp_path / "kit.txt"))
    assert (shown.exit_code, len(shown.output.splitlines())) == (1, 2), shown.output
    assert "is damaged" in shown.output
    assert not (tmp_path / "kit.txt").exists()


def test_without_an_answer_init_names_the_option_and_an_interruption_ends_with_130(
    service, board, tmp_path, monkeypatch
):
    done = command(service, board, tmp_path, monkeypatch, "init", "")
    assert (done.exit_code, "give --admin-key-file FILE" in done.output) == (2, True), done.output

    def interrupted(*_args, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(Init, "run", interrupted)
    done = command(service, board, tmp_path, monkeypatch, "init", f"{service.key_id}\n{service.key}\n")
    assert (done.exit_code, done.output.strip().splitlines()[-1]) == (130, "interrupted")
    assert resource.getrlimit(resource.RLIMIT_CORE)[0] == 0  # the key is in the memory of the process


def test_the_key_of_a_node_cannot_widen_itself(service, board):
    init(service, board)
    with pytest.raises(NodeError, match="lacks"):
        init(service, board, key=board.key("maintenance"))
    reader = backup_master.client(service, *board.key("reader"))
    assert refusal(reader.put_object, Bucket="omega-backup", Key="hosts/pi1/x", Body=b"1") == (403, "AccessDenied")
