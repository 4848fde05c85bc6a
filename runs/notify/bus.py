"""Notify executors of queued runs and of news about runs. The committed row is the job; this only saves time.

Losing every notification, or receiving each twice, changes nothing but latency: executors also poll. One thread per
process sends what goes through the broker: a caller never waits for the network.

That a run is queued is published to the executors that are awake; only if none receives it, a Celery message wakes one.
So there are few messages however many runs there are, and none delays a run while an executor is awake.
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
#: At most so many messages wait in a queue; each wakes an executor, which drives many runs.
MAX_MESSAGES = 8
#: An executor that is full wakes another one, but not more often than this. Seconds.
PASS_ON_SECONDS = 0.5
#: How long the end of the process waits for what is not sent yet. Seconds.
EXIT_SECONDS = 1.0
#: What is published within this time of the last sending is sent together. Seconds.
GATHER_SECONDS = 0.005
#: How long what is sent waits for the broker. Seconds.
SEND_TIMEOUT = 1.0

_lock = threading.Lock()
_subscribers: list[Callable[[], None]] = []
_end_subscribers: list[Callable[[Collection[UUID]], None]] = []


def subscribe(subscriber: Callable[[], None]) -> None:
    """Call ``subscriber`` (from any thread) for every run that is committed in this process."""
    with _lock:
        _subscribers.append(subscriber)


def unsubscribe(subscriber: Callable[[], None]) -> None:
    """Call it no more."""
    with _lock:
        _subscribers.remove(subscriber)


def has_executor() -> bool:
    """Whether an executor of this process is at work."""
    with _lock:
        return bool(_subscribers)


def notify_queued(queue: str = "") -> None:
    """Notify executors of runs in ``queue`` once the current transaction is committed (at once outside of one)."""
    transaction.on_commit(lambda: notify_queued_now(queue))


def notify_news(run_id: UUID) -> None:
    """Notify the executor of a run, in whatever process, of news about it; once the transaction is committed."""
    transaction.on_commit(lambda: _notify_news(run_id))


def subscribe_ended(subscriber: Callable[[Collection[UUID]], None]) -> None:
    """Call ``subscriber`` (from any thread) with the runs that end in this process, for as long as it lives."""
    with _lock:
        _end_subscribers.append(subscriber)


def notify_ended(run_ids: Collection[UUID]) -> None:
    """Notify every process that waits for the end of one of these runs; once the transaction is committed."""
    transaction.on_commit(lambda: _notify_ended(run_ids))


def notify_queued_now(queue: str = "") -> None:
    """Notify at once. Never raises and never waits: if the broker is away, the sweeper finds the run."""
    _notify_here()
    if settings.PYFLOW_EXECUTOR == "celery":
        _sender.put(queued={queue})


def wake_worker(queue: str = "") -> None:
    """Wake one more executor: those that are awake may be full, or frozen."""
    _notify_here()
    if settings.PYFLOW_EXECUTOR == "celery":
        _sender.put(wakes={queue})


def flush(timeout: float) -> bool:
    """Wait up to ``timeout`` seconds until everything is sent, or given up; return whether it is."""
    return _sender.flush(timeout)


def broker_url() -> str | None:
    """The Redis that carries notifications; ``None`` where executors and the rest are one process."""
    url = str(current_app.conf.broker_url or "")
    is_redis = urlsplit(url).scheme in {"redis", "rediss", "unix"}
    return url if settings.PYFLOW_EXECUTOR == "celery" and is_redis else None


def news_channel(url: str) -> str:
    """The channel of news about runs. The databases of a Redis share channels: ours has the number in it."""
    return f"pyflow:{urlsplit(url).path.strip('/') or '0'}:news"


def queued_channel(url: str, queue: str) -> str:
    """The channel of queued runs of a queue."""
    return f"pyflow:{urlsplit(url).path.strip('/') or '0'}:queued:{queue}"


def ended_channel(url: str) -> str:
    """The channel of ended runs."""
    return f"pyflow:{urlsplit(url).path.strip('/') or '0'}:ended"


def celery_queue(queue: str) -> str:
    """Celery's name of a queue; its default one has none of ours."""
    return queue or str(current_app.conf.task_default_queue)


