"""The S3 front of the stand-in: what restic, rclone and boto3 ask of B2's S3-compatible API, path style.

Like B2: every bucket has versions, DELETE without a version hides, DELETE of a version needs `deleteFiles`, an access
key is an application key, the master key is refused (backblaze.com/docs/cloud-storage-s3-compatible-api).
"""

from __future__ import annotations

import datetime
import hashlib
import urllib.parse
import uuid
import xml.etree.ElementTree as ET
from xml.sax.saxutils import escape

from b2sdk.v3 import FileRetentionSetting, RetentionMode, exception

from rpiomega.lab.b2.signature import Refused

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
MODES = {"GOVERNANCE": RetentionMode.GOVERNANCE, "COMPLIANCE": RetentionMode.COMPLIANCE}


class Reply:
    """`status`, `headers` and `body` of an answer."""

    def __init__(self, status=200, headers=None, body=b""):
        self.status, self.headers, self.body = status, headers or {}, body


class Front:
    """Answers S3 requests of one account. `uploads`: unfinished multipart uploads."""

    def __init__(self, account):
        self.account, self.uploads = account, {}

    def find_key(self, key_id):
        """Return an application key that S3 takes, or None; the master key does not work with S3."""
        key = self.account.usable(key_id)
        return key if key is not None and key.name != "master" else None

    def answer(self, key, method, path, headers, body):
        """Return the Reply to a request that `key` signed. Raise Refused."""
        try:
            return self._answer(key, method, path, headers, body)
        except exception.Unauthorized as error:
            raise Refused(403, "AccessDenied", str(error)) from None
        except exception.AccessDenied:
            raise Refused(403, "AccessDenied", "Access Denied: the file is locked") from None
        except exception.StorageCapExceeded:
            message = "Cannot upload files, storage cap exceeded. See the Caps & Alerts page to increase your cap."
            raise Refused(403, "AccessDenied", message) from None

    def _answer(self, key, method, path, headers, body):
        wire, _, query = path.partition("?")
        query = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
        name, _, file = urllib.parse.unquote(wire).lstrip("/").partition("/")
        if not name:
            self.account.need(key, "listAllBucketNames")
            names = "".join(f"<Bucket><Name>{each}</Name></Bucket>" for each in self.account.bucket_name_to_bucket)
            return _xml("ListAllMyBucketsResult", f"<Buckets>{names}</Buckets>")
        bucket = self.account.bucket_name_to_bucket.get(name)
        if bucket is None:
            raise Refused(404, "NoSuchBucket", f"The specified bucket does not exist: {name}")
        if not file:
            return self._bucket(key, method, bucket, query, body)
        return self._file(key, method, bucket, file, query, headers, body)

    # -- buckets -----------------------------------------------------------------------------------------------

    def _bucket(self, key, method, bucket, query, body):
        if method == "POST" and "delete" in query:
            return self._delete_many(key, bucket, body)
        if method not in ("GET", "HEAD"):
            raise Refused(501, "NotImplemented", "make buckets by the native API")
        if method == "HEAD" or "location" in query:
            self.account.need(key, "listBuckets", bucket)
            return _xml("LocationConstraint", escape(self.account.region))
        if "versioning" in query:
            self.account.need(key, "listBuckets", bucket)
            return _xml("VersioningConfiguration", "<Status>Enabled</Status>")
        if "object-lock" in query:
            self.account.need(key, "readBucketRetentions", bucket)
            on = "Enabled" if bucket.is_file_lock_enabled else "Disabled"
            return _xml("ObjectLockConfiguration", f"<ObjectLockEnabled>{on}</ObjectLockEnabled>")
        known = {"list-type", "prefix", "delimiter", "max-keys", "continuation-token", "start-after", "marker"}
        known |= {"encoding-type", "fetch-owner", "versions", "key-marker", "version-id-marker", "uploads"}
        if set(query) - known:
            raise Refused(501, "NotImplemented", f"not in this stand-in: {', '.join(sorted(set(query) - known))}")
        self.account.need(key, "listFiles", bucket, query.get("prefix", ""))
        if "uploads" in query:
            return self._unfinished(bucket)
        return self._list(bucket, query)

    def _list(self, bucket, query):
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        limit = min(int(query.get("max-keys", 1000)), 1000)
        after = query.get("continuation-token") or query.get("start-after") or query.get("marker", "")
        versions = "versions" in query
        after = query.get("key-marker", "") if versions else after
        quote = (lambda text: urllib.parse.quote(text, safe="/")) if query.get("encoding-type") == "url" else escape
        found: list[str] = []
        groups: list[str] = []
        last, truncated = "", False
        for name in sorted({name for name, _ in bucket.file_name_and_id_to_file if name.startswith(prefix)}):
            head, cut, _ = name[len(prefix) :].partition(delimiter or "\0")
            group = prefix + head + cut if cut else ""
            if name <= after or (group and (group in groups or (after and group <= after))):
                continue
            files = bucket.versions(name)
            shown = files if versions else [file for file in files[:1] if file.is_visible()]
            if not shown:
                continue
            if len(found) + len(groups) >= limit:
                truncated = True
                break
            last = group or name
            if group:
                groups.append(group)
            else:
                found += [_entry(file, quote, versions, file is files[0]) for file in shown]
        inner = [*found, *(f"<CommonPrefixes><Prefix>{quote(each)}</Prefix></CommonPrefixes>" for each in groups)]
        inner += [f"<Name>{bucket.bucket_name}</Name><Prefix>{quote(prefix)}</Prefix><MaxKeys>{limit}</MaxKeys>"]
        inner += [f"<IsTruncated>{str(truncated).lower()}</IsTruncated>"]
        if query.get("encoding-type"):
            inner.append("<EncodingType>url</EncodingType>")
        if versions:
            inner += [f"<NextKeyMarker>{quote(last)}</NextKeyMarker>"] * truncated
            return _xml("ListVersionsResult", "".join(inner))
        token = "NextContinuationToken" if "list-type" in query else "NextMarker"
        inner += [f"<{token}>{quote(last)}</{token}>"] * truncated
        inner += [f"<KeyCount>{len(found) + len(groups)}</KeyCount>"] * ("list-type" in query)
        return _xml("ListBucketResult", "".join(inner))

    def _delete_many(self, key, bucket, body):
        done = []
        for item in ET.fromstring(body).iter(f"{{{NAMESPACE}}}Object"):
            name = item.findtext(f"{{{NAMESPACE}}}Key") or ""
            version = item.findtext(f"{{{NAMESPACE}}}VersionId")
            try:
                self._delete(key, bucket, name, version, {})
                done.append(f"<Deleted><Key>{escape(name)}</Key></Deleted>")
            except (Refused, exception.B2Error) as error:
                code = getattr(error, "code", "AccessDenied") if isinstance(error, Refused) else "AccessDenied"
                text = f"<Code>{code}</Code><Message>{escape(str(error))}</Message>"
                done.append(f"<Error><Key>{escape(name)}</Key>{text}</Error>")
        return _xml("DeleteResult", "".join(done))

    def _unfinished(self, bucket):
        items = [
            f"<Upload><Key>{escape(name)}</Key><UploadId>{upload}</UploadId></Upload>"
            for upload, (where, name, _, _) in self.uploads.items()
            if where is bucket
        ]
        return _xml("ListMultipartUploadsResult", "".join(items) + "<IsTruncated>false</IsTruncated>")

    # -- files -------------------------------------------------------------------------------------------------

    def _file(self, key, method, bucket, name, query, headers, body):
        if method in ("GET", "HEAD"):
            if "uploadId" in query:
                self.account.need(key, "writeFiles", bucket, name)
                return self._parts(query["uploadId"])
            self.account.need(key, "readFiles", bucket, name)
            file = self._find(bucket, name, query.get("versionId"))
            if "retention" in query:
                self.account.need(key, "readFileRetentions", bucket, name)
                return _retention_reply(file)
            return _content(file, headers.get("Range"))
        if method == "DELETE" and "uploadId" in query:
            self.account.need(key, "writeFiles", bucket, name)
            self.uploads.pop(query["uploadId"], None)
            return Reply(204)
        if method == "DELETE":
            return self._delete(key, bucket, name, query.get("versionId"), headers)
        if method == "PUT" and "retention" in query:
            return self._retain(key, bucket, name, query, headers, body)
        if headers.get("x-amz-copy-source"):
            raise Refused(501, "NotImplemented", "no copies in this stand-in")
        self.account.need(key, "writeFiles", bucket, name)
        if method == "PUT" and "uploadId" in query:
            self._upload(query["uploadId"])[3][int(query["partNumber"])] = body
            return Reply(headers={"ETag": f'"{hashlib.md5(body).hexdigest()}"'})
        if method == "PUT":
            kept = self._asked(key, bucket, name, headers)
            return _stored(bucket.put(name, body, headers.get("Content-Type", "application/octet-stream"), kept))
        if method == "POST" and "uploads" in query:
            upload = uuid.uuid4().hex
            self.uploads[upload] = (bucket, name, headers.get("Content-Type", "application/octet-stream"), {})
            inner = f"<Bucket>{bucket.bucket_name}</Bucket><Key>{escape(name)}</Key><UploadId>{upload}</UploadId>"
            return _xml("InitiateMultipartUploadResult", inner)
        if method == "POST" and "uploadId" in query:
            return self._complete(bucket, name, query["uploadId"], body)
        raise Refused(501, "NotImplemented", f"not in this stand-in: {method} {','.join(query)}")

    def _upload(self, upload):
        if upload not in self.uploads:
            raise Refused(404, "NoSuchUpload", "there is no such upload")
        return self.uploads[upload]

    def _parts(self, upload):
        parts = self._upload(upload)[3]
        items = [f"<Part><PartNumber>{n}</PartNumber><Size>{len(parts[n])}</Size></Part>" for n in sorted(parts)]
        return _xml("ListPartsResult", "".join(items) + "<IsTruncated>false</IsTruncated>")

    def _complete(self, bucket, name, upload, body):
        _, _, kind, parts = self._upload(upload)
        numbers = [int(item.text or 0) for item in ET.fromstring(body).iter() if item.tag.endswith("PartNumber")]
        if not numbers or any(number not in parts for number in numbers):
            raise Refused(400, "InvalidPart", "a part is missing")
        digests = b"".join(hashlib.md5(parts[number]).digest() for number in numbers)
        file = bucket.put(name, b"".join(parts[number] for number in numbers), kind)
        file.etag = f"{hashlib.md5(digests).hexdigest()}-{len(numbers)}"
        del self.uploads[upload]
        inner = f"<Bucket>{bucket.bucket_name}</Bucket><Key>{escape(name)}</Key><ETag>&quot;{file.etag}&quot;</ETag>"
        return _xml("CompleteMultipartUploadResult", inner, {"x-amz-version-id": file.file_id})

    def _find(self, bucket, name, version):
        files = bucket.versions(name)
        file = next((f for f in files if f.file_id == version), None) if version else next(iter(files), None)
        if file is None or not file.is_visible():
            raise Refused(404, "NoSuchVersion" if version else "NoSuchKey", "The specified key does not exist.")
        return file

    def _delete(self, key, bucket, name, version, headers):
        self.account.need(key, "deleteFiles" if version else "writeFiles", bucket, name)
        files = bucket.versions(name)
        if version:
            file = next((file for file in files if file.file_id == version), None)
            wanted = headers.get("x-amz-bypass-governance-retention") == "true"
            if file and bucket.locked(file, wanted and "bypassGovernance" in key.capabilities):
                raise exception.AccessDenied()
            if file:
                bucket.forget(file)
            return Reply(204, {"x-amz-version-id": version})
        if files and files[0].is_visible():
            made = bucket.hide_file(_token(self.account, key), name)
            self.account.file_id_to_bucket_id[made["fileId"]] = bucket.bucket_id
            return Reply(204, {"x-amz-delete-marker": "true", "x-amz-version-id": made["fileId"]})
        return Reply(204)

    def _asked(self, key, bucket, name, headers):
        mode = headers.get("x-amz-object-lock-mode")
        if not mode:
            return None
        self.account.need(key, "writeFileRetentions", bucket, name)
        return FileRetentionSetting(MODES[mode], _millis(headers["x-amz-object-lock-retain-until-date"]))

    def _retain(self, key, bucket, name, query, headers, body):
        self.account.need(key, "writeFileRetentions", bucket, name)
        file, asked = self._find(bucket, name, query.get("versionId")), ET.fromstring(body)
        fields = {item.tag.rpartition("}")[2]: item.text or "" for item in asked}
        setting = FileRetentionSetting(MODES[fields["Mode"]], _millis(fields["RetainUntilDate"]))
        bypass = headers.get("x-amz-bypass-governance-retention") == "true" and "bypassGovernance" in key.capabilities
        bucket.update_file_retention(_token(self.account, key), file.file_id, name, setting, bypass)
        return Reply()


