"""Buckets and application keys of Backblaze B2.

The account is the one that the site file gives this node under ``b2.credentials``; it comes from the node's own pillar.
No function takes or returns a secret, so none can reach an argument list, a log or the job cache. Errors are
``CommandExecutionError`` with one line that names the bucket or key, the cause and the next step.

Terms and limits are those of Backblaze's documentation (backblaze.com/docs/cloud-storage, backblaze.com/apidocs).
"""

import os

from salt.exceptions import CommandExecutionError

from omega.b2 import client, files

__virtualname__ = "b2"


def __virtual__():
    return __virtualname__


def _ask(call, subject="B2", **arguments):
    try:
        return client.ask(client.account(__pillar__), call, subject, **arguments)
    except client.B2Error as error:
        raise CommandExecutionError(str(error)) from None


def account():
    """Return who this node is to B2.

    :return: dict with ``account_id``, ``key_id``, ``capabilities`` (list), ``buckets`` (names the key is restricted to;
        empty: all), ``name_prefix`` and ``s3_endpoint``
    :raises CommandExecutionError: no credentials, no b2 command, B2 refuses or does not answer

    CLI Example:

    .. code-block:: bash

        salt-call b2.account
    """
    return _ask("whoami")


def buckets():
    """Return all buckets of the account.

    :return: ``{name: {id, type, info, lifecycle_rules, encryption, file_lock, revision}}``; ``encryption`` is
        ``SSE-B2``, ``none`` or ``unknown`` (the key may not read it)
    :raises CommandExecutionError: as `account`; a key restricted to one bucket may not list all

    CLI Example:

    .. code-block:: bash

        salt-call b2.buckets
    """
    return {found.pop("name"): found for found in _ask("buckets")}


def bucket(name):
    """Return one bucket as `buckets` does, or None if the account has no bucket of that name.

    :param name: the bucket
    :raises CommandExecutionError: as `account`

    CLI Example:

    .. code-block:: bash

        salt-call b2.bucket omega-backup
    """
    found = _ask("buckets", f"bucket {name}", name=name)
    return {key: value for key, value in found[0].items() if key != "name"} if found else None


def bucket_create(name, type="allPrivate", lifecycle_rules=None, encryption=None, info=None, file_lock=None):
    """Create a bucket.

    :param name: 6 to 63 letters, digits and hyphens; unique over all accounts of B2
    :param type: ``allPrivate`` or ``allPublic``
    :param lifecycle_rules: list of dicts in B2's own words: ``fileNamePrefix``, ``daysFromHidingToDeleting``,
        ``daysFromUploadingToHiding``, ``daysFromStartingToCancelingUnfinishedLargeFiles``
    :param encryption: ``SSE-B2``, or None for the service's default
    :param info: dict of texts to keep with the bucket
    :param file_lock: True makes the bucket able to hold locked files; it can never be taken back
    :return: the new bucket, as `bucket`
    :raises CommandExecutionError: as `account`; the name is taken; a value is not allowed

    CLI Example:

    .. code-block:: bash

        salt-call b2.bucket_create omega-backup
    """
    options = {"lifecycle_rules": lifecycle_rules, "encryption": encryption, "info": info, "file_lock": file_lock}
    made = _ask("create_bucket", f"bucket {name}", name=name, type=type, **options)
    return {key: value for key, value in made.items() if key != "name"}


def bucket_update(name, revision=None, type=None, lifecycle_rules=None, encryption=None, info=None, file_lock=None):
    """Change settings of a bucket; those not given stay.

    :param name: the bucket
    :param revision: change it only if this is still its revision
    :param type: ``allPrivate`` or ``allPublic``
    :param lifecycle_rules: as in `bucket_create`; an empty list takes all away
    :param encryption: ``SSE-B2``
    :param info: dict of texts to keep with the bucket, in place of those it has
    :param file_lock: True makes the bucket able to hold locked files; it can never be taken back
    :return: the bucket as it is now, as `bucket`
    :raises CommandExecutionError: as `account`; no such bucket; changed by somebody else meanwhile

    CLI Example:

    .. code-block:: bash

        salt-call b2.bucket_update omega-backup type=allPrivate
    """
    options = {"lifecycle_rules": lifecycle_rules, "encryption": encryption, "info": info, "file_lock": file_lock}
    made = _ask("update_bucket", f"bucket {name}", name=name, revision=revision, type=type, **options)
    return {key: value for key, value in made.items() if key != "name"}


