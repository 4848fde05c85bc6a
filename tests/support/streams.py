"""Clients of streams, for tests: each frame as it was sent, and who makes the events."""

import json
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
from django.db import connection, transaction
from django.utils import timezone

from runs.models import EventRecord
from runs.notify.current import using
from runs.notify.notifications import Notifications
from runs.notify.redis_bus import RedisBus
from runs.storage import log
from tenants.models import Tenant
from tests.support.servers.event_bus import QUICK

SSE = {"Accept": "text/event-stream"}
SECONDS = 20.0
#: Reads at most so many events after a place: for each, the place after it and its number.
Read = Callable[[str, int], Iterator[tuple[str, int]]]


@dataclass(frozen=True)
class Frame:
    """One server-sent event; ``id`` is ``None`` where there is no such line."""

    event: str | None
    id: str | None
    data: Any
    retry: str | None
    comment: str | None


class EventFrames:
    """An open stream of server-sent events."""

    def __init__(self, response: httpx2.Response) -> None:
        self.response = response
        self._frames = self._read()

    def _read(self) -> Iterator[Frame]:
        lines: list[str] = []
        for line in self.response.iter_lines():
            if line:
                lines.append(line)
                continue
            fields = dict(item.partition(": ")[::2] for item in lines if not item.startswith(":"))
            comments = [item[1:].strip() for item in lines if item.startswith(":")]
            lines = []
            data = fields.get("data")
            yield Frame(
                fields.get("event"),
                fields.get("id"),
                None if data is None else json.loads(data),
                fields.get("retry"),
                comments[0] if comments else None,
            )

    def next(self) -> Frame:
        """The next frame, whatever it is."""
        return next(self._frames)

    def events(self, count: int) -> list[Frame]:
        """So many frames with data."""
        found: list[Frame] = []
        while len(found) < count:
            frame = self.next()
            if frame.data is not None:
                found.append(frame)
        return found

    def rest(self) -> list[Frame]:
        """All that follow with data, until the server ends the stream."""
        return [frame for frame in self._frames if frame.data is not None]


@contextmanager
def following(address: str, path: str, credential: str, **headers: str) -> Iterator[EventFrames]:
    """An open stream. A refusal fails the test."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    with (
        httpx2.Client(base_url=f"http://{address}", timeout=SECONDS) as client,
        client.stream("GET", path, headers=SSE | {"Authorization": credential} | named) as response,
    ):
        if response.status_code != 200:
            raise AssertionError(f"{response.status_code}: {response.read().decode()}")
        yield EventFrames(response)


def happen(tenant: Tenant, type: str = "custom.made", count: int = 1, **data: Any) -> list[EventRecord]:
    """Write events that belong to no run, each in a transaction of its own."""
    return [
        log.append_outside(tenant_id=tenant.pk, type=type, at=timezone.now(), data={"number": number, **data})
        for number in range(count)
    ]


def remove_events(tenant: Tenant) -> None:
    """Remove all events of a tenant that belong to no run, as retention does."""
    events = EventRecord.objects.for_tenant(tenant).filter(run=None)
    with transaction.atomic():
        log.remember_removal(tenant.pk, events)
        events.delete()


class Reader(threading.Thread):
    """Reads a number of events, disconnects after 1 to ``most`` of them, and goes on after what it has read."""

    def __init__(self, read: Read, count: int, seed: int, most: int = 60) -> None:
        super().__init__(daemon=True)
        self.read, self.count, self.most, self.chance = read, count, most, random.Random(seed)
        self.seen: list[int] = []
        self.connections = 0
        self.start()

    def run(self) -> None:
        """Read until all is seen."""
        place = ""
        while len(self.seen) < self.count:
            self.connections += 1
            for id, what in self.read(place, self.chance.randint(1, self.most)):
                place = id
                self.seen.append(what)
                if len(self.seen) == self.count:
                    break


def by_sse(server: str, path: str, credential: str) -> Read:
    """How a reader reads by server-sent events."""

    def read(place: str, count: int) -> Iterator[tuple[str, int]]:
        given = {"Last_Event_ID": place} if place else {}
        with following(server, f"/api/v1{path}", credential, **given) as stream:
            for _ in range(count):
                [frame] = stream.events(1)
                if frame.id is None:
                    return
                yield frame.id, frame.data["data"]["number"]

    return read


def by_websocket(server: str, path: str, credential: str) -> Read:
    """How a reader reads over WebSocket."""

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
    """Write numbered events, each in a transaction of its own."""
    for number in range(count):
        log.append_outside(tenant_id=tenant.pk, type="custom.made", at=timezone.now(), data={"number": number})
        between(number)
    connection.close()


def assert_all_was_read(readers: list[Reader], count: int, seconds: float = 60) -> None:
    """Wait for the readers: each has seen each event once, in order, over several connections."""
    for reader in readers:
        reader.join(seconds)
        assert reader.seen == list(range(count))
    assert sum(reader.connections for reader in readers) > 2 * len(readers)


@contextmanager
def over_redis(url: str) -> Iterator[None]:
    """Let this process notify itself over a Redis, as the processes of a fleet do."""
    bus = RedisBus(f"{url}/0", QUICK)
    try:
        with using(Notifications(bus)):
            yield
    finally:
        bus.close()
