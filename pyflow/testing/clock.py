"""A clock that tests move: waits of days pass in microseconds."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from itertools import count

#: Passes of the event loop that let everything that can run do so; what a run does between two waits takes about 10.
SETTLING_PASSES = 50


class _Work:
    """A block in which a clock is not to skip, except while something in it (``asleep``) sleeps on that clock."""

    __slots__ = ("asleep", "clock", "outer", "over")

    def __init__(self, clock: ManualClock, outer: _Work | None) -> None:
        self.clock = clock
        self.outer = outer
        self.asleep = 0
        self.over = False


#: The work that the current code, or what started it, is part of.
_current: ContextVar[_Work | None] = ContextVar("pyflow_clock_work", default=None)


class ManualClock:
    """A ``Clock`` whose time moves only when a test moves it.

    ``start``: the first time, POSIX seconds (default: 2026-01-01 00:00 UTC, so that runs are alike). With
    ``auto_advance``, time jumps to the next wait whenever everything waits, so a sleep returns at once and in the
    right order; it never jumps while ``holding``. Nor does it while the code of a node is ``working`` (the engine says
    so), so that no timeout overtakes a node that is merely slow; but a node, or a mock, that itself sleeps on this
    clock lets it jump: ``MockNode(call=lambda _: clock.sleep(3 * 3600))`` runs into a timeout of two hours at once. A
    node that hangs without sleeping here is timed out by ``advance``, or never.
    """

    def __init__(self, start: float | None = None, *, auto_advance: bool = False) -> None:
        self._now = datetime(2026, 1, 1, tzinfo=UTC).timestamp() if start is None else start
        self._auto_advance = auto_advance
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = count()
        self._holders = 0
        self._jumping = False

    def time(self) -> float:
        """POSIX time on this clock, seconds."""
        return self._now

    async def sleep(self, seconds: float) -> None:
        """Return once this clock is ``seconds`` further on."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + seconds, next(self._order), future))
        work = _current.get()
        self._rest(work, 1)
        self._plan_jump()
        try:
            await future
        finally:
            self._rest(work, -1)

    async def advance(self, seconds: float) -> None:
        """Move on by ``seconds``, waking sleepers in the order in which they are due, each at its own time."""
        if seconds < 0:
            raise ValueError("time does not go backwards")
        until = self._now + seconds
        await self._settle()
        while (due := self._next_due()) is not None and due <= until:
            self._wake_next()
            await self._settle()
        self._now = max(self._now, until)

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Keep ``auto_advance`` from jumping inside the block; ``advance`` works all the same."""
        self._holders += 1
        try:
            yield
        finally:
            self._holders -= 1
            self._plan_jump()

    @contextmanager
    def working(self) -> Iterator[None]:
        """Like ``holding``, except while the block, or a task that was started in it, sleeps on this clock."""
        work = _Work(self, _current.get())
        token = _current.set(work)
        self._holders += 1
        try:
            yield
        finally:
            _current.reset(token)
            work.over = True
            if not work.asleep:
                self._holders -= 1
                self._plan_jump()

    def _rest(self, work: _Work | None, sleepers: int) -> None:
        """Note one sleeper more (1) or less (-1) in ``work`` and in all that it is part of."""
        while work is not None:
            if work.clock is self:
                rested = work.asleep > 0
                work.asleep += sleepers
                if not work.over:
                    self._holders += rested - (work.asleep > 0)
            work = work.outer

    @property
    def sleeping(self) -> int:
        """Return the number of waits on this clock."""
        return sum(1 for _, _, future in self._sleepers if not future.done())

    @staticmethod
    async def _settle() -> None:
        for _ in range(SETTLING_PASSES):
            await asyncio.sleep(0)

    def _next_due(self) -> float | None:
        # Cancelled sleepers are left in the heap until they come up.
        while self._sleepers and self._sleepers[0][2].done():
            heapq.heappop(self._sleepers)
        return self._sleepers[0][0] if self._sleepers else None

    def _wake_next(self) -> None:
        due, _, future = heapq.heappop(self._sleepers)
        self._now = max(self._now, due)
        future.set_result(None)

    def _plan_jump(self) -> None:
        if self._auto_advance and not self._jumping and not self._holders and self._next_due() is not None:
            self._jumping = True
            asyncio.get_running_loop().call_soon(self._jump_after, SETTLING_PASSES)

    def _jump_after(self, passes: int) -> None:
        if passes:
            asyncio.get_running_loop().call_soon(self._jump_after, passes - 1)
            return
        self._jumping = False
        if not self._holders and self._next_due() is not None:
            self._wake_next()
            self._plan_jump()
