"""`rpiomega backup init`: the bucket and the keys of a cluster's backups, brought to the master.

No key that leaves this machine may delete a version of a file: `deleteFiles` and `writeKeys` stay with the admin key,
which is in memory here, for this run. A run that was cut short is resumed by the same command; a second one changes
nothing.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass

from rpiomega import agent
from rpiomega.backup import bucket, phrase
from rpiomega.backup.account import Account, key_text
from rpiomega.errors import NodeError
from rpiomega.node import job_steps
from rpiomega.site import Site
from rpiomega.ssh import Remote

READS = ("listBuckets", "listAllBucketNames", "listFiles", "readFiles")
WRITES = (*READS, "writeFiles")
ADMIN = ("listBuckets", "writeBuckets", "listKeys", "writeKeys", "deleteKeys")
LOCKS = ("readBucketRetentions", "writeBucketRetentions")


@dataclass(frozen=True)
class Key:
    """An application key: its name at B2, the file below secrets/backup that gets it, and what it may do where."""

    name: str
    file: str
    capabilities: tuple[str, ...]
    prefix: str


@dataclass(frozen=True)
class Options:
    """`dry_run`: change nothing; `rotate`: new keys in the place of all; `change`: set the bucket's settings."""

    dry_run: bool = False
    rotate: bool = False
    change: bool = False


def keys(site: Site) -> list[Key]:
    """Return the keys that a site's backups need. Pure."""
    top = f"rpiomega-{site.cluster}"
    found = [Key(f"{top}-node-{name}", f"nodes/{name}/key", WRITES, f"{bucket.PREFIX}{name}/") for name in site.nodes]
    found.append(Key(f"{top}-maintenance", "maintenance", WRITES, bucket.PREFIX))
    return [*found, Key(f"{top}-reader", "reader", READS, bucket.PREFIX)]


def region(endpoint: str) -> str:
    """Return the region in an S3 endpoint of B2 (https://s3.REGION.backblazeb2.com); us-east-1 for another one."""
    found = re.fullmatch(r"https?://s3\.([a-z0-9-]+)\.backblazeb2\.com/?", endpoint)
    return found[1] if found else "us-east-1"


