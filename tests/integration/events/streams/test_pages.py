"""Streams that are behind at the same places share what is read for them, and nothing that is not complete."""

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import pytest
from asgiref.sync import sync_to_async

from events.cursor import Cursor
from events.errors import EventsRemovedError
from events.reading import EventFilter
from events.streams import hub as hubs
from events.streams import stream as streams_module
from events.streams.hub import Hub
from events.streams.rows import LogRow, Place
from events.streams.sources import Batch, LogSource
from events.streams.stream import Stream
from tests.support.streams import happen

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]


@dataclass(frozen=True)
class Source:
    """The numbers 1 to ``count``; ``reads`` lists where each read began, ``gate`` holds reads up."""

    count: int
    reads: list[tuple[int, int]] = field(default_factory=list, compare=False)
    gate: threading.Event = field(default_factory=threading.Event, compare=False)
    begun: threading.Event = field(default_factory=threading.Event, compare=False)
    tenant_id: UUID = field(default_factory=uuid4)
    run_id: None = None

    def read(self, after: Place, limit: int) -> Batch:
        assert isinstance(after, int)
        self.reads.append((after, limit))
        self.begun.set()
        assert self.gate.wait(20)
        if after < 0:
            raise EventsRemovedError("oldest")
        upto = min(after + limit, self.count)
        return Batch([_row(number) for number in range(after + 1, upto + 1)], upto, upto < self.count)


def _row(number: int) -> LogRow:
    row: Any = type("Row", (), {"size": 100, "seq": number})()
    return row


@asynccontextmanager
async def open_hub():
    hub = Hub()
    try:
        yield hub
    finally:
        await hub.close()


async def read_all(hub: Hub, source: Source, limit: int = 10) -> list[int]:
    found: list[int] = []
    place: Place = 0
    while True:
        batch = await hub.pages.read(source, place, limit)
        found += [row.seq for row in batch.rows]
        place = batch.place
        if not batch.has_more:
            return found


async def test_pages_that_are_complete_are_read_once_for_all_who_come_to_them():
    source = Source(95)
    source.gate.set()
    async with open_hub() as hub:
        together = await asyncio.gather(*(read_all(hub, source) for _ in range(20)))
        later = await read_all(hub, source)
    assert all(found == list(range(1, 96)) for found in (*together, later))
    complete = [after for after, _ in source.reads if after < 90]
    assert sorted(complete) == list(range(0, 90, 10))
    assert source.reads.count((90, 10)) == 21, "what follows the last page is in the feed of who has read it"


async def test_who_waits_for_anothers_read_of_the_last_page_reads_it_again():
    source = Source(5)
    async with open_hub() as hub:
        reads = [asyncio.create_task(hub.pages.read(source, 0, 10)) for _ in range(3)]
        assert await asyncio.to_thread(source.begun.wait, 20)
        assert source.reads == [(0, 10)]
        source.gate.set()
        await asyncio.gather(*reads)
    assert source.reads == [(0, 10)] * 3


async def test_who_leaves_takes_no_read_from_others():
    source = Source(100)
    async with open_hub() as hub:
        reads = [asyncio.create_task(hub.pages.read(source, 0, 10)) for _ in range(3)]
        assert await asyncio.to_thread(source.begun.wait, 20)
        reads[0].cancel()
        source.gate.set()
        batches = await asyncio.gather(*reads[1:])
    assert [batch.place for batch in batches] == [10, 10]
    assert source.reads == [(0, 10)]


async def test_a_read_that_fails_fails_for_everybody_by_itself():
    source = Source(100)
    source.gate.set()
    async with open_hub() as hub:
        found = await asyncio.gather(*(hub.pages.read(source, -1, 10) for _ in range(3)), return_exceptions=True)
    assert [type(each) for each in found] == [EventsRemovedError] * 3


@pytest.mark.parametrize(("name", "value"), [("KEPT_BYTES", 2_500), ("KEPT_SECONDS", -1.0)])
async def test_what_is_kept_is_bounded_and_forgotten(name: str, value: float, monkeypatch):
    monkeypatch.setattr(hubs, name, value)
    source = Source(100)
    source.gate.set()
    async with open_hub() as hub:
        await read_all(hub, source)
        assert hub.pages._bytes <= 2_500
        await hub.pages.read(source, 0, 10)
        assert hub.pages._bytes == sum(size for _, size, _ in hub.pages._kept.values())
    assert source.reads.count((0, 10)) == 2


async def test_tenants_and_filters_share_nothing():
    one, other = Source(100), Source(100)
    async with open_hub() as hub:
        for source in (one, other):
            source.gate.set()
            await hub.pages.read(source, 0, 10)
    assert (one.reads, other.reads) == ([(0, 10)], [(0, 10)])
    tenant = uuid4()
    filters = [
        EventFilter(),
        EventFilter(types=("a",)),
        EventFilter(labels=(("a", "b"),)),
        EventFilter(workflows=("a",)),
    ]
    sources = [LogSource(each, wanted) for each in (tenant, uuid4()) for wanted in filters]
    assert len({(source, Cursor.end_of(5), 10) for source in sources}) == 8


async def test_streams_that_are_behind_lose_and_repeat_nothing_while_more_happens(tenant, monkeypatch):
    """With tiny pages and queues, so that they share pages, fall behind and catch up all the time."""
    monkeypatch.setattr(streams_module, "MOST_WAITING", 1_500)
    monkeypatch.setattr(streams_module, "FIRST_PAGE", 2)
    monkeypatch.setattr(streams_module, "LAST_PAGE", 8)
    await sync_to_async(happen)(tenant, count=30)
    async with open_hub() as hub:
        streams = [Stream(hub, LogSource(tenant.pk, EventFilter()), Cursor.end_of(0), _Always()) for _ in range(12)]
        writing = asyncio.create_task(_write(lambda: sync_to_async(happen)(tenant, count=10)))
        try:
            found = await asyncio.gather(*(_numbers(stream, 30 + 100) for stream in streams))
        finally:
            await writing
            for stream in streams:
                stream.close()
    assert all(numbers == found[0] for numbers in found)
    assert found[0] == [*range(30), *(n for _ in range(10) for n in range(10))]


class _Always:
    """Access without an end."""

    ends_at = None
    is_fleeting = False

    def refusal(self) -> None:
        return None


async def _write(write: Callable[[], Awaitable[Any]]) -> None:
    for _ in range(10):
        await write()
        await asyncio.sleep(0.02)


async def _numbers(stream: Stream, count: int) -> list[int]:
    found: list[int] = []
    while len(found) < count:
        items = await stream.take(20)
        assert items, "nothing came"
        found += [json.loads(item.body)["data"]["number"] for item in items if isinstance(item, LogRow)]
    return found
