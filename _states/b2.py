"""What should be in an account of Backblaze B2, and which users of a node may work with it.

The account is the one the site file gives this node (``b2.credentials``); the secrets come from the node's own pillar
and stand in no state file. ``test=True`` asks B2 and changes nothing.
"""

import os

from salt.exceptions import CommandExecutionError

from omega.b2 import client, files
from omega.core import files as core_files
from omega.core import pillar as salt_pillar

RULE_KEYS = {
    "fileNamePrefix",
    "daysFromHidingToDeleting",
    "daysFromUploadingToHiding",
    "daysFromStartingToCancelingUnfinishedLargeFiles",
}


def _ret(name, comment):
    return {"name": name, "result": True, "changes": {}, "comment": comment}


def _failed(ret, comment):
    return {**ret, "result": False, "changes": {}, "comment": str(comment)}


def _would(ret, comment):
    return {**ret, "result": None, "comment": comment}


def _before_the_command(ret, changes):
    """Return what test=True says of the run that installs the b2 command first; None where the command is there."""
    try:
        client.account(__pillar__)
        client.python()
    except client.B2Error as error:
        if __opts__["test"] and error.kind == "missing":
            return {**ret, "result": None, "changes": changes, "comment": f"once the b2 command is installed ({error})"}
    return None


@core_files.disk_errors_returned
def authorized(name, env_file="/etc/rpiomega/b2.env"):
    """Have the node's B2 account at hand for a user's ``b2`` command, and in a file for root's services.

    :param name: the user; the account goes to the user's own account file, with mode 0600
    :param env_file: environment file for services, readable by root only
    :return: Salt's state return; it names files, never keys

    .. code-block:: yaml

        b2.account:
          b2.authorized:
            - name: pi
    """
    ret = _ret(name, f"{name} and root have the node's B2 account")
    try:
        account = client.account(__pillar__)
        text = files.environment(account)
        if core_files.read(env_file) != text or core_files.mode_of(env_file) != 0o600:
            ret["changes"][env_file] = "written"
        if not _remembered(name):
            ret["changes"][name] = "authorized"
        if not ret["changes"]:
            return ret
        if __opts__["test"]:
            return _would(ret, f"would give {' and '.join(ret['changes'])} the node's B2 account")
        if env_file in ret["changes"]:
            core_files.write(env_file, text, 0o600)
        if name in ret["changes"]:
            __salt__["b2.remember"](name)
    except (client.B2Error, CommandExecutionError) as error:
        return _failed(ret, error)
    return {**ret, "comment": f"gave {' and '.join(ret['changes'])} the node's B2 account"}


def _remembered(user):
    try:
        client.python()
    except client.B2Error:
        # The run that this one predicts installs the command first.
        if __opts__["test"]:
            return False
        raise
    return __salt__["b2.remembered"](user)


@core_files.disk_errors_returned
def deauthorized(name, env_file="/etc/rpiomega/b2.env"):
    """Take away what `authorized` gave. An account file of another key, made by the user, stays.

    :param name: the user
    :param env_file: the environment file; it tells which key the node had
    :return: Salt's state return
    """
    ret = _ret(name, "the node has no B2 account")
    account = files.read_environment(env_file)
    if not os.path.exists(env_file):
        return ret
    ret["changes"][env_file] = "removed"
    try:
        if account and client.ask(account, "remembered", f"user {name}", user=name):
            ret["changes"][name] = "deauthorized"
        if __opts__["test"]:
            return _would(ret, f"would take the B2 account from {' and '.join(ret['changes'])}")
        if name in ret["changes"]:
            client.ask(account, "forget", f"user {name}", user=name)
        os.unlink(env_file)
    except client.B2Error as error:
        if error.kind != "missing":
            return _failed(ret, error)
        if __opts__["test"] and salt_pillar.site(__pillar__).get("b2", {}).get("enabled", True):
            return _would(ret, f"once the b2 command is installed ({error})")
        cause = f"{env_file} stays: without the b2 command nothing tells whether {name}'s account file holds that key"
        return _failed(ret, f"{cause}; remove {env_file}, and `~/.config/b2/account_info` of {name} if it does")
    return {**ret, "comment": f"took the B2 account from {' and '.join(ret['changes'])}"}


