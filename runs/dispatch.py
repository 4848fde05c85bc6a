"""Tells executors that there is work, or news. The committed row is the job; this is only the doorbell.

Losing every ring, or hearing each twice, changes nothing but latency: executors look for themselves now and then.
What goes through the broker is sent by one thread per process: whoever rings never waits for the network.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from urllib.parse import urlsplit
from uuid import UUID

import redis
from celery import current_app
from django.conf import settings
from django.db import transaction

logger = logging.getLogger(__name__)
EXECUTE_TASK = "runs.execute"
#: Rings that come together wake so many executors at most; each of them drives many runs.
MAX_MESSAGES = 8
#: How long the end of the process waits for what is not sent yet. Seconds.
EXIT_SECONDS = 1.0
#: How long a hint waits for the broker. Seconds.
HINT_TIMEOUT = 1.0

_lock = threading.Lock()
_doorbells: list[Callable[[], None]] = []


def attach(doorbell: Callable[[], None]) -> None:
    """Ring ``doorbell`` (from any thread) for every run that is committed in this process."""
    with _lock:
        _doorbells.append(doorbell)


def detach(doorbell: Callable[[], None]) -> None:
    """Ring it no more."""
    with _lock:
        _doorbells.remove(doorbell)


def nudge() -> None:
    """Ring once the current transaction is committed (at once outside of one)."""
    transaction.on_commit(ring)


def hint(run_id: UUID) -> None:
    """Tell the executor of a run, wherever it is, to look for news of it; once the transaction is committed."""
    transaction.on_commit(lambda: _tell(run_id))


def ring() -> None:
    """Ring now. Never raises and never waits: if the broker is away, the sweeper finds the run."""
    _ring_here()
    if settings.PYFLOW_EXECUTOR == "celery":
        _sender.put()


def settle(timeout: float) -> bool:
    """Wait up to ``timeout`` seconds until everything that was rung is sent, or given up; whether it is."""
    return _sender.settle(timeout)


def broker_url() -> str | None:
    """The Redis that carries rings and hints; ``None`` where executors and the rest are one process."""
    url = str(current_app.conf.broker_url or "")
    is_redis = urlsplit(url).scheme in {"redis", "rediss", "unix"}
    return url if settings.PYFLOW_EXECUTOR == "celery" and is_redis else None


def hint_channel(url: str) -> str:
    """Where hints go. Channels, unlike keys, are common to all databases of a Redis: ours has the number in it."""
    return f"pyflow:{urlsplit(url).path.strip('/') or '0'}:look"


def _ring_here() -> None:
    with _lock:
        doorbells = list(_doorbells)
    for doorbell in doorbells:
        doorbell()


def _tell(run_id: UUID) -> None:
    _ring_here()
    if settings.PYFLOW_EXECUTOR == "celery":
        _sender.put(run_id)


class _Sender:
    """The thread that talks to the broker. It starts with the first ring and sends what has come together since."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._rings = 0
        self._hints: set[UUID] = set()
        self._sending = False
        self._thread: threading.Thread | None = None
        self._client: redis.Redis | None = None
        self._client_url = ""
        self._is_away = False

    def put(self, run_id: UUID | None = None) -> None:
        """Send a ring, or the hint to look at a run, soon."""
        with self._changed:
            if run_id is None:
                self._rings = min(MAX_MESSAGES, self._rings + 1)
            else:
                self._hints.add(run_id)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="pyflow-doorbell", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def settle(self, timeout: float) -> bool:
        """See the module's ``settle``."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while self._rings or self._hints or self._sending:
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self._changed.wait(left)
        return True

    def _work(self) -> None:
        while True:
            with self._changed:
                self._sending = False
                self._changed.notify_all()
                while not self._rings and not self._hints:
                    self._changed.wait()
                rings, hints = self._rings, self._hints
                self._rings, self._hints, self._sending = 0, set(), True
            self._send(rings, hints)

    def _send(self, rings: int, hints: Collection[UUID]) -> None:
        try:
            if hints:
                self._publish(hints)
            for _ in range(rings):
                current_app.send_task(EXECUTE_TASK, ignore_result=True, expires=60)
        except Exception:
            if not self._is_away:
                logger.warning("the broker does not answer; the sweeper will find the runs", exc_info=True)
            self._is_away = True
        else:
            if self._is_away:
                logger.info("the broker answers again")
            self._is_away = False

    def _publish(self, hints: Collection[UUID]) -> None:
        url = broker_url()
        if url is None:
            return  # a broker without channels
        if self._client is None or self._client_url != url:
            if self._client is not None:
                self._client.close()
            self._client_url = url
            self._client = redis.Redis.from_url(
                url, socket_connect_timeout=HINT_TIMEOUT, socket_timeout=HINT_TIMEOUT, retry=None
            )
        with self._client.pipeline(transaction=False) as pipeline:
            for run_id in hints:
                pipeline.publish(hint_channel(url), str(run_id))
            pipeline.execute()


_sender = _Sender()


def _start_anew() -> None:
    """In a forked child: there is no thread here, the lock may be held for ever, and the parent sends what is left."""
    global _sender  # noqa: PLW0603 - one per process
    _sender = _Sender()


def _flush_at_exit() -> None:
    with suppress(RuntimeError):  # a thread can no longer be waited for
        _sender.settle(EXIT_SECONDS)


os.register_at_fork(after_in_child=_start_anew)
atexit.register(_flush_at_exit)
