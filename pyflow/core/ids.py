"""UUIDv7 (RFC 9562 5.7): unique, and sorted by the time they were made."""

from __future__ import annotations

import os
import threading
import time
import uuid

_lock = threading.Lock()
_last = 0


def new_uuid() -> uuid.UUID:
    """A new UUIDv7; of two made in one process the later one is the greater (RFC 9562 6.2, method 3)."""
    global _last  # noqa: PLW0603 - the last timestamp is what makes them monotonic
    # 48 bits of milliseconds and 12 bits of their fraction.
    now = time.time_ns()
    milliseconds, rest = divmod(now, 1_000_000)
    ticks = (milliseconds << 12) | (rest * 4096 // 1_000_000)
    with _lock:
        _last = ticks = max(ticks, _last + 1)
    random = int.from_bytes(os.urandom(8), "big") & ((1 << 62) - 1)
    return uuid.UUID(int=(ticks >> 12) << 80 | 0x7 << 76 | (ticks & 0xFFF) << 64 | 0b10 << 62 | random)


def new_id() -> str:
    """A new UUIDv7 as text."""
    return str(new_uuid())