def bucket_present(name, type="allPrivate", lifecycle_rules=None, encryption="SSE-B2", info=None, file_lock=None):
    """Have a bucket with these settings.

    :param name: 6 to 63 letters, digits and hyphens; unique over all accounts of B2
    :param type: ``allPrivate``, or ``allPublic``: everybody may read every file
    :param lifecycle_rules: B2's rules (list of dicts); None: leave them, an empty list: none
    :param encryption: ``SSE-B2``; None: leave it as it is
    :param info: dict of texts to keep with the bucket; None: leave them
    :param file_lock: True: the bucket can hold locked files. B2 never takes that back
    :return: Salt's state return; ``changes`` maps a setting to ``{old, new}``

    .. code-block:: yaml

        omega-backup:
          b2.bucket_present:
            - lifecycle_rules:
              - {fileNamePrefix: '', daysFromHidingToDeleting: 30}
    """
    ret = _ret(name, f"bucket {name} is as it should be")
    problem = _bad_settings(type, lifecycle_rules, encryption)
    if problem:
        return _failed(ret, f"bucket {name}: {problem}")
    wanted = {"type": type, "lifecycle_rules": lifecycle_rules, "encryption": encryption, "info": info}
    wanted = {key: value for key, value in {**wanted, "file_lock": file_lock}.items() if value is not None}
    unknown = _before_the_command(ret, {name: {"old": None, "new": wanted}})
    if unknown:
        return unknown
    try:
        found = __salt__["b2.bucket"](name)
        if found is None:
            ret["changes"] = {name: {"old": None, "new": wanted}}
            if __opts__["test"]:
                return _would(ret, f"bucket {name} would be created")
            __salt__["b2.bucket_create"](name, **wanted)
            return {**ret, "comment": f"bucket {name} created"}
        problem = _unchangeable(found, wanted)
        if problem:
            return _failed(ret, f"bucket {name}: {problem}")
        for key, value in wanted.items():
            if _normal(key, found[key]) != _normal(key, value):
                ret["changes"][key] = {"old": found[key], "new": value}
        if not ret["changes"]:
            return ret
        if __opts__["test"]:
            return _would(ret, f"bucket {name} would get another {', '.join(ret['changes'])}")
        new = {key: wanted[key] for key in ret["changes"]}
        __salt__["b2.bucket_update"](name, revision=found["revision"], **new)
    except CommandExecutionError as error:
        return _failed(ret, error)
    return {**ret, "comment": f"bucket {name} got another {', '.join(ret['changes'])}"}


def _bad_settings(kind, rules, encryption):
    if kind not in ("allPrivate", "allPublic"):
        return f"type is {kind!r}; write allPrivate or allPublic"
    if encryption not in (None, "SSE-B2"):
        return f"encryption is {encryption!r}; B2 keeps a default of SSE-B2 only, or leave the key out"
    for rule in rules or []:
        unknown = sorted(set(rule) - RULE_KEYS)
        if unknown or "fileNamePrefix" not in rule:
            wrong = f"has the unknown key {unknown[0]}" if unknown else "lacks fileNamePrefix"
            return f"a lifecycle rule {wrong}; the keys are {', '.join(sorted(RULE_KEYS))}"
    return None


def _unchangeable(found, wanted):
    if "encryption" in wanted and found["encryption"] == "unknown":
        return "the node's key may not read the encryption; use one with readBucketEncryption, or `encryption: null`"
    if wanted.get("file_lock") is False and found["file_lock"]:
        return "file lock is on and B2 never takes it back; drop `file_lock: false`"
    return None


def _normal(key, value):
    """Return a setting in the form in which equal ones are equal."""
    if key == "lifecycle_rules":
        rules = [{name: days for name, days in rule.items() if days is not None} for rule in value or []]
        return sorted(rules, key=lambda rule: rule["fileNamePrefix"])
    return bool(value) if key == "file_lock" else value


def bucket_absent(name, purge=False):
    """Have no bucket of this name. One that holds anything is kept, unless ``purge`` says otherwise.

    :param name: the bucket
    :param purge: delete every version of every file in it first, for good
    :return: Salt's state return
    """
    ret = _ret(name, f"there is no bucket {name}")
    unknown = _before_the_command(ret, {})
    if unknown:
        return unknown
    try:
        if __salt__["b2.bucket"](name) is None:
            return ret
        if not purge and not __salt__["b2.bucket_empty"](name):
            cause = "it holds files, old versions or unfinished uploads, and they would be lost"
            return _failed(ret, f"bucket {name}: {cause}; empty it, or say `purge: true` to delete them for good")
        ret["changes"] = {name: {"old": "present", "new": "absent"}}
        if __opts__["test"]:
            return _would(ret, f"bucket {name} would be deleted{' with all it holds' if purge else ''}")
        deleted = __salt__["b2.bucket_delete"](name, purge=purge)
    except CommandExecutionError as error:
        return _failed(ret, error)
    return {**ret, "comment": f"bucket {name} deleted{f' with {deleted} file versions' if purge else ''}"}


