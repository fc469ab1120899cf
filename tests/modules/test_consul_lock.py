"""`omega.consul.lock` against a real server: exclusion, fence, loss, release, what others are told."""

import concurrent.futures
import multiprocessing
import os
import signal
import time
import uuid

import pytest

from omega.consul import lock as consul_lock
from omega.consul.client import ConsulError, connect

TTL = 10  # Consul's minimum
ROUNDS = 4


@pytest.fixture
def client(consul_server):
    return consul_server.client()


@pytest.fixture
def key():
    """A lock of its own."""
    return f"test/lock-{uuid.uuid4()}"


def hold(client, key, node="pi1", **options):
    return consul_lock.hold(client, key, node, **{"ttl": TTL, "renew": 3, "lock_delay": 1, "wait": 10, **options})


def lost_within(lock, bound):
    """Seconds until `check` reports the lock as lost, and how."""
    start = time.monotonic()
    while time.monotonic() - start < bound:
        try:
            lock.check()
        except ConsulError as error:
            return time.monotonic() - start, error
        time.sleep(0.02)
    raise AssertionError(f"not reported as lost within {bound} s")


def increment(url, token, key, node):
    """A counter without any protection but the lock; returns the fences it was written under."""
    client, fences = connect(url, token), []
    for _ in range(ROUNDS):
        with hold(client, key, node, wait=150) as lock:
            entry = client.get(key + "-counter")
            time.sleep(0.02)  # widen the window in which another process would do harm
            client.put(key + "-counter", str(int(entry.text()) + 1 if entry else 1))
            fences.append(lock.fence)
    return fences


def test_processes_that_contend_hold_it_one_after_the_other(consul_server, client, key):
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(3, mp_context=context) as pool:
        arguments = (consul_server.url, consul_server.token, key)
        futures = [pool.submit(increment, *arguments, f"pi{n}") for n in range(3)]
        fences = [fence for future in futures for fence in future.result(200)]
    assert int(client.get(key + "-counter").text()) == 3 * ROUNDS
    assert len(set(fences)) == 3 * ROUNDS
    assert consul_lock.holder(client, key) is None


def test_fence_grows_with_every_holder(client, key):
    fences = []
    for n in range(3):
        with hold(client, key, f"pi{n}") as lock:
            fences.append(lock.fence)
        client.put(key, b"by hand")  # sets Consul's own LockIndex back to 0
    assert fences == sorted(set(fences))


def test_who_waits_is_told_the_holder(consul_server, client, key):
    with hold(client, key, "pi7"):
        assert consul_lock.holder(client, key) == "pi7"
        start = time.monotonic()
        with pytest.raises(ConsulError) as caught, hold(consul_server.client(), key, "pi8", wait=1):
            raise AssertionError("two holders")
        assert time.monotonic() - start < 6
    assert caught.value.kind == "timeout"
    assert "held by pi7" in str(caught.value)


def test_release_hands_over_at_once_without_the_lock_delay(consul_server, client, key):
    with hold(client, key, "pi1", lock_delay=15):
        pass
    start = time.monotonic()
    with hold(consul_server.client(), key, "pi2", wait=10):
        assert time.monotonic() - start < 8
    assert consul_lock.holder(client, key) is None


def test_block_that_fails_gives_the_lock_back(client, key):
    with pytest.raises(KeyError), hold(client, key) as lock:
        raise KeyError("block")
    assert consul_lock.holder(client, key) is None
    assert client.session_info(lock.session) is None


def test_write_needs_the_index_and_the_lock(client, key):
    with hold(client, key) as lock:
        index = lock.write(key + "-out", {"by": "pi1"}, 0)
        assert client.get(key + "-out").modify_index == index
        with pytest.raises(ConsulError) as caught:
            lock.write(key + "-out", {"by": "pi1", "again": True}, 0)
        assert caught.value.kind == "conflict"
        newer = lock.write(key + "-out", {"by": "pi1", "again": True}, index)
    assert newer > index
    assert client.get(key + "-out").json() == {"by": "pi1", "again": True}


def test_write_whose_answer_was_lost_is_recognised(client, key):
    with hold(client, key) as lock:
        index = lock.write(key + "-out", {"by": "pi1", "fence": lock.fence}, 0)
        assert lock.write(key + "-out", {"by": "pi1", "fence": lock.fence}, 0) == index


def test_a_long_time_out_of_the_client_does_not_lose_the_lock_between_renewals(consul_server, key):
    """`consul.timeout` is the user's; the session has to live for a renewal that takes that long, and one more."""
    client = consul_server.client(timeout=9.5)
    with hold(client, key, renew=1) as lock:
        renewed, deadline = lock._good, time.monotonic() + 20
        while lock._good == renewed:
            lock.check()
            assert time.monotonic() < deadline, "not renewed"
            time.sleep(0.05)
        told = float(client.session_info(lock.session)["TTL"].removesuffix("s"))
    assert lock.fence_after + client.timeout <= told


