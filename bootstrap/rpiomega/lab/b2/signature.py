"""AWS Signature Version 4 as a server checks it, with the signed chunks of an upload over plain HTTP.

Source: docs.aws.amazon.com, "Authenticating Requests (AWS Signature Version 4)", in the header and in chunks.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac
import re
import time
import urllib.parse

EMPTY = hashlib.sha256(b"").hexdigest()
SKEW = 15 * 60
_HEADER = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<id>[^/]+)/(?P<scope>(?P<day>\d{8})/(?P<region>[^/]*)/s3/aws4_request), ?"
    r"SignedHeaders=(?P<signed>[^,]+), ?Signature=(?P<signature>[0-9a-f]{64})"
)


class Refused(Exception):
    """A request that is answered with an error: HTTP status, code and message of S3."""

    def __init__(self, status, code, message):
        super().__init__(message)
        self.status, self.code = status, code


def verify(method, path, headers, body, find_key):
    """Return the key that signed a request, and the content of its body.

    :param path: with the query, as it was sent
    :param find_key: key ID -> an object with `key`, or None
    :raises Refused: with what S3 answers
    """
    found = _HEADER.fullmatch(headers.get("Authorization", ""))
    if not found:
        raise Refused(400, "AuthorizationHeaderMalformed", "the authorization header cannot be read")
    key = find_key(found["id"])
    if key is None:
        raise Refused(403, "InvalidAccessKeyId", f"The key '{found['id']}' is not valid")
    date = headers.get("x-amz-date", "")
    _timely(date)
    payload = headers.get("x-amz-content-sha256", EMPTY)
    wire, _, query = path.partition("?")
    signed = found["signed"].split(";")
    canonical = "\n".join(
        [method, _quoted(wire), _query(query), *(f"{name}:{_plain(headers, name)}" for name in signed), "",
         found["signed"], payload]
    )  # fmt: skip
    secret = _signing_key(key.key, found["day"], found["region"])
    text = "\n".join(["AWS4-HMAC-SHA256", date, found["scope"], _hash(canonical.encode())])
    if not hmac.compare_digest(_sign(secret, text), found["signature"]):
        raise Refused(403, "SignatureDoesNotMatch", "Signature validation failed")
    if payload.startswith("STREAMING-"):
        chain = (secret, date, found["scope"]) if "-AWS4-" in payload else None
        body = _chunks(body, chain, found["signature"])
    elif payload != "UNSIGNED-PAYLOAD" and payload != _hash(body):
        raise Refused(400, "XAmzContentSHA256Mismatch", "the body is not what was signed")
    md5 = headers.get("Content-MD5")
    if md5 and base64.b64encode(hashlib.md5(body).digest()).decode() != md5:
        raise Refused(400, "BadDigest", "the body does not have the MD5 that was given")
    return key, body


def _timely(date):
    try:
        at = datetime.datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.timezone.utc).timestamp()
    except ValueError:
        raise Refused(403, "AccessDenied", "X-Amz-Date is missing") from None
    if abs(at - time.time()) > SKEW:
        message = "The difference between the request time and the current time is too large"
        raise Refused(403, "RequestTimeTooSkewed", message)


def _plain(headers, name):
    return ",".join(" ".join(value.split()) for value in headers.get_all(name) or [""])


def _quoted(path):
    return urllib.parse.quote(urllib.parse.unquote(path), safe="/-_.~")


def _query(text):
    pairs = urllib.parse.parse_qsl(text, keep_blank_values=True)
    quoted = sorted((urllib.parse.quote(k, safe="-_.~"), urllib.parse.quote(v, safe="-_.~")) for k, v in pairs)
    return "&".join(f"{key}={value}" for key, value in quoted)


def _hash(data):
    return hashlib.sha256(data).hexdigest()


def _hmac(key, text):
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def _sign(key, text):
    return _hmac(key, text).hex()


def _signing_key(secret, day, region):
    return _hmac(_hmac(_hmac(_hmac(b"AWS4" + secret.encode(), day), region), "s3"), "aws4_request")


def _chunks(body, chain, previous):
    """Return the content of a body in chunks; `chain`: signing key, date, scope, or None if they are not signed."""
    content: list[bytes] = []
    at = 0
    while True:
        end = body.find(b"\r\n", at)
        size, _, extension = body[at:end].partition(b";")
        try:
            length = int(size, 16)
        except ValueError:
            raise Refused(400, "IncompleteBody", "a chunk's head cannot be read") from None
        data, at = body[end + 2 : end + 2 + length], end + length + 4
        if chain:
            key, date, scope = chain
            text = "\n".join(["AWS4-HMAC-SHA256-PAYLOAD", date, scope, previous, EMPTY, _hash(data)])
            previous = _sign(key, text)
            if extension.decode() != f"chunk-signature={previous}":
                raise Refused(403, "SignatureDoesNotMatch", "Signature validation of a chunk failed")
        if len(data) != length:
            raise Refused(400, "IncompleteBody", "the body ends within a chunk")
        if not length:
            return b"".join(content)
        content.append(data)
