"""Waiting for the end of a run, for requests that asked for it (``Prefer: wait``).

Whoever ends a run says so (``dispatch.ended``): in this process at once, to others by way of the broker. That is only
a hint; what counts is the row, which is also looked at now and then, in case a hint was lost.
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

from runs import dispatch

logger = logging.getLogger(__name__)
#: How long until the row is looked at without a hint: at first, and at most. Seconds.
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0
#: Seconds until the next attempt to reach the broker.
RECONNECT_SECONDS = 1.0
CONNECT_TIMEOUT = 2.0
#: How often a quiet connection is looked after. Seconds.
POLL_SECONDS = 5.0


def await_end(run_id: UUID, seconds: float, has_ended: Callable[[], bool]) -> bool:
    """Wait up to ``seconds`` until ``has_ended`` says so; it is asked at first, after every hint, and now and then.

    Blocks this thread, and holds nothing else: ``has_ended`` gives its database connection back.
    """
    deadline, pause = time.monotonic() + seconds, FIRST_PAUSE
    with _watch.over(run_id) as told:
        while not has_ended():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            if told.wait(min(left, pause)):
                told.clear()
            pause = min(LONGEST_PAUSE, pause * 2)
    return True


class _Watch:
    """Who waits for which run. The thread that listens to the broker starts with the first one that waits."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[UUID, list[threading.Event]] = defaultdict(list)
        self._listener: threading.Thread | None = None

    @contextmanager
    def over(self, run_id: UUID) -> Iterator[threading.Event]:
        """An event that is set by every hint about the run."""
        told = threading.Event()
        with self._lock:
            self._waiting[run_id].append(told)
            if self._listener is None and dispatch.broker_url() is not None:
                self._listener = threading.Thread(target=self._listen, name="pyflow-endings", daemon=True)
                self._listener.start()
        try:
            yield told
        finally:
            with self._lock:
                self._waiting[run_id].remove(told)
                if not self._waiting[run_id]:
                    del self._waiting[run_id]

    def tell(self, run_ids: Collection[UUID] | None) -> None:
        """Wake those that wait for these runs; ``None``: all, since hints may have been missed."""
        with self._lock:
            for run_id in self._waiting.keys() if run_ids is None else self._waiting.keys() & set(run_ids):
                for told in self._waiting[run_id]:
                    told.set()

    def _listen(self) -> None:
        is_away = False
        while (url := dispatch.broker_url()) is not None:
            try:
                self._follow(url)
            except (RedisError, OSError) as error:
                if not is_away:
                    logger.warning("the broker does not answer; requests that wait look for themselves: %s", error)
                is_away = True
            time.sleep(RECONNECT_SECONDS)
        with self._lock:
            self._listener = None

    def _follow(self, url: str) -> None:
        client = Redis.from_url(url, socket_connect_timeout=CONNECT_TIMEOUT, socket_timeout=POLL_SECONDS * 2)
        with client, client.pubsub() as channel:  # type: ignore[no-untyped-call]
            channel.subscribe(dispatch.end_channel(url))
            while url == dispatch.broker_url():
                message = channel.get_message(timeout=POLL_SECONDS)
                if message is not None:
                    self.tell(_run_ids(message["data"]) if message["type"] == "message" else None)


def _run_ids(data: bytes) -> list[UUID]:
    try:
        return [UUID(text) for text in data.decode().split(",")]
    except ValueError:
        return []  # not one of ours


def _tell(run_ids: Collection[UUID]) -> None:
    _watch.tell(run_ids)


def _start_anew() -> None:
    """In a forked child: there is no thread here, and the lock may be held for ever."""
    global _watch  # noqa: PLW0603 - one per process
    _watch = _Watch()


_watch = _Watch()
dispatch.attach_end(_tell)
os.register_at_fork(after_in_child=_start_anew)
