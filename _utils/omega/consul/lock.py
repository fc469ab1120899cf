"""
A lock in Consul that is held while a block of code runs, with a fence for what it protects.

    with omega.consul.lock.hold(client, "rpiomega/swarm/lock", "pi1") as lock:
        index = lock.write("rpiomega/swarm/record", {...}, 0)    # refused by Consul once the lock is lost
        lock.check()                                             # before a step that Consul cannot refuse

What the protocol gives, and what it does not (Consul documentation "Sessions and distributed locks"; measured
on 1.8.7):

- Consul's locks are advisory: others' plain PUT and DELETE of the key succeed. So each guarded write carries
  `check-session` and `check-index` of the lock key in its transaction.
- The fence is the ModifyIndex of the acquiring transaction: it only grows. LockIndex does not: a plain PUT
  resets it to 0.
- A session lives between TTL and twice the TTL after its last renewal. The holder must give up earlier than
  Consul may: `Lock.fence_after` is the TTL minus one HTTP time-out, counted from the START of the last renewal that
  succeeded.
- It also ends as soon as a health check of its node fails, which may be before its TTL. So the lock-delay is no
  shorter than `Lock.fence_after`.
- A session that ends without a release leaves the key closed for its lock-delay; a release does not.
- Renewal: 404 means lost; 5xx or silence mean nothing yet, so try again until the deadline.
"""

from __future__ import annotations

import contextlib
import logging
import random
import threading
import time

from omega.consul.client import ConsulError, encode
from omega.core.polling import PAUSE, NotYet, until

log = logging.getLogger(__name__)

LOCK_DELAY = 15  # seconds, Consul's own default
RETRY_PAUSE = 0.5


