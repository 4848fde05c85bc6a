"""Operations of several requests, without I/O: return the next call, and interpret its response."""

from __future__ import annotations

import json
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Generic, TypeVar
from uuid import UUID

from pydantic import BaseModel, ValidationError

from pyflow_client import calls
from pyflow_client.calls import MOST_EVENTS, Call, Filter
from pyflow_client.errors import ClientError, ProblemError, RunNotFinished, UnexpectedAnswer
from pyflow_client.models import Event, EventLogPage, EventPage, LoggedEvent
from pyflow_client.retries import Retries

PageT = TypeVar("PageT", bound=BaseModel)
EventT = TypeVar("EventT", bound=Event)
#: The cursor of the end of the log.
NOW = "now"

STREAM_TYPE = "text/event-stream"
#: Names of frames that are no events of the log.
END, PROGRESS = "end", "node.progress"
#: Refusals of a server that cannot stream.
NOT_STREAMED = frozenset({406, 501})
#: Seconds without a heartbeat, of which there is one every 15, after which a stream counts as lost.
SILENCE = 45.0

FIRST_PAUSE = 0.05
LONGEST_PAUSE = 1.0
#: ``seq`` is 32 bits wide: after this one there is no event, so only the state is answered.
NO_EVENTS = 2**31 - 1


class AnyFollower(ABC, Generic[PageT, EventT]):
    """Reads events by a stream of server-sent events, or by polling where there is none.

    Open ``stream_call()`` and hand each frame to ``take_frame`` and what breaks it off to ``lost``, or send ``call()``
    and hand its answer to ``take``. Pause in between, until ``done``. ``pause`` is in seconds: short while something
    happens, longer and longer while nothing does, or while the server is away.
    """

    def __init__(self, retries: Retries, clock: Callable[[], float]) -> None:
        self.done = False
        self.pause = 0.0
        #: Whether the server is asked for a stream.
        self.streams = True
        self._retries = retries
        self._clock = clock
        self._failures = 0
        self._failing_since = 0.0

    @abstractmethod
    def call(self) -> Call[PageT]:
        """The next request for a page."""

    @abstractmethod
    def take(self, page: PageT) -> Sequence[EventT]:
        """The new events of a page. Where one was answered, there are no streams."""

    @abstractmethod
    def take_frame(self, name: str, data: str, id: str) -> EventT | None:
        """The event of a frame, if it is a new one."""

    def stream_call(self) -> Call[PageT]:
        """The next request for a stream. A server that knows none answers with a page, or refuses."""
        return replace(self.call(), headers={"Accept": STREAM_TYPE})

    def lost(self, error: ClientError) -> None:
        """Choose the pause after which the stream is opened again; raise ``error`` if that is of no use.

        A server that refuses to stream is polled.
        """
        if isinstance(error, ProblemError) and error.status in NOT_STREAMED:
            self.streams, self.pause = False, 0.0
            return
        worth = self._retries.wait_after(error)
        if not self._failures:
            self._failing_since = self._clock()
        self._failures += 1
        is_late = self._clock() - self._failing_since >= self._retries.seconds
        if worth is False or is_late or self._failures == self._retries.attempts:
            raise error
        doubled = min(self._retries.longest_wait, self._retries.first_wait * 2.0 ** min(self._failures, 30))
        self.pause = doubled * random.uniform(0.5, 1) if worth is True else worth  # noqa: S311 - no secret

    def _has_answered(self) -> None:
        self._failures, self.pause = 0, FIRST_PAUSE


