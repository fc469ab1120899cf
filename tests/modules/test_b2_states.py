"""States and functions of B2, through Salt's loader and the real b2sdk, against a stand-in for the service."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import pytest
import salt.config
import salt.loader
import salt.template
from salt.exceptions import CommandExecutionError

from omega.b2 import files
from rpiomega.lab.b2 import server as b2_server

ROOT = pathlib.Path(__file__).resolve().parents[2]
RULES = [{"fileNamePrefix": "", "daysFromHidingToDeleting": 7}]
WRITES = ("create", "update", "delete", "upload")


@pytest.fixture(scope="session")
def commands():
    """The folder with the b2 command: the tests' own environment, or a new one if other users cannot reach that.

    On a node it is /usr/local/bin/b2 -> /opt/rpiomega/b2/current/bin/b2.
    """
    base = pathlib.Path(sys.base_prefix)
    if all(folder.stat().st_mode & 0o001 for folder in (base, *base.parents)):
        yield pathlib.Path(sys.executable).parent
        return
    with tempfile.TemporaryDirectory(prefix="omega-b2-") as folder:
        os.chmod(folder, 0o755)
        for command in (["/usr/bin/python3", "-m", "venv", folder], [f"{folder}/bin/pip", "install", "-q", "b2>=4.5"]):
            subprocess.run(command, check=True, capture_output=True)
        yield pathlib.Path(folder) / "bin"


@pytest.fixture
def service(monkeypatch, commands):
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    with b2_server.running() as server:
        yield server


@pytest.fixture
def run(states, service):
    """Run a state as a node with the account's master key: `run("b2.bucket_present", "omega-backup", test=True)`."""

    def run(state, name, test=False, account=None, **arguments):
        account = account or {"key_id": service.key_id, "key": service.key}
        pillar = {"rpiomega": {"b2": {"endpoint": service.url}}, "rpiomega_secrets": {"b2": account}}
        with states(test=test, pillar=pillar) as loaded:
            answer = loaded[state](name, **arguments)
        assert service.key not in str(answer)
        assert not any(key.key in str(answer) for key in service.simulator.all_application_keys)
        return answer

    return run


@pytest.fixture
def bucket(run):
    return run("b2.bucket_present", "omega-backup") and "omega-backup"


def upload(service, tmp_path, bucket, name="a/file"):
    """Upload with the real command, as a person would."""
    (tmp_path / "file").write_text("content")
    environment = {
        **os.environ,
        "HOME": str(tmp_path),
        "B2_APPLICATION_KEY_ID": service.key_id,
        "B2_APPLICATION_KEY": service.key,
        "B2_ENVIRONMENT": service.url,
    }
    command = ["b2", "file", "upload", "--quiet", bucket, str(tmp_path / "file"), name]
    subprocess.run(command, env=environment, check=True, capture_output=True)


def written(service):
    return [call for call in service.requests if any(word in call for word in WRITES)]


def test_a_bucket_is_created_and_then_left_alone(run, service):
    answer = run("b2.bucket_present", "omega-backup", lifecycle_rules=RULES, info={"made-by": "rpiomega"})
    assert answer["result"] is True, answer
    made = service.simulator.bucket_name_to_bucket["omega-backup"]
    assert (made.bucket_type, made.lifecycle_rules) == ("allPrivate", RULES)
    service.requests.clear()
    assert run("b2.bucket_present", "omega-backup", lifecycle_rules=RULES)["changes"] == {}
    assert written(service) == []


def test_only_the_setting_that_differs_changes(run, service, bucket):
    answer = run("b2.bucket_present", bucket, lifecycle_rules=RULES)
    assert answer["changes"] == {"lifecycle_rules": {"old": [], "new": RULES}}
    assert run("b2.bucket_present", bucket)["changes"] == {}
    assert service.simulator.bucket_name_to_bucket[bucket].lifecycle_rules == RULES
    assert list(run("b2.bucket_present", bucket, lifecycle_rules=[])["changes"]) == ["lifecycle_rules"]
    assert service.simulator.bucket_name_to_bucket[bucket].lifecycle_rules == []


