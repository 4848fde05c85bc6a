"""An executor of runs inside the server's process: the single-node shape."""

from __future__ import annotations

import asyncio
import atexit
import logging
import threading
import time

from django.db import Error as DatabaseFailure
from django.db import connections

from pyflow.isolation import node_loop
from runs.queue.leases import PULSE_SECONDS, stall_seconds
from runs.storage import retention
from runs.worker.executor import RunExecutor

logger = logging.getLogger(__name__)
#: When what is kept no longer is removed: after the start, and from then on. Seconds.
FIRST_PRUNE_SECONDS, PRUNE_SECONDS = 60.0, 3600.0


class InProcessExecutor:
    """Keeps a ``RunExecutor`` at work on a thread of the server's own process: the single-node shape.

    One that ends by itself is replaced, and so is one whose event loop stands still for two leases: its runs are lost
    by then, and nothing that it does later is recorded.
    """

    def __init__(self) -> None:
        self._supervisor = threading.Thread(target=self._supervise, name="pyflow-supervisor", daemon=True)
        self._working: _Working | None = None
        self._ready = threading.Event()
        self._stopped = threading.Event()

    def start(self) -> None:
        """Begin; unfinished runs of an earlier process are taken up once their leases have ended."""
        self._supervisor.start()
        self._ready.wait()
        atexit.register(self.stop)

    def stop(self, timeout: float = 5.0) -> None:
        """Hand unfinished runs back and end the threads, waiting up to ``timeout`` seconds."""
        self._stopped.set()
        if self._working is not None:
            self._working.executor.stop()
        self._supervisor.join(timeout)
        atexit.unregister(self.stop)

    def _supervise(self) -> None:
        while not self._stopped.is_set():
            self._working = working = _Working(self._ready)
            working.start()
            if self._stopped.is_set():
                working.executor.stop()  # it was not there yet when `stop` looked
            while working.is_alive() and (self._stopped.is_set() or not working.stands_still):
                working.join(PULSE_SECONDS)
            if not self._stopped.is_set():
                logger.error("the executor %s; another one takes its place", working.fate)
                working.executor.stop()  # where it stands still: when it goes on
                self._stopped.wait(PULSE_SECONDS)


class _Working(threading.Thread):
    """One executor at work, and when its event loop was last seen to turn."""

    def __init__(self, ready: threading.Event) -> None:
        super().__init__(name="pyflow-executor", daemon=True)
        self.executor = RunExecutor()
        self._is_ready = ready
        self._turned = time.monotonic()

    @property
    def stands_still(self) -> bool:
        """Return whether the event loop has stalled for so long that others may have its runs."""
        return time.monotonic() - self._turned > stall_seconds()

    @property
    def fate(self) -> str:
        """Return the reason to replace it."""
        return f"did not turn its event loop for {stall_seconds():.0f} s" if self.is_alive() else "ended by itself"

    def run(self) -> None:
        """Execute runs until the executor is stopped, or breaks off."""
        try:
            node_loop.run(self._serve())
        except BaseException:  # whatever it is, its runs are claimed by another one
            logger.exception("the executor broke off")

    async def _serve(self) -> None:
        beside = [asyncio.ensure_future(work) for work in (_prune_now_and_then(), self._beat())]
        self._is_ready.set()
        try:
            await self.executor.serve()
        finally:
            for task in beside:
                task.cancel()

    async def _beat(self) -> None:
        while True:
            self._turned = time.monotonic()
            await asyncio.sleep(PULSE_SECONDS)


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