class Follower(AnyFollower[EventPage, Event]):
    """Reads the events of a run until it ended."""

    def __init__(self, run_id: str | UUID, after: int, retries: Retries, clock: Callable[[], float]) -> None:
        super().__init__(retries, clock)
        self._run_id = run_id
        self._after = after

    def call(self) -> Call[EventPage]:
        """The next request for a page."""
        return calls.events(self._run_id, self._after, MOST_EVENTS)

    def take(self, page: EventPage) -> Sequence[Event]:
        """The new events of a page. Where one was answered, there are no streams."""
        self.streams = False
        if page.results:
            self._after = page.results[-1].seq
        full = len(page.results) == MOST_EVENTS
        # The server reads the state first: a final one means that no event is missing.
        self.done = page.final and not full
        self.pause = 0.0 if full or self.done else FIRST_PAUSE if page.results else _longer(self.pause)
        return page.results

    def take_frame(self, name: str, data: str, id: str) -> Event | None:  # noqa: ARG002 - the number is in the event
        """The event of a frame, if it is a new one. Progress is none: it has no number."""
        self._has_answered()
        if name == END:
            self.done = json.loads(data).get("reason") == "run_ended"
            return None
        if name == PROGRESS or not data:
            return None
        event = _read(Event, data)
        if event.seq <= self._after:
            return None
        self._after = event.seq
        return event


class LogFollower(AnyFollower[EventLogPage, LoggedEvent]):
    """Reads the events of a tenant, without an end."""

    def __init__(
        self, after: str | None, filters: Mapping[str, Filter], retries: Retries, clock: Callable[[], float]
    ) -> None:
        super().__init__(retries, clock)
        self._after = after
        self._filters = filters

    def call(self) -> Call[EventLogPage]:
        """Return the next request for a page."""
        return calls.event_log(self._after, MOST_EVENTS, self._filters)

    @property
    def begins_now(self) -> bool:
        """Return whether the place is still to be asked for by a page: after a break ``now`` would be another one."""
        return self._after == NOW

    def begin(self, page: EventLogPage) -> None:
        """Begin after a page."""
        self._after = page.next

    def take(self, page: EventLogPage) -> Sequence[LoggedEvent]:
        """Return the events of a page, with cursors as far as there are any. Where one was answered, no streams are."""
        self.streams = False
        before, self._after = self._after, page.next
        self.pause = 0.0 if page.has_more else FIRST_PAUSE if page.results else _longer(self.pause)
        cursors = [*[before] * (len(page.results) - 1), page.next]
        return [LoggedEvent(**dict(event), cursor=cursor) for event, cursor in zip(page.results, cursors, strict=False)]

    def take_frame(self, name: str, data: str, id: str) -> LoggedEvent | None:
        """Return the event of a frame. An end is none: what it is about is asked again, and answered with an error."""
        self._has_answered()
        if name in (END, PROGRESS) or not data:
            return None
        self._after = id
        return LoggedEvent(**dict(_read(Event, data)), cursor=id)


def _read(model: type[Event], data: str) -> Event:
    try:
        return model.model_validate_json(data)
    except ValidationError:
        raise UnexpectedAnswer("the stream holds something else than events") from None


class Waiter:
    """Waits for the end of a run, for ``timeout`` seconds of ``clock`` at most; used like a ``Follower``."""

    def __init__(self, run_id: str | UUID, timeout: float | None, clock: Callable[[], float]) -> None:
        self.done = False
        self.pause = 0.0
        self._run_id = run_id
        self._timeout = timeout
        self._clock = clock
        self._began = clock()

    def call(self) -> Call[EventPage]:
        """The next request: only for the run's state."""
        return calls.events(self._run_id, NO_EVENTS, 1)

    def take(self, page: EventPage) -> None:
        """Raises ``RunNotFinished`` if the time is over."""
        self.done = page.final
        self.pause = 0.0 if self.done else _longer(self.pause)
        left = self.left
        if self.done or left is None:
            return
        if left <= 0:
            raise RunNotFinished(f"run {self._run_id} is {page.state} after {self._timeout or 0:g} s")
        self.pause = min(self.pause, left)

    @property
    def left(self) -> float | None:
        """Return the remaining seconds of the timeout; ``None`` without one."""
        return None if self._timeout is None else self._timeout - (self._clock() - self._began)


def _longer(pause: float) -> float:
    return min(pause * 1.5, LONGEST_PAUSE) if pause else FIRST_PAUSE