HARM = {
    "plain PUT": lambda client, lock: client.put(lock.key, b"by hand"),
    "PUT of the same value": lambda client, lock: client.put(lock.key, {"node": "pi1"}, flags=1),
    "DELETE": lambda client, lock: client.delete(lock.key),
    "session destroyed": lambda client, lock: client.session_destroy(lock.session),
    "forced release": lambda client, lock: client.put(lock.key, b"", release=lock.session),
}


@pytest.mark.parametrize("harm", HARM)
def test_stray_write_is_refused_the_next_guarded_write(client, key, harm):
    """F13. Between renewals nobody looks: the transaction itself must refuse."""
    with hold(client, key, renew=60) as lock:
        HARM[harm](client, lock)
        with pytest.raises(ConsulError) as caught:
            lock.write(key + "-out", b"x", 0)
        assert caught.value.kind == "lost"
        with pytest.raises(ConsulError):
            lock.check()
    assert client.get(key + "-out") is None


@pytest.mark.parametrize("harm", HARM)
def test_stray_write_is_noticed_by_the_renewal(client, key, harm):
    """F13."""
    with hold(client, key, renew=0.3) as lock:
        HARM[harm](client, lock)
        seconds, error = lost_within(lock, 5)
    assert error.kind == "lost"
    assert key in str(error) or lock.session in str(error)


def test_lock_delay_is_named_and_waited_for(consul_server, client, key):
    with hold(client, key, "pi1", lock_delay=2) as lock:
        client.session_destroy(lock.session)
        with pytest.raises(ConsulError) as caught, hold(consul_server.client(), key, "pi2", wait=0):
            raise AssertionError("lock-delay was not kept")
        assert "lock-delay" in str(caught.value)
        with hold(consul_server.client(), key, "pi2", wait=6):
            assert consul_lock.holder(client, key) == "pi2"


def test_session_that_ends_while_contending_is_replaced(consul_server, client, key):
    """Who waits longer than its session lives (F14 while waiting) goes on with a new one."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        lock = consul_lock.Lock(consul_server.client(), key, "pi2", TTL)
        with hold(client, key, "pi1"):
            waiting = pool.submit(lock.acquire, 60)
            deadline = time.monotonic() + 30
            while lock.session is None:
                assert time.monotonic() < deadline, "no session of its own after 30 s"
                time.sleep(0.02)
            first = lock.session
            client.session_destroy(first)
        waiting.result(60)
    try:
        assert lock.session != first
        lock.verify()
    finally:
        lock.release()


def test_revoked_token_is_told_as_such_and_not_as_a_lost_lock(consul_server, client, key):
    """F16."""
    from omega.consul import acl

    secret = str(uuid.uuid4())
    rules = 'session_prefix "" { policy = "write" } key_prefix "test/" { policy = "write" }'
    acl.ensure_policy(client, "lock-test", rules)
    acl.ensure_token(client, secret, None, key, ["lock-test"])
    accessor = next(t["accessor"] for t in acl.list_tokens(client) if t["description"] == key)
    with hold(consul_server.client(secret), key, renew=0.3) as lock:
        acl.delete_token(client, accessor)
        _, error = lost_within(lock, 5)
    assert error.kind == "denied"
    assert "token" in str(error)
    assert secret not in str(error)


def keep_forever(url, token, key, report):
    """A holder that never ends by itself."""
    with hold(connect(url, token), key, "dead") as lock:
        report.put(lock.fence)
        signal.pause()


@pytest.mark.slow
def test_killed_holder_is_followed_after_its_ttl_and_a_living_one_stays(consul_server, client, key):
    """
    F02, F36: no orphan keeps renewing. Consul ends a session up to twice its TTL after the last renewal; the
    living holder's session is older than that by then, so it has been renewed.
    """
    context = multiprocessing.get_context("spawn")
    report = context.Queue()
    with hold(client, key + "-living", "alive") as living:
        process = context.Process(target=keep_forever, args=(consul_server.url, consul_server.token, key, report))
        process.start()
        fence = report.get(timeout=60)
        os.kill(process.pid, signal.SIGKILL)
        process.join(60)
        start = time.monotonic()
        with hold(consul_server.client(), key, "next", wait=2 * TTL + 5) as lock:
            seconds = time.monotonic() - start
            assert lock.fence > fence
        living.verify()
        assert consul_lock.holder(client, key + "-living") == "alive"
    assert seconds > TTL - 5 - 1, "the lock was free before the TTL: nothing protected it"


def test_the_lock_stays_closed_until_a_holder_without_contact_has_given_up(consul_server, key):
    """Gossip may end a session before its TTL, and the user may set a long time-out."""
    slow = consul_server.client(timeout=25)
    with consul_lock.hold(slow, key, "pi1") as lock:
        delay = slow.session_info(lock.session)["LockDelay"]
        delay = delay if isinstance(delay, (int, float)) else float(str(delay).rstrip("s")) * 1e9
        assert delay / 1e9 >= lock.fence_after > consul_lock.LOCK_DELAY