def bucket_empty(name):
    """Return whether a bucket holds nothing: no file, no old version, no unfinished large file.

    :param name: the bucket
    :return: True or False
    :raises CommandExecutionError: as `account`; no such bucket

    CLI Example:

    .. code-block:: bash

        salt-call b2.bucket_empty omega-backup
    """
    return _ask("is_empty", f"bucket {name}", name=name)


def bucket_delete(name, purge=False):
    """Delete a bucket. B2 refuses it while the bucket holds anything.

    :param name: the bucket
    :param purge: first delete every version of every file in it, for good
    :return: how many file versions were deleted
    :raises CommandExecutionError: as `account`; no such bucket; not empty

    CLI Example:

    .. code-block:: bash

        salt-call b2.bucket_delete omega-scratch
    """
    seconds = client.PURGE_SECONDS if purge else client.SECONDS
    return _ask("delete_bucket", f"bucket {name}", seconds=seconds, name=name, purge=purge)


def keys(name=None):
    """Return the account's application keys, without their secrets.

    :param name: only those of this name; B2 lets several keys have the same one
    :return: list of ``{name, key_id, capabilities, bucket_ids, name_prefix, expires}``; no bucket_ids: all buckets
    :raises CommandExecutionError: as `account`; the node's own key lacks ``listKeys``

    CLI Example:

    .. code-block:: bash

        salt-call b2.keys
    """
    return _ask("keys", "application keys", name=name)


def key_create(name, capabilities, secret_file, bucket_id=None, name_prefix=None):
    """Create an application key and write its secret to a file that only its owner can read.

    B2 tells a secret once. If the file cannot be written, the key is deleted again. A file that holds the secret of a
    key of another name is not overwritten.

    :param name: up to 100 letters, digits and hyphens
    :param capabilities: list of B2's capabilities, such as ``listFiles``
    :param secret_file: where ``key_id`` and ``key`` go; its folder is made with mode 0700 if missing
    :param bucket_id: restrict the key to this bucket; None: all buckets
    :param name_prefix: restrict it to files whose names begin so
    :return: ``{"key_id": ..., "secret_file": ...}``
    :raises CommandExecutionError: as `account`; a value is not allowed; the file holds another key's secret, or cannot
        be written

    CLI Example:

    .. code-block:: bash

        salt-call b2.key_create reader '[listFiles, readFiles]' /root/reader.b2 bucket_id=4a48fe8875c6214145260818
    """
    subject = f"application key {name}"
    ids = [bucket_id] if bucket_id else None
    if os.path.isfile(secret_file):
        foreign = files.foreign(secret_file, [key["key_id"] for key in keys(name)])
        if foreign:
            raise CommandExecutionError(f"{subject}: {foreign}")
    made = _ask(
        "create_key", subject, name=name, capabilities=list(capabilities), bucket_ids=ids, name_prefix=name_prefix
    )
    try:
        files.write(secret_file, made["key_id"], made.pop("key"))
    except OSError as error:
        _ask("delete_key", subject, key_id=made["key_id"])
        cause = f"its secret cannot be written to {secret_file} ({error.strerror}), so the key was deleted again"
        raise CommandExecutionError(f"{subject}: {cause}; give a secret_file that can be written") from None
    return {"key_id": made["key_id"], "secret_file": os.path.abspath(secret_file)}


def key_delete(key_id):
    """Delete an application key. B2 refuses it at once.

    :param key_id: as `keys` shows it
    :raises CommandExecutionError: as `account`; no such key; it is the key this node uses itself

    CLI Example:

    .. code-block:: bash

        salt-call b2.key_delete 0014a48fe8875c60000000003
    """
    subject = f"application key {key_id}"
    try:
        own = client.account(__pillar__)["key_id"]
    except client.B2Error as error:
        raise CommandExecutionError(str(error)) from None
    if key_id == own:
        raise CommandExecutionError(f"{subject}: this node itself uses it; give the node another key first")
    _ask("delete_key", subject, key_id=key_id)


def remembered(user):
    """Return whether the ``b2`` command of a user works with this node's account. Asks no server.

    :param user: the system's user
    :raises CommandExecutionError: no credentials, no b2 command, no such user

    CLI Example:

    .. code-block:: bash

        salt-call b2.remembered pi
    """
    return _ask("remembered", f"user {user}", user=user)


def remember(user):
    """Let the ``b2`` command of a user work with this node's account, through the user's own account file.

    :param user: the system's user; the file is written as this user, for this user alone
    :return: path of the file
    :raises CommandExecutionError: as `account`; no such user

    CLI Example:

    .. code-block:: bash

        salt-call b2.remember pi
    """
    return _ask("remember", f"user {user}", user=user)
