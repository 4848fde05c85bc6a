"""Presence of workers: each worker reports its queues to the broker, and explanations of runs read the reports.

A report is a key that lives for a week. Its age follows from the time that it has left, so only the broker's clock
counts. On a single node the executor is in the server's own process, and serves every queue.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

import redis
from django.utils import timezone

from plumbing.redis_clients import redis_client
from runs.notify.broker import broker_url, key_prefix
from runs.notify.current import notifications

logger = logging.getLogger(__name__)
#: How often a worker reports, and how old its last report is when it no longer counts as live. Seconds.
REPORT_SECONDS, LIVE_SECONDS = 10.0, 30.0
#: How long it is known when the last worker of a queue reported.
REMEMBERED = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Presence:
    """Presence of a live executor for a queue (``None``: unknown), and the reason if none is there or it is unknown."""

    served: bool | None
    detail: str = ""


def report(queues: Collection[str]) -> None:
    """Record in the broker that a live worker serves ``queues``. Never raises: a missed report is made up for."""
    url = broker_url()
    if url is None:
        return
    try:
        with redis_client(url) as client, client.pipeline(transaction=False) as pipeline:
            for queue in queues:
                pipeline.set(_key(url, queue), "", px=REMEMBERED)
            pipeline.execute()
    except redis.RedisError as error:
        logger.warning("the broker does not answer: this worker cannot report its queues: %s", error)


def presence_of(queues: Collection[str]) -> dict[str, Presence]:
    """The presence of executors for each of ``queues``: one question to the broker, of a second at most."""
    if not notifications().workers.are_remote:
        here = notifications().has_executor()
        return dict.fromkeys(queues, Presence(here, "" if here else "no executor is at work in the server's process"))
    url = broker_url()
    if url is None:
        return dict.fromkeys(queues, Presence(None, "the broker is not a Redis, in which workers report"))
    names = sorted(queues)
    try:
        with redis_client(url) as client, client.pipeline(transaction=False) as pipeline:
            for name in names:
                pipeline.pttl(_key(url, name))
            left = pipeline.execute()
    except redis.RedisError as error:
        logger.warning("the broker does not answer: it is not known which queues have workers: %s", error)
        return dict.fromkeys(queues, Presence(None, "Redis, in which workers report, does not answer"))
    now = timezone.now()
    return {name: _presence(now, milliseconds) for name, milliseconds in zip(names, left, strict=True)}


def _presence(now: datetime, left: int) -> Presence:
    if left < 0:
        return Presence(False, f"none has reported within the last {REMEMBERED.days} days")
    age = REMEMBERED - timedelta(milliseconds=left)
    if age.total_seconds() <= LIVE_SECONDS:
        return Presence(True)
    return Presence(False, f"none has reported since {now - age:%Y-%m-%d %H:%M:%S}Z")


def _key(url: str, queue: str) -> str:
    return f"{key_prefix(url)}served:{queue}"
