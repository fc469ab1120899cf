"""The stand-in's S3 front and faults, by boto3, with keys as B2 makes them."""

import json
import os
import subprocess
import sys
import urllib.request
from base64 import b64encode

import backup_master
import pytest
from backup_master import client, init, refusal
from botocore.exceptions import BotoCoreError, ClientError

from rpiomega.lab import b2_container
from rpiomega.lab.b2 import server

pytestmark = pytest.mark.long

BUCKET = "omega-backup"
DAY = 86400


@pytest.fixture(scope="module")
def service():
    with server.running() as found:
        yield found


@pytest.fixture(scope="module")
def board(service, tmp_path_factory):
    board = backup_master.Board(tmp_path_factory.mktemp("master") / "root")
    init(service, board)
    return board


@pytest.fixture
def node(service, board):
    yield client(service, *board.key("nodes/pi1/key"))
    service.control("clear")
    service.control("clock", offset=0)


def test_a_node_cannot_delete_a_version(service, node):
    """A3: what a node hides stays readable by its version."""
    made = node.put_object(Bucket=BUCKET, Key="hosts/pi1/a", Body=b"one")
    denied = refusal(node.delete_object, Bucket=BUCKET, Key="hosts/pi1/a", VersionId=made["VersionId"])
    assert denied == (403, "AccessDenied")
    node.delete_object(Bucket=BUCKET, Key="hosts/pi1/a")
    assert refusal(node.get_object, Bucket=BUCKET, Key="hosts/pi1/a") == (404, "NoSuchKey")
    old = node.get_object(Bucket=BUCKET, Key="hosts/pi1/a", VersionId=made["VersionId"])
    assert old["Body"].read() == b"one"


def test_a_node_sees_nothing_of_another(service, node, board):
    """A3: read, list, write and hide below another node's prefix."""
    other = client(service, *board.key("nodes/pi2/key"))
    other.put_object(Bucket=BUCKET, Key="hosts/pi2/secret", Body=b"x")
    there = {"Bucket": BUCKET, "Key": "hosts/pi2/secret"}
    assert refusal(node.get_object, **there) == (403, "AccessDenied")
    assert refusal(node.put_object, **there, Body=b"y") == (403, "AccessDenied")
    assert refusal(node.delete_object, **there) == (403, "AccessDenied")
    for prefix in ("hosts/pi2/", "hosts/", "hosts/pi", ""):
        assert refusal(node.list_objects_v2, Bucket=BUCKET, Prefix=prefix) == (403, "AccessDenied")
        assert refusal(node.list_object_versions, Bucket=BUCKET, Prefix=prefix) == (403, "AccessDenied")
    assert refusal(client(service, service.key_id, service.key).list_buckets) == (403, "InvalidAccessKeyId")


def test_lists_go_on_where_a_page_ends(node):
    for number in range(7):
        node.put_object(Bucket=BUCKET, Key=f"hosts/pi1/list/{number % 2}/{number} &ü", Body=b"x")
    pages = node.get_paginator("list_objects_v2").paginate(
        Bucket=BUCKET, Prefix="hosts/pi1/list/", PaginationConfig={"PageSize": 2}
    )
    names = [item["Key"] for page in pages for item in page.get("Contents", [])]
    assert names == sorted(f"hosts/pi1/list/{number % 2}/{number} &ü" for number in range(7))
    groups = node.list_objects_v2(Bucket=BUCKET, Prefix="hosts/pi1/list/", Delimiter="/")
    assert [item["Prefix"] for item in groups["CommonPrefixes"]] == ["hosts/pi1/list/0/", "hosts/pi1/list/1/"]


def test_ranges_and_parts(node):
    data = os.urandom(6 << 20)
    upload = node.create_multipart_upload(Bucket=BUCKET, Key="hosts/pi1/big")["UploadId"]
    there = {"Bucket": BUCKET, "Key": "hosts/pi1/big", "UploadId": upload}
    pieces = [data[: 5 << 20], data[5 << 20 :]]
    parts = [
        {"PartNumber": number, "ETag": node.upload_part(**there, PartNumber=number, Body=piece)["ETag"]}
        for number, piece in enumerate(pieces, 1)
    ]
    node.complete_multipart_upload(**there, MultipartUpload={"Parts": parts})
    assert node.get_object(Bucket=BUCKET, Key="hosts/pi1/big")["Body"].read() == data
    part = node.get_object(Bucket=BUCKET, Key="hosts/pi1/big", Range="bytes=100-199")
    assert (part["Body"].read(), part["ContentRange"]) == (data[100:200], f"bytes 100-199/{len(data)}")
    assert refusal(node.get_object, Bucket=BUCKET, Key="hosts/pi1/big", Range=f"bytes={len(data)}-")[0] == 416


