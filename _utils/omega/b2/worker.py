"""One call to Backblaze B2, made by the Python of the b2 command's own environment.

Run as a script: a JSON request on standard input, a JSON answer on standard output. Salt's Python needs no b2sdk this
way, command and states use one version of it, and the credentials are in no argument list and no environment.
"""

import contextlib
import json
import logging
import os
import pwd
import re
import sys
from collections.abc import Callable

CONNECT_SECONDS, READ_SECONDS = 10, 60
KINDS = (  # the first that fits; names of b2sdk.v3.exception
    ("denied", ("InvalidAuthToken",)),
    ("not_allowed", ("Unauthorized", "RestrictedBucket", "NotAllowedByAppKeyError", "AccessDenied")),
    ("not_found", ("NonExistentBucket", "BucketIdNotFound", "FileOrBucketNotFound")),
    ("taken", ("DuplicateBucketName",)),
    ("conflict", ("Conflict",)),
    ("capped", ("CapExceeded", "StorageCapExceeded", "TransactionCapExceeded")),
    ("clock", ("ClockSkew",)),
    ("unreachable", ("B2ConnectionError", "UnknownHost", "B2RequestTimeout", "ServiceError", "ConnectionReset")),
    ("unreachable", ("TooManyRequests", "InvalidJsonResponse", "BrokenPipe")),
)


def main():
    """Answer the request on standard input."""
    json.dump(respond(json.load(sys.stdin)), sys.stdout)


def respond(request):
    """Make one call and return the answer.

    :param request: dict: account (key_id, key, endpoint), call (a name of CALLS), arguments, user (None: this one)
    :return: ``{"result": ...}``, or ``{"error": {"kind", "message"}}`` with a kind of `omega.b2.client.NEXT`
    """
    try:
        import b2sdk.v3
        import b2sdk.v3.exception  # makes b2sdk.v3.exception an attribute

        if request.get("user"):
            _become(request["user"])
        return {"result": _answer(b2sdk.v3, request)}
    except ImportError as error:
        return {"error": {"kind": "missing", "message": str(error)}}
    except Exception as error:  # noqa: BLE001 - whatever b2sdk raises becomes one line for the caller
        return {"error": {"kind": _kind(error), "message": _text(error)}}


def _become(user):
    """Go on as ``user``, so that the account file is theirs and in their home."""
    entry = pwd.getpwnam(user)
    if os.geteuid() != entry.pw_uid:
        os.initgroups(user, entry.pw_gid)
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
    os.environ["HOME"] = entry.pw_dir
    os.umask(0o077)


def _answer(sdk, request):
    # At level DEBUG, b2sdk writes the secret of each key that it makes.
    logging.getLogger("b2sdk").setLevel(logging.CRITICAL)
    logging.getLogger().addHandler(logging.NullHandler())
    call, arguments, account = request["call"], request.get("arguments") or {}, request["account"]
    if call in ("remembered", "remember", "forget"):
        return globals()[f"_{call}"](sdk, account)
    api = _login(sdk, sdk.InMemoryAccountInfo(), account)
    return CALLS[call](sdk, api, **arguments)


def _login(sdk, info, account):
    import requests

    class Bounded(requests.Session):
        def request(self, *args, **kwargs):
            return super().request(*args, **{**kwargs, "timeout": (CONNECT_SECONDS, READ_SECONDS)})

    api = sdk.B2Api(info, api_config=sdk.B2HttpApiConfig(http_session_factory=Bounded))
    api.authorize_account(account["key_id"], account["key"], account.get("endpoint") or "production")
    return api


def _account_file(sdk):
    # The environment of the caller must not choose the file: the user's own shell has to find it.
    for name in ("B2_ACCOUNT_INFO", "XDG_CONFIG_HOME"):
        os.environ.pop(name, None)
    old = os.path.expanduser("~/.b2_account_info")
    return old if os.path.exists(old) else os.path.expanduser("~/.config/b2/account_info")


