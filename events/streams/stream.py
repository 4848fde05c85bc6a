"""One client's stream: what it has not read yet, within bounds, and where it goes on."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime

from events.errors import EventsRemovedError
from events.streams.access import EXPIRED, Access
from events.streams.hub import Hub
from events.streams.rows import End, Item, LogRow, Place, Progress
from events.streams.sources import Source

logger = logging.getLogger(__name__)
#: Rows that wait for one client, at most. Bytes.
MOST_WAITING = 1024 * 1024
#: Rows of one read of a client that catches up: few while they are large.
FIRST_PAGE, LAST_PAGE = 32, 500
#: A page whose rows take less than the first is followed by a larger one, one of more than the second by a smaller.
SMALL_PAGE, LARGE_PAGE = 256 * 1024, 1024 * 1024
#: Until a read that failed is tried again. Seconds.
RETRY = 1.0


class Stream:
    """Delivers each row after a place once and in order: at first from the table, then from the feed in memory.

    The feed offers rows from the moment that the stream is added, and the stream reads the table until it has seen
    everything older: what it then takes from its queue again is dropped by its place. A client that reads too slowly
    loses its queue and reads the table once more from where it is. Owned by the event loop.
    """

    def __init__(self, hub: Hub, source: Source, after: Place, access: Access) -> None:
        self.source = source
        self.access = access
        self.place = after
        #: At first, too: it may have ended between the request and here.
        self.is_access_due = True
        self._hub = hub
        self._feed = hub.feed(source.tenant_id)
        self._waiting: deque[LogRow | Progress] = deque()
        self._bytes = 0
        self._changed = asyncio.Event()
        #: Rows were not queued: the table is read from ``place``.
        self._is_behind = True
        #: Rows are not queued, until the next read begins.
        self._is_deaf = False
        self._page = FIRST_PAGE
        self._end: End | None = None
        self._feed.add(self)

    def close(self) -> None:
        """End: nothing is delivered any more."""
        self._feed.remove(self)
        self._waiting.clear()

    def offer(self, row: LogRow) -> None:
        """Queue a row for the client, if it wants it."""
        if self._is_deaf or not self.source.wants(row):
            return
        if self._bytes + row.size > MOST_WAITING and self._waiting:
            self.fall_behind()
            return
        self._put(row)

    def offer_progress(self, progress: Progress) -> None:
        """Queue progress for the client, unless much waits already: the next report says more."""
        if not self._is_deaf and self._bytes < MOST_WAITING // 4:
            self._put(progress)

    def fall_behind(self) -> None:
        """Forget what waits: it is read from the table when the client reads on."""
        self._waiting.clear()
        self._bytes = 0
        self._is_behind = self._is_deaf = True
        self._changed.set()

    def end(self, end: End) -> None:
        """Let this be the next that is delivered, and the last."""
        self._end = self._end or end
        self._changed.set()

    @property
    def refusal(self) -> End | None:
        """Return the reason to end the stream, if there is one."""
        return self._end if self._end is not None and self._end.status else self._expired()

    async def take(self, seconds: float) -> Sequence[Item]:
        """Return what follows, as soon as there is anything; nothing after ``seconds``. An `End` is the last item."""
        until = self._hub.loop.time() + seconds
        while True:
            if (end := self._end or self._expired()) is not None:
                return [end]
            left = self._left(until)
            if self._is_behind:
                if items := await self._catch_up(left):
                    return items
            elif items := self._drain():
                return items
            elif not await self._wait(left):
                return [EXPIRED] if self._expired() else []
            if self._hub.loop.time() >= until:
                return []

    def _left(self, until: float) -> float:
        left = until - self._hub.loop.time()
        if self.access.ends_at is not None:
            left = min(left, (self.access.ends_at - datetime.now(UTC)).total_seconds())
        return max(0.0, left)

    def _expired(self) -> End | None:
        ends_at = self.access.ends_at
        return EXPIRED if ends_at is not None and ends_at <= datetime.now(UTC) else None

    async def _wait(self, seconds: float) -> bool:
        """Wait until something is queued or changed; return whether it did."""
        self._changed.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return False
        return True

    def _put(self, item: LogRow | Progress) -> None:
        self._waiting.append(item)
        self._bytes += item.size
        self._changed.set()

    def _drain(self) -> list[Item]:
        items: list[Item] = []
        size = 0
        while self._waiting and size < SMALL_PAGE:
            item = self._waiting.popleft()
            self._bytes -= item.size
            if isinstance(item, LogRow):
                place = self.source.place_of(item)
                if not place > self.place:  # type: ignore[operator] # both are of one kind
                    continue
                self.place = place
                if self.source.may_end_after(item):
                    self._is_behind = True
            size += item.size
            items.append(item)
        return items

    async def _catch_up(self, seconds: float) -> list[Item]:
        """Read one page of the table; the stream is no longer behind after the last one."""
        if not self._feed.started.is_set():
            try:
                async with asyncio.timeout(seconds):
                    await self._feed.started.wait()
            except TimeoutError:
                return []
        # From here on the feed's rows are queued: what it has passed on before, the read will see.
        self._is_deaf = False
        try:
            batch = await self._hub.pages.read(self.source, self.place, self._page)
        except EventsRemovedError as error:
            self.end(End(error.code, str(error), 410, {"oldest": error.oldest}))
            return []
        except Exception:
            logger.exception("a stream could not read on; it is tried again")
            await self._wait(min(seconds, RETRY))
            return []
        size = sum(row.size for row in batch.rows)
        if size < SMALL_PAGE:
            self._page = min(self._page * 2, LAST_PAGE)
        elif size > LARGE_PAGE:
            self._page = max(self._page // 2, 1)
        self.place = batch.place
        # A state that was read before the last rows were written says nothing about the end: it is read once more.
        may_end = any(map(self.source.may_end_after, batch.rows))
        if not batch.has_more and not self._is_deaf and not may_end:
            self._is_behind = False
        if batch.end is not None:
            self.end(batch.end)
        return list(batch.rows)
