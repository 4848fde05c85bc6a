"""Attempts to prove who one is are counted before they are looked at."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from pyflow_site.settings import ENVIRONMENT
from tenants import failures
from tenants.errors import InvalidKeyError, TooManyFailuresError
from tenants.limits import MemoryLimiter, RedisLimiter
from tests.support.servers import launcher
from tests.support.session import FAILURES_DATABASE

pytestmark = pytest.mark.database


@pytest.fixture(autouse=True)
def counted(monkeypatch) -> None:
    """In memory, and with PostgreSQL in Redis: on a database of its own that nobody else counts in."""
    limiter = RedisLimiter(ENVIRONMENT.redis_database(FAILURES_DATABASE)) if ENVIRONMENT.redis_url else MemoryLimiter()
    if isinstance(limiter, RedisLimiter):
        limiter._client.flushdb()
    monkeypatch.setattr(failures, "limiter", limiter)


def fail(*subjects: str) -> None:
    with failures.attempt(*subjects):
        raise InvalidKeyError("no")


def test_attempts_at_once_are_not_more_than_one_after_another():
    together, looked_at = threading.Barrier(40), []

    def guess(_: int) -> None:
        together.wait(10)
        with failures.attempt("key:k"):
            looked_at.append(1)
            raise InvalidKeyError("no")

    with ThreadPoolExecutor(40) as threads:
        futures = [threads.submit(guess, number) for number in range(40)]
        outcomes = [type(future.exception()) for future in futures]
    assert len(looked_at) == failures.PER_SUBJECT == outcomes.count(InvalidKeyError)
    assert outcomes.count(TooManyFailuresError) == 40 - failures.PER_SUBJECT


def test_what_succeeds_is_not_counted():
    for _ in range(3 * failures.PER_SUBJECT):
        with failures.attempt("key:k", "address:a"):
            pass


def test_what_is_no_fault_of_theirs_is_not_counted():
    for _ in range(3 * failures.PER_SUBJECT):
        with pytest.raises(OSError, match="away"), failures.attempt("key:k"):
            raise OSError("the database is away")


def test_a_success_takes_back_no_failure():
    for _ in range(failures.PER_SUBJECT - 1):
        with pytest.raises(InvalidKeyError):
            fail("key:k")
    with failures.attempt("key:k"):
        pass
    with pytest.raises(InvalidKeyError):
        fail("key:k")
    with pytest.raises(TooManyFailuresError) as refused, failures.attempt("key:k"):
        pass
    assert 1 <= refused.value.retry_after <= failures.WINDOW


def test_a_redis_that_is_away_takes_nothing_back_and_raises_nothing(monkeypatch):
    monkeypatch.setattr(failures, "limiter", RedisLimiter(f"redis://127.0.0.1:{launcher.free_port()}/0"))
    for _ in range(2 * failures.PER_SUBJECT):
        with failures.attempt("key:k"):
            pass
