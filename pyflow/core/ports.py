"""Ports of the engine: small protocols for what it needs from outside, with in-process implementations."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

from pyflow.core.events import Event


class EventSink(Protocol):
    """Receives all events of a run, in order."""

    def emit(self, event: Event) -> None:
        """Take note of a start or of progress; must not block."""

    async def commit(self, event: Event) -> None:
        """Take note of a completion and return once it is as durable as the sink makes it.

        Dependents start only after this returned. An exception ends the run's execution here, unfinished: nothing
        that is not recorded may be built upon.
        """


class Clock(Protocol):
    """The time, injectable: tests move it, the engine never asks the system directly."""

    def time(self) -> float:
        """POSIX time, seconds."""

    async def sleep(self, seconds: float) -> None:
        """Return after ``seconds`` have passed on this clock."""


@runtime_checkable
class SkippingClock(Clock, Protocol):
    """A clock for tests whose waits may pass at once, because time jumps to the next one when everything waits."""

    def working(self) -> AbstractContextManager[None]:
        """Stand still while the block is at work, that is, while nothing in it sleeps on this clock."""


class SecretSource(Protocol):
    """Port for the source of ``{{ secrets.NAME }}``; asked only while a node runs."""

    def get(self, name: str) -> str:
        """The value of a secret; ``KeyError`` if there is none of that name."""


@dataclass(frozen=True, slots=True)
class Notification:
    """A publication: look again at what ``topic`` stands for; ``message`` may say where, in text."""

    topic: str
    message: str = ""


#: Notifications may have been lost: look at everything that the subscription is about.
MISSED: Final = Notification("")
OnNotification = Callable[[Notification], None]


class Subscription(Protocol):
    """Topics that a callback is called for."""

    def close(self) -> None:
        """Call the callback no more. A call that another thread has begun may still be under way."""


class EventBus(Protocol):
    """Carries notifications between threads and processes. A notification only says "look again".

    What is true is in the database: a notification may be lost, may come twice, and may come in another order. Whoever
    subscribes looks for itself as well, at first and now and then. Topics are short texts such as ``queued:gpu``,
    ``news`` or ``events:<tenant id>``, with at most `pyflow.core.bus.MAX_TOPIC` characters; messages have at most
    `pyflow.core.bus.MAX_MESSAGE`. ``ValueError`` beyond that is the only error that any method raises.
    """

    def publish(self, topic: str, message: str = "") -> None:
        """Notify the subscribers of ``topic`` in all processes. Never waits for the network, and never raises for it.

        Equal notifications that are published close together may arrive as one.
        """

    def subscribe(self, topics: Collection[str], callback: OnNotification) -> Subscription:
        """Call ``callback`` for each notification about one of ``topics``, until the subscription is closed.

        The callback is called from any thread, must not block, and may publish, subscribe and close. Where the
        subscription takes effect later than this returns, the callback is called with `MISSED` as soon as it has. It is
        called with `MISSED` once after each lost connection, too, and may be at any other time. A forked child inherits
        no subscription.
        """

    def flush(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds until what was published is sent, or given up; return whether it is."""


class SystemClock:
    """The machine's clock and asyncio's timers."""

    def time(self) -> float:
        """POSIX time, seconds."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        """``asyncio.sleep``."""
        await asyncio.sleep(seconds)


class NullSink:
    """Keeps nothing: a run in memory whose result is all that matters."""

    def emit(self, event: Event) -> None:
        """Forget the event."""

    async def commit(self, event: Event) -> None:
        """Forget the event."""


class MemorySink:
    """Keeps the events of one or many runs in a list, in order."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        """Append the event."""
        self.events.append(event)

    async def commit(self, event: Event) -> None:
        """Append the event."""
        self.events.append(event)


class EnvironmentSecrets:
    """Secrets from environment variables: ``secrets.API_KEY`` is ``PYFLOW_SECRET_API_KEY``.

    The prefix keeps a workflow from reading the rest of the environment.
    """

    PREFIX = "PYFLOW_SECRET_"

    def get(self, name: str) -> str:
        """The variable's value; ``KeyError`` when it is not set."""
        return os.environ[f"{self.PREFIX}{name}"]


class MappingSecrets:
    """Secrets from a mapping, for tests and embedding."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = dict(values)

    def get(self, name: str) -> str:
        """The mapping's value; ``KeyError`` when there is none."""
        return self._values[name]
