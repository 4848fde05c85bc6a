"""Clients of Redis that wait briefly: whoever asks goes on without it, or says so."""

from __future__ import annotations

import redis
from redis import asyncio as redis_asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

#: How long a connection, or an answer, is waited for. Seconds.
TIMEOUT = 1.0


def redis_client(url: str, timeout: float = TIMEOUT, *, reconnects: int = 0) -> redis.Redis:
    """Return a client that raises ``redis.RedisError`` after ``timeout`` seconds.

    A lost connection is made anew ``reconnects`` times, at once; a Redis that is silent is not asked twice.
    """
    retry = Retry(NoBackoff(), reconnects, supported_errors=(redis.ConnectionError,))
    return redis.Redis.from_url(url, socket_connect_timeout=timeout, socket_timeout=timeout, retry=retry)


def async_redis_client(url: str, timeout: float) -> redis_asyncio.Redis:
    """Return the same for an event loop; it reports each lost connection, so that its owner subscribes again."""
    retry = AsyncRetry(NoBackoff(), 0)
    return redis_asyncio.Redis.from_url(url, socket_connect_timeout=timeout, socket_timeout=timeout, retry=retry)
