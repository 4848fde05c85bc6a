"""Waking an executor when none has received that runs are queued."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Protocol

import redis
from celery import current_app

from plumbing.redis_clients import redis_client
from pyflow.core.forks import renew_in_children
from pyflow.core.ports import EventBus
from runs.notify.broker import broker_url
from runs.notify.outbox import Outbox

logger = logging.getLogger(__name__)
EXECUTE_TASK = "runs.execute"
#: At most so many messages wait in a queue; each wakes an executor, which drives many runs.
MAX_MESSAGES = 8
#: Requests to wake workers that come within this time of the last sending are sent together. Seconds.
GATHER_SECONDS = 0.005
#: The topic of executors that serve all queues. No queue has this name.
ANY_QUEUE = "queued:*"


class Workers(Protocol):
    """The executors of an installation."""

    @property
    def are_remote(self) -> bool:
        """Return whether executors are in processes of their own, and report their queues to the broker."""

    def wake(self, queue: str) -> None:
        """Wake one more executor for runs of ``queue``. Never raises and never waits."""

    def flush(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds until what wakes them is sent, or given up; return whether it is."""


class LocalWorkers:
    """Executors in the processes that the bus reaches anyway, each of which serves all queues."""

    are_remote = False

    def __init__(self, bus: EventBus) -> None:
        self._bus = bus

    def wake(self, queue: str) -> None:
        """Publish to executors that serve all queues."""
        self._bus.publish(ANY_QUEUE, queue)

    def flush(self, timeout: float) -> bool:  # noqa: ARG002 - there is nothing to wait for
        """Return true: the bus sends it."""
        return True


class CeleryWorkers:
    """Executors in Celery workers, which a Celery message starts."""

    are_remote = True

    def __init__(self) -> None:
        self._outbox: Outbox[str, None] = Outbox("pyflow-wake", self._send, GATHER_SECONDS)
        self.renew()
        renew_in_children(self)

    def wake(self, queue: str) -> None:
        """Send a Celery message soon, unless many wait in its queue already."""
        self._outbox.put(queue)

    def flush(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds until all messages are sent, or given up; return whether they are."""
        return self._outbox.flush(timeout)

    def renew(self) -> None:
        """Use connections of its own, in a forked child."""
        #: Owned by the outbox's thread.
        self._client: redis.Redis | None = None
        self._is_away = False

    def _send(self, batch: Mapping[str, None]) -> None:
        try:
            for queue in sorted(batch):
                self._message(celery_queue(queue))
        except Exception:
            if not self._is_away:
                logger.warning("the broker does not answer; the sweeper will find the runs", exc_info=True)
            self._is_away = True
        else:
            if self._is_away:
                logger.info("the broker answers again")
            self._is_away = False

    def _message(self, name: str) -> None:
        url = broker_url()
        if url is not None and self._client is None:
            self._client = redis_client(url)
        if self._client is None or self._client.llen(name) < MAX_MESSAGES:
            current_app.send_task(EXECUTE_TASK, queue=name, ignore_result=True, expires=60)


def celery_queue(queue: str) -> str:
    """Celery's name of a queue; its default one has none of ours."""
    return queue or str(current_app.conf.task_default_queue)
