"""The sliding window: one suite for the limiter in memory and the one on a real Redis, and what each has of its own."""

import logging
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
from django.conf import settings

from pyflow.core.ids import new_id
from tenants import limits
from tenants.limits import Limiter, MemoryLimiter, RedisLimiter, Rule
from tests.support.servers import launcher

WINDOW = 600.0
"""So long that no machine is too busy for what has to happen within a part of it."""
SLACK = WINDOW / 10
PATIENT = 20.0
"""A busy machine is no Redis that has gone, for which calls are counted elsewhere. Seconds."""


class _Memory(MemoryLimiter):
    def __init__(self) -> None:
        self._passed = 0.0
        super().__init__(clock=lambda: time.monotonic() + self._passed)

    def let_pass(self, seconds: float) -> None:
        self._passed += seconds


class _Redis(RedisLimiter):
    def __init__(self, url: str, timeout: float, key: str) -> None:
        super().__init__(url, timeout)
        self._key = key

    def let_pass(self, seconds: float) -> None:
        """Nobody can set the clock of Redis; so what it remembers of this test gets older instead."""
        for name in self._client.scan_iter(f"pyflow:rate:{self._key}*"):
            times = [int(at) - round(seconds * 1_000_000) for at in self._client.lrange(name, 0, -1)]
            left = self._client.pttl(name) - round(seconds * 1000)
            self._client.delete(name)
            if left > 0:
                self._client.rpush(name, *times)
                self._client.pexpire(name, left)


@pytest.fixture
def key() -> str:
    """A key that nobody else uses."""
    return new_id()


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.fleet)])
def limiter(request, key: str) -> _Memory | _Redis:
    return _Memory() if request.param == "memory" else _Redis(settings.PYFLOW_LIMITS_URL, PATIENT, key)


pytestmark = pytest.mark.database


def test_so_many_calls_go_on_and_no_more(limiter: Limiter, key: str):
    verdicts = [limiter.hit(key, 3, 60) for _ in range(5)]
    assert [verdict.allowed for verdict in verdicts] == [True, True, True, False, False]
    assert [verdict.remaining for verdict in verdicts] == [2, 1, 0, 0, 0]


def test_keys_are_counted_apart(limiter: Limiter, key: str):
    assert limiter.hit(key, 1, 60).allowed
    assert limiter.hit(f"{key}-other", 1, 60).allowed
    assert not limiter.hit(key, 1, 60).allowed


def test_a_call_leaves_the_window_as_old_as_the_window_is_long(limiter: _Memory | _Redis, key: str):
    """Nothing is forgiven at a full minute: no two moments a window apart see more."""
    limiter.hit(key, 2, WINDOW)
    limiter.let_pass(WINDOW * 0.6)
    limiter.hit(key, 2, WINDOW)
    assert not limiter.hit(key, 2, WINDOW).allowed
    limiter.let_pass(WINDOW * 0.6)
    assert limiter.hit(key, 2, WINDOW).allowed, "the first has left"
    assert not limiter.hit(key, 2, WINDOW).allowed, "the second has not"


def test_a_refused_call_is_not_counted(limiter: _Memory | _Redis, key: str):
    limiter.hit(key, 1, WINDOW)
    for _ in range(8):
        assert not limiter.hit(key, 1, WINDOW).allowed
        limiter.let_pass(WINDOW / 10)
    limiter.let_pass(WINDOW * 0.3)
    assert limiter.hit(key, 1, WINDOW).allowed


def test_a_refusal_says_when_to_come_back(limiter: _Memory | _Redis, key: str):
    limiter.hit(key, 1, WINDOW)
    refused = limiter.hit(key, 1, WINDOW)
    assert WINDOW - SLACK < refused.reset <= WINDOW
    limiter.let_pass(refused.reset + 0.01)
    assert limiter.hit(key, 1, WINDOW).allowed


def test_what_is_left_grows_when_the_oldest_call_leaves(limiter: _Memory | _Redis, key: str):
    limiter.hit(key, 5, WINDOW)
    limiter.let_pass(WINDOW / 2)
    assert limiter.hit(key, 5, WINDOW).reset <= WINDOW / 2
    assert limiter.peek(key, 5, WINDOW).remaining == 3
    limiter.let_pass(WINDOW * 0.6)
    assert limiter.peek(key, 5, WINDOW).remaining == 4


def test_peeking_counts_nothing(limiter: Limiter, key: str):
    fresh = limiter.peek(key, 1, 60)
    assert (fresh.allowed, fresh.remaining, fresh.reset) == (True, 1, 0.0)
    assert limiter.hit(key, 1, 60).allowed
    assert not limiter.peek(key, 1, 60).allowed


def test_a_call_that_one_rule_refuses_is_counted_by_none(limiter: Limiter, key: str):
    wide, narrow = Rule(f"{key}-wide", 10, 60), Rule(f"{key}-narrow", 1, 60)
    assert [verdict.remaining for verdict in limiter.judge([wide, narrow])] == [9, 0]
    for _ in range(3):
        verdicts = limiter.judge([wide, narrow])
        assert [verdict.allowed for verdict in verdicts] == [True, False]
        assert [verdict.remaining for verdict in verdicts] == [9, 0]


