"""Operations of several requests, without I/O: return the next call, and interpret its response."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from uuid import UUID

from pyflow_client import calls
from pyflow_client.calls import MOST_EVENTS, Call
from pyflow_client.errors import RunNotFinished
from pyflow_client.models import Event, EventPage

FIRST_PAUSE = 0.05
LONGEST_PAUSE = 1.0
#: ``seq`` is 32 bits wide: after this one there is no event, so only the state is answered.
NO_EVENTS = 2**31 - 1


class Follower:
    """Reads the events of a run until it ended: send ``call()``, hand its answer to ``take``, pause, until ``done``.

    ``pause`` is in seconds: short while something happens, longer and longer (up to a second) while nothing does.
    """

    def __init__(self, run_id: str | UUID, after: int) -> None:
        self.done = False
        self.pause = 0.0
        self._run_id = run_id
        self._after = after

    def call(self) -> Call[EventPage]:
        """The next request."""
        return calls.events(self._run_id, self._after, MOST_EVENTS)

    def take(self, page: EventPage) -> Sequence[Event]:
        """The new events of the answer."""
        if page.results:
            self._after = page.results[-1].seq
        full = len(page.results) == MOST_EVENTS
        # The server reads the state first: a final one means that no event is missing.
        self.done = page.final and not full
        self.pause = 0.0 if full or self.done else FIRST_PAUSE if page.results else _longer(self.pause)
        return page.results


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
