"""Connections to the Redis that Celery uses as its broker: its notifications, presence and health."""

from __future__ import annotations

from urllib.parse import urlsplit

import redis
from celery import current_app
from redis.backoff import NoBackoff
from redis.retry import Retry

#: How long a connection, or an answer, is waited for. Seconds.
TIMEOUT = 1.0


def broker_url() -> str | None:
    """The URL of Celery's broker, if it is a Redis."""
    url = str(current_app.conf.broker_url or "")
    return url if urlsplit(url).scheme in {"redis", "rediss", "unix"} else None


def key_prefix(url: str) -> str:
    """The prefix of our keys and channels. The databases of a Redis share channels: ours has the number in it."""
    return f"pyflow:{urlsplit(url).path.strip('/') or '0'}:"


def redis_client(url: str, timeout: float = TIMEOUT) -> redis.Redis:
    """Return a client that raises ``redis.RedisError`` after ``timeout`` seconds, without another attempt."""
    no_retry = Retry(NoBackoff(), 0)
    return redis.Redis.from_url(url, socket_connect_timeout=timeout, socket_timeout=timeout, retry=no_retry)
