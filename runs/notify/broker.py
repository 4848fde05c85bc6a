"""The Redis that Celery uses as its broker, and the names of what the platform keeps there."""

from __future__ import annotations

from urllib.parse import urlsplit

from celery import current_app


def broker_url() -> str | None:
    """The URL of Celery's broker, if it is a Redis."""
    url = str(current_app.conf.broker_url or "")
    return url if urlsplit(url).scheme in {"redis", "rediss", "unix"} else None


def key_prefix(url: str) -> str:
    """The prefix of our keys and channels. The databases of a Redis share channels: ours has the number in it."""
    return f"pyflow:{urlsplit(url).path.strip('/') or '0'}:"