def call_class(method, path):
    """Return the class by which B2 bills a request (backblaze.com/cloud-storage/transaction-pricing): A, B or C."""
    wire, _, query = path.partition("?")
    if method in ("PUT", "POST", "DELETE"):
        return "A"
    return "B" if "/" in wire.strip("/") and "uploads" not in query else "C"


def error_reply(error, path):
    """Return the Reply of a Refused."""
    inner = f"<Code>{error.code}</Code><Message>{escape(str(error))}</Message><Resource>{escape(path)}</Resource>"
    return Reply(error.status, {"Content-Type": "application/xml"}, f"<Error>{inner}</Error>".encode())


def _token(account, key):
    """Return a token of the native API for a key, as its methods want one."""
    for token, known in account.auth_token_to_key.items():
        if known is key:
            return token
    return account.authorize_account("", key.application_key_id, key.key)["authorizationToken"]


def _xml(name, inner, headers=None):
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n<{name} xmlns="{NAMESPACE}">{inner}</{name}>'
    return Reply(200, {"Content-Type": "application/xml", **(headers or {})}, text.encode())


def _etag(file):
    if not getattr(file, "etag", ""):
        file.etag = hashlib.md5(file.data_bytes).hexdigest()
    return f'"{file.etag}"'


def _time(millis):
    return datetime.datetime.fromtimestamp(millis / 1000, datetime.timezone.utc)


