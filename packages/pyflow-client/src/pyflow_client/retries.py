"""Rules for repeating requests."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TypedDict

from pyflow_client.errors import ConnectionFailed, ProblemError

logger = logging.getLogger("pyflow_client")
#: Too many requests, and what proxies say while a server is being replaced.
RETRIED_STATUSES = frozenset({429, 502, 503, 504})


class _Bounds(TypedDict):
    attempts: int | None
    timeout: float
    wait_initial: float
    wait_max: float
    wait_jitter: float


@dataclass(frozen=True, slots=True)
class Retries:
    """Number and times of repetitions of a request; all times in seconds.

    Waits double from ``first_wait`` to ``longest_wait``, with up to 0.1 s of jitter. A ``Retry-After`` of the server is
    honoured if it is no longer than ``seconds``. ``Retries(attempts=1)`` retries nothing, ``attempts=None`` as often as
    the time allows. Each failure that is retried is a warning of the logger ``pyflow_client``.
    """

    attempts: int | None = 5
    seconds: float = 30.0
    first_wait: float = 0.1
    longest_wait: float = 5.0

    def bounds(self) -> _Bounds:
        """The same in stamina's words."""
        return {
            "attempts": self.attempts,
            "timeout": self.seconds,
            "wait_initial": self.first_wait,
            "wait_max": self.longest_wait,
            "wait_jitter": 0.1,
        }

    def wait_after(self, error: Exception) -> bool | float:
        """Return whether to repeat the request; a number: only after as many seconds."""
        worth = self._wait_after(error)
        if worth is not False and self.attempts != 1:
            logger.warning("%s: trying again, for %g s in all", str(error).partition("\n")[0], self.seconds)
        return worth

    def within(self, seconds: float | None) -> Retries:
        """The same, for so many seconds at most."""
        return self if seconds is None else replace(self, seconds=max(0.001, min(self.seconds, seconds)))

    def _wait_after(self, error: Exception) -> bool | float:
        if isinstance(error, ConnectionFailed):
            return True
        if not isinstance(error, ProblemError) or error.status not in RETRIED_STATUSES:
            return False
        if error.retry_after is None:
            return True
        return error.retry_after if error.retry_after <= self.seconds else False


#: For those who follow a run, or wait for it: a restart of the server takes minutes, and the run goes on meanwhile.
FOLLOWING = Retries(attempts=None, seconds=600.0, longest_wait=10.0)
