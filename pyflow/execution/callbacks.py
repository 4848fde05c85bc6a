"""Passes the events of a run on to a callback, or to an asynchronous iterator, as they happen."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable

from pyflow.core.events import Event
from pyflow.core.ports import EventSink

logger = logging.getLogger(__name__)
#: Called on the engine's event loop with each event, in order; it must not block.
OnEvent = Callable[[Event], object]


class CallbackSink:
    """A sink that calls back for each event once the sink behind it has it.

    A callback that raises does not harm the run: the exception is logged, and the next event is passed on.
    """

    def __init__(self, inner: EventSink, on_event: OnEvent) -> None:
        self._inner = inner
        self._on_event = on_event

    def emit(self, event: Event) -> None:
        """Pass on a start, or progress."""
        self._inner.emit(event)
        self._call(event)

    async def commit(self, event: Event) -> None:
        """Pass on a completion, once it is as durable as the sink behind makes it."""
        await self._inner.commit(event)
        self._call(event)

    def _call(self, event: Event) -> None:
        try:
            self._on_event(event)
        except Exception:
            logger.exception("a callback failed for the event %s of run %s", event.type, event.run_id)


async def events_until(done: asyncio.Task[object], queue: asyncio.Queue[Event]) -> AsyncIterator[Event]:
    """Yield what comes into a queue until a task is done and the queue is empty; then raise what the task raised."""
    while not (done.done() and queue.empty()):
        reading = asyncio.ensure_future(queue.get())
        await asyncio.wait({done, reading}, return_when=asyncio.FIRST_COMPLETED)
        if reading.done():
            yield reading.result()
        else:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
    done.result()