def _notify_here() -> None:
    with _lock:
        subscribers = list(_subscribers)
    for notify in subscribers:
        notify()


def _notify_news(run_id: UUID) -> None:
    _notify_here()
    if settings.PYFLOW_EXECUTOR == "celery":
        _sender.put(news={run_id})


def _notify_ended(run_ids: Collection[UUID]) -> None:
    with _lock:
        subscribers = list(_end_subscribers)
    for notify in subscribers:
        notify(run_ids)
    if settings.PYFLOW_EXECUTOR == "celery":
        _sender.put(ended=run_ids)


@dataclass(slots=True)
class _Batch:
    """What is to be sent: each of it once, however often it was asked for."""

    queued: set[str] = field(default_factory=set)
    wakes: set[str] = field(default_factory=set)
    news: set[UUID] = field(default_factory=set)
    ended: set[UUID] = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self.queued or self.wakes or self.news or self.ended)


class _Sender:
    """The thread that talks to the broker. It starts with the first notification and sends what has gathered since."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._batch = _Batch()
        self._sending = False
        self._thread: threading.Thread | None = None
        self._client: redis.Redis | None = None
        self._client_url = ""
        self._is_away = False

    def put(
        self,
        *,
        queued: Collection[str] = (),
        wakes: Collection[str] = (),
        news: Collection[UUID] = (),
        ended: Collection[UUID] = (),
    ) -> None:
        """Send soon: queues with queued runs, queues to wake a worker for, runs with news, ended runs."""
        with self._changed:
            self._batch.queued.update(queued)
            self._batch.wakes.update(wakes)
            self._batch.news.update(news)
            self._batch.ended.update(ended)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="pyflow-notify", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def flush(self, timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        with self._changed:
            while self._batch or self._sending:
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
                while not self._batch:
                    self._changed.wait()
                batch, self._batch, self._sending = self._batch, _Batch(), True
            self._send(batch)
            time.sleep(GATHER_SECONDS)

    def _send(self, batch: _Batch) -> None:
        try:
            unreceived = self._publish(batch)
            for queue in sorted(unreceived | batch.wakes):
                self._message(queue)
        except Exception:
            if not self._is_away:
                logger.warning("the broker does not answer; the sweeper will find the runs", exc_info=True)
            self._is_away = True
        else:
            if self._is_away:
                logger.info("the broker answers again")
            self._is_away = False

    def _publish(self, batch: _Batch) -> set[str]:
        """Publish a batch; return the queues for which no executor received it."""
        client, url = self._connected(), broker_url()
        queued = sorted(batch.queued)
        if client is None or url is None:
            return batch.queued  # a broker without channels
        if not queued and not batch.news and not batch.ended:
            return set()
        with client.pipeline(transaction=False) as pipeline:
            for queue in queued:
                pipeline.publish(queued_channel(url, queue), "")
            for run_id in batch.news:
                pipeline.publish(news_channel(url), str(run_id))
            if batch.ended:
                pipeline.publish(ended_channel(url), ",".join(map(str, batch.ended)))
            received = pipeline.execute()
        return {queue for queue, listeners in zip(queued, received, strict=False) if not listeners}

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
    """In a forked child: there is no thread here, locks may be held for ever, and the parent sends what is left."""
    global _sender, _lock
    _sender, _lock = _Sender(), threading.Lock()


def _flush_at_exit() -> None:
    with suppress(RuntimeError):  # a thread can no longer be waited for
        _sender.flush(EXIT_SECONDS)


os.register_at_fork(after_in_child=_start_anew)
atexit.register(_flush_at_exit)
