"""An executor of runs inside the server's process: the single-node shape."""

from __future__ import annotations

import asyncio
import atexit
import threading

from runs import dispatch
from runs.execution import RunExecutor


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
        await executor.serve()
