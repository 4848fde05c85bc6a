"""Waiting for something to become true: by looking again, up to a deadline, and never by sleeping and hoping."""

import time
from collections.abc import Callable
from typing import TypeVar

ValueT = TypeVar("ValueT")


def until(look: Callable[[], ValueT], seconds: float = 60.0, what: str = "") -> ValueT:
    """Return the first true value of ``look``; ``AssertionError`` if there is none within ``seconds``."""
    deadline = time.monotonic() + seconds
    while True:
        value = look()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"within {seconds:g} s there was no {what or look}; at last it was {value!r}")
        time.sleep(0.01)