def _now():
    """Seconds that also count while the machine sleeps (CLOCK_MONOTONIC stops then)."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Lock:
    """
    Given by `hold`.

    session: its ID; fence: int, higher than every earlier holder's; fence_after: seconds without a renewal
    after which `check` reports the lock as lost.
    """

    def __init__(self, client, key, node, ttl=15, renew=5, lock_delay=None, checks=None):
        self.client, self.key, self.node = client, key, node
        # Long enough for a renewal that takes the whole time-out, before `check` gives up. The time-out is the user's.
        ttl = max(ttl, renew + 2 * client.timeout + RETRY_PAUSE)
        self.session = self.fence = None
        self.fence_after = ttl - client.timeout
        self._ttl, self._renew_every, self._checks = ttl, renew, checks
        self._lock_delay = max(LOCK_DELAY, self.fence_after) if lock_delay is None else lock_delay
        self._good = _now()
        self._failure = self._refusal = None
        self._stop = threading.Event()
        self._thread = None

    # -- for the block that holds it -----------------------------------------------------------------------

    def check(self):
        """
        Return if the lock is certainly still ours, without asking Consul; ConsulError("lost") if not, or
        ConsulError("denied") if the token was refused at the last renewal.
        """
        if self._failure:
            raise ConsulError("lost", self._failure)
        if self._refusal:
            raise ConsulError("denied", self._refusal)
        age = _now() - self._good
        if age > self.fence_after:
            raise ConsulError(
                "lost",
                f"Consul lock {self.key}: {self.node} gave it up, no renewal for {age:.1f} s (bound "
                f"{self.fence_after:g} s), so another node may hold it by now; run again",
            )

    def verify(self):
        """`check`, then ask Consul: our session holds the key and nobody has written it since we did."""
        self.check()
        self._verify(self.client)

    def write(self, key, value, index):
        """
        Write `key` if the lock is ours and the key's ModifyIndex is `index` (0: no such key).

        While Consul does not answer or has no leader it tries again until the fence deadline. A write whose
        answer was lost is recognised by its value: make values unique (name the node, the fence).

        :return: the new ModifyIndex
        :raises ConsulError: "conflict" (somebody else wrote the key), "lost", "denied", "bad_request"
        """
        last = None
        while True:
            try:
                self.check()
            except ConsulError as error:
                raise ConsulError(error.kind, f"{error} (last: {last})" if last else str(error)) from None
            try:
                return self._write(key, value, index)
            except ConsulError as error:
                if not error.transient:
                    raise
                last = error
            self._stop.wait(RETRY_PAUSE)

    def _write(self, key, value, index):
        operation = {"verb": "cas", "key": key, "value": value, "index": index}
        try:
            return self.client.txn([*self._guard(), operation])[-1].modify_index
        except ConsulError as error:
            if error.kind != "conflict":
                raise
            self._verify(self.client)
            entry = self.client.get(key)
            if entry and entry.value == encode(value) and entry.modify_index > index:
                return entry.modify_index
            raise

    def _guard(self):
        """What makes Consul refuse a transaction of a former holder; the index also tells of a plain PUT."""
        return [
            {"verb": "check-session", "key": self.key, "session": self.session},
            {"verb": "check-index", "key": self.key, "index": self.fence},
        ]

    def _verify(self, client):
        try:
            client.txn(self._guard())
        except ConsulError as error:
            if error.kind != "conflict":
                raise
            self._failure = (
                f"Consul lock {self.key}: {self.node} lost it, somebody else wrote, deleted or took the key "
                f"({error}); run again"
            )
            raise ConsulError("lost", self._failure) from None

    # -- taking and giving back ----------------------------------------------------------------------------

    def acquire(self, wait):
        """Contend until the key is ours; ConsulError("timeout") naming the holder after `wait` seconds."""

        def taken():
            try:
                self._try()
            except ConsulError as error:
                raise NotYet(self._worth_waiting(error)) from None
            return True

        def pause(seconds):
            self._stop.wait(seconds + random.uniform(0, PAUSE))

        cause = f"Consul lock {self.key}: {self.node} did not get it within {wait:g} s"
        late = ConsulError("timeout", cause, "run again when the holder is done")
        until(taken, wait, failure=late, clock=_now, sleep=pause)

    def _try(self):
        if self.session is None:
            self._open()
        entries = self.client.txn(
            [
                {"verb": "lock", "key": self.key, "value": {"node": self.node}, "session": self.session},
                {"verb": "get", "key": self.key},
            ]
        )
        self.fence = entries[-1].modify_index
        self._renew_once(self.client, self.session)

    def _open(self):
        """A new session, and the thread that renews it: of this process, so that it ends with the job."""
        start, name = _now(), f"{self.key} {self.node}"
        options = {"ttl": self._ttl, "lock_delay": self._lock_delay, "checks": self._checks}
        session = self.client.session_create(name, **options)
        self._good, self._failure, self._refusal, self.session = start, None, None, session
        if self._thread is None:
            client = self.client.clone()
            self._thread = threading.Thread(target=self._keep, args=(client,), name=f"renew {self.key}", daemon=True)
            self._thread.start()

    def _worth_waiting(self, error):
        """Why the key is not ours yet, in words; raise an error that waiting does not cure."""
        gone = error.kind == "lost" or (error.kind == "conflict" and "invalid session" in str(error))
        if gone:
            self.session = self.fence = None
            return f"its own session ended ({error})"
        if error.transient:
            return str(error)
        if error.kind != "conflict":
            raise error
        try:
            entry = self.client.get(self.key)
        except ConsulError as reading:
            return str(reading)
        if entry is None or not entry.session:
            return "closed by the lock-delay after a holder that ended without a release"
        return f"held by {node_of(self.client, entry)}"

    def release(self):
        """Give the key back and end the session. A failure is logged: then the TTL frees the key."""
        self._stop.set()
        if self._thread:
            self._thread.join(2 * self.client.timeout)
        if self.session is None:
            return
        try:
            if self.fence is not None:
                self.client.put(self.key, {"node": self.node}, release=self.session)
            self.client.session_destroy(self.session)
        except ConsulError as error:
            log.warning("Consul lock %s: not released, it ends with its session: %s", self.key, error)

    # -- renewal -------------------------------------------------------------------------------------------

    def _renew_once(self, client, session):
        start = _now()
        client.session_renew(session)
        if session == self.session:
            self._good, self._refusal = start, None

    def _keep(self, client):
        """Renew until `release`; tell `check` what was learnt."""
        pause = self._renew_every
        while not self._stop.wait(pause):
            session, pause = self.session, self._renew_every
            if session is None or self._failure:
                continue
            try:
                self._renew_once(client, session)
                if self.fence is not None and session == self.session:
                    self._verify(client)
            except ConsulError as error:
                pause = RETRY_PAUSE
                if session != self.session:
                    continue
                if error.kind == "lost":
                    self._failure = self._failure or f"Consul lock {self.key}: {self.node} lost it: {error}"
                elif error.kind == "denied":
                    self._refusal = str(error)


@contextlib.contextmanager
def hold(client, key, node, ttl=15, renew=5, lock_delay=None, wait=60.0, checks=None):
    """
    Hold the lock `key` while the block runs; yields its `Lock`.

    :param client: omega.consul.client.Client
    :param node: this node's name, shown to those who wait
    :param ttl: seconds of the session, at least 10 (Consul's minimum); more if the client's time-out asks for it, so
        that renew + time-out stays below ttl - time-out
    :param renew: seconds between renewals
    :param lock_delay: seconds the key stays closed when the holder ends without a release; default: until the holder
        has given up, and LOCK_DELAY at least
    :param wait: seconds to contend
    :param checks: health checks whose failure ends the session; default serfHealth, [] for none
    :raises ConsulError: "timeout" naming the holder, "denied"; anything the block raises
    """
    lock = Lock(client, key, node, ttl, renew, lock_delay, checks)
    try:
        lock.acquire(wait)
        yield lock
    finally:
        lock.release()


def holder(client, key):
    """Name of the node that holds the lock `key`, None if nobody does."""
    entry = client.get(key)
    return node_of(client, entry) if entry and entry.session else None


def node_of(client, entry):
    """Name of the node that holds the lock `entry`: from its value, or of its session if that was overwritten."""
    try:
        return entry.json()["node"]
    except (ConsulError, KeyError, TypeError):
        session = client.session_info(entry.session)
        return session["Node"] if session else f"session {entry.session}"
