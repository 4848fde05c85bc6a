"""Reads the logs that clients of this process follow: once per tenant, however many clients there are.

A feed per followed tenant subscribes to the event bus, reads the log from where it stopped at each notification, and
passes the rows on to its streams in memory. What a notification says is true in the table only, so a feed also reads
when the bus has lost its connection, and every few seconds. Queries run in a few threads of the hub's own: never on the
event loop, and never so many at a time that they take all connections of the database.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar
from uuid import UUID
from weakref import WeakKeyDictionary

from django.db import connections

from events.cursor import Cursor
from events.errors import EventsRemovedError
from events.reading import LogPage, end_of_log, read
from events.streams.rows import LogRow, Progress
from pyflow.core.ports import MISSED, EventBus, Notification, Subscription
from runs.notify.current import current_bus
from runs.notify.notifications import events_topic, progress_topic
from tenants.scoping import tenant_scope

if TYPE_CHECKING:
    from events.streams.access import Access
    from events.streams.rows import Place
    from events.streams.sources import Batch, Source
    from events.streams.stream import Stream

logger = logging.getLogger(__name__)
ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class Pacing:
    """Intervals (seconds) and sizes (rows) of the reads of a hub."""

    #: Until a log is read without a notification.
    look: float = 3.0
    #: Between two reads of one log, so that many notifications are one read.
    gather: float = 0.02
    #: Until the first further look after a notification whose rows could not be read yet; doubled each time.
    again: float = 0.02
    #: How long a feed is kept after its last stream.
    idle: float = 10.0
    #: Rows of one read.
    page: int = 200
    #: Queries at a time.
    threads: int = 4


#: Of hubs that are made without another.
PACING = Pacing()
#: Pages that are kept for streams that will come to them: rows of all of them, and how long. Bytes, seconds.
KEPT_BYTES, KEPT_SECONDS = 8 * 1024 * 1024, 30.0


class Hub:
    """The feeds of one event loop, and the threads in which they and their streams query."""

    def __init__(self, bus: Callable[[], EventBus] = current_bus, pacing: Pacing | None = None) -> None:
        self.bus = bus
        self.pacing = pacing or PACING
        self.loop = asyncio.get_running_loop()
        self._pool = ThreadPoolExecutor(self.pacing.threads, thread_name_prefix="pyflow-streams")
        self._feeds: dict[UUID, Feed] = {}
        self.pages = Pages(self)

    def feed(self, tenant_id: UUID) -> Feed:
        """Return the feed of a tenant, which is started if there is none."""
        feed = self._feeds.get(tenant_id)
        if feed is None:
            feed = self._feeds[tenant_id] = Feed(self, tenant_id, partial(self._feeds.pop, tenant_id, None))
        return feed

    async def in_thread(self, function: Callable[..., ResultT], *arguments: object) -> ResultT:
        """Return what a function returns that may query; the connection is given back afterwards."""
        return await self.loop.run_in_executor(self._pool, _with_connection_closed, function, *arguments)

    async def close(self) -> None:
        """End all feeds and threads."""
        for feed in list(self._feeds.values()):
            await feed.close()
        self._pool.shutdown(wait=False)


_Key = tuple["Source", "Place", int]


class Pages:
    """Pages of logs that streams of this process read one after another: each is read once for all of them.

    Many streams fall behind together, when more happens than their clients read, and then stand at the same places.
    Owned by the event loop.
    """

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._reads: dict[_Key, asyncio.Task[Batch]] = {}
        #: Pages with when they were read and their sizes, the oldest first.
        self._kept: OrderedDict[_Key, tuple[float, int, Batch]] = OrderedDict()
        self._bytes = 0

    async def read(self, source: Source, after: Place, limit: int) -> Batch:
        """Return what a source reads; of another stream's reads only a page that has more behind it.

        The last page is read anew: a stream that has read it takes the rows that the feed queues since the read began.
        """
        key = (source, after, limit)
        self._forget(self._hub.loop.time() - KEPT_SECONDS)
        if key in self._kept:
            return self._kept[key][2]
        if key in self._reads:
            with suppress(Exception):  # whoever asked for it says so
                batch = await asyncio.shield(self._reads[key])
                if batch.has_more:
                    return batch
            return await self._hub.in_thread(_read_page, source, after, limit)
        reading = self._reads[key] = self._hub.loop.create_task(self._hub.in_thread(_read_page, source, after, limit))
        reading.add_done_callback(partial(self._keep, key))
        return await asyncio.shield(reading)

    def _keep(self, key: _Key, reading: asyncio.Task[Batch]) -> None:
        del self._reads[key]
        if reading.cancelled() or reading.exception() is not None or not reading.result().has_more:
            return
        batch = reading.result()
        size = sum(row.size for row in batch.rows)
        self._kept[key] = self._hub.loop.time(), size, batch
        self._bytes += size
        self._forget(self._hub.loop.time() - KEPT_SECONDS)

    def _forget(self, before: float) -> None:
        while self._kept:
            at, size, _ = next(iter(self._kept.values()))
            if self._bytes <= KEPT_BYTES and at > before:
                return
            self._kept.popitem(last=False)
            self._bytes -= size


def _read_page(source: Source, after: Place, limit: int) -> Batch:
    with tenant_scope(source.tenant_id, write=False):
        return source.read(after, limit)


def _with_connection_closed(function: Callable[..., ResultT], *arguments: object) -> ResultT:
    try:
        return function(*arguments)
    finally:
        connections.close_all()


class Feed:
    """Follows the log of one tenant for the streams of this process. Owned by the event loop but for `_notified`."""

    def __init__(self, hub: Hub, tenant_id: UUID, forget: Callable[[], object]) -> None:
        self.tenant_id = tenant_id
        self._hub = hub
        self._forget = forget
        #: Set once the place is known from which the feed delivers: what is older, streams read themselves.
        self.started = asyncio.Event()
        self._streams: set[Stream] = set()
        self._of_run: dict[UUID, set[Stream]] = defaultdict(set)
        self._progress: dict[UUID, Subscription] = {}
        self._wake = asyncio.Event()
        self._tail: Cursor | None = None
        self._auth_version: int | None = None
        self._check: asyncio.Task[None] | None = None
        self._subscription = hub.bus().subscribe([events_topic(tenant_id)], self._notified)
        self._task = hub.loop.create_task(self._follow())

    def add(self, stream: Stream) -> None:
        """Deliver to a stream from now on."""
        if not self._streams:
            self._wake.set()
        self._streams.add(stream)
        run_id = stream.source.run_id
        if run_id is None:
            return
        self._of_run[run_id].add(stream)
        if run_id not in self._progress:
            self._progress[run_id] = self._hub.bus().subscribe([progress_topic(run_id)], self._notified)

    def remove(self, stream: Stream) -> None:
        """Deliver to a stream no more."""
        self._streams.discard(stream)
        if not self._streams:
            self._wake.set()
        run_id = stream.source.run_id
        if run_id is None or run_id not in self._of_run:
            return
        self._of_run[run_id].discard(stream)
        if not self._of_run[run_id]:
            del self._of_run[run_id]
            self._progress.pop(run_id).close()

    async def close(self) -> None:
        """Stop following."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    def _notified(self, notification: Notification) -> None:
        """Pass a notification of the bus on, from whatever thread it comes."""
        if notification is MISSED or not notification.topic.startswith("progress:"):
            call: Callable[[], object] = self._wake.set
        else:
            call = partial(self._report_progress, notification)
        with suppress(RuntimeError):  # the loop is closed
            self._hub.loop.call_soon_threadsafe(call)

    def _report_progress(self, notification: Notification) -> None:
        progress = Progress(notification.message)
        with suppress(ValueError):
            for stream in self._of_run.get(UUID(notification.topic.partition(":")[2]), ()):
                stream.offer_progress(progress)

    async def _follow(self) -> None:
        pacing, again, used_at = self._hub.pacing, 0.0, self._hub.loop.time()
        try:
            while self._streams or self._hub.loop.time() - used_at < pacing.idle:
                was_notified = self._wake.is_set()
                self._wake.clear()
                if self._streams:
                    used_at = self._hub.loop.time()
                    found = await self._look()
                    self._ask_for_access()
                    # Rows become readable when the transactions that began before theirs have ended: without a message.
                    again = 0.0 if found else pacing.again if was_notified else again * 2
                    if again >= pacing.look:
                        again = 0.0
                await asyncio.sleep(pacing.gather)
                with suppress(TimeoutError):
                    async with asyncio.timeout(again or pacing.look):
                        await self._wake.wait()
        finally:
            self._forget()
            self._subscription.close()
            for subscription in self._progress.values():
                subscription.close()

    async def _look(self) -> bool:
        """Read what is new, and deliver it; return whether there was anything."""
        found = False
        try:
            if self._tail is None:
                self._tail, self._auth_version = await self._hub.in_thread(_end, self.tenant_id)
                self.started.set()
            while True:
                page, rows, version = await self._hub.in_thread(
                    _read, self.tenant_id, self._tail, self._hub.pacing.page
                )
                self._deliver(rows)
                self._tail, found = page.next, found or bool(rows)
                self._renew_access(version)
                if not page.has_more:
                    return found
        except EventsRemovedError:
            # Runs were deleted before they were read. Each stream finds out whether that concerns it.
            self._tail = None
            for stream in self._streams:
                stream.fall_behind()
        except Exception:
            logger.exception(
                "the log of tenant %s could not be read for its streams; it is tried again", self.tenant_id
            )
        return found

    def _deliver(self, rows: Collection[LogRow]) -> None:
        whole = [stream for stream in self._streams if stream.source.run_id is None]
        for row in rows:
            for stream in whole:
                stream.offer(row)
            for stream in self._of_run.get(row.run_id, ()) if row.run_id is not None else ():
                stream.offer(row)

    def _renew_access(self, version: int | None) -> None:
        if version != self._auth_version:
            self._auth_version = version
            for stream in self._streams:
                stream.is_access_due = True

    def _ask_for_access(self) -> None:
        """Check in the background the streams whose permission may have changed."""
        if self._check is None or self._check.done():
            due = [stream for stream in self._streams if stream.is_access_due or stream.access.is_fleeting]
            self._check = self._hub.loop.create_task(self._check_access(due)) if due else None

    async def _check_access(self, due: Collection[Stream]) -> None:
        alike: dict[Access, list[Stream]] = defaultdict(list)
        for stream in due:
            stream.is_access_due = False
            alike[stream.access].append(stream)
        for access, streams in alike.items():
            try:
                refusal = await self._hub.in_thread(access.refusal)
            except Exception:
                logger.exception("the access of a stream could not be looked up; it is tried again")
                for stream in streams:
                    stream.is_access_due = True
                continue
            if refusal is not None:
                for stream in streams:
                    stream.end(refusal)


def _end(tenant_id: UUID) -> tuple[Cursor, int | None]:
    with tenant_scope(tenant_id, write=False) as version:
        return end_of_log(), version


def _read(tenant_id: UUID, after: Cursor, limit: int) -> tuple[LogPage, list[LogRow], int | None]:
    with tenant_scope(tenant_id, write=False) as version:
        page = read(tenant_id, after=after, limit=limit)
        return page, [LogRow.of(event) for event in page.events], version


_hubs: WeakKeyDictionary[asyncio.AbstractEventLoop, Hub] = WeakKeyDictionary()


def current_hub() -> Hub:
    """Return the hub of the running event loop."""
    loop = asyncio.get_running_loop()
    hub = _hubs.get(loop)
    if hub is None:
        hub = _hubs[loop] = Hub()
    return hub
