"""Timeouts and intervals of the threads of a `RedisBus`."""

from __future__ import annotations

from dataclasses import dataclass

from plumbing.redis_clients import TIMEOUT


@dataclass(frozen=True, slots=True)
class Timing:
    """Timeouts and intervals of a `RedisBus`. Seconds."""

    #: What is published within this time of the last sending is sent together.
    gather: float = 0.005
    #: For an answer of Redis to what is sent.
    send_timeout: float = TIMEOUT
    #: From the first subscription to the connection: most runs are shorter, and need none.
    start_delay: float = 0.05
    #: For a connection on which to receive.
    connect_timeout: float = 2.0
    #: Until the next attempt to connect, at first and at most.
    first_backoff: float = 0.2
    last_backoff: float = 10.0
    #: Until a quiet connection is checked; after twice that without an answer it counts as lost.
    poll: float = 5.0
    #: Until each subscriber looks for itself.
    look: float = 30.0
    #: How long the connection is kept after the last subscription.
    idle: float = 30.0
