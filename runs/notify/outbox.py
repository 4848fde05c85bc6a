"""A thread that sends what other threads leave to it, so that none of them waits for the network."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

from pyflow.core.forks import renew_in_children

ItemT = TypeVar("ItemT")
ValueT = TypeVar("ValueT")
#: Items that are left for the thread beyond this are dropped: a broker that is slower than that is not helped by more.
MAX_PENDING = 50_000


class Outbox(Generic[ItemT, ValueT]):
    """Items to send, each once however often it is put. The thread starts with the first, and sends in batches.

    ``send`` is called on that thread with a batch, and must not raise. What is put while it sends, or within
    ``gather_seconds`` after it, makes the next batch. A forked child starts with nothing: its parent sends the rest.
    """

    def __init__(self, name: str, send: Callable[[Mapping[ItemT, ValueT | None]], None], gather_seconds: float) -> None:
        self._name = name
        self._send = send
        self._gather_seconds = gather_seconds
        self._thread: threading.Thread | None = None
        self.renew()
        renew_in_children(self)

    def put(self, item: ItemT, value: ValueT | None = None) -> None:
        """Send ``item`` soon. Of equal items, one is sent, with the last value that is not ``None``."""
        with self._changed:
            if item in self._pending:
                if value is not None:
                    self._pending[item] = value
                return
            if len(self._pending) >= MAX_PENDING:
                return
            self._pending[item] = value
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def flush(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds until everything is sent, or given up; return whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._pending and not self._is_sending, timeout)

    def close(self) -> None:
        """End the thread once it has sent what is pending. What is put later starts another."""
        with self._changed:
            self._is_closing = self._thread is not None
            self._changed.notify_all()

    def renew(self) -> None:
        """Start with nothing, in a forked child."""
        #: Guards all that follows; notified when any of it changes.
        self._changed = threading.Condition()
        self._pending: dict[ItemT, ValueT | None] = {}
        self._is_sending = False
        self._is_closing = False
        self._thread = None

    def _work(self) -> None:
        while True:
            with self._changed:
                self._is_sending = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._pending or self._is_closing)
                if not self._pending:
                    self._thread, self._is_closing = None, False
                    return
                batch, self._pending, self._is_sending = self._pending, {}, True
            self._send(batch)
            time.sleep(self._gather_seconds)
