"""The event bus of a fleet: Redis publications, sent by one thread of each process and received by another."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping

import redis

from plumbing.redis_clients import redis_client
from pyflow.core.bus import Member, check_notification, check_topic
from pyflow.core.forks import renew_in_children
from pyflow.core.ports import OnNotification
from runs.notify.broker import broker_url, key_prefix
from runs.notify.outbox import Outbox
from runs.notify.redis_listener import Listener
from runs.notify.timing import Timing

logger = logging.getLogger(__name__)
Report = Callable[[int], None]


class RedisBus:
    """An `EventBus` that publishes to a Redis, whose database number is a part of the channels' names.

    Publishing leaves the notification to the sender thread, which sends what has gathered as one pipeline. All
    subscriptions of the process share one connection, and a topic is subscribed to once. While Redis does not answer,
    what is published is lost; subscribers are called with `MISSED` when it answers again, and every ``look`` seconds.
    """

    def __init__(self, url: str, timing: Timing | None = None) -> None:
        self.url = url
        self._timing = timing = timing or Timing()
        self._prefix = key_prefix(url)
        self._outbox: Outbox[tuple[str, str], Report] = Outbox("pyflow-bus-sender", self._send, timing.gather)
        self._listener = Listener(url, self._prefix, timing)
        self.renew()
        renew_in_children(self)

    def publish(self, topic: str, message: str = "") -> None:
        """Send soon."""
        check_notification(topic, message)
        self._outbox.put((topic, message))

    def publish_counted(self, topic: str, message: str, report: Report) -> None:
        """Send soon, and report how many connections received it."""
        check_notification(topic, message)
        self._outbox.put((topic, message), report)

    def subscribe(self, topics: Collection[str], callback: OnNotification) -> Member:
        """Call ``callback`` from the listener thread; at first with `MISSED`, once Redis has confirmed the topics."""
        for topic in topics:
            check_topic(topic)
        return self._listener.subscribe(frozenset(topics), callback)

    def on_unheard(self, callback: OnNotification) -> None:
        """Call ``callback`` with notifications that arrive while Redis is being unsubscribed from their topic."""
        self._listener.on_unheard = callback

    def flush(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds until everything is sent, or given up; return whether it is."""
        return self._outbox.flush(timeout)

    def close(self) -> None:
        """End both threads. What is published or subscribed to later starts them again."""
        self._outbox.close()
        self._listener.close()

    def renew(self) -> None:
        """Use a connection of its own, in a forked child."""
        #: Owned by the sender thread.
        self._client: redis.Redis | None = None
        self._is_away = False

    def _send(self, batch: Mapping[tuple[str, str], Report | None]) -> None:
        try:
            received = self._publish(batch)
        except (redis.RedisError, OSError) as error:
            if not self._is_away:
                logger.warning(
                    "Redis does not answer, so notifications are lost; the sweeper finds the runs: %s", error
                )
            self._is_away = True
            return
        except Exception:
            logger.exception("notifications could not be sent; the sweeper finds the runs")
            return
        if self._is_away:
            logger.info("Redis answers again: notifications are sent")
        self._is_away = False
        for report, count in zip(batch.values(), received, strict=True):
            if report is not None:
                report(count)

    def _publish(self, batch: Mapping[tuple[str, str], Report | None]) -> list[int]:
        if self._client is None:
            self._client = redis_client(self.url, self._timing.send_timeout)
        with self._client.pipeline(transaction=False) as pipeline:
            for topic, message in batch:
                pipeline.publish(f"{self._prefix}{topic}", message)
            return pipeline.execute()


def broker_bus() -> RedisBus:
    """Return the bus on the Redis that Celery uses as its broker; raises ``ValueError`` if that is no Redis."""
    url = broker_url()
    if url is None:
        raise ValueError("Celery's broker is no Redis, so the event bus cannot use it. Set PYFLOW_EVENT_BUS.")
    return RedisBus(url)
