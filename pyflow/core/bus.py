"""The event bus within one process, and the table of subscriptions that every bus needs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection
from typing import Protocol, runtime_checkable

from pyflow.core.forks import renew_in_children
from pyflow.core.ports import MISSED, EventBus, Notification, OnNotification

logger = logging.getLogger(__name__)
#: The longest topic and the longest message that are published. Characters.
MAX_TOPIC, MAX_MESSAGE = 200, 16 * 1024


def check_topic(topic: str) -> None:
    """Raise ``ValueError`` for a topic that no bus carries."""
    if not 0 < len(topic) <= MAX_TOPIC or not topic.isprintable():
        raise ValueError(f"A topic has 1 to {MAX_TOPIC} printable characters; this one has {len(topic)}.")


def check_notification(topic: str, message: str) -> None:
    """Raise ``ValueError`` for a topic or a message that no bus carries."""
    check_topic(topic)
    if len(message) > MAX_MESSAGE:
        raise ValueError(
            f"A message has at most {MAX_MESSAGE} characters; this one has {len(message)}. "
            "Publish where to look, not the data itself."
        )


class Member:
    """One subscription: topics, and the callback for what is published to them."""

    def __init__(self, topics: frozenset[str], callback: OnNotification, remove: Callable[[Member], None]) -> None:
        self.topics = topics
        #: Topics for which the network has not confirmed the subscription yet. Owned by the bus, under its lock.
        self.unconfirmed: set[str] = set()
        self._callback = callback
        self._remove = remove

    def close(self) -> None:
        """Call the callback no more. A call that another thread has begun may still be under way."""
        self._remove(self)

    def call(self, notification: Notification) -> None:
        """Call the callback. Its errors are logged, and reach neither the publisher nor other subscribers."""
        try:
            self._callback(notification)
        except Exception:
            logger.exception("a subscriber of the event bus failed")


class Members:
    """Subscriptions by topic. The owner holds a lock around each call."""

    def __init__(self) -> None:
        self._by_topic: dict[str, dict[Member, None]] = {}
        self._all: dict[Member, None] = {}

    def __bool__(self) -> bool:
        return bool(self._all)

    @property
    def topics(self) -> Collection[str]:
        """Topics that have a subscription."""
        return self._by_topic.keys()

    def all(self) -> list[Member]:
        """Return every subscription."""
        return list(self._all)

    def of(self, topic: str) -> list[Member]:
        """Return the subscriptions of a topic."""
        return list(self._by_topic.get(topic, ()))

    def add(self, member: Member) -> set[str]:
        """Add a subscription; return those of its topics that had none."""
        self._all[member] = None
        new = {topic for topic in member.topics if topic not in self._by_topic}
        for topic in member.topics:
            self._by_topic.setdefault(topic, {})[member] = None
        return new

    def remove(self, member: Member) -> set[str]:
        """Remove a subscription, if it is there; return those of its topics that have none any more."""
        if member not in self._all:
            return set()
        del self._all[member]
        left: set[str] = set()
        for topic in member.topics:
            del self._by_topic[topic][member]
            if not self._by_topic[topic]:
                del self._by_topic[topic]
                left.add(topic)
        return left


@runtime_checkable
class CountingBus(EventBus, Protocol):
    """A bus that knows how many processes received a publication; internal: a user's own bus need not."""

    def publish_counted(self, topic: str, message: str, report: Callable[[int], None]) -> None:
        """Publish, and call ``report`` (from any thread, without blocking) with the number of receivers.

        It is not called if the publication could not be sent. Of equal publications that are sent as one, one is
        reported.
        """

    def on_unheard(self, callback: OnNotification) -> None:
        """Call ``callback`` with a notification that counted this process when its last subscription had just closed.

        The publisher takes it for received, so this process has to see to it.
        """


class MemoryBus:
    """The event bus of one process: ``publish`` calls the subscribers itself, before it returns.

    Nothing is lost on the way, so `MISSED` comes from ``miss`` only. A forked child begins without subscriptions.
    """

    def __init__(self) -> None:
        self.renew()
        renew_in_children(self)

    def publish(self, topic: str, message: str = "") -> None:
        """Call the callback of each subscription of ``topic`` in this thread."""
        self._publish(topic, message)

    def publish_counted(self, topic: str, message: str, report: Callable[[int], None]) -> None:
        """Publish, and report the number of subscriptions that were called."""
        report(self._publish(topic, message))

    def subscribe(self, topics: Collection[str], callback: OnNotification) -> Member:
        """Call ``callback`` for what is published to one of ``topics``, until the subscription is closed."""
        for topic in topics:
            check_topic(topic)
        member = Member(frozenset(topics), callback, self._remove)
        with self._lock:
            self._members.add(member)
        return member

    def on_unheard(self, callback: OnNotification) -> None:
        """Do nothing: only subscriptions that are called are counted."""

    def flush(self, timeout: float) -> bool:  # noqa: ARG002 - a bus with a network waits
        """Return true: what was published has been received."""
        return True

    def miss(self) -> None:
        """Call every subscriber with `MISSED`, as a bus with a network does after a lost connection."""
        with self._lock:
            members = self._members.all()
        for member in members:
            member.call(MISSED)

    def renew(self) -> None:
        """Begin without subscriptions: those of a parent process are none of its forked child's."""
        #: Guards ``_members``. Callbacks are called outside of it: they may publish and subscribe.
        self._lock = threading.Lock()
        self._members = Members()

    def _publish(self, topic: str, message: str) -> int:
        check_notification(topic, message)
        with self._lock:
            members = self._members.of(topic)
        for member in members:
            member.call(Notification(topic, message))
        return len(members)

    def _remove(self, member: Member) -> None:
        with self._lock:
            self._members.remove(member)
