"""The native API of the stand-in (backblaze.com/apidocs): HTTP requests to calls of b2sdk's simulator."""

from __future__ import annotations

import inspect
import io
import json
import re
import urllib.parse
from base64 import b64decode

from b2sdk.v3 import (
    BucketRetentionSetting,
    EncryptionSettingFactory,
    FileRetentionSetting,
    RawSimulator,
    exception,
)

# Values that the simulator wants as objects, by their name in B2's API.
OBJECTS = {
    "defaultServerSideEncryption": lambda value: EncryptionSettingFactory.from_file_version_dict(
        {"serverSideEncryption": value}
    ),
    "defaultRetention": BucketRetentionSetting.from_bucket_retention_dict,
    "fileRetention": FileRetentionSetting.from_file_retention_value_dict,
}
NAMES = {"fileLockEnabled": "is_file_lock_enabled", "validDurationInSeconds": "valid_duration_seconds"}
STATUS = (  # exception, status, code: the first that fits
    (exception.InvalidAuthToken, 401, "bad_auth_token"),
    (exception.Unauthorized, 401, "unauthorized"),
    (exception.DuplicateBucketName, 400, "duplicate_bucket_name"),
    (exception.NonExistentBucket, 400, "bad_bucket_id"),
    (exception.FileNotPresent, 400, "file_not_present"),
    (exception.Conflict, 409, "conflict"),
    (exception.BadJson, 400, "bad_json"),
    (exception.StorageCapExceeded, 403, "storage_cap_exceeded"),
    (exception.AccessDenied, 403, "access_denied"),
)
CODES = {  # of a fault
    "unavailable": "service_unavailable",
    "too_many": "too_many_requests",
    "capped": "storage_cap_exceeded",
    "revoked": "bad_auth_token",
    "expired": "expired_auth_token",
}
# call -> capability, for those where the simulator does not check bucket and file name of the key.
WHERE = {
    "get_upload_url": "writeFiles",
    "start_large_file": "writeFiles",
    "hide_file": "writeFiles",
    "list_file_names": "listFiles",
    "list_file_versions": "listFiles",
    "list_unfinished_large_files": "listFiles",
    "delete_file_version": "deleteFiles",
    "get_file_info": "readFiles",
    "update_file_retention": "writeFileRetentions",
}
CLASSES = {"list_buckets": "C", "list_file_names": "C", "list_file_versions": "C", "list_keys": "C", "create_key": "C",
           "create_bucket": "C", "update_bucket": "C", "authorize_account": "C", "get_file_info": "B"}  # fmt: skip


def answer(server, method, path, headers, body):
    """Return status, headers and content of the answer to a request."""
    try:
        content = _Call(server, headers).make(method, path, body)
        if isinstance(content, tuple):
            return 200, *content
        return 200, {}, json.dumps(content, default=list).encode()
    except Exception as error:  # noqa: BLE001 - the client has to get an answer to whatever it sent
        status, code = _status(error)
        return status, {}, json.dumps({"status": status, "code": code, "message": str(error)}).encode()


