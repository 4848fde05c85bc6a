"""Tells executors that there is work, or news. The committed row is the job; this is only the doorbell.

Losing every ring, or hearing each twice, changes nothing but latency: executors look for themselves now and then.
What goes through the broker is sent by one thread per process: whoever rings never waits for the network.

A ring is published to the executors that are awake; only when nobody hears it, a Celery message wakes one. So there are
few messages however many runs there are, and none in the way of a run while an executor is at hand.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit
from uuid import UUID

import redis
from celery import current_app
from django.conf import settings
from django.db import transaction

logger = logging.getLogger(__name__)
EXECUTE_TASK = "runs.execute"
#: So many messages may lie in a queue unheard; each wakes an executor, which drives many runs.
MAX_MESSAGES = 8
#: An executor that is full wakes another one, but not more often than this. Seconds.
PASS_ON_SECONDS = 0.5
#: How long the end of the process waits for what is not sent yet. Seconds.
EXIT_SECONDS = 1.0
#: What is rung within this time of the last sending is sent together. Seconds.
GATHER_SECONDS = 0.005
#: How long what is sent waits for the broker. Seconds.
SEND_TIMEOUT = 1.0

_lock = threading.Lock()
_doorbells: list[Callable[[], None]] = []
_end_bells: list[Callable[[Collection[UUID]], None]] = []


def attach(doorbell: Callable[[], None]) -> None:
    """Ring ``doorbell`` (from any thread) for every run that is committed in this process."""
    with _lock:
        _doorbells.append(doorbell)


def detach(doorbell: Callable[[], None]) -> None:
    """Ring it no more."""
    with _lock:
        _doorbells.remove(doorbell)


def has_executor() -> bool:
    """Whether an executor of this process is at work."""
    with _lock:
        return bool(_doorbells)


def nudge(queue: str = "") -> None:
    """Ring for runs of ``queue`` once the current transaction is committed (at once outside of one)."""
    transaction.on_commit(lambda: ring(queue))


def hint(run_id: UUID) -> None:
    """Tell the executor of a run, wherever it is, to look for news of it; once the transaction is committed."""
    transaction.on_commit(lambda: _tell(run_id))


def attach_end(bell: Callable[[Collection[UUID]], None]) -> None:
    """Tell ``bell`` (from any thread) of the runs that end in this process, for as long as it lives."""
    with _lock:
        _end_bells.append(bell)


def ended(run_ids: Collection[UUID]) -> None:
    """Tell whoever waits for the end of one of these runs, wherever it is; once the transaction is committed."""
    transaction.on_commit(lambda: _tell_ended(run_ids))


def ring(queue: str = "") -> None:
    """Ring now. Never raises and never waits: if the broker is away, the sweeper finds the run."""
    _ring_here()
    if settings.PYFLOW_EXECUTOR == "celery":
        _sender.put(rings={queue})


def wake(queue: str = "") -> None:
    """Wake one more executor: those that are awake may be full, or frozen."""
    _ring_here()
    if settings.PYFLOW_EXECUTOR == "celery":
        _sender.put(wakes={queue})


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


def ring_channel(url: str, queue: str) -> str:
    """Where rings for a queue go."""
    return f"pyflow:{urlsplit(url).path.strip('/') or '0'}:ring:{queue}"


def end_channel(url: str) -> str:
    """Where it is said which runs have ended; see ``hint_channel``."""
    return f"pyflow:{urlsplit(url).path.strip('/') or '0'}:ended"


def celery_queue(queue: str) -> str:
    """Celery's name of a queue; its default one has none of ours."""
    return queue or str(current_app.conf.task_default_queue)


def _ring_here() -> None:
    with _lock:
        doorbells = list(_doorbells)
    for doorbell in doorbells:
        doorbell()


def _tell(run_id: UUID) -> None:
    _ring_here()
    if settings.PYFLOW_EXECUTOR == "celery":
        _sender.put(hints={run_id})


def _tell_ended(run_ids: Collection[UUID]) -> None:
    with _lock:
        bells = list(_end_bells)
    for bell in bells:
        bell(run_ids)
    if settings.PYFLOW_EXECUTOR == "celery":
        _sender.put(ended=run_ids)


@dataclass(slots=True)
class _Parcel:
    """What is to be sent: each of it once, however often it was asked for."""

    rings: set[str] = field(default_factory=set)
    wakes: set[str] = field(default_factory=set)
    hints: set[UUID] = field(default_factory=set)
    ended: set[UUID] = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self.rings or self.wakes or self.hints or self.ended)


class _Sender:
    """The thread that talks to the broker. It starts with the first ring and sends what has come together since."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._parcel = _Parcel()
        self._sending = False
        self._thread: threading.Thread | None = None
        self._client: redis.Redis | None = None
        self._client_url = ""
        self._is_away = False

    def put(
        self,
        *,
        rings: Collection[str] = (),
        wakes: Collection[str] = (),
        hints: Collection[UUID] = (),
        ended: Collection[UUID] = (),
    ) -> None:
        """Send rings or wake-up calls for queues, hints to look at runs, or which have ended, soon."""
        with self._changed:
            self._parcel.rings.update(rings)
            self._parcel.wakes.update(wakes)
            self._parcel.hints.update(hints)
            self._parcel.ended.update(ended)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="pyflow-doorbell", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def settle(self, timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        with self._changed:
            while self._parcel or self._sending:
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
                while not self._parcel:
                    self._changed.wait()
                parcel, self._parcel, self._sending = self._parcel, _Parcel(), True
            self._send(parcel)
            time.sleep(GATHER_SECONDS)

    def _send(self, parcel: _Parcel) -> None:
        try:
            unheard = self._publish(parcel)
            for queue in sorted(unheard | parcel.wakes):
                self._message(queue)
        except Exception:
            if not self._is_away:
                logger.warning("the broker does not answer; the sweeper will find the runs", exc_info=True)
            self._is_away = True
        else:
            if self._is_away:
                logger.info("the broker answers again")
            self._is_away = False

    def _publish(self, parcel: _Parcel) -> set[str]:
        """Publish rings and hints; the queues whose ring nobody heard."""
        client, url = self._connected(), broker_url()
        rings = sorted(parcel.rings)
        if client is None or url is None:
            return parcel.rings  # a broker without channels
        if not rings and not parcel.hints and not parcel.ended:
            return set()
        with client.pipeline(transaction=False) as pipeline:
            for queue in rings:
                pipeline.publish(ring_channel(url, queue), "")
            for run_id in parcel.hints:
                pipeline.publish(hint_channel(url), str(run_id))
            if parcel.ended:
                pipeline.publish(end_channel(url), ",".join(map(str, parcel.ended)))
            heard = pipeline.execute()
        return {queue for queue, listeners in zip(rings, heard, strict=False) if not listeners}

    def _message(self, queue: str) -> None:
        name, client = celery_queue(queue), self._connected()
        if client is None or client.llen(name) < MAX_MESSAGES:
            current_app.send_task(EXECUTE_TASK, queue=name, ignore_result=True, expires=60)

    def _connected(self) -> redis.Redis | None:
        url = broker_url()
        if url is None:
            return None
        if self._client is None or self._client_url != url:
            if self._client is not None:
                self._client.close()
            self._client_url = url
            self._client = redis.Redis.from_url(
                url, socket_connect_timeout=SEND_TIMEOUT, socket_timeout=SEND_TIMEOUT, retry=None
            )
        return self._client


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
