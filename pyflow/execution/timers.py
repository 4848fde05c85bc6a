"""The limits of an attempt in time, on the engine's clock, whichever that is.

The machine's clock measures them with the event loop's own timers: monotonic, and without a task for each. Any other
clock is asked to sleep for as long as the limit, beside the node's work; when that sleep is over before the work is,
the work is cancelled. So a clock that a test moves moves these limits as it does all other waits.

A clock that skips waits would skip the limit of every node that is really at work (a request to a local server, a
computation in a thread): only the limit sleeps then. So such a clock is informed when the code of a node runs, and
stands still (``SkippingClock.working``), unless that code itself sleeps on the clock. A node that waits for its child
run does not work in this sense: the child's nodes do, and the child's waits are there to be skipped. Waiting for a
concurrency slot, backing off and being suspended are waits, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

from pyflow.core.errors import NodeTimeoutError
from pyflow.core.ports import Clock, SkippingClock, SystemClock
from pyflow.execution.middleware import Handler, Middleware, NodeCall

ResultT = TypeVar("ResultT")


class Timers:
    """Limits on one clock. Seconds."""

    def __init__(self, clock: Clock) -> None:
        self._clock = None if type(clock) is SystemClock else clock

    def now(self) -> float:
        """A time to measure from; only differences mean anything."""
        return asyncio.get_running_loop().time() if self._clock is None else self._clock.time()

    async def within(self, seconds: float, work: Awaitable[ResultT], missed: str = "no result") -> ResultT:
        """The result of ``work``. After ``seconds`` it is cancelled and ``NodeTimeoutError`` raised.

        ``missed`` says in its message what there was not in time.
        """
        timer = asyncio.timeout(seconds if self._clock is None else None)
        alarm: asyncio.Task[None] | None = None
        try:
            async with timer:
                if self._clock is not None:
                    alarm = asyncio.create_task(_expire_after(self._clock, timer, seconds))
                try:
                    return await work
                finally:
                    if alarm is not None:
                        alarm.cancel()
        except TimeoutError:
            if timer.expired():
                raise NodeTimeoutError(f"{missed} within {seconds:g} s", kind="timeout") from None
            raise

    async def wait(self, task: asyncio.Task[Any] | asyncio.Future[Any], seconds: float) -> None:
        """Return when ``task`` is done, or after ``seconds``."""
        if self._clock is None:
            await asyncio.wait({task}, timeout=seconds)
            return
        alarm = asyncio.ensure_future(self._clock.sleep(seconds))
        try:
            await asyncio.wait({task, alarm}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            alarm.cancel()


async def _expire_after(clock: Clock, timer: asyncio.Timeout, seconds: float) -> None:
    await clock.sleep(seconds)
    timer.reschedule(asyncio.get_running_loop().time())


def standing_still(clock: SkippingClock) -> Middleware:
    """Middleware that informs ``clock`` while the code of a node executes."""

    async def middleware(call: NodeCall, run: Handler) -> object:
        if call.node.child:
            return await run(call)
        with clock.working():
            return await run(call)

    return middleware
