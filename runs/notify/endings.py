"""Waiting for the end of a run, for requests that asked for it (``Prefer: wait``).

The process that ends a run publishes it. What counts is the row, which is also read now and then, in case a
notification was lost.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

from pyflow.core.forks import renew_in_children
from pyflow.core.ports import MISSED, EventBus, Notification, Subscription

#: The topic of ended runs: a message has their ids, with commas between them.
ENDED = "ended"
#: The most ids in one message.
MAX_IDS = 400


@dataclass(frozen=True, slots=True)
class Pauses:
    """Intervals after which a waiting request looks without a notification. Seconds."""

    #: Until the row is read without one, at first and at most.
    first: float = 0.1
    longest: float = 2.0
    #: How long the subscription is kept after the last request that waited.
    idle: float = 30.0


class EndWaiters:
    """Requests of this process that wait for ends of runs. They share one subscription, which is kept for a while."""

    def __init__(self, bus: EventBus, pauses: Pauses = Pauses()) -> None:
        self._bus = bus
        self._pauses = pauses
        self.renew()
        renew_in_children(self)

    def renew(self) -> None:
        """Start with nothing, in a forked child."""
        #: Guards what follows.
        self._lock = threading.Lock()
        self._waiting: dict[UUID, list[threading.Event]] = defaultdict(list)
        self._subscription: Subscription | None = None
        self._idle_since = time.monotonic()

    def await_ends(self, run_ids: Collection[UUID], seconds: float, have_ended: Callable[[], bool]) -> bool:
        """Wait up to ``seconds`` until ``have_ended`` says so; asked at first, after each notification, and regularly.

        Blocks this thread, and holds nothing else: ``have_ended`` gives its database connection back.
        """
        deadline, pause = time.monotonic() + seconds, self._pauses.first
        with self._notified_of(run_ids) as notified:
            while not have_ended():
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                if notified.wait(min(left, pause)):
                    notified.clear()
                pause = min(self._pauses.longest, pause * 2)
        return True

    @contextmanager
    def _notified_of(self, run_ids: Collection[UUID]) -> Iterator[threading.Event]:
        """An event that is set by every notification about one of the runs."""
        notified = threading.Event()
        with self._lock:
            for run_id in run_ids:
                self._waiting[run_id].append(notified)
            if self._subscription is None:
                self._subscription = self._bus.subscribe([ENDED], self._receive)
        try:
            yield notified
        finally:
            with self._lock:
                for run_id in run_ids:
                    self._waiting[run_id].remove(notified)
                    if not self._waiting[run_id]:
                        del self._waiting[run_id]
                self._idle_since = time.monotonic()

    def _receive(self, notification: Notification) -> None:
        run_ids = None if notification is MISSED else _run_ids(notification.message)
        with self._lock:
            for run_id in list(self._waiting) if run_ids is None else self._waiting.keys() & run_ids:
                for notified in self._waiting[run_id]:
                    notified.set()
            is_idle = not self._waiting and time.monotonic() - self._idle_since >= self._pauses.idle
            idle, self._subscription = (self._subscription, None) if is_idle else (None, self._subscription)
        if idle is not None:
            idle.close()


def _run_ids(message: str) -> set[UUID]:
    try:
        return {UUID(text) for text in message.split(",")}
    except ValueError:
        return set()  # not one of ours
