"""State that the runs of one engine share: cached results and the slots of concurrency keys."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol

from pyflow.core.errors import NodeError

CacheKey = tuple[str, str]


class SkippedByLimitError(NodeError):
    """There was no slot for the key, and ``on_limit: skip`` says what that means."""

    code = "concurrency_skipped"


class ConcurrencyLimitError(NodeError):
    """There was no slot for the concurrency key."""

    code = "concurrency_limit"


class RunParkedError(Exception):
    """There was no slot for a run yet, and whoever keeps the slots has put the run down until there is one.

    Its execution ends here, unrecorded, and begins again with the slot.
    """


class SlotSource(Protocol):
    """Port for slots of concurrency keys: in this process (``Slots``), or shared by many processes."""

    def hold(self, key: str, limit: int, on_limit: str, *, node_id: str = "") -> AbstractAsyncContextManager[None]:
        """Hold one of ``limit`` slots of ``key`` for an attempt of a node. To give way, its task is cancelled.

        Raises ``SkippedByLimitError`` or ``ConcurrencyLimitError`` if there is no slot and ``on_limit`` says so; the
        latter, too, in a task that was cancelled to make room.
        """

    def hold_run(
        self, key: str, limit: int, on_limit: str, give_way: Callable[[], object]
    ) -> AbstractAsyncContextManager[None]:
        """Hold a slot for a whole run. Keys of runs and of nodes have nothing to do with each other.

        ``give_way`` is called when a newer one asks for room (``cancel_oldest``), and the slot is the newer one's once
        the block is left, however long that takes.

        Raises as ``hold`` does, or ``RunParkedError`` where runs do not wait for slots in memory.
        """


class ResultCache:
    """Results by node type and key until they expire; the least recently used go first."""

    def __init__(self, size: int = 10_000) -> None:
        self._size = size
        self._entries: OrderedDict[CacheKey, tuple[float, Any]] = OrderedDict()

    def get(self, key: CacheKey, now: float) -> tuple[bool, Any]:
        """Return whether there is a result that is still valid at ``now``, and the result."""
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


class _Claim:
    """The claim of one holder of a slot, or of one that waits for it. ``give_way`` asks it to go."""

    __slots__ = ("displaced", "give_way", "turn")

    def __init__(self, give_way: Callable[[], object]) -> None:
        self.give_way = give_way
        #: It was asked to go, to make room for a newer one.
        self.displaced = False
        #: Set when the waiting one holds a slot.
        self.turn: asyncio.Future[None] | None = None


class _Lane:
    """The claims of one key, oldest first."""

    def __init__(self) -> None:
        #: Those that have a slot; one that waited is among them from the moment its ``turn`` is set.
        self.holders: deque[_Claim] = deque()
        self.waiting: deque[_Claim] = deque()


class Slots:
    """Leases of concurrency keys, within this process."""

    def __init__(self) -> None:
        self._lanes: dict[str, _Lane] = {}

    @asynccontextmanager
    async def hold(
        self,
        key: str,
        limit: int,
        on_limit: str,
        give_way: Callable[[], object] | None = None,
        *,
        node_id: str = "",  # noqa: ARG002 - of the protocol: others show who holds what
    ) -> AsyncIterator[None]:
        """Hold one of ``limit`` slots of ``key``.

        ``give_way`` is called when a newer one asks for room (``cancel_oldest``), and the slot is the newer one's once
        the block is left, however long that takes. Without it, the task is cancelled.

        Raises ``SkippedByLimitError`` or ``ConcurrencyLimitError`` if there is no slot and ``on_limit`` says so; the
        latter, too, in a task that was cancelled to make room.
        """
        lane = self._lanes.setdefault(key, _Lane())
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - coroutines run in tasks
        claim = _Claim(give_way or task.cancel)
        try:
            await self._enter(lane, claim, key, limit, on_limit)
            yield
        except asyncio.CancelledError:
            if claim.displaced and give_way is None:
                raise ConcurrencyLimitError(f"cancelled to make room for a newer one of {key!r}") from None
            raise
        finally:
            for claims in (lane.holders, lane.waiting):
                if claim in claims:
                    claims.remove(claim)
            self._promote(lane, key, limit)

    def hold_run(
        self, key: str, limit: int, on_limit: str, give_way: Callable[[], object]
    ) -> AbstractAsyncContextManager[None]:
        return self.hold(f"run:{key}", limit, on_limit, give_way)

    async def _enter(self, lane: _Lane, claim: _Claim, key: str, limit: int, on_limit: str) -> None:
        if len(lane.holders) < limit and not lane.waiting:
            lane.holders.append(claim)
            return
        if on_limit == "skip":
            raise SkippedByLimitError(f"{limit} of {key!r} run already")
        if on_limit in {"fail", "cancel_newest"}:
            raise ConcurrencyLimitError(f"{limit} of {key!r} run already")
        if on_limit == "cancel_oldest":
            self._displace(lane, limit)
        claim.turn = asyncio.get_running_loop().create_future()
        lane.waiting.append(claim)
        await claim.turn

    @staticmethod
    def _displace(lane: _Lane, limit: int) -> None:
        """Make room for one more: the oldest goes, unless enough of them are going already."""
        staying = [claim for claim in (*lane.holders, *lane.waiting) if not claim.displaced]
        if len(staying) >= limit:
            staying[0].displaced = True
            staying[0].give_way()

    def _promote(self, lane: _Lane, key: str, limit: int) -> None:
        while lane.waiting and len(lane.holders) < limit:
            claim = lane.waiting.popleft()
            assert claim.turn is not None  # noqa: S101 - it waits
            if not claim.turn.done():
                claim.turn.set_result(None)
                lane.holders.append(claim)
        if not lane.holders and not lane.waiting:
            self._lanes.pop(key, None)


class Shared:
    """State that outlives one run. Runs of different tenants never share one."""

    def __init__(self) -> None:
        self.cache = ResultCache()
        self.slots = Slots()
