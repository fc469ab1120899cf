"""A stand-in for the Backblaze B2 service: b2sdk's own RawSimulator behind HTTP on the loopback.

The real b2 command and the real b2sdk talk to it over sockets. What it cannot show: Backblaze's rates and caps, its
checks of names and rules beyond the simulator's, and anything about S3.
"""

import contextlib
import http.server
import inspect
import io
import json
import re
import threading
import urllib.parse
from base64 import b64decode

from b2sdk.v3 import (
    BucketRetentionSetting,
    EncryptionSettingFactory,
    FileRetentionSetting,
    RawSimulator,
    exception,
)

# Values that the simulator wants as objects, by their name in B2's API (backblaze.com/apidocs).
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
)


class Simulator(RawSimulator):
    """The simulator with what the service checks and it leaves out."""

    def delete_bucket(self, api_url, account_auth_token, account_id, bucket_id):
        if self._get_bucket_by_id(bucket_id).file_id_to_file:
            raise exception.BadRequest("Cannot delete non-empty bucket", "cannot_delete_non_empty_bucket")
        return super().delete_bucket(api_url, account_auth_token, account_id, bucket_id)

    def delete_key(self, api_url, account_auth_token, application_key_id):
        self._need(account_auth_token, "deleteKeys")
        return super().delete_key(api_url, account_auth_token, application_key_id)

    def create_bucket(self, api_url, account_auth_token, account_id, bucket_name, *args, **kwargs):
        if not re.fullmatch(r"[-a-zA-Z0-9]{6,63}", bucket_name):
            raise exception.BadRequest("Invalid characters in bucketName", "bad_request")
        return super().create_bucket(api_url, account_auth_token, account_id, bucket_name, *args, **kwargs)

    def _need(self, token, capability):
        if capability not in self.auth_token_to_key[token].capabilities:
            raise exception.Unauthorized("unauthorized", "unauthorized")


class Server(http.server.ThreadingHTTPServer):
    """`url`, `key_id`, `key` to use it; `requests` is the log of API calls; `simulator` to look inside."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.simulator = Simulator()
        self.key_id, self.key = self.simulator.create_account()
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.requests = []
        self.lock = threading.Lock()

    def handle_error(self, request, client_address):
        """Stay silent when a client hangs up: the b2 command does that with connections it no longer needs."""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        path = self.path.partition("?")[0]
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._answer(lambda: self._upload(path, body) if path.startswith("/upload/") else self._call(path, body))

    def do_GET(self):
        self._answer(self._download if "/file/" in self.path or "by_id" in self.path else lambda: self._call(self.path))

    do_HEAD = do_GET

    def log_message(self, *_):
        pass

    def _answer(self, make):
        try:
            with self.server.lock:
                status, headers, content = 200, {}, make()
            if isinstance(content, tuple):
                headers, content = content
            else:
                content = json.dumps(content, default=list).encode()
        except Exception as error:  # noqa: BLE001 - the client has to get an answer to whatever it sent
            status, code = _status(error)
            content = {"status": status, "code": code, "message": str(error)}
            headers, content = {}, json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"content-length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _call(self, path, body=b""):
        name = path.rpartition("/")[2].partition("?")[0]
        self.server.requests.append(name)
        simulator, token = self.server.simulator, self.headers.get("Authorization", "")
        if name == "b2_authorize_account":
            key_id, _, key = b64decode(token.partition(" ")[2]).decode().partition(":")
            return self._own_urls(simulator.authorize_account(self.server.url, key_id, key))
        if token not in simulator.auth_token_to_key:
            raise exception.InvalidAuthToken("unknown token", "bad_auth_token")
        method = getattr(simulator, name[len("b2_") :])
        known = inspect.signature(getattr(RawSimulator, name[len("b2_") :])).parameters
        given = {}
        for key, value in json.loads(body or b"{}").items():
            ours = NAMES.get(key) or re.sub("([A-Z])", lambda found: "_" + found[1].lower(), key)
            if ours in known and (value is not None or known[ours].default is inspect.Parameter.empty):
                given[ours] = OBJECTS[key](value) if key in OBJECTS else value
        return self._own_urls(method(RawSimulator.API_URL, token, **given))

    def _own_urls(self, answer):
        """Replace the simulator's addresses by this server's."""
        text = json.dumps(answer, default=list)
        text = text.replace("https://upload.example.com", f"{self.server.url}/upload")
        text = text.replace(RawSimulator.API_URL, self.server.url).replace(RawSimulator.DOWNLOAD_URL, self.server.url)
        return json.loads(text)

    def _upload(self, path, body):
        headers = self.headers
        url = "https://upload.example.com" + path[len("/upload") :]
        token = headers["Authorization"].replace(f"{self.server.url}/upload", "https://upload.example.com")
        self.server.requests.append("upload")
        stream, size, sha1 = io.BytesIO(body), len(body), headers["X-Bz-Content-Sha1"]
        if path.startswith("/upload/part/"):
            return self.server.simulator.upload_part(url, token, int(headers["X-Bz-Part-Number"]), size, sha1, stream)
        name = urllib.parse.unquote(headers["X-Bz-File-Name"])
        kind = headers.get("Content-Type", "b2/x-auto")
        return self.server.simulator.upload_file(url, token, name, size, kind, sha1, {}, stream)

    def _download(self):
        simulator = self.server.simulator
        span = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range") or "")
        span = (int(span[1]), int(span[2])) if span else None
        token = self.headers.get("Authorization")
        with simulator.download_file_from_url(token, RawSimulator.DOWNLOAD_URL + self.path, range_=span) as answer:
            return dict(answer.headers), b"".join(answer.iter_content(1 << 20))


def _status(error):
    for kind, status, code in STATUS:
        if isinstance(error, kind):
            return status, code
    return 400, getattr(error, "code", "bad_request")


@contextlib.contextmanager
def running():
    """Serve until the end of the block; yields the `Server`."""
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