def test_rules_are_equal_whatever_their_order(run, bucket):
    rules = [*RULES, {"fileNamePrefix": "logs/", "daysFromUploadingToHiding": 30, "daysFromHidingToDeleting": 1}]
    run("b2.bucket_present", bucket, lifecycle_rules=rules)
    assert run("b2.bucket_present", bucket, lifecycle_rules=rules[::-1])["changes"] == {}


def test_test_mode_predicts_each_change_and_writes_nothing(run, service):
    new = run("b2.bucket_present", "omega-backup", test=True)
    assert (new["result"], written(service)) == (None, [])
    assert run("b2.bucket_present", "omega-backup")["changes"] == new["changes"]
    service.requests.clear()
    predicted = run("b2.bucket_present", "omega-backup", test=True, type="allPublic", file_lock=True)
    assert (predicted["result"], written(service)) == (None, [])
    assert run("b2.bucket_present", "omega-backup", type="allPublic", file_lock=True)["changes"] == predicted["changes"]
    service.requests.clear()
    assert run("b2.bucket_absent", "omega-backup", test=True)["result"] is None
    assert run("b2.bucket_present", "omega-backup", test=True, type="allPublic")["result"] is True
    assert written(service) == []


def test_a_bucket_that_changed_meanwhile_is_not_overwritten(run, service, bucket, monkeypatch):
    # Somebody else is faster by one revision, at each look.
    found = service.simulator.bucket_name_to_bucket[bucket]
    plain = type(found).bucket_dict
    monkeypatch.setattr(type(found), "bucket_dict", lambda self, token: {**plain(self, token), "revision": 0})
    answer = run("b2.bucket_present", bucket, type="allPublic")
    assert answer["result"] is False
    assert bucket in answer["comment"]
    assert found.bucket_type == "allPrivate"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"type": "private"}, "allPrivate"),
        ({"encryption": "none"}, "SSE-B2"),
        ({"lifecycle_rules": [{"prefix": ""}]}, "fileNamePrefix"),
        ({"lifecycle_rules": [{"daysFromHidingToDeleting": 1}]}, "lacks fileNamePrefix"),
    ],
)
def test_a_bad_setting_is_refused_before_b2_is_asked(run, service, arguments, named):
    answer = run("b2.bucket_present", "omega-backup", **arguments)
    assert answer["result"] is False
    assert "omega-backup" in answer["comment"]
    assert named in answer["comment"]
    assert service.requests == []


def test_file_lock_cannot_be_taken_back(run, bucket):
    run("b2.bucket_present", bucket, file_lock=True)
    answer = run("b2.bucket_present", bucket, file_lock=False)
    assert answer["result"] is False
    assert "never takes it back" in answer["comment"]


def test_a_bucket_that_holds_something_is_kept_unless_told(run, service, bucket, tmp_path):
    upload(service, tmp_path, bucket)
    kept = run("b2.bucket_absent", bucket)
    assert (kept["result"], kept["changes"]) == (False, {})
    assert "purge: true" in kept["comment"]
    assert run("b2.bucket_absent", bucket, test=True)["result"] is False
    assert bucket in service.simulator.bucket_name_to_bucket
    assert run("b2.bucket_absent", bucket, purge=True)["changes"]
    assert bucket not in service.simulator.bucket_name_to_bucket
    assert run("b2.bucket_absent", bucket) == {**kept, "result": True, "comment": f"there is no bucket {bucket}"}


def test_old_versions_count_as_something(run, service, bucket, tmp_path):
    upload(service, tmp_path, bucket)
    service.simulator.bucket_name_to_bucket[bucket].hide_file("auth_token_0", "a/file")
    assert "purge: true" in run("b2.bucket_absent", bucket)["comment"]


READER = {"capabilities": ["listFiles", "readFiles"], "bucket": "omega-backup", "name_prefix": "a/"}


