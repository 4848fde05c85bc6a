"""Receive the notifications of other processes: runs are queued, a run has news."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from contextlib import suppress
from uuid import UUID

from redis.asyncio import Redis
from redis.exceptions import RedisError

from runs.notify.bus import broker_url, news_channel, queued_channel

logger = logging.getLogger(__name__)
#: Most runs are shorter: for those no connection is made. Seconds.
START_DELAY = 0.05
#: Seconds until the next attempt to reach the broker, at first and at most.
FIRST_BACKOFF, LAST_BACKOFF = 0.2, 10.0
CONNECT_TIMEOUT = 2.0
#: How often a quiet connection is checked. Seconds.
POLL_SECONDS = 5.0


async def listen(
    on_news: Callable[[UUID], None], on_queued: Callable[[], None], on_gap: Callable[[], None], queues: Collection[str]
) -> None:
    """Until cancelled, call ``on_news`` with a run that has news and ``on_queued`` when one is queued in ``queues``.

    ``on_gap`` is called when notifications may have been missed.

    Returns at once where there is no broker. One that is away is tried again and again: the sweeper does its work
    meanwhile.
    """
    url = broker_url()
    if url is None:
        return
    await asyncio.sleep(START_DELAY)
    backoff, is_away = FIRST_BACKOFF, False

    def subscribed() -> None:
        nonlocal backoff, is_away
        if is_away:
            logger.info("the broker answers again: signals arrive at once")
        backoff, is_away = FIRST_BACKOFF, False
        on_gap()

    while True:
        try:
            await _follow(url, queues, subscribed, on_news, on_queued)
        except (RedisError, OSError) as error:
            if not is_away:
                logger.warning("the broker does not answer; signals arrive with the next sweep: %s", error)
            is_away = True
        await asyncio.sleep(backoff)
        backoff = min(LAST_BACKOFF, backoff * 2)


async def _follow(
    url: str,
    queues: Collection[str],
    subscribed: Callable[[], None],
    on_news: Callable[[UUID], None],
    on_queued: Callable[[], None],
) -> None:
    client = Redis.from_url(
        url, socket_connect_timeout=CONNECT_TIMEOUT, socket_timeout=CONNECT_TIMEOUT, health_check_interval=10
    )
    async with client, client.pubsub() as channel:
        await channel.subscribe(news_channel(url), *(queued_channel(url, queue) for queue in queues))
        while True:
            message = await channel.get_message(timeout=POLL_SECONDS)
            if message is not None and message["type"] == "subscribe":
                subscribed()
            elif message is not None and message["type"] == "message":
                if message["channel"].decode() != news_channel(url):
                    on_queued()
                else:
                    with suppress(ValueError):  # not one of ours
                        on_news(UUID(message["data"].decode()))
