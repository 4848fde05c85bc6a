"""What the runs of one engine share: cached results and the slots of concurrency keys."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from pyflow.core.errors import NodeError

CacheKey = tuple[str, str]


class SkippedByLimitError(NodeError):
    """There was no slot for the key, and ``on_limit: skip`` says what that means."""

    code = "concurrency_skipped"


class ConcurrencyLimitError(NodeError):
    """There was no slot for the concurrency key."""

    code = "concurrency_limit"


class ResultCache:
    """Results by node type and key until they expire; the least recently used go first."""

    def __init__(self, size: int = 10_000) -> None:
        self._size = size
        self._entries: OrderedDict[CacheKey, tuple[float, Any]] = OrderedDict()

    def get(self, key: CacheKey, now: float) -> tuple[bool, Any]:
        """Whether there is a result that is still good at ``now``, and the result."""
        entry = self._entries.get(key)
        if entry is None or entry[0] <= now:
            return False, None
        self._entries.move_to_end(key)
        return True, entry[1]

    def put(self, key: CacheKey, value: Any, until: float) -> None:
        """Keep a result until ``until`` (POSIX seconds)."""
        self._entries[key] = (until, value)
        self._entries.move_to_end(key)
        if len(self._entries) > self._size:
            self._entries.popitem(last=False)


class _Lane:
    """The holders of one key, oldest first, and those who wait for a slot."""

    def __init__(self) -> None:
        self.holders: deque[asyncio.Task[Any]] = deque()
        #: Slots that are taken: those of the holders, and those of waiters who were told and have not come yet.
        self.taken = 0
        self.waiting: deque[asyncio.Future[None]] = deque()


class Slots:
    """Leases of concurrency keys, within this process."""

    def __init__(self) -> None:
        self._lanes: dict[str, _Lane] = {}
        #: Tasks that were cancelled to make room, so that they can say so.
        self.displaced: set[asyncio.Task[Any]] = set()

    @asynccontextmanager
    async def hold(self, key: str, limit: int, on_limit: str) -> AsyncIterator[None]:
        """Hold one of ``limit`` slots of ``key``.

        Raises ``SkippedByLimitError`` or ``ConcurrencyLimitError`` if there is none and ``on_limit`` says so.
        """
        lane = self._lanes.setdefault(key, _Lane())
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - coroutines run in tasks
        await self._enter(lane, key, limit, on_limit)
        lane.holders.append(task)
        try:
            yield
        except asyncio.CancelledError:
            if task in self.displaced:
                raise ConcurrencyLimitError(f"cancelled to make room for a newer one of {key!r}") from None
            raise
        finally:
            self.displaced.discard(task)
            lane.holders.remove(task)
            lane.taken -= 1
            self._leave(lane, key, limit)

    async def _enter(self, lane: _Lane, key: str, limit: int, on_limit: str) -> None:
        if lane.taken < limit and not lane.waiting:
            lane.taken += 1
            return
        if on_limit == "skip":
            raise SkippedByLimitError(f"{limit} of {key!r} run already")
        if on_limit in {"fail", "cancel_newest"}:
            raise ConcurrencyLimitError(f"{limit} of {key!r} run already")
        if on_limit == "cancel_oldest":
            oldest = next((task for task in lane.holders if task not in self.displaced), None)
            if oldest is not None:
                self.displaced.add(oldest)
                oldest.cancel()
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        lane.waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn in lane.waiting:
                lane.waiting.remove(turn)
            elif turn.done() and not turn.cancelled():
                lane.taken -= 1
                self._leave(lane, key, limit)
            raise

    def _leave(self, lane: _Lane, key: str, limit: int) -> None:
        while lane.waiting and lane.taken < limit:
            turn = lane.waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                lane.taken += 1
        if not lane.taken and not lane.waiting:
            self._lanes.pop(key, None)


class Shared:
    """What outlives one run. Runs of different tenants never share one."""

    def __init__(self) -> None:
        self.cache = ResultCache()
        self.slots = Slots()