def _remembered(sdk, account):
    """Say whether the user's b2 command has this very account. Writes nothing."""
    path = _account_file(sdk)
    if not os.path.exists(path) or os.stat(path).st_mode & 0o077:
        return False
    try:
        info = sdk.SqliteAccountInfo(file_name=path)
        realm = info.get_realm()
        found = (info.get_application_key_id(), info.get_application_key(), sdk.REALM_URLS.get(realm, realm))
    except (sdk.exception.MissingAccountData, sdk.exception.CorruptAccountInfo):
        return False
    wanted = account.get("endpoint") or "production"
    return found == (account["key_id"], account["key"], sdk.REALM_URLS.get(wanted, wanted))


def _remember(sdk, account):
    path = _account_file(sdk)
    fresh = f"{path}.rpiomega"
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(fresh)
    try:
        _login(sdk, sdk.SqliteAccountInfo(file_name=fresh), account)
        os.chmod(fresh, 0o600)
        os.replace(fresh, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(fresh)
    return path


def _forget(sdk, account):
    if _remembered(sdk, account):
        os.unlink(_account_file(sdk))


def _whoami(sdk, api):
    allowed = api.account_info.get_allowed()
    return {
        "account_id": api.account_info.get_account_id(),
        "key_id": api.account_info.get_application_key_id(),
        "capabilities": sorted(allowed["capabilities"]),
        "buckets": [bucket["name"] or bucket["id"] for bucket in allowed.get("buckets") or []],
        "name_prefix": allowed.get("namePrefix") or "",
        "s3_endpoint": api.account_info.get_s3_api_url(),
    }


def _bucket_dict(bucket):
    return {
        "name": bucket.name,
        "id": bucket.id_,
        "type": bucket.type_,
        "info": dict(bucket.bucket_info or {}),
        "lifecycle_rules": [dict(rule) for rule in bucket.lifecycle_rules or []],
        "encryption": bucket.default_server_side_encryption.mode.value or "unknown",
        "file_lock": bucket.is_file_lock_enabled,
        "retention": _retention(bucket.default_retention),
        "revision": bucket.revision,
    }


def _retention(setting):
    """Return ``{"mode", "days"}`` of a bucket's default retention; mode "none", or "unknown" to a key that may not ask.

    One year counts as 365 days.
    """
    if setting is None:
        return {"mode": "unknown", "days": 0}
    period = setting.period
    days = period.duration * (365 if period.unit == "years" else 1) if period else 0
    return {"mode": setting.mode.value or "none", "days": days}


def _buckets(sdk, api, name=None):
    return [_bucket_dict(bucket) for bucket in api.list_buckets(bucket_name=name)]


def _find(sdk, api, name):
    # get_bucket_by_name answers from a cache when the key is restricted to a bucket, and then knows only its name.
    found = api.list_buckets(bucket_name=name)
    if not found:
        raise sdk.exception.NonExistentBucket(name)
    return found[0]


def _options(sdk, options):
    """Return the keyword arguments of B2Api.create_bucket and Bucket.update."""
    made = {}
    names = {"info": "bucket_info", "lifecycle_rules": "lifecycle_rules", "file_lock": "is_file_lock_enabled"}
    for ours, theirs in names.items():
        if options.get(ours) is not None:
            made[theirs] = options[ours]
    if options.get("encryption") is not None:
        made["default_server_side_encryption"] = sdk.EncryptionSetting(
            mode=sdk.EncryptionMode(options["encryption"]), algorithm=sdk.EncryptionAlgorithm.AES256
        )
    kept = options.get("retention")
    if kept is not None:
        period = sdk.RetentionPeriod(days=kept["days"]) if kept["days"] else None
        made["default_retention"] = sdk.BucketRetentionSetting(sdk.RetentionMode(kept["mode"]), period)
    return made


def _create_bucket(sdk, api, name, type, **options):  # B2's own word
    return _bucket_dict(api.create_bucket(name, type, **_options(sdk, options)))


def _update_bucket(sdk, api, name, revision=None, type=None, **options):
    bucket = _find(sdk, api, name)
    changes = _options(sdk, options)
    # B2 wants at least one setting, and an empty list of rules does not count for all its servers.
    changes["bucket_type"] = type or bucket.type_
    return _bucket_dict(bucket.update(if_revision_is=revision, **changes))


def _is_empty(sdk, api, name):
    bucket = _find(sdk, api, name)
    versions = next(iter(bucket.ls(latest_only=False, recursive=True, fetch_count=1)), None)
    return versions is None and next(iter(bucket.list_unfinished_large_files()), None) is None


def _delete_bucket(sdk, api, name, purge=False):
    bucket = _find(sdk, api, name)
    deleted = 0
    if purge:
        for large in bucket.list_unfinished_large_files():
            api.cancel_large_file(large.file_id)
        for version, _ in bucket.ls(latest_only=False, recursive=True):
            api.delete_file_version(version.id_, version.file_name)
            deleted += 1
    api.delete_bucket(bucket)
    return deleted


def _fetch_at(sdk, api, name, prefix, at, folder):
    """Copy the files below `prefix` as they were at `at` (seconds since 1970) into a folder.

    What was hidden or overwritten later is read from its older version: a key that may list and read is enough.
    Files that are in the folder with the right size stay, so that a run that was cut short is resumed.
    """
    bucket = _find(sdk, api, name)
    done = {"files": 0, "bytes": 0, "later": 0}
    seen = set()
    for version, _ in bucket.ls(prefix, latest_only=False, recursive=True):  # of each name the newest first
        if version.upload_timestamp > at * 1000 or version.file_name in seen:
            done["later"] += version.upload_timestamp > at * 1000
            continue
        seen.add(version.file_name)
        if version.action != "upload":
            continue
        target = os.path.normpath(os.path.join(folder, version.file_name[len(prefix) :]))
        if not target.startswith(os.path.join(os.path.normpath(folder), "")):
            raise ValueError(f"the bucket has a file {version.file_name}, which would leave the folder {folder}")
        if not (os.path.isfile(target) and os.path.getsize(target) == version.size):
            os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
            # b2sdk compares the SHA-1 of what it received.
            api.download_file_by_id(version.id_).save_to(f"{target}.part")
            os.replace(f"{target}.part", target)
        done["files"] += 1
        done["bytes"] += version.size
    return done


def _keys(sdk, api, name=None):
    found = []
    for key in api.list_keys():
        if name in (None, key.key_name):
            found.append(
                {
                    "name": key.key_name,
                    "key_id": key.id_,
                    "capabilities": sorted(key.capabilities),
                    "bucket_ids": key.bucket_ids or [],
                    "name_prefix": key.name_prefix or "",
                    "expires": key.expiration_timestamp_millis and key.expiration_timestamp_millis // 1000,
                }
            )
    return found


def _create_key(sdk, api, name, capabilities, bucket_ids, name_prefix):
    unknown = sorted(set(capabilities) - set(sdk.ALL_CAPABILITIES))
    if unknown:
        raise ValueError(f"B2 has no capability {', '.join(unknown)}")
    made = api.create_key(capabilities, name, bucket_ids=bucket_ids or None, name_prefix=name_prefix or None)
    return {"key_id": made.id_, "key": made.application_key}


def _delete_key(sdk, api, key_id):
    api.delete_key_by_id(key_id)


CALLS: dict[str, Callable] = {
    "whoami": _whoami,
    "buckets": _buckets,
    "create_bucket": _create_bucket,
    "update_bucket": _update_bucket,
    "fetch_at": _fetch_at,
    "is_empty": _is_empty,
    "delete_bucket": _delete_bucket,
    "keys": _keys,
    "create_key": _create_key,
    "delete_key": _delete_key,
}


def _kind(error):
    names = {each.__name__ for each in type(error).__mro__}
    return next((kind for kind, classes in KINDS if names & set(classes)), "bad_request")


def _text(error):
    cause = re.search(r"\[Errno -?\d+\] ([^\"')]+)", str(error))
    if cause and _kind(error) == "unreachable":
        return f"no connection to B2 ({cause[1]})"  # of five lines by three libraries, what tells
    return " ".join(str(error).split()) or type(error).__name__


if __name__ == "__main__":
    main()