@core_files.disk_errors_returned
def application_key_present(
    name, capabilities, secret_file, bucket=None, name_prefix=None, all_buckets=False, replace=False
):
    """Have an application key that may do this and no more, its secret in a file for its owner alone.

    B2 tells a key's secret once and lets no key be changed. So a key whose secret is not in ``secret_file``, or that
    should now be allowed something else, can only be replaced: a new key is made and written, then the old one revoked.
    Whoever uses the old one is locked out, hence the flag.

    :param name: name of the key, up to 100 letters, digits and hyphens
    :param capabilities: list of B2's capabilities
    :param secret_file: where ``key_id`` and ``key`` are kept, mode 0600
    :param bucket: the bucket the key is restricted to
    :param name_prefix: restrict it further to files whose names begin so
    :param all_buckets: needed in place of ``bucket`` for a key to the whole account
    :param replace: revoke keys of this name that do not fit
    :return: Salt's state return; the secret is not in it

    .. code-block:: yaml

        backup-writer:
          b2.application_key_present:
            - capabilities: [listBuckets, listFiles, readFiles, writeFiles]
            - bucket: omega-backup
            - secret_file: /etc/rpiomega/secrets/b2/backup
    """
    subject = f"application key {name}"
    ret = _ret(name, f"{subject} is as it should be")
    if bool(bucket) == bool(all_buckets):
        cause = "it has no bucket, so it would open all of them" if not bucket else "it has both bucket and all_buckets"
        return _failed(ret, f"{subject}: {cause}; give one of `bucket: NAME` and `all_buckets: true`")
    unknown = _before_the_command(ret, {name: {"old": [], "new": secret_file}})
    if unknown:
        return unknown
    try:
        found = __salt__["b2.bucket"](bucket) if bucket else None
        existing = __salt__["b2.keys"](name)
        if bucket and found is None and not (__opts__["test"] and not existing):
            return _failed(ret, f"{subject}: there is no bucket {bucket}; create it first (b2.bucket_present)")
        bucket_id = found["id"] if found else None
        wanted = (sorted(capabilities), [bucket_id] if bucket else [], name_prefix or "")
        stale = [key for key in existing if not _fits(key, wanted, secret_file)]
        fitting = [key for key in existing if key not in stale]
        if fitting and not stale:
            return ret
        if stale and not replace:
            return _failed(ret, _cannot_keep(subject, stale, wanted, secret_file))
        foreign = None if fitting else files.foreign(secret_file, [key["key_id"] for key in existing])
        if foreign:
            return _failed(ret, f"{subject}: {foreign}")
        if __opts__["test"]:
            change = {"old": [key["key_id"] for key in stale], "new": "kept" if fitting else secret_file}
            would = f"{subject} would be {'cleaned up' if fitting else 'created'}"
            return _would({**ret, "changes": {name: change}}, would)
        if not fitting:
            made = __salt__["b2.key_create"](name, capabilities, secret_file, bucket_id, name_prefix)
            ret["changes"][name] = {"old": [], "new": made["key_id"]}
        for key in stale:
            __salt__["b2.key_delete"](key["key_id"])
            ret["changes"].setdefault(name, {"old": [], "new": "kept"})["old"].append(key["key_id"])
    except CommandExecutionError as error:
        return {**ret, "result": False, "comment": str(error)}
    if fitting:
        return {**ret, "comment": f"{subject}: revoked {len(stale)} others of that name"}
    return {**ret, "comment": f"{subject} created, its secret is in {secret_file}"}


def _fits(key, wanted, secret_file):
    same = (key["capabilities"], key["bucket_ids"], key["name_prefix"]) == wanted
    return same and files.key_id(secret_file) == key["key_id"]


def _cannot_keep(subject, stale, wanted, secret_file):
    other = [key for key in stale if (key["capabilities"], key["bucket_ids"], key["name_prefix"]) != wanted]
    ids = ", ".join(key["key_id"] for key in stale)
    cause = "may do other things than wanted" if other else f"exists, but {secret_file} does not hold its secret"
    return f"{subject}: {ids} {cause}, and B2 changes no key; say `replace: true` to make a new one and revoke {ids}"


@core_files.disk_errors_returned
def application_key_absent(name, secret_file=None):
    """Have no application key of this name. B2 refuses deleted keys at once.

    :param name: name of the key; every key of that name goes
    :param secret_file: the file with its secret goes, too
    :return: Salt's state return
    """
    ret = _ret(name, f"there is no application key {name}")
    unknown = _before_the_command(ret, {})
    if unknown:
        return unknown
    try:
        planned = {key["key_id"]: "revoked" for key in __salt__["b2.keys"](name)}
        if secret_file and os.path.exists(secret_file):
            planned[secret_file] = "removed"
        if not planned:
            return ret
        if __opts__["test"]:
            return _would({**ret, "changes": planned}, f"application key {name} would be revoked")
        for key, what in planned.items():
            if what == "revoked":
                __salt__["b2.key_delete"](key)
            else:
                os.unlink(key)
            ret["changes"][key] = what
    except (CommandExecutionError, OSError) as error:
        return {**ret, "result": False, "comment": str(error)}
    return {**ret, "comment": f"application key {name} revoked"}
