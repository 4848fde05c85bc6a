"""Threads for nodes that block: a bounded number at work, and none that is held for ever.

A thread cannot be killed. When nobody waits for a call any more (its node timed out or was cancelled), its thread is
given up and no longer counts; it ends when the call does. ``asyncio``'s own pool would be used up by a few such calls,
and would keep the process from ending.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from pyflow.isolation.node_loop import end_if_forked

MAX_THREADS = 32


class _Call(Future[Any]):
    """A call whose cancellation, once it runs, gives its thread up."""

    def __init__(self, on_given_up: Callable[[], None]) -> None:
        super().__init__()
        self._on_given_up = on_given_up
        self.given_up = False

    def cancel(self) -> bool:
        """Cancel the future. A call that is running continues, but its result is dropped."""
        if super().cancel():
            return True
        if self.running() and not self.given_up:
            self.given_up = True
            self._on_given_up()
        return False


class NodeThreads(ThreadPoolExecutor):
    """The default executor of an event loop that executes nodes (asyncio demands this base class, used for no more)."""

    def __init__(self, limit: int = MAX_THREADS) -> None:
        super().__init__(max_workers=1)
        self._limit = limit
        self._lock = threading.Lock()
        self._calls: queue.SimpleQueue[tuple[_Call, Callable[[], Any]] | None] = queue.SimpleQueue()
        self._running = 0
        self._idle = 0
        self._given_up = 0

    @property
    def given_up(self) -> int:
        """Count the threads whose calls were given up and still execute."""
        return self._given_up

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call ``fn`` in a thread."""
        call = _Call(self._replace_thread)
        with self._lock:
            self._calls.put((call, lambda: fn(*args, **kwargs)))
            if self._idle:
                self._idle -= 1
            else:
                self._add_thread()
        return call

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the threads that have nothing to do. Does not wait: a call may never return."""
        del wait, cancel_futures
        with self._lock:
            for _ in range(self._running):
                self._calls.put(None)

    def _replace_thread(self) -> None:
        with self._lock:
            self._given_up += 1
            self._running -= 1
            if not self._calls.empty():
                self._add_thread()

    def _add_thread(self) -> None:
        if self._running < self._limit:
            self._running += 1
            threading.Thread(target=self._work, name="pyflow-node", daemon=True).start()

    def _work(self) -> None:
        while (taken := self._calls.get()) is not None:
            call, work = taken
            if call.set_running_or_notify_cancel():
                _settle(call, work)
            with self._lock:
                if call.given_up:
                    self._given_up -= 1
                    return
                if self._calls.empty():
                    self._idle += 1


def _settle(call: _Call, work: Callable[[], Any]) -> None:
    try:
        result = work()
    except (StopIteration, GeneratorExit) as error:  # no coroutine can be given these: who waits would wait for ever
        failure = RuntimeError(f"the call raised {type(error).__name__}")
        failure.__cause__ = error
        call.set_exception(failure)
    except BaseException as error:  # noqa: BLE001 - it belongs to whoever waits
        call.set_exception(error)
    else:
        call.set_result(result)
    finally:
        end_if_forked()
