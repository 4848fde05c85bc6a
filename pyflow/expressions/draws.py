"""Random values that are the same whenever a run computes them again, because they follow from who asks for them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any
from uuid import UUID

#: Under this name, which no expression can spell, a scope keeps its ``Draws``.
DRAWS = " draws"


class Draws:
    """A sequence of values that follows from ``seed``: run id, node id, item, round and purpose. Not for secrets."""

    __slots__ = ("_count", "seed")

    def __init__(self, *seed: str | int) -> None:
        self.seed = seed
        self._count = 0

    def random(self) -> float:
        """Return the next value as a number from 0 up to, and without, 1."""
        return (int.from_bytes(self._next()[:8], "big") >> 11) * 2.0**-53

    def uuid(self) -> str:
        """Return the next value as a UUID (version 8, RFC 9562 5.8)."""
        value = int.from_bytes(self._next()[:16], "big")
        value = value & ~(0xF << 76) | 0x8 << 76
        return str(UUID(int=value & ~(0b11 << 62) | 0b10 << 62))

    def _next(self) -> bytes:
        self._count += 1
        return hashlib.sha256(json.dumps([*self.seed, self._count]).encode()).digest()


def derived(outer: Mapping[str, Any], *part: str | int) -> Draws:
    """Return the draws of a part of what a scope is of: an item, a round. Raises ``KeyError`` if the scope has none."""
    return Draws(*outer[DRAWS].seed, *part)
