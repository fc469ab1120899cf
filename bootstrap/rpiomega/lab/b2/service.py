"""The stand-in's account: b2sdk's simulator with what the service checks and the simulator leaves out.

Added: bucket and name prefix of a key for each call, expired keys, default retention, a clock that tests move,
lifecycle rules, caps. Sources: backblaze.com/docs, "Application Keys", "Lifecycle Rules", "Object Lock".
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import os
import re
import time

from b2sdk.v3 import BucketSimulator as B2Bucket
from b2sdk.v3 import EncryptionMode, EncryptionSetting, FileRetentionSetting, RetentionMode, exception
from b2sdk.v3 import RawSimulator as B2Simulator

DAY = 86400
FIRST_ID = 10**12 - 1
LOCKED = (RetentionMode.COMPLIANCE, RetentionMode.GOVERNANCE)


class Clock:
    """The service's clock: this machine's, moved by `offset` seconds. Requests' own dates are not judged by it."""

    def __init__(self):
        self.offset, self._last = 0.0, 0

    def now(self):
        """Return the time in seconds since 1970."""
        return time.time() + self.offset

    def stamp(self):
        """Return the time in milliseconds; no two calls return the same."""
        self._last = max(int(self.now() * 1000), self._last + 1)
        return self._last


class Bucket(B2Bucket):
    """A bucket with any number of files, times of the service's clock, and default retention."""

    FIRST_FILE_NUMBER = FIRST_ID
    FIRST_FILE_ID = str(FIRST_ID)

    def __init__(self, api, *args, **kwargs):
        super().__init__(api, *args, **kwargs)
        self.upload_url_counter = itertools.count()
        self.file_id_counter = api.file_ids  # one for all buckets: the service finds a file by its ID alone
        self.upload_timestamp_counter = iter(api.clock.stamp, None)

    def versions(self, name):
        """Return the versions of a file, newest first, hide markers included and unfinished large files not."""
        found = (file for (each, _), file in self.file_name_and_id_to_file.items() if each == name)
        return sorted((file for file in found if file.action != "start"), key=lambda file: file.file_id)

    def put(self, name, data, content_type, retention=None):
        """Store a new version of a file; return it."""
        if self.api.capped:
            raise exception.StorageCapExceeded()
        plain, digest = EncryptionSetting(EncryptionMode.NONE), hashlib.sha1(data).hexdigest()
        file = self.FILE_SIMULATOR_CLASS(
            self.account_id, self, self._next_file_id(), "upload", name, content_type, digest, {}, data,
            next(self.upload_timestamp_counter), server_side_encryption=plain, file_retention=retention,
        )  # fmt: skip
        self._keep(file)
        return file

    def _keep(self, file):
        self.file_id_to_file[file.file_id] = file
        self.file_name_and_id_to_file[file.sort_key()] = file
        self.api.file_id_to_bucket_id[file.file_id] = self.bucket_id
        self.retain(file)

    def retain(self, file):
        """Give a new file the bucket's default retention unless it has one of its own."""
        if self.is_file_lock_enabled and file.file_retention is None and self.default_retention.mode in LOCKED:
            period = self.default_retention.period
            days = period.duration * (365 if period.unit == "years" else 1)
            until = file.upload_timestamp + days * DAY * 1000
            file.file_retention = FileRetentionSetting(self.default_retention.mode, until)

    def upload_file(self, *args, **kwargs):
        """Store a file that came by the native API."""
        if self.api.capped:
            raise exception.StorageCapExceeded()
        answer = super().upload_file(*args, **kwargs)
        self.retain(self.file_id_to_file[answer["fileId"]])
        return answer

    def locked(self, file, bypass=False):
        """Return whether a version may not be deleted now; `bypass`: the caller may overrule mode governance."""
        kept = file.file_retention
        if kept is None or not kept.retain_until or kept.retain_until <= self.api.clock.now() * 1000:
            return False
        return kept.mode is RetentionMode.COMPLIANCE or (kept.mode is RetentionMode.GOVERNANCE and not bypass)

    def forget(self, file):
        """Delete a version, whatever locks it."""
        del self.file_name_and_id_to_file[file.sort_key()], self.file_id_to_file[file.file_id]

    def delete_file_version(self, account_auth_token, file_id, file_name, bypass_governance=False):
        """Delete a version unless its retention forbids it."""
        file = self.get_file(file_id, file_name)
        may = bypass_governance and self._check_capability(account_auth_token, "bypassGovernance")
        if self.locked(file, may):
            raise exception.AccessDenied()
        self.forget(file)
        return {"fileId": file_id, "fileName": file_name, "uploadTimestamp": file.upload_timestamp}

    def update_file_retention(self, account_auth_token, file_id, file_name, file_retention, bypass_governance=False):
        """Set a version's retention; mode compliance is never taken back or shortened."""
        file = self.get_file(file_id, file_name)
        old, later = file.file_retention, file_retention.retain_until or 0
        if self.locked(file) and old.mode is RetentionMode.COMPLIANCE:
            if file_retention.mode is not RetentionMode.COMPLIANCE or later < old.retain_until:
                raise exception.AccessDenied()
        elif self.locked(file) and later < old.retain_until and not bypass_governance:
            raise exception.AccessDenied()
        return super().update_file_retention(account_auth_token, file_id, file_name, file_retention, bypass_governance)

    def lifecycle(self, now):
        """Hide and delete as the bucket's rules say at `now` (seconds); return the names of deleted versions."""
        gone = []
        for name in sorted({name for name, _ in self.file_name_and_id_to_file}):
            rule = next((r for r in self.lifecycle_rules if name.startswith(r["fileNamePrefix"])), None)
            if rule:
                gone += [name] * self._live_out(name, rule, now * 1000)
        return gone

    def _live_out(self, name, rule, now):
        hide, delete = rule.get("daysFromUploadingToHiding"), rule.get("daysFromHidingToDeleting")
        versions, gone = self.versions(name), 0
        if hide and versions and versions[0].is_visible() and versions[0].upload_timestamp + hide * DAY * 1000 <= now:
            self.hide_file(self.api.current_token, name)
            versions = self.versions(name)
        if not delete:
            return 0
        for newer, file in reversed(list(itertools.pairwise(versions))):  # oldest first
            if newer.upload_timestamp + delete * DAY * 1000 <= now and not self.locked(file):
                self.forget(file)
                gone += 1
        left = self.versions(name)
        # A marker goes once there is nothing behind it.
        if len(left) == 1 and left[0].action == "hide" and left[0].upload_timestamp + delete * DAY * 1000 <= now:
            self.forget(left[0])
        return gone


