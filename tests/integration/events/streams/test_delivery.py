"""Every event once, in order and without a gap, whoever is disconnected meanwhile."""

import json
import random
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx2
import pytest
from django.db import connection
from django.utils import timezone

from events.streams import hub, stream
from runs.notify.current import using
from runs.notify.notifications import Notifications
from runs.notify.redis_bus import RedisBus
from runs.storage import log
from tenants.models import Tenant
from tests.support.servers import launcher
from tests.support.servers.event_bus import QUICK
from tests.support.streams import following, happen

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]
EVENTS = 400


class Reader(threading.Thread):
    """Reads a number of events, disconnects at random, and goes on after what it has read."""

    def __init__(self, read: Callable[[str, int], Iterator[tuple[str, int]]], count: int, seed: int) -> None:
        super().__init__(daemon=True)
        self.read, self.count, self.chance = read, count, random.Random(seed)
        self.seen: list[int] = []
        self.connections = 0
        self.start()

    def run(self) -> None:
        place = ""
        while len(self.seen) < self.count:
            self.connections += 1
            for number, (id, what) in enumerate(self.read(place, self.chance.randint(1, 60))):
                place = id
                self.seen.append(what)
                if len(self.seen) == self.count or number > 60:
                    break


def by_sse(server: str, path: str, credential: str) -> Callable[[str, int], Iterator[tuple[str, int]]]:
    def read(place: str, count: int) -> Iterator[tuple[str, int]]:
        given = {"Last_Event_ID": place} if place else {}
        with following(server, f"/api/v1{path}", credential, **given) as stream:
            for _ in range(count):
                [frame] = stream.events(1)
                if frame.id is None:
                    return
                yield frame.id, frame.data["data"]["number"]

    return read


def by_websocket(server: str, path: str, credential: str) -> Callable[[str, int], Iterator[tuple[str, int]]]:
    def read(place: str, count: int) -> Iterator[tuple[str, int]]:
        address = f"ws://{server}/ws/v1{path}" + (f"?after={place}" if place else "")
        with (
            httpx2.Client(timeout=20) as client,
            client.websocket(address, headers={"Authorization": credential}) as socket,
        ):
            for _ in range(count):
                frame = json.loads(socket.receive_text(timeout=20))
                socket.send_text(json.dumps({"ack": frame["cursor"]}))
                yield str(frame["cursor"]), frame["data"]["number"]

    return read


def write(tenant: Tenant, count: int, between: Callable[[int], object] = lambda number: None) -> None:
    for number in range(count):
        log.append_outside(tenant_id=tenant.pk, type="custom.made", at=timezone.now(), data={"number": number})
        between(number)
    connection.close()


def assert_all_was_read(readers: list[Reader], count: int) -> None:
    for reader in readers:
        reader.join(60)
        assert reader.seen == list(range(count))
    assert sum(reader.connections for reader in readers) > 2 * len(readers)


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


@contextmanager
def over_redis(url: str) -> Iterator[None]:
    bus = RedisBus(f"{url}/0", QUICK)
    try:
        with using(Notifications(bus)):
            yield
    finally:
        bus.close()


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