def test_a_key_can_do_what_was_asked_and_no_more(run, service, bucket, tmp_path):
    secret = tmp_path / "secrets/reader"
    answer = run("b2.application_key_present", "reader", secret_file=str(secret), **READER)
    assert answer["result"] is True, answer
    assert (secret.stat().st_mode & 0o777, secret.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    made = service.simulator.all_application_keys[0]
    assert made.key in secret.read_text()
    assert (made.capabilities, made.name_prefix_or_none) == (READER["capabilities"], "a/")
    account = {"key_id": made.application_key_id, "key": made.key}
    refused = run("b2.bucket_present", "omega-other", account=account)
    assert refused["result"] is False
    assert run("b2.application_key_present", "reader", secret_file=str(secret), **READER)["changes"] == {}


def test_test_mode_makes_no_key_and_no_file(run, service, bucket, tmp_path):
    service.requests.clear()
    answer = run("b2.application_key_present", "reader", test=True, secret_file=str(tmp_path / "new/reader"), **READER)
    assert answer["result"] is None
    assert written(service) == []
    assert not (tmp_path / "new").exists()


def test_a_key_that_would_open_every_bucket_must_be_meant(run, service, tmp_path):
    arguments = {"capabilities": ["readFiles"], "secret_file": str(tmp_path / "k")}
    answer = run("b2.application_key_present", "reader", **arguments)
    assert answer["result"] is False
    assert "all_buckets" in answer["comment"]
    assert run("b2.application_key_present", "reader", all_buckets=True, **arguments)["result"] is True


@pytest.mark.parametrize("lost", [True, False])
def test_a_key_is_replaced_only_when_told(run, service, bucket, tmp_path, lost):
    secret = tmp_path / "reader"
    run("b2.application_key_present", "reader", secret_file=str(secret), **READER)
    wanted = READER
    if lost:
        secret.unlink()
    else:
        wanted = {**READER, "capabilities": ["listFiles"]}
    kept = run("b2.application_key_present", "reader", secret_file=str(secret), **wanted)
    assert (kept["result"], kept["changes"]) == (False, {})
    assert "appKeyId0" in kept["comment"]
    assert "replace: true" in kept["comment"]
    replaced = run("b2.application_key_present", "reader", secret_file=str(secret), replace=True, **wanted)
    assert replaced["changes"]["reader"] == {"old": ["appKeyId0"], "new": "appKeyId1"}
    assert [key.application_key_id for key in service.simulator.all_application_keys] == ["appKeyId1"]
    assert "appKeyId1" in secret.read_text()
    assert run("b2.application_key_present", "reader", secret_file=str(secret), **wanted)["changes"] == {}


def test_no_key_is_left_behind_when_its_secret_cannot_be_kept(run, service, bucket, tmp_path):
    (tmp_path / "taken").mkdir()
    answer = run("b2.application_key_present", "reader", secret_file=str(tmp_path / "taken"), **READER)
    assert answer["result"] is False
    assert str(tmp_path / "taken") in answer["comment"]
    assert service.simulator.all_application_keys == []


def test_the_secret_of_another_key_is_not_overwritten(run, service, bucket, tmp_path):
    secret = tmp_path / "secret"
    run("b2.application_key_present", "reader", secret_file=str(secret), **READER)
    before = secret.read_text()
    for test in (True, False):
        answer = run("b2.application_key_present", "writer", test=test, secret_file=str(secret), replace=True, **READER)
        assert (answer["result"], answer["changes"]) == (False, {})
        assert f"application key writer: {secret} holds the secret of another key, appKeyId0" in answer["comment"]
    secret.chmod(0o644)
    assert "not overwritten" in run("b2.application_key_present", "w", secret_file=str(secret), **READER)["comment"]
    assert secret.read_text() == before
    assert [key.application_key_id for key in service.simulator.all_application_keys] == ["appKeyId0"]


def test_the_function_does_not_overwrite_it_either(service, load_modules, tmp_path):
    files.write(tmp_path / "secret", "the-owner's", "secret")
    pillar = {"rpiomega": {"b2": {"endpoint": service.url}}}
    pillar["rpiomega_secrets"] = {"b2": {"key_id": service.key_id, "key": service.key}}
    create = load_modules(pillar)["b2.key_create"]
    with pytest.raises(CommandExecutionError, match="holds the secret of another key, the-owner's; give another file"):
        create("reader", ["readFiles"], str(tmp_path / "secret"))
    assert service.simulator.all_application_keys == []


def test_a_key_without_its_bucket_is_refused(run, tmp_path):
    answer = run("b2.application_key_present", "reader", secret_file=str(tmp_path / "k"), **READER)
    assert answer["result"] is False
    assert "omega-backup" in answer["comment"]


def test_an_unknown_capability_is_named(run, bucket, tmp_path):
    wanted = {**READER, "capabilities": ["fly"]}
    answer = run("b2.application_key_present", "reader", secret_file=str(tmp_path / "k"), **wanted)
    assert (answer["result"], answer["changes"]) == (False, {})
    assert "fly" in answer["comment"]


def test_a_key_and_its_file_are_removed(run, service, bucket, tmp_path):
    secret = tmp_path / "reader"
    run("b2.application_key_present", "reader", secret_file=str(secret), **READER)
    assert run("b2.application_key_absent", "reader", test=True, secret_file=str(secret))["result"] is None
    assert len(service.simulator.all_application_keys) == 1
    assert run("b2.application_key_absent", "reader", secret_file=str(secret))["result"] is True
    assert service.simulator.all_application_keys == []
    assert not secret.exists()
    assert run("b2.application_key_absent", "reader", secret_file=str(secret))["changes"] == {}


def test_a_key_that_was_revoked_is_told_though_its_file_stays(run, service, bucket, tmp_path):
    run("b2.application_key_present", "reader", secret_file=str(tmp_path / "reader"), **READER)
    made = service.simulator.all_application_keys[0].application_key_id
    answer = run("b2.application_key_absent", "reader", secret_file=str(tmp_path))
    assert (answer["result"], answer["changes"]) == (False, {made: "revoked"}), answer
    assert "Is a directory" in answer["comment"]


def test_a_node_does_not_revoke_its_own_key(run, service, bucket, tmp_path):
    admin = {"capabilities": ["listKeys", "deleteKeys"], "secret_file": str(tmp_path / "admin"), "all_buckets": True}
    run("b2.application_key_present", "admin", **admin)
    made = service.simulator.all_application_keys[0]
    account = {"key_id": made.application_key_id, "key": made.key}
    assert "itself uses it" in run("b2.application_key_absent", "admin", account=account)["comment"]
    assert service.simulator.all_application_keys == [made]


def test_a_wrong_key_and_a_dead_service_are_told_apart(run, service, states):
    # The stand-in says "secret key is wrong": a service that repeats the key it got.
    wrong = run("b2.bucket_present", "omega-backup", account={"key_id": service.key_id, "key": "wrong"})
    assert wrong["result"] is False
    assert "check key_id and key" in wrong["comment"]
    assert "secret key is (key)" in wrong["comment"]
    service.shutdown()
    service.server_close()
    dead = run("b2.bucket_present", "omega-backup")
    assert dead["result"] is False
    assert "no connection to B2 (Connection refused)" in dead["comment"]
    assert "way to the internet" in dead["comment"]


def test_without_credentials_the_next_step_is_named(states, service):
    with states(pillar={"rpiomega": {}}) as loaded:
        answer = loaded["b2.bucket_present"]("omega-backup")
    assert answer["result"] is False
    assert "b2.credentials" in answer["comment"]


@pytest.mark.skipif(os.path.exists("/usr/local/bin/b2"), reason="this machine has the command")
def test_without_the_command_the_next_step_is_named(run, monkeypatch):
    monkeypatch.setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
    answer = run("b2.bucket_present", "omega-backup")
    assert answer["result"] is False
    assert "state.apply b2" in answer["comment"]


@pytest.mark.skipif(os.path.exists("/usr/local/bin/b2"), reason="this machine has the command")
def test_test_mode_expects_the_command_that_the_same_run_installs(run, states, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
    secret = str(tmp_path / "key")
    for state, name, arguments, changed in (
        ("b2.bucket_present", "omega-backup", {}, True),
        ("b2.bucket_absent", "omega-backup", {}, False),
        ("b2.application_key_present", "reader", {"secret_file": secret, **READER}, True),
        ("b2.application_key_absent", "reader", {}, False),
    ):
        answer = run(state, name, test=True, **arguments)
        assert answer["result"] is None, answer
        assert "once the b2 command is installed" in answer["comment"]
        assert (name in answer["changes"]) == changed
    env_file = tmp_path / "b2.env"
    env_file.write_text(files.environment({"key_id": "0014", "key": "K001", "endpoint": ""}))
    taken = run("b2.deauthorized", "root", test=True, env_file=str(env_file))
    assert (taken["result"], taken["changes"], env_file.exists()) == (None, {str(env_file): "removed"}, True)
    with states(test=True, pillar={"rpiomega": {"b2": {"enabled": False}}}) as loaded:
        predicted = loaded["b2.deauthorized"]("root", env_file=str(env_file))
    with states(pillar={"rpiomega": {"b2": {"enabled": False}}}) as loaded:
        assert loaded["b2.deauthorized"]("root", env_file=str(env_file)) == predicted
    assert (predicted["result"], predicted["changes"], env_file.exists()) == (False, {}, True)
    assert f"remove {env_file}" in predicted["comment"]
    wrong = run("b2.bucket_present", "omega-backup", test=True, type="public")
    assert (wrong["result"], wrong["changes"]) == (False, {})


@pytest.mark.parametrize(
    ("site", "given"), [({}, None), ({"lifecycle_rules": []}, []), ({"lifecycle_rules": RULES}, RULES)]
)
def test_the_formula_leaves_rules_alone_unless_the_site_names_them(tmp_path, site, given):
    nodes = {"m": {"address": "10.0.0.1", "roles": ["master", "manager"]}}
    pillar = {"rpiomega": {"cluster": "omega", "nodes": nodes, "b2": {"buckets": {"omega-backup": site}}}}
    pillar["rpiomega_secrets"] = {}
    opts = salt.config.minion_config(None)
    opts.update(id="m", file_client="local", file_roots={"base": [str(ROOT / "salt")]}, grains={"id": "m"})
    opts.update(root_dir=str(tmp_path), cachedir=str(tmp_path / "cache"), pillar=pillar)
    renderers = salt.loader.render(opts, salt.loader.minion_mods(opts, utils=salt.loader.utils(opts)))
    sls = str(ROOT / "salt/b2/init.sls")
    found = salt.template.compile_template(sls, renderers, "jinja|yaml", [], [], saltenv="base", sls="b2")
    options = found["b2.bucket.omega-backup"]["b2.bucket_present"]
    assert next(option["lifecycle_rules"] for option in options if "lifecycle_rules" in option) == given


@pytest.fixture
def person():
    """A user of the system with a home of their own."""
    if os.geteuid() != 0:
        pytest.skip("making a user needs root")
    name, home = f"omega-b2-{os.getpid()}", pathlib.Path(tempfile.mkdtemp(prefix="omega-b2-"))
    subprocess.run(["useradd", "--no-create-home", "--home-dir", str(home), name], check=True)
    shutil.chown(home, name, name)
    try:
        yield name, home
    finally:
        subprocess.run(["userdel", name], check=True)
        shutil.rmtree(home)


def command(home, *arguments):
    """Run the b2 command as a login shell would, with nothing but the home to go by."""
    environment = {"HOME": str(home), "PATH": os.environ["PATH"]}
    return subprocess.run(["b2", *arguments], env=environment, capture_output=True, text=True, check=False)


def test_a_user_and_root_get_the_account(run, service, bucket, person, tmp_path):
    user, home = person
    env_file = tmp_path / "b2.env"
    predicted = run("b2.authorized", user, test=True, env_file=str(env_file))
    assert (predicted["result"], list(home.iterdir()), env_file.exists()) == (None, [], False)
    answer = run("b2.authorized", user, env_file=str(env_file))
    assert answer["changes"] == predicted["changes"]
    account_file = home / ".config/b2/account_info"
    assert (account_file.owner(), account_file.stat().st_mode & 0o777) == (user, 0o600)
    assert env_file.stat().st_mode & 0o777 == 0o600
    assert "omega-backup" in command(home, "bucket", "list").stdout
    service.requests.clear()
    assert run("b2.authorized", user, env_file=str(env_file))["changes"] == {}
    assert service.requests == []


def test_a_new_key_reaches_the_user(run, service, bucket, person, tmp_path):
    user, home = person
    run("b2.authorized", user, env_file=str(tmp_path / "b2.env"))
    run("b2.application_key_present", "reader", secret_file=str(tmp_path / "k"), **READER)
    made = service.simulator.all_application_keys[0]
    account = {"key_id": made.application_key_id, "key": made.key}
    assert user in run("b2.authorized", user, account=account, env_file=str(tmp_path / "b2.env"))["changes"]
    assert "omega-backup" in command(home, "account", "get").stdout


def test_a_wrong_key_leaves_the_user_the_old_one(run, service, bucket, person, tmp_path):
    user, home = person
    run("b2.authorized", user, env_file=str(tmp_path / "b2.env"))
    account = {"key_id": service.key_id, "key": "not-the-key"}
    assert run("b2.authorized", user, account=account, env_file=str(tmp_path / "b2.env"))["result"] is False
    assert "omega-backup" in command(home, "bucket", "list").stdout


def test_the_account_is_taken_away_but_not_another_one(run, service, bucket, person, tmp_path):
    user, home = person
    env_file = tmp_path / "b2.env"
    run("b2.authorized", user, env_file=str(env_file))
    assert run("b2.deauthorized", user, test=True, env_file=str(env_file))["result"] is None
    assert env_file.exists()
    assert run("b2.deauthorized", user, env_file=str(env_file))["changes"] == {
        str(env_file): "removed",
        user: "deauthorized",
    }
    assert list((home / ".config/b2").iterdir()) == []
    assert run("b2.deauthorized", user, env_file=str(env_file))["changes"] == {}
    run("b2.authorized", user, env_file=str(env_file))
    env_file.write_text("B2_APPLICATION_KEY_ID=other\nB2_APPLICATION_KEY=other\n")
    assert user not in run("b2.deauthorized", user, env_file=str(env_file))["changes"]
    assert "omega-backup" in command(home, "bucket", "list").stdout


def test_no_secret_is_in_an_argument_list_or_environment(run, service, bucket, tmp_path, monkeypatch):
    """A look at every process that the calls start."""
    from omega.b2 import client

    seen = []
    plain = subprocess.Popen

    class Watched(plain):
        def __init__(self, arguments, **options):
            if "b2/worker.py" in str(arguments):
                seen.append(str(arguments) + str(options["env"]))
            super().__init__(arguments, **options)

    monkeypatch.setattr(client.subprocess, "Popen", Watched)
    monkeypatch.setenv("B2_APPLICATION_KEY", service.key)
    run("b2.application_key_present", "reader", secret_file=str(tmp_path / "k"), **READER)
    assert len(seen) >= 3
    assert not any(service.key in each for each in seen)


def test_no_secret_is_in_the_return_or_the_log_of_a_real_run(service, tmp_path):
    """`salt-call` with everything logged, the account through the ext_pillar, the endpoint through the site file."""
    secrets = tmp_path / "secrets"
    files.write(secrets / "b2/admin", service.key_id, service.key)
    site = {"cluster": "omega", "nodes": {"m": {"address": "10.0.0.1", "roles": ["master", "manager"]}}}
    site["b2"] = {"credentials": {"m": "admin"}, "endpoint": service.url}
    (tmp_path / "pillar").mkdir()
    (tmp_path / "pillar/top.sls").write_text("base: {'*': [site]}")
    (tmp_path / "pillar/site.sls").write_text(json.dumps({"rpiomega": site}))
    options = {"id": "m", "root_dir": str(tmp_path / "root"), "file_client": "local", "module_dirs": [str(ROOT)]}
    options["pillar_roots"] = {"base": [str(tmp_path / "pillar")]}
    options["pillar_dirs"] = [str(ROOT / "_pillar")]
    options["ext_pillar"] = [{"rpiomega": {"secrets": str(secrets)}}]
    (tmp_path / "minion").write_text(json.dumps(options))
    log = tmp_path / "log"
    salt = [pathlib.Path(sys.executable).parent / "salt-call", "-c", tmp_path, "--local", "--out=json"]
    logged = ["--log-level=trace", f"--log-file={log}", "--log-file-level=trace"]
    key = ["capabilities=[readFiles]", "bucket=omega-backup", f"secret_file={tmp_path}/k"]
    states = [
        ["state.single", "b2.bucket_present", "omega-backup"],
        ["state.single", "b2.application_key_present", "reader", *key],
    ]
    said = ""
    for state in states:
        done = subprocess.run([*salt, *logged, *state], capture_output=True, text=True, check=False)
        assert '"result": true' in done.stdout, done.stdout
        said += done.stdout + done.stderr
    said += log.read_text()
    made = service.simulator.all_application_keys[0].key
    assert made in (tmp_path / "k").read_text()
    assert "omega-backup" in said
    assert service.key not in said
    assert f'"{made}"' not in said.replace("'", '"')