class _Call:
    """One request to a `Server`."""

    def __init__(self, server, headers):
        self.server, self.simulator, self.headers = server, server.simulator, headers
        self.token = headers.get("Authorization", "")

    def make(self, method, path, body):
        if method == "POST":
            plain = path.partition("?")[0]
            return self._upload(plain, body) if plain.startswith("/upload/") else self._call(plain, body)
        return self._download(path) if "/file/" in path or "by_id" in path else self._call(path)

    def _call(self, path, body=b""):
        name = path.rpartition("/")[2].partition("?")[0]
        self.server.requests.append(name)
        short = name[len("b2_") :]
        self.server.calls[CLASSES.get(short, "A")] += 1
        if name == "b2_authorize_account":
            key_id, _, key = b64decode(self.token.partition(" ")[2]).decode().partition(":")
            found = self._own_urls(self.simulator.authorize_account(self.server.url, key_id, key))
            found["apiInfo"]["storageApi"]["s3ApiUrl"] = self.server.url
            return found
        key = self._key()
        method = getattr(self.simulator, short)
        known = inspect.signature(getattr(RawSimulator, short)).parameters
        values = json.loads(body or b"{}")
        self._check(short, key, values)
        given = {}
        for each, value in values.items():
            ours = NAMES.get(each) or re.sub("([A-Z])", lambda found: "_" + found[1].lower(), each)
            if ours in known and (value is not None or known[ours].default is inspect.Parameter.empty):
                given[ours] = OBJECTS[each](value) if each in OBJECTS else value
        return self._own_urls(method(RawSimulator.API_URL, self.token, **given))

    def _key(self):
        key = self.simulator.auth_token_to_key.get(self.token)
        if key is None or self.simulator.usable(key.application_key_id) is not key:
            raise exception.InvalidAuthToken("unknown token", "bad_auth_token")
        return key

    def _check(self, short, key, values):
        if short not in WHERE:
            return
        bucket_id = values.get("bucketId") or self.simulator.file_id_to_bucket_id.get(values.get("fileId"))
        bucket = self.simulator.bucket_id_to_bucket.get(bucket_id)
        name = values.get("fileName")
        if short.startswith("list_"):
            name = values.get("prefix") or ""
        self.simulator.need(key, WHERE[short], bucket, name)

    def _own_urls(self, answer):
        """Replace the simulator's addresses by this server's."""
        text = json.dumps(answer, default=list)
        text = text.replace("https://upload.example.com", f"{self.server.url}/upload")
        text = text.replace(RawSimulator.API_URL, self.server.url).replace(RawSimulator.DOWNLOAD_URL, self.server.url)
        return json.loads(text)

    def _upload(self, path, body):
        headers, simulator = self.headers, self.simulator
        url = "https://upload.example.com" + path[len("/upload") :]
        token = headers["Authorization"].replace(f"{self.server.url}/upload", "https://upload.example.com")
        self.server.requests.append("upload")
        self.server.calls["A"] += 1
        stream, size, sha1 = io.BytesIO(body), len(body), headers["X-Bz-Content-Sha1"]
        if path.startswith("/upload/part/"):
            return simulator.upload_part(url, token, int(headers["X-Bz-Part-Number"]), size, sha1, stream)
        name = urllib.parse.unquote(headers["X-Bz-File-Name"])
        self.token = url.rpartition("/")[2]
        simulator.need(self._key(), "writeFiles", None, name)
        kind = headers.get("Content-Type", "b2/x-auto")
        return simulator.upload_file(url, token, name, size, kind, sha1, {}, stream)

    def _download(self, path):
        simulator, key = self.simulator, self._key()
        self.server.calls["B"] += 1
        bucket, file = self._wanted(path)
        simulator.need(key, "readFiles", bucket, file)
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range") or "")
        span = (int(asked[1]), int(asked[2])) if asked else None
        with simulator.download_file_from_url(self.token, RawSimulator.DOWNLOAD_URL + path, range_=span) as found:
            return dict(found.headers), found.raw.data_bytes

    def _wanted(self, path):
        """Return the bucket and the name of the file that a download asks for."""
        if "/file/" in path:
            bucket, _, name = path.partition("/file/")[2].partition("/")
            return self.simulator.bucket_name_to_bucket.get(bucket), urllib.parse.unquote(name.partition("?")[0])
        file_id = urllib.parse.parse_qs(path.partition("?")[2]).get("fileId", [""])[0]
        bucket = self.simulator.bucket_id_to_bucket.get(self.simulator.file_id_to_bucket_id.get(file_id))
        return bucket, bucket.file_id_to_file[file_id].name if bucket else ""


def _status(error):
    for kind, status, code in STATUS:
        if isinstance(error, kind):
            return status, code
    return 400, getattr(error, "code", "bad_request")
