"""An executor of runs inside the server's process: the single-node shape."""

from __future__ import annotations

import asyncio
import atexit
import logging
import threading

from django.db import Error as DatabaseFailure
from django.db import connections

from runs import dispatch, retention
from runs.execution import RunExecutor

logger = logging.getLogger(__name__)
#: When what is kept no longer is removed: after the start, and from then on. Seconds.
FIRST_PRUNE_SECONDS, PRUNE_SECONDS = 60.0, 3600.0


class InProcessExecutor:
    """A ``RunExecutor`` on a thread of the server's own process: the single-node shape."""

    def __init__(self) -> None:
        self._thread = threading.Thread(target=self._run, name="pyflow-executor", daemon=True)
        self._executor: RunExecutor | None = None
        self._ready = threading.Event()

    def start(self) -> None:
        """Begin; unfinished runs of an earlier process are taken up once their leases have ended."""
        self._thread.start()
        self._ready.wait()
        atexit.register(self.stop)

    def stop(self, timeout: float = 5.0) -> None:
        """Hand unfinished runs back and end the thread, waiting up to ``timeout`` seconds."""
        if self._executor is not None:
            dispatch.detach(self._executor.ring)
            self._executor.stop()
            self._thread.join(timeout)
            self._executor = None
        atexit.unregister(self.stop)

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        executor = RunExecutor()
        self._executor = executor
        dispatch.attach(executor.ring)
        self._ready.set()
        pruning = asyncio.ensure_future(_prune_now_and_then())
        try:
            await executor.serve()
        finally:
            pruning.cancel()


async def _prune_now_and_then() -> None:
    """There is no beat here."""
    pause = FIRST_PRUNE_SECONDS
    while True:
        await asyncio.sleep(pause)
        await asyncio.to_thread(_prune)
        pause = PRUNE_SECONDS


def _prune() -> None:
    try:
        retention.prune()
    except DatabaseFailure as error:
        logger.warning("nothing more is pruned for now: %s", error)
    finally:
        connections.close_all()
