"""Waiting for the end of a run, for requests that asked for it (``Prefer: wait``).

The process that ends a run notifies all others (``bus.notify_ended``): its own threads at once, the rest through the
broker. What counts is the row, which is also read now and then, in case a notification was lost.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from uuid import UUID

from redis import Redis
from redis.exceptions import RedisError

from runs.notify import bus

logger = logging.getLogger(__name__)
#: How long until the row is read without a notification: at first, and at most. Seconds.
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0
#: Seconds until the next attempt to reach the broker.
RECONNECT_SECONDS = 1.0
CONNECT_TIMEOUT = 2.0
#: How often a quiet connection is looked after. Seconds.
POLL_SECONDS = 5.0
#: How long it is kept after the last request that waited. Seconds.
IDLE_SECONDS = 30.0


def await_ends(run_ids: Collection[UUID], seconds: float, have_ended: Callable[[], bool]) -> bool:
    """Wait up to ``seconds`` until ``have_ended`` says so; asked at first, after each notification, and regularly.

    Blocks this thread, and holds nothing else: ``have_ended`` gives its database connection back.
    """
    deadline, pause = time.monotonic() + seconds, FIRST_PAUSE
    with _watch.over(run_ids) as notified:
        while not have_ended():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            if notified.wait(min(left, pause)):
                notified.clear()
            pause = min(LONGEST_PAUSE, pause * 2)
    return True


class _Watch:
    """Who waits for which run. A thread listens to the broker while somebody waits, and a little longer.

    So nothing is left of it in a process that is idle, or whose broker is gone for good.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[UUID, list[threading.Event]] = defaultdict(list)
        self._listener: threading.Thread | None = None
        self._left = time.monotonic()
        self._is_away = False

    @contextmanager
    def over(self, run_ids: Collection[UUID]) -> Iterator[threading.Event]:
        """An event that is set by every notification about one of the runs."""
        notified = threading.Event()
        with self._lock:
            for run_id in run_ids:
                self._waiting[run_id].append(notified)
            if self._listener is None and bus.broker_url() is not None:
                self._listener = threading.Thread(target=self._listen, name="pyflow-endings", daemon=True)
                self._listener.start()
        try:
            yield notified
        finally:
            with self._lock:
                for run_id in run_ids:
                    self._waiting[run_id].remove(notified)
                    if not self._waiting[run_id]:
                        del self._waiting[run_id]
                self._left = time.monotonic()

    def notify(self, run_ids: Collection[UUID] | None) -> None:
        """Wake those that wait for these runs; ``None``: all, since notifications may have been missed."""
        with self._lock:
            for run_id in self._waiting.keys() if run_ids is None else self._waiting.keys() & set(run_ids):
                for notified in self._waiting[run_id]:
                    notified.set()

    def _listen(self) -> None:
        while self._is_needed():
            try:
                self._follow()
            except (RedisError, OSError) as error:
                if not self._is_needed():
                    return
                self._lose(error)

    def _is_needed(self) -> bool:
        """Whether somebody waits for what the broker says; if nobody does, the next who waits starts a new listener."""
        with self._lock:
            if self._waiting and bus.broker_url() is not None:
                return True
            self._listener = None
            return False

    def _lose(self, error: Exception) -> None:
        if not self._is_away:
            logger.warning("the broker does not answer; requests that wait look for themselves: %s", error)
        self._is_away = True
        time.sleep(RECONNECT_SECONDS)

    def _follow(self) -> None:
        """Pass on what the broker says, until nobody has waited for a while or it is another broker."""
        url = bus.broker_url()
        if url is None:
            return
        client = Redis.from_url(url, socket_connect_timeout=CONNECT_TIMEOUT, socket_timeout=POLL_SECONDS * 2)
        with client, client.pubsub() as channel:  # type: ignore[no-untyped-call]
            channel.subscribe(bus.ended_channel(url))
            while url == bus.broker_url() and not self._is_idle():
                message = channel.get_message(timeout=POLL_SECONDS)
                if message is not None:
                    self._is_away = False
                    self.notify(_run_ids(message["data"]) if message["type"] == "message" else None)

    def _is_idle(self) -> bool:
        with self._lock:
            return not self._waiting and time.monotonic() - self._left > IDLE_SECONDS


def _run_ids(data: bytes) -> list[UUID]:
    try:
        return [UUID(text) for text in data.decode().split(",")]
    except ValueError:
        return []  # not one of ours


def _notify(run_ids: Collection[UUID]) -> None:
    _watch.notify(run_ids)


def _start_anew() -> None:
    """In a forked child: there is no thread here, and the lock may be held for ever."""
    global _watch  # noqa: PLW0603 - one per process
    _watch = _Watch()


_watch = _Watch()
bus.subscribe_ended(_notify)
os.register_at_fork(after_in_child=_start_anew)
