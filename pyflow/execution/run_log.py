"""Captures what nodes log while they run, and passes it to the log that is stored with the run."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

#: How much one run logs: lines, characters of all lines together, and characters of one of them.
MAX_LINES = 10_000
MAX_CHARACTERS = 4 * 1024 * 1024
MAX_MESSAGE = 8 * 1024
#: The levels that lines have, by their numbers in ``logging``; one in between counts as the one below.
LEVELS = {
    logging.DEBUG: "debug",
    logging.INFO: "info",
    logging.WARNING: "warning",
    logging.ERROR: "error",
    logging.CRITICAL: "critical",
}

Tap = Callable[[int, str], None]


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line: when (POSIX seconds), of which node, in which attempt and item of a fan-out, how important, and the text.

    ``level`` is one of ``LEVELS``. Secrets are masked in ``message``, which may have several lines of text.
    """

    at: float
    node_id: str
    attempt: int
    item: int | None
    level: int
    message: str


@runtime_checkable
class LogSink(Protocol):
    """An event sink that keeps the log of its run, too."""

    def log(self, line: LogLine) -> None:
        """Keep a line. Called on the run's event loop, before the node's completion is recorded; must not block."""


class RunLog:
    """Hands the lines of one run's nodes to a sink, in order, from whatever thread they come.

    A node may log faster than anybody can store. What is beyond ``MAX_LINES`` or ``MAX_CHARACTERS`` goes no further
    than the first line of it, by which the sink sees that there was more.
    """

    def __init__(self, sink: LogSink, time: Callable[[], float]) -> None:
        self._sink = sink
        self._time = time
        self._lines = MAX_LINES
        self._characters = MAX_CHARACTERS

    def tap(self, node_id: str, attempt: int, item: int | None) -> Tap:
        """Return the function that a logger of this attempt calls with the level and the masked text of each line."""
        loop, thread = asyncio.get_running_loop(), threading.get_ident()

        def take(level: int, text: str) -> None:
            if self._lines < 0 or self._characters < 0:
                return
            message = shortened(text)
            self._lines -= 1
            self._characters -= len(message)
            line = LogLine(self._time(), node_id, attempt, item, level_of(level), message)
            if threading.get_ident() == thread:
                self._sink.log(line)
            elif not loop.is_closed():
                try:
                    loop.call_soon_threadsafe(self._sink.log, line)
                except RuntimeError:
                    return  # the loop was closed just now: the run is over, or goes on elsewhere without this thread

        return take


def level_of(level: int) -> int:
    """The level of ``LEVELS`` that any level counts as."""
    return min(max(level // 10 * 10, logging.DEBUG), logging.CRITICAL)


def shortened(text: str) -> str:
    """The text, or its beginning with a note of how much more there was."""
    if len(text) <= MAX_MESSAGE:
        return text
    return f"{text[:MAX_MESSAGE]}… ({len(text) - MAX_MESSAGE:,} more characters)"
