"""Every event once, in order and without a gap, whoever is disconnected meanwhile."""

import signal
from collections.abc import Callable

import pytest

from events.streams import hub, stream
from tenants.models import Tenant
from tests.support.servers import launcher
from tests.support.streams import (
    Reader,
    assert_all_was_read,
    by_sse,
    by_websocket,
    following,
    happen,
    over_redis,
    write,
)

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]
EVENTS = 400


@pytest.fixture
def readers(server: str, credential: str) -> Callable[[int], list[Reader]]:
    """One reader of each transport."""

    def start(count: int) -> list[Reader]:
        ways = (by_sse(server, "/events", credential), by_websocket(server, "/events", credential))
        return [Reader(way, count, seed) for seed, way in enumerate(ways)]

    return start


def test_disconnects_lose_and_repeat_nothing(tenant: Tenant, readers):
    started = readers(EVENTS)
    write(tenant, EVENTS)
    assert_all_was_read(started, EVENTS)


def test_a_queue_that_overflows_all_the_time_loses_and_repeats_nothing(tenant: Tenant, readers, monkeypatch):
    monkeypatch.setattr(stream, "MOST_WAITING", 1500)
    monkeypatch.setattr(stream, "FIRST_PAGE", 3)
    started = readers(EVENTS)
    write(tenant, EVENTS)
    assert_all_was_read(started, EVENTS)


@pytest.mark.fleet
def test_a_redis_that_restarts_loses_and_repeats_nothing(tenant: Tenant, readers):
    with launcher.redis_server() as redis, over_redis(redis.url):

        def restart(number: int) -> None:
            if number in {EVENTS // 3, EVENTS // 2}:
                redis.end(signal.SIGKILL)
            if number in {EVENTS // 3 + 20, EVENTS // 2 + 20}:
                redis.start()

        started = readers(EVENTS)
        write(tenant, EVENTS, restart)
        assert_all_was_read(started, EVENTS)


def test_a_lost_bus_delays_and_loses_nothing(server: str, tenant: Tenant, credential: str, bus, monkeypatch):
    """No notification arrives: the feed looks by itself."""
    monkeypatch.setattr(bus, "publish", lambda topic, message="": None)
    with following(server, "/api/v1/events", credential) as open_stream:
        open_stream.next()
        happen(tenant, count=3)
        assert [frame.data["data"]["number"] for frame in open_stream.events(3)] == [0, 1, 2]


def test_many_streams_cost_one_read(server: str, tenant: Tenant, credential: str, monkeypatch):
    reads = []
    read = hub._read
    monkeypatch.setattr(hub, "_read", lambda *given: reads.append(1) or read(*given))
    with (
        following(server, "/api/v1/events?after=now", credential) as first,
        following(server, "/api/v1/events?after=now", credential) as second,
        following(server, "/api/v1/events?after=now", credential) as third,
    ):
        happen(tenant, "custom.first")
        for each in (first, second, third):
            each.events(1)
        before = len(reads)
        happen(tenant, "custom.second")
        for each in (first, second, third):
            each.events(1)
        assert len(reads) - before <= 2  # at the notification, and perhaps one look in between