def test_a_lowered_limit_holds_at_once(limiter: _Memory | _Redis, key: str):
    for _ in range(4):
        limiter.hit(key, 10, WINDOW)
        limiter.let_pass(WINDOW / 10)
    lowered = limiter.hit(key, 2, WINDOW)
    assert (lowered.allowed, lowered.remaining) == (False, 0)
    limiter.let_pass(lowered.reset + 0.01)
    assert limiter.hit(key, 2, WINDOW).allowed


def test_a_limit_of_zero_lets_nothing_through(limiter: Limiter, key: str):
    refused = limiter.hit(key, 0, 60)
    assert (refused.allowed, refused.remaining, refused.reset) == (False, 0, 60)


def test_many_calls_that_left_together_make_room_together(limiter: _Memory | _Redis, key: str):
    for _ in range(50):
        limiter.hit(key, 50, WINDOW)
    limiter.let_pass(WINDOW + 0.01)
    assert limiter.hit(key, 50, WINDOW).remaining == 49


def test_calls_at_once_are_never_too_many(limiter: Limiter, key: str):
    together = threading.Barrier(20)

    def call(_: int) -> int:
        together.wait(10)
        return sum(limiter.hit(key, 100, 60).allowed for _ in range(20))

    with ThreadPoolExecutor(20) as threads:
        assert sum(threads.map(call, range(20))) == 100


def test_memory_forgets_keys_that_count_nothing_any_more():
    now = [0.0]
    limiter = MemoryLimiter(clock=lambda: now[0])
    for number in range(100):
        limiter.hit(f"key {number}", 5, 60)
    now[0] = 61.0
    limiter.hit("another", 5, 60)
    assert list(limiter._calls) == ["another"]


def test_memory_is_bounded_whatever_is_asked():
    limiter = MemoryLimiter(max_keys=10)
    for number in range(100):
        limiter.hit(f"key {number}", 5, 60)
    assert len(limiter._calls) == 10
    assert limiter.peek("key 99", 5, 60).remaining == 4


@pytest.mark.fleet
def test_processes_share_what_redis_counts(key: str):
    one, other = RedisLimiter(settings.PYFLOW_LIMITS_URL, PATIENT), RedisLimiter(settings.PYFLOW_LIMITS_URL, PATIENT)
    assert one.hit(key, 1, 60).allowed
    assert not other.hit(key, 1, 60).allowed


@pytest.mark.fleet
def test_redis_forgets_a_key_after_its_window(key: str):
    RedisLimiter(settings.PYFLOW_LIMITS_URL, PATIENT).hit(key, 5, 60)
    with redis.Redis.from_url(settings.PYFLOW_LIMITS_URL) as client:
        assert 0 < client.pttl(f"pyflow:rate:{key}") <= 60_000


@pytest.mark.fleet
def test_the_time_is_that_of_redis(key: str, monkeypatch):
    """A web server whose clock is wrong neither opens nor closes the window of the others."""
    limiter = RedisLimiter(settings.PYFLOW_LIMITS_URL, PATIENT)
    limiter.hit(key, 1, 60)
    monkeypatch.setattr(time, "time", lambda: 4_000_000_000.0)
    assert not limiter.hit(key, 1, 60).allowed


@pytest.fixture
def redis_server(monkeypatch) -> Iterator[str]:
    """A Redis of this test's own, that it may shut down."""
    monkeypatch.delenv("PYFLOW_TEST_REDIS_URL", raising=False)
    with launcher.redis() as url:
        yield url


@pytest.mark.fleet
def test_a_redis_that_went_away_takes_no_request_with_it(redis_server: str, key: str, caplog):
    limiter = RedisLimiter(redis_server, PATIENT)
    limiter.hit(key, 2, 60)
    with redis.Redis.from_url(redis_server) as client:
        client.shutdown(nosave=True)
    with caplog.at_level(logging.WARNING, "tenants.limits"):
        assert [limiter.hit(key, 2, 60).allowed for _ in range(3)] == [True, True, False], "this process counts alone"
    assert len(caplog.records) == 1


def test_a_silent_redis_holds_requests_up_once(key: str, monkeypatch, caplog):
    monkeypatch.setattr(limits, "REDIS_PAUSE", 600.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        limiter = RedisLimiter(f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        for _ in range(20):
            assert limiter.hit(key, 100, 60).allowed
        silent.setblocking(False)
        silent.accept()[0].close()
        with pytest.raises(BlockingIOError):
            silent.accept()
    assert [record.levelname for record in caplog.records if record.name == "tenants.limits"] == ["WARNING"]


@pytest.mark.fleet
def test_a_redis_that_came_back_counts_again(key: str, monkeypatch, caplog):
    monkeypatch.setattr(limits, "REDIS_PAUSE", 0.1)
    limiter = RedisLimiter(settings.PYFLOW_LIMITS_URL, PATIENT)
    with monkeypatch.context() as patch:
        patch.setattr(limiter._client.connection_pool, "connection_kwargs", {"host": "127.0.0.1", "port": 1})
        limiter._client.connection_pool.disconnect()
        limiter._client.connection_pool.reset()
        assert limiter.hit(key, 5, 60).remaining == 4
    time.sleep(0.15)
    limiter._client.connection_pool.reset()
    with caplog.at_level(logging.INFO, "tenants.limits"):
        assert limiter.hit(key, 5, 60).remaining == 4, "Redis has counted nothing yet"
    assert "answers again" in caplog.text
