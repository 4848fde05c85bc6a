"""One thread with one connection, for what an event loop asks of the database."""

from __future__ import annotations

import queue
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from django.db import connections

ResultT = TypeVar("ResultT")
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
