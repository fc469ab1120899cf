"""The bucket of a cluster's backups: made once, marked as the cluster's, and never changed unless that is asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from omega.b2.client import B2Error
from rpiomega.backup.account import Account
from rpiomega.errors import NodeError

MARK, UNFINISHED = "rpiomega-cluster", "rpiomega-unfinished"
PREFIX = "hosts/"


@dataclass(frozen=True)
class Wanted:
    """What the site file says. `immutable` and `hidden_days` in days; immutable 0: no object lock."""

    name: str
    cluster: str
    immutable: int
    hidden_days: int

    @property
    def rules(self) -> list[dict]:
        """Return the lifecycle rules: what was hidden goes after a while, and nothing else frees space."""
        return [{"fileNamePrefix": PREFIX, "daysFromHidingToDeleting": self.hidden_days}]

    @property
    def retention(self) -> dict:
        """Return the default retention of uploads."""
        mode = "compliance" if self.immutable else "none"
        return {"mode": mode, "days": self.immutable}


def ensure(account: Account, wanted: Wanted, say: Callable[[str], None], dry_run: bool, change: bool) -> dict:
    """Make or check the bucket; return it as `omega.b2.worker` describes it ({} in a dry run that would make it).

    :param change: set what differs in a bucket of this cluster, instead of refusing
    :raises NodeError: it is not this cluster's, or has other settings
    """
    subject = f"bucket {wanted.name}"
    found = account.ask("buckets", subject, name=wanted.name)
    if not found:
        say(f"{subject}: {'would be ' if dry_run else ''}made{_described(wanted)}")
        return {} if dry_run else _make(account, wanted)
    bucket = found[0]
    refuse_foreign(bucket, wanted)
    if UNFINISHED in bucket["info"]:
        say(f"{subject}: its settings {'would be' if dry_run else 'are'} completed after an interrupted run")
        return bucket if dry_run else _finish(account, wanted, bucket)
    lines = differences(bucket, wanted)
    if not lines:
        return bucket
    if not change:
        cause = f"{subject} has other settings than the site file: {'; '.join(lines)}"
        cure = "set `backup` in the site file to what the bucket has, or run this again with --change-bucket"
        raise NodeError(cause, cure)
    for line in lines:
        say(f"{subject}: {'would change' if dry_run else 'changes'}: {line}")
    return bucket if dry_run else _update(account, wanted, bucket, dict(bucket["info"]))


def refuse_foreign(bucket: dict, wanted: Wanted) -> None:
    """Raise NodeError unless a bucket of the account has the mark of this cluster."""
    owner = bucket["info"].get(MARK)
    if owner is None:
        cause = f"bucket {wanted.name} exists and was not made by `rpiomega backup init`: it is not touched"
        raise NodeError(cause, "choose another name for backup.bucket in the site file")
    if owner != wanted.cluster:
        cause = f"bucket {wanted.name} has the backups of another cluster, {owner}"
        raise NodeError(cause, "choose another name for backup.bucket in the site file")


def differences(bucket: dict, wanted: Wanted) -> list[str]:
    """Return what differs from the site file, one clause each. Pure."""
    lines = []
    if bucket["type"] != "allPrivate":
        lines.append(f"it is {bucket['type']}, and has to be allPrivate")
    if bucket["lifecycle_rules"] and not _same(bucket["lifecycle_rules"], wanted.rules):
        days = [rule.get("daysFromHidingToDeleting") for rule in bucket["lifecycle_rules"]]
        lines.append(f"its lifecycle rules delete after {days} days, hidden_days is {wanted.hidden_days}")
    if not bucket["lifecycle_rules"]:
        lines.append(f"it has no lifecycle rule, hidden_days is {wanted.hidden_days}")
    has = bucket["retention"]
    if has["mode"] != "unknown" and has != wanted.retention:
        lines.append(f"uploads are locked for {has['days']} days ({has['mode']}), immutable is {wanted.immutable}")
    return lines


def _same(rules: list[dict], wanted: list[dict]) -> bool:
    # B2 adds keys without a value.
    return [{key: value for key, value in rule.items() if value is not None} for rule in rules] == wanted


def _described(wanted: Wanted) -> str:
    lock = f", uploads locked for {wanted.immutable} days (compliance)" if wanted.immutable else ""
    return f", what is hidden goes after {wanted.hidden_days} days{lock}"


def _make(account: Account, wanted: Wanted) -> dict:
    info = {MARK: wanted.cluster, **({UNFINISHED: "retention"} if wanted.immutable else {})}
    try:
        bucket = account.ask(
            "create_bucket", f"bucket {wanted.name}", name=wanted.name, type="allPrivate", info=info,
            lifecycle_rules=wanted.rules, file_lock=True if wanted.immutable else None,
        )  # fmt: skip
    except B2Error as error:
        if error.kind == "taken":
            cause = f"the name {wanted.name} belongs to another account: bucket names are unique over all of B2"
            raise NodeError(cause, "choose another name for backup.bucket in the site file") from None
        raise
    return _finish(account, wanted, bucket) if wanted.immutable else bucket


def _finish(account: Account, wanted: Wanted, bucket: dict) -> dict:
    # The default retention can only be set on a bucket that exists: the mark says that this is still to be done.
    return _update(account, wanted, bucket, {key: text for key, text in bucket["info"].items() if key != UNFINISHED})


def _update(account: Account, wanted: Wanted, bucket: dict, info: dict) -> dict:
    locks = bool(wanted.immutable) or bucket["retention"]["mode"] not in ("none", "unknown")
    return account.ask(
        "update_bucket", f"bucket {wanted.name}", name=wanted.name, revision=bucket["revision"], type="allPrivate",
        info=info, lifecycle_rules=wanted.rules, file_lock=True if wanted.immutable else None,
        retention=wanted.retention if locks else None,
    )  # fmt: skip
