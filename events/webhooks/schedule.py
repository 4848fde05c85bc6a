"""Times of repeated attempts of a delivery, and the time after which an endpoint is given up."""

from __future__ import annotations

import random
from datetime import timedelta

#: Pauses after each failed attempt: the example of Standard Webhooks. After the last attempt there is none.
PAUSES = tuple(
    timedelta(seconds=seconds) for seconds in (5, 5 * 60, 30 * 60, *(hours * 3600 for hours in (2, 5, 10, 14, 20, 24)))
)
#: Up to so much of a pause is added to it, by chance: receivers that were away are not asked by all at once.
JITTER = 0.2
#: An endpoint that has only failed for so long is disabled.
GIVE_UP_AFTER = timedelta(days=5)


def pause_after(tries: int) -> timedelta | None:
    """Return the pause after so many failed attempts; ``None`` if that was the last one."""
    if tries > len(PAUSES):
        return None
    return PAUSES[tries - 1] * (1 + random.uniform(0, JITTER))  # noqa: S311 - no secret