class Account(B2Simulator):
    """The service as seen by one account. `clock` moves its time; `capped`: uploads are refused."""

    BUCKET_SIMULATOR_CLASS = Bucket

    def __init__(self):
        super().__init__()
        self.clock, self.capped = Clock(), False
        self.file_ids = itertools.count(FIRST_ID, -1)
        self.bucket_id_counter = itertools.count()
        self.taken = set()  # names of buckets of other accounts

    # -- keys --------------------------------------------------------------------------------------------------

    def create_key(self, *args, **kwargs):
        """Make an application key whose secret looks like B2's: with characters that files have to quote."""
        answer = super().create_key(*args, **kwargs)
        made = self.key_id_to_key[answer["applicationKeyId"]]
        made.key = answer["applicationKey"] = "K004" + base64.b64encode(os.urandom(20)).decode().rstrip("=")
        return answer

    def delete_key(self, api_url, account_auth_token, application_key_id):
        """Delete an application key, if the caller may."""
        self.need(self.auth_token_to_key[account_auth_token], "deleteKeys")
        return super().delete_key(api_url, account_auth_token, application_key_id)

    def usable(self, key_id):
        """Return a key by its ID, or None if there is none or it is expired."""
        key = self.key_id_to_key.get(key_id)
        expires = key and key.expiration_timestamp_or_none
        return None if expires and expires <= self.clock.now() else key

    def authorize_account(self, realm_url, application_key_id, application_key):
        """Return a token for a key."""
        if self.usable(application_key_id) is None:
            raise exception.InvalidAuthToken("application key ID not valid", "unauthorized")
        return super().authorize_account(realm_url, application_key_id, application_key)

    def need(self, key, capability, bucket=None, name=None):
        """Raise Unauthorized unless a key has a capability, in a bucket, for a file name or a prefix of names."""
        inside = not key.buckets_or_none or bucket is None or bucket.bucket_id in key._get_bucket_ids()
        prefix = key.name_prefix_or_none or ""
        if capability not in key.capabilities or not inside or (name is not None and not name.startswith(prefix)):
            raise exception.Unauthorized(f"not entitled: {capability}", "unauthorized")

    def _assert_account_auth(self, api_url, token, account_id, capability, bucket_id=None, file_name=None):
        # The simulator knows the bucket of few calls; for the others `native.WHERE` checks bucket and name.
        key = self.auth_token_to_key[token]
        if token in self.expired_auth_tokens:
            raise exception.InvalidAuthToken("auth token expired", "auth_token_expired")
        if key.account_id != account_id:
            raise exception.Unauthorized("not of this account", "unauthorized")
        bucket = self.bucket_id_to_bucket.get(bucket_id)
        if capability == "listBuckets" and key.buckets_or_none and bucket is None:
            raise exception.Unauthorized("the key is restricted to a bucket", "unauthorized")
        self.need(key, capability, bucket, file_name)

    # -- buckets -----------------------------------------------------------------------------------------------

    def create_bucket(self, api_url, account_auth_token, account_id, bucket_name, *args, **kwargs):
        """Make a bucket; names are unique over all accounts."""
        if not re.fullmatch(r"[-a-zA-Z0-9]{6,63}", bucket_name):
            raise exception.BadRequest("Invalid characters in bucketName", "bad_request")
        if bucket_name in self.taken:
            raise exception.DuplicateBucketName(bucket_name)
        return super().create_bucket(api_url, account_auth_token, account_id, bucket_name, *args, **kwargs)

    def delete_bucket(self, api_url, account_auth_token, account_id, bucket_id):
        """Delete a bucket that is empty."""
        if self._get_bucket_by_id(bucket_id).file_id_to_file:
            raise exception.BadRequest("Cannot delete non-empty bucket", "cannot_delete_non_empty_bucket")
        return super().delete_bucket(api_url, account_auth_token, account_id, bucket_id)

    def update_bucket(self, api_url, account_auth_token, account_id, bucket_id, default_retention=None, **kwargs):
        """Change a bucket; its retention needs a capability of its own."""
        if default_retention is not None:
            self.need(self.auth_token_to_key[account_auth_token], "writeBucketRetentions")
        return super().update_bucket(
            api_url, account_auth_token, account_id, bucket_id, default_retention=default_retention, **kwargs
        )

    def lifecycle(self, now=None):
        """Do what the service does once a day, at `now` (seconds; default: its clock); return deleted names."""
        now = self.clock.now() if now is None else now
        return [name for bucket in self.bucket_name_to_bucket.values() for name in bucket.lifecycle(now)]

    def stored(self):
        """Return bucket -> {"bytes", "hidden_bytes", "files", "versions"}; hidden: what is not a newest version."""
        return {name: _sums(bucket) for name, bucket in self.bucket_name_to_bucket.items()}


def _sums(bucket):
    files = [file for file in bucket.file_id_to_file.values() if file.data_bytes is not None]
    newest = {}
    for file in sorted(bucket.file_id_to_file.values(), key=lambda file: file.sort_key(), reverse=True):
        newest[file.name] = file  # the smallest ID last: the newest
    total = sum(len(file.data_bytes) for file in files)
    seen = [file for file in newest.values() if file.is_visible()]
    visible = sum(len(file.data_bytes) for file in seen)
    return {"bytes": total, "hidden_bytes": total - visible, "files": len(seen), "versions": len(files)}