class Init:
    """One run. `say` gets each line for the user; `notes`: what is no change, after the run."""

    def __init__(self, site: Site, account: Account, remote: Remote, options: Options, say: Callable[[str], None]):
        self.site, self.account, self.remote, self.options, self._say = site, account, remote, options, say
        self.changes, self.notes = 0, list[str]()

    def say(self, text: str) -> None:
        """Say one line about something that changes, or would."""
        self.changes += 1
        self._say(text)

    def run(self) -> bool:
        """Do all of it; return whether anything changed (or would). Raise NodeError, B2Error, SshError."""
        about = self._admin()
        known = self._job(job_steps.BackupSecrets(), dry_run=True)["data"]
        self._same_bucket(known["bucket"])
        self._still_there(known["bucket"])
        made = bucket.ensure(self.account, self._wanted(), self.say, self.options.dry_run, self.options.change)
        files, replace, old = self._keys(made, known["present"])
        if "recovery" not in known["present"]:
            self._tell("the recovery phrase", "made")
            files["recovery"] = phrase.new() + "\n"
        files |= self._bucket_file(made, about, known["bucket"])
        if files and not self.options.dry_run:
            done = self._job(job_steps.BackupSecrets(files, replace))
            self.say(f"{self.site.master.name}: {len(done['diff'])} files written to its secrets")
        for key_id, name in old:  # after the new one is on the master: a run cut short leaves a key that works
            self._tell(f"key {name} ({key_id})", "deleted")
            if not self.options.dry_run:
                self.account.ask("delete_key", f"key {name}", key_id=key_id)
        return bool(self.changes)

    def _tell(self, what: str, done: str) -> None:
        self.say(f"{what} {'would be' if self.options.dry_run else 'is'} {done}")

    def _wanted(self) -> bucket.Wanted:
        backup = self.site.backup
        return bucket.Wanted(backup.bucket, self.site.cluster, backup.immutable, backup.hidden_days)

    def _admin(self) -> dict:
        about = self.account.ask("whoami")
        needs = [*ADMIN, *(LOCKS if self.site.backup.immutable else ())]
        missing = [name for name in needs if name not in about["capabilities"]]
        if missing:
            cause = f"the admin key {about['key_id']} lacks {', '.join(missing)}"
            raise NodeError(cause, "use the account's master key, or a key with them: see docs/backup.md")
        if about["buckets"] or about["name_prefix"]:
            cause = f"the admin key {about['key_id']} is restricted to {', '.join(about['buckets']) or 'a prefix'}"
            raise NodeError(cause, "use a key of the whole account: keys are made with it")
        return about

    def _same_bucket(self, known: dict) -> None:
        """Refuse to mix two buckets: the repositories of the first would be left without keys."""
        wanted = {"bucket": self.site.backup.bucket, "cluster": self.site.cluster}
        for name, value in wanted.items():
            if known and known.get(name) != value:
                cause = f"the master has the keys of {name} {known.get(name)}, the site file says {value}"
                cure = "set it back, or on the master: sudo mv /etc/rpiomega/secrets/backup /root/backup-secrets-old"
                raise NodeError(cause, cure)

    def _still_there(self, known: dict) -> None:
        """Refuse to make a second bucket in the place of the one that the master's keys are of."""
        if not known:
            return
        name = known["bucket"]
        found = self.account.ask("buckets", f"bucket {name}", name=name)
        if not found or found[0]["id"] != known.get("bucket_id"):
            cause = f"the bucket {name} that the master has the keys of is not in this account"
            cure = "use the account it is in; if it is lost: sudo mv /etc/rpiomega/secrets/backup /root/ on the master"
            raise NodeError(cause, cure)

    def _keys(self, made: dict, present: dict[str, str]) -> tuple[dict, dict, list[tuple[str, str]]]:
        """Make the keys that are missing; return files to write, key IDs they may replace, keys to delete then."""
        files: dict[str, str] = {}
        replace: dict[str, str] = {}
        old: list[tuple[str, str]] = []
        everywhere = self.account.ask("keys", "application keys")
        here = [key for key in everywhere if made and key["bucket_ids"] == [made["id"]]]
        for key in keys(self.site):
            named = [found for found in here if found["name"] == key.name]
            good = [found for found in named if found["key_id"] == present.get(key.file) and _fits(found, key)]
            if good and not self.options.rotate:
                old += [(found["key_id"], key.name) for found in named if found not in good]
                continue
            self._not_the_owners(key, present.get(key.file), named, everywhere)
            self._tell(f"key {key.name} for {key.prefix}", _reason(named, present.get(key.file), self.options.rotate))
            old += [(found["key_id"], key.name) for found in named]
            if self.options.dry_run:
                continue
            fresh = self.account.ask(
                "create_key", f"key {key.name}", name=key.name, capabilities=list(key.capabilities),
                bucket_ids=[made["id"]], name_prefix=key.prefix,
            )  # fmt: skip
            files[key.file] = key_text(fresh["key_id"], fresh["key"])
            if key.file in present:
                replace[key.file] = present[key.file]
        known = {key.name for key in keys(self.site)}
        for found in here:
            if found["name"].startswith(f"rpiomega-{self.site.cluster}-node-") and found["name"] not in known:
                self.notes.append(
                    f"key {found['name']} ({found['key_id']}) is of a node that is not in the site file: it stays"
                )
        return files, replace, old

    def _not_the_owners(self, key: Key, held: str | None, named: list[dict], everywhere: list[dict]) -> None:
        """Refuse to replace a key on the master that works and was not made by init."""
        found = [other for other in everywhere if other["key_id"] == held and other not in named]
        if found and not self.options.rotate:
            path = f"/etc/rpiomega/secrets/backup/{key.file}"
            cause = f"{path} on the master has the key {found[0]['name']} ({held}), which init did not make"
            raise NodeError(cause, f"on the master: sudo mv {path} /root/, or replace all keys with --rotate")

    def _bucket_file(self, made: dict, about: dict, known: dict) -> dict[str, str]:
        if known:
            return {}
        wanted = {
            "cluster": self.site.cluster,
            "bucket": self.site.backup.bucket,
            "bucket_id": made.get("id", ""),
            "endpoint": about["s3_endpoint"],
            "region": region(about["s3_endpoint"]),
            "made": int(time.time()),
        }
        return {"bucket.json": json.dumps(wanted) + "\n"}

    def _job(self, step: job_steps.JobStep, dry_run: bool = False) -> dict:
        return agent.run(self.remote, [step], lambda event: None, dry_run)[step.step]


def _fits(found: dict, key: Key) -> bool:
    expires = found["expires"]
    return (
        set(found["capabilities"]) == set(key.capabilities)
        and found["name_prefix"] == key.prefix
        and (expires is None or expires > time.time())
    )


def _reason(named: list[dict], held: str | None, rotate: bool) -> str:
    if rotate:
        return "made in place of the old one (--rotate)"
    if not named and held is None:
        return "made"
    if not named:
        return "made again (the one on the master is not at B2 any more)"
    if held is None or held not in [found["key_id"] for found in named]:
        return "made again (the secret of the one at B2 is lost)"
    return "made again (the one at B2 may do something else)"
