"""The thread that receives what other processes publish, on one connection for all subscriptions of the process."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Any

from redis.exceptions import ConnectionError as ConnectionLost
from redis.exceptions import RedisError

from plumbing.redis_clients import async_redis_client
from pyflow.core.bus import Member, Members
from pyflow.core.forks import renew_in_children
from pyflow.core.ports import MISSED, Notification, OnNotification
from runs.notify.timing import Timing

if TYPE_CHECKING:
    from redis.asyncio.client import PubSub

logger = logging.getLogger(__name__)
#: Topics in one command.
CHUNK = 500


class Listener:
    """The subscriptions of a process. Its thread begins with the first, and ends some time after the last.

    A subscription takes effect once Redis has confirmed all its topics on the present connection; then it is called
    with `MISSED`, also if they had been confirmed before it came. So it is after each lost connection, when every topic
    has to be confirmed again.
    """

    def __init__(self, url: str, prefix: str, timing: Timing) -> None:
        self._url = url
        self._prefix = prefix
        self._timing = timing
        #: Called with a notification that no subscription is left for.
        self.on_unheard: OnNotification | None = None
        self.renew()
        renew_in_children(self)

    def renew(self) -> None:
        """Start with nothing, in a forked child: without the parent's subscriptions and its thread."""
        #: Guards what follows, up to the next comment. Callbacks are called outside of it.
        self._lock = threading.Lock()
        self._members = Members()
        #: Topics that have got their first subscription, or lost their last one, since Redis was asked for them.
        self._changed_topics: set[str] = set()
        self._confirmed: set[str] = set()
        self._empty_since = time.monotonic()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_closing = False
        # Owned by the thread. Topics that this connection was subscribed to, and how many confirmations are under way:
        # a topic that was unsubscribed from and subscribed to again has only the last one count.
        self._sent: set[str] = set()
        self._unanswered: Counter[str] = Counter()
        self._changed = asyncio.Event()
        self._looked_at = time.monotonic()
        self._backoff = self._timing.first_backoff
        self._is_away = False

    def subscribe(self, topics: frozenset[str], callback: OnNotification) -> Member:
        """Add a subscription, and start the thread unless it is there."""
        member = Member(topics, callback, self._remove)
        with self._lock:
            self._changed_topics |= self._members.add(member)
            member.unconfirmed = set(topics - self._confirmed)
            if self._thread is None:
                self._is_closing = False
                self._thread = threading.Thread(target=self._run, name="pyflow-bus-listener", daemon=True)
                self._thread.start()
            if self._loop is not None and not member.unconfirmed:
                self._loop.call_soon_threadsafe(member.call, MISSED)
            self._wake()
        return member

    def close(self) -> None:
        """End the thread, and wait for it."""
        with self._lock:
            thread, self._is_closing = self._thread, True
            self._wake()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _remove(self, member: Member) -> None:
        with self._lock:
            self._changed_topics |= self._members.remove(member)
            if not self._members:
                self._empty_since = time.monotonic()
            self._wake()

    def _wake(self) -> None:
        """Make the thread look at the changed topics; with the lock held."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._changed.set)

    def _run(self) -> None:
        asyncio.run(self._listen())

    async def _listen(self) -> None:
        self._changed = asyncio.Event()
        with self._lock:
            self._loop = asyncio.get_running_loop()
        self._looked_at = time.monotonic()
        await self._pause(self._timing.start_delay)
        while self._is_needed():
            try:
                await self._follow()
            except (RedisError, OSError) as error:
                self._note_loss(error)
            except Exception:
                logger.exception("the listener of the event bus failed, and connects again")
            self._forget_confirmations()
            self._look_now_and_then()
            await self._pause(self._backoff)
            self._backoff = min(self._timing.last_backoff, self._backoff * 2)

    def _is_needed(self) -> bool:
        """Return whether to connect. If not, the thread ends; the next subscription starts another."""
        with self._lock:
            if self._members and not self._is_closing:
                return True
            self._thread = self._loop = None
            return False

    async def _pause(self, seconds: float) -> None:
        """Wait, but not for longer than until the listener is to close."""
        until = time.monotonic() + seconds
        while not self._is_closing and (left := until - time.monotonic()) > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), left)
            self._changed.clear()

    def _note_loss(self, error: Exception) -> None:
        if not self._is_away and self._members:
            logger.warning("Redis does not answer, so notifications are missed; subscribers look regularly: %s", error)
            self._is_away = True

    def _forget_confirmations(self) -> None:
        with self._lock:
            self._confirmed.clear()
            for member in self._members.all():
                member.unconfirmed = set(member.topics)
            self._changed_topics = set(self._members.topics)
        self._sent.clear()
        self._unanswered.clear()

    async def _follow(self) -> None:
        """Pass notifications on until the connection is lost, or no subscription is left for a while."""
        client = async_redis_client(self._url, self._timing.connect_timeout)
        async with client, client.pubsub() as channel:
            await self._send_topics(channel)
            if not self._sent:
                return  # the last subscription has just gone
            work = [asyncio.ensure_future(it) for it in (self._receive(channel), self._keep_sending_topics(channel))]
            try:
                done, _ = await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()  # raises what broke it off
            finally:
                for task in work:
                    task.cancel()
                await asyncio.gather(*work, return_exceptions=True)

    async def _receive(self, channel: PubSub) -> None:
        answered = time.monotonic()
        while not self._is_idle():
            message = await channel.get_message(timeout=self._timing.poll)
            if message is not None:
                answered = time.monotonic()
                self._handle(message)
            elif time.monotonic() - answered >= 2 * self._timing.poll:
                raise ConnectionLost("a connection has not answered to a ping")
            else:
                await channel.ping()
            self._look_now_and_then()

    def _is_idle(self) -> bool:
        with self._lock:
            return not self._members and time.monotonic() - self._empty_since >= self._timing.idle

    async def _keep_sending_topics(self, channel: PubSub) -> None:
        while not self._is_closing:
            await self._changed.wait()
            self._changed.clear()
            await self._send_topics(channel)

    async def _send_topics(self, channel: PubSub) -> None:
        """Subscribe to the topics that have got a subscription, and unsubscribe from those that have none any more."""
        with self._lock:
            wanted, changed = self._members.topics, self._changed_topics
            new = [topic for topic in changed if topic in wanted and topic not in self._sent]
            old = [topic for topic in changed if topic not in wanted and topic in self._sent]
            self._changed_topics = set()
            self._confirmed.difference_update(old)
            self._sent.difference_update(old)
            self._sent.update(new)
            self._unanswered.update(new)
        for chunk in _chunks(old):
            await channel.unsubscribe(*self._channels(chunk))
        for chunk in _chunks(new):
            await channel.subscribe(*self._channels(chunk))

    def _channels(self, topics: list[str]) -> list[str]:
        return [f"{self._prefix}{topic}" for topic in topics]

    def _handle(self, message: dict[str, Any]) -> None:
        if message["type"] not in {"message", "subscribe"}:
            return
        topic = message["channel"].decode().removeprefix(self._prefix)
        if message["type"] == "subscribe":
            self._confirm(topic)
            return
        notification = Notification(topic, message["data"].decode(errors="replace"))
        with self._lock:
            members = self._members.of(topic)
        for member in members:
            member.call(notification)
        if not members and self.on_unheard is not None:
            self.on_unheard(notification)

    def _confirm(self, topic: str) -> None:
        self._backoff = self._timing.first_backoff
        if self._is_away:
            logger.info("Redis answers again: notifications are received")
            self._is_away = False
        self._unanswered[topic] -= 1
        if self._unanswered[topic] > 0:
            return
        del self._unanswered[topic]
        effective: list[Member] = []
        with self._lock:
            if topic not in self._sent:
                return
            self._confirmed.add(topic)
            for member in self._members.of(topic):
                member.unconfirmed.discard(topic)
                if not member.unconfirmed:
                    effective.append(member)
        for member in effective:
            member.call(MISSED)

    def _look_now_and_then(self) -> None:
        """Call every subscriber with `MISSED` regularly, connected or not: also Redis may lose what it accepts."""
        now = time.monotonic()
        if now - self._looked_at < self._timing.look:
            return
        self._looked_at = now
        with self._lock:
            members = self._members.all()
        for member in members:
            member.call(MISSED)


def _chunks(topics: list[str]) -> list[list[str]]:
    rest = iter(topics)
    return list(iter(lambda: list(islice(rest, CHUNK)), []))
