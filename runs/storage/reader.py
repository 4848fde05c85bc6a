"""One thread with one connection, for what an event loop asks of the database."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from django.db import InterfaceError, OperationalError, connections

logger = logging.getLogger(__name__)
ResultT = TypeVar("ResultT")
#: After so long a database that was away is asked again. Seconds.
ASK_AGAIN_SECONDS = 1.0
#: Calls a function with its arguments on an executor's thread for the database, and gives what it returns.
Call = Callable[..., Awaitable[Any]]


class Reader:
    """The thread of one executor. Not a ``ThreadPoolExecutor``: those refuse work while the process ends, which is when
    unfinished runs are handed back."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        threading.Thread(target=self._work, name="pyflow-reader", daemon=True).start()

    def submit(self, function: Callable[..., ResultT], *args: Any) -> Future[ResultT]:
        """Call ``function`` there, after what was submitted before; the future has its result."""
        future: Future[ResultT] = Future()

        def work() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(function(*args))
            except BaseException as error:  # noqa: BLE001 - it belongs to whoever waits
                connections.close_all()  # it may be the connection that is broken; the next call makes a new one
                future.set_exception(error)

        self._queue.put(work)
        return future

    def stop(self) -> None:
        """End once everything that was submitted is done."""
        self._queue.put(None)

    def _work(self) -> None:
        while (work := self._queue.get()) is not None:
            work()
        connections.close_all()


async def answered(call: Call, question: Callable[..., ResultT], *args: Any) -> ResultT:
    """Await an answer of the database. Retries while it is unreachable: that is no failure of a node or a run.

    ``question`` may be asked again after it was done, if the answer was lost. If the database stays away, the executor
    gives the run up, and this with it.
    """
    while True:
        try:
            answer: ResultT = await call(question, *args)
            return answer
        except (OperationalError, InterfaceError) as error:
            logger.warning("the database does not answer, asking again: %s", error)
            await asyncio.sleep(ASK_AGAIN_SECONDS)