def test_a_wrong_signature_is_refused(service, board):
    key_id, _ = board.key("nodes/pi1/key")
    wrong = client(service, key_id, "K004wrong")
    assert refusal(wrong.list_objects_v2, Bucket=BUCKET, Prefix="hosts/pi1/") == (403, "SignatureDoesNotMatch")
    nobody = client(service, "nobody", "K004wrong")
    assert refusal(nobody.list_objects_v2, Bucket=BUCKET, Prefix="hosts/pi1/") == (403, "InvalidAccessKeyId")


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        ("unavailable", (503, "ServiceUnavailable")),
        ("slow_down", (503, "SlowDown")),
        ("too_many", (429, "TooManyRequests")),
        ("capped", (403, "AccessDenied")),
        ("skewed", (403, "RequestTimeTooSkewed")),
        ("revoked", (403, "InvalidAccessKeyId")),
        ("expired", (401, "ExpiredToken")),
    ],
)
def test_each_fault_has_its_answer(service, node, kind, answer):
    service.control("fault", kind=kind, times=1, retry_after=7, on="PUT /")
    with pytest.raises(ClientError) as caught:
        node.put_object(Bucket=BUCKET, Key="hosts/pi1/f", Body=b"x")
    found = caught.value.response
    assert (found["ResponseMetadata"]["HTTPStatusCode"], found["Error"]["Code"]) == answer
    assert found["ResponseMetadata"]["HTTPHeaders"]["retry-after"] == "7"
    node.put_object(Bucket=BUCKET, Key="hosts/pi1/f", Body=b"x")


def test_a_connection_can_be_cut_and_an_account_be_full(service, node):
    node.put_object(Bucket=BUCKET, Key="hosts/pi1/f", Body=b"x" * 1000)
    service.control("fault", kind="cut", times=1, on="GET /")
    with pytest.raises((BotoCoreError, OSError)):
        node.get_object(Bucket=BUCKET, Key="hosts/pi1/f")["Body"].read()
    service.control("capped", on=True)
    with pytest.raises(ClientError, match="storage cap exceeded"):
        node.put_object(Bucket=BUCKET, Key="hosts/pi1/f", Body=b"x")
    assert node.get_object(Bucket=BUCKET, Key="hosts/pi1/f")["Body"].read() == b"x" * 1000


def test_an_expired_key_is_refused(service, board, node):
    key_id, key = board.key("nodes/pi2/key")
    service.control("expire", key_id=key_id)
    try:
        there = client(service, key_id, key)
        assert refusal(there.list_objects_v2, Bucket=BUCKET, Prefix="hosts/pi2/") == (403, "InvalidAccessKeyId")
    finally:
        service.simulator.key_id_to_key[key_id].expiration_timestamp_or_none = None


def test_lifecycle_frees_what_was_hidden_long_enough(service, node):
    node.put_object(Bucket=BUCKET, Key="hosts/pi1/old", Body=b"x" * 5000)
    node.put_object(Bucket=BUCKET, Key="hosts/pi1/old", Body=b"y")
    node.delete_object(Bucket=BUCKET, Key="hosts/pi1/old")
    now = service.simulator.clock.now()
    before = service.control("counters")["stored"][BUCKET]
    assert service.control("lifecycle", now=now + 29 * DAY) == []
    gone = service.control("lifecycle", now=now + 31 * DAY)
    assert gone.count("hosts/pi1/old") == 2
    after = service.control("counters")["stored"][BUCKET]
    assert before["bytes"] - after["bytes"] >= 5001
    assert after["hidden_bytes"] == 0


def test_a_locked_bucket_keeps_uploads_from_everybody(service, tmp_path):
    """A5: with `immutable`, a key that may delete and write keys still cannot delete."""
    board = backup_master.Board(tmp_path / "root")
    init(service, board, bucket="omega-locked", immutable=10, cluster="locked")
    simulator = service.simulator
    token = simulator.authorize_account("", service.key_id, service.key)["authorizationToken"]
    may = ["listBuckets", "listFiles", "readFiles", "writeFiles", "deleteFiles", "writeKeys", "bypassGovernance"]
    strong = simulator.create_key(simulator.API_URL, token, service.key_id, may, "strong", None, None, None)
    admin = client(service, strong["applicationKeyId"], strong["applicationKey"])
    made = admin.put_object(Bucket="omega-locked", Key="hosts/pi1/a", Body=b"kept")
    version = {"Bucket": "omega-locked", "Key": "hosts/pi1/a", "VersionId": made["VersionId"]}
    assert refusal(admin.delete_object, **version, BypassGovernanceRetention=True) == (403, "AccessDenied")
    admin.delete_object(Bucket="omega-locked", Key="hosts/pi1/a")  # a marker is allowed
    assert admin.get_object(**version)["Body"].read() == b"kept"
    service.control("clock", offset=9 * DAY)
    assert refusal(admin.delete_object, **version) == (403, "AccessDenied")
    service.control("clock", offset=11 * DAY)
    assert refusal(admin.delete_object, **version) is None
    service.control("clock", offset=0)


def test_it_runs_as_a_program(tmp_path):
    file = tmp_path / "admin"
    # From the files that a lab puts into its container, and no others of the package.
    for name, content in b2_container.sources().items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    command = [sys.executable, "-m", "rpiomega.lab.b2", "--admin-key-file", str(file)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path / "srv/b2")
    try:
        line = process.stdout.readline()
        assert "stand-in for B2" in line
        url = line.split(" at ")[1].split(",")[0]
        assert file.stat().st_mode & 0o777 == 0o600
        key_id, key = (row.split('"')[1] for row in file.read_text().splitlines())
        assert key not in line
        basic = {"Authorization": "Basic " + b64encode(f"{key_id}:{key}".encode()).decode()}
        request = urllib.request.Request(f"{url}/control", json.dumps({"call": "counters"}).encode(), basic)
        with urllib.request.urlopen(request, timeout=20) as answer:
            assert json.load(answer) == {"calls": {}, "stored": {}, "faults": 0}
        refused = urllib.request.Request(f"{url}/control", b"{}", {"Authorization": "Basic bad"})
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(refused, timeout=20)
    finally:
        process.terminate()
        process.wait(20)
    assert process.returncode == 0