def _millis(text):
    return int(datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() * 1000)


def _entry(file, quote, versions, latest):
    when = _time(file.upload_timestamp).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
    inner = f"<Key>{quote(file.name)}</Key><LastModified>{when}</LastModified>"
    if versions:
        inner += f"<VersionId>{file.file_id}</VersionId><IsLatest>{str(latest).lower()}</IsLatest>"
        if not file.is_visible():
            return f"<DeleteMarker>{inner}</DeleteMarker>"
    inner += f"<ETag>{escape(_etag(file))}</ETag><Size>{len(file.data_bytes)}</Size>"
    inner += "<StorageClass>STANDARD</StorageClass>"
    return f"<Version>{inner}</Version>" if versions else f"<Contents>{inner}</Contents>"


def _stored(file):
    return Reply(200, {"ETag": _etag(file), "x-amz-version-id": file.file_id})


def _content(file, span):
    headers = {
        "ETag": _etag(file),
        "Content-Type": file.content_type,
        "Last-Modified": _time(file.upload_timestamp).strftime("%a, %d %b %Y %H:%M:%S GMT"),
        "Accept-Ranges": "bytes",
        "x-amz-version-id": file.file_id,
    }
    data, total = file.data_bytes, len(file.data_bytes)
    if not span or not span.startswith("bytes="):
        return Reply(200, headers, data)
    first, _, last = span[len("bytes=") :].partition("-")
    start, end = (int(first), int(last or total - 1)) if first else (max(0, total - int(last)), total - 1)
    if start >= total:
        raise Refused(416, "InvalidRange", "The requested range is not satisfiable")
    end = min(end, total - 1)
    return Reply(206, {**headers, "Content-Range": f"bytes {start}-{end}/{total}"}, data[start : end + 1])


def _retention_reply(file):
    kept = file.file_retention
    if kept is None or not kept.retain_until:
        raise Refused(404, "NoSuchObjectLockConfiguration", "the file has no retention")
    until = _time(kept.retain_until).strftime("%Y-%m-%dT%H:%M:%SZ")
    return _xml("Retention", f"<Mode>{kept.mode.value.upper()}</Mode><RetainUntilDate>{until}</RetainUntilDate>")
