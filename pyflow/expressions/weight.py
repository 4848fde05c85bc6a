"""Measures a value as if every reference in it were a copy: the cost of printing, comparing or storing it.

``[[0] * 1000] * 1000`` holds two small lists and a million numbers. A memory limit sees the first, this the second.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

#: About what a value of one word costs; a character costs 1.
UNIT = 16
#: Writing a float takes up to eight times as long the farther it is from 1, an integer the square of its digits.
_FAR = 8 * UNIT
_LONG = 1 << 64
MAX_NESTING = 100
#: Values that one ``Scale`` looks at: looking at them takes time, too.
MAX_LOOKS = 1_000_000
#: Different values with one hash in one set or mapping.
MAX_CLASHES = 100
_SMALL = frozenset({bool, type(None)})
#: What `keys`, `values` and `items` of a mapping give: as heavy as the mapping.
VIEWS: tuple[type, ...] = (type({}.keys()), type({}.values()), type({}.items()))
_ITEMS = (list, tuple, set, frozenset, *VIEWS)


class NestingError(ValueError):
    """A value is nested deeper than ``MAX_NESTING``, perhaps without end."""


class HeavyError(ValueError):
    """A value holds more values than anyone may look at in one computation."""


class ClashError(ValueError):
    """Many different values have the same hash: looking up one of them takes as long as looking at all."""


def check_clashes(keys: Iterable[Any]) -> None:
    """Raise ``ClashError`` if a set of ``keys`` would take quadratic time, as numbers that were chosen for it can."""
    first: dict[int, Any] = {}
    clashes = 0
    for key in keys:
        if type(key) is str:  # its hash is another one in each process
            continue
        other = first.setdefault(hash(key), key)
        if other is not key and other != key:
            clashes += 1
            if clashes > MAX_CLASHES:
                raise ClashError(f"more than {MAX_CLASHES} different values with the same hash in one set or mapping")


class Scale:
    """Weighs values; each list or mapping is looked at once, however often it is referred to."""

    __slots__ = ("_known", "_looks")

    def __init__(self) -> None:
        self._looks = MAX_LOOKS
        # The value is kept with its weight: its id must not be given to another one meanwhile.
        self._known: dict[int, tuple[Any, int]] = {}

    def weigh(self, value: Any, depth: int = 0) -> int:
        """The weight of plain data; any other object is left to ``other``.

        Raises ``NestingError`` or ``HeavyError``.
        """
        kind = type(value)
        if kind is float:
            return UNIT if 1e-5 < abs(value) < 1e22 or not value else _FAR
        if kind in _SMALL:
            return UNIT
        if kind is int:
            return UNIT if -_LONG < value < _LONG else UNIT + (value.bit_length() ** 2 >> 13)
        if isinstance(value, str | bytes):
            return UNIT + len(value)
        if isinstance(value, dict):
            items: Any = (part for pair in value.items() for part in pair)
        elif isinstance(value, _ITEMS):
            items = value
        else:
            return self.other(value)
        known = self._known.get(id(value))
        if known is not None:
            return known[1]
        if depth >= MAX_NESTING:
            raise NestingError(f"nested deeper than {MAX_NESTING} levels")
        self._looks -= len(value)
        if self._looks < 0:
            raise HeavyError(f"of more than {MAX_LOOKS:,} values")
        total = UNIT
        for item in items:
            kind = type(item)
            if kind is str:
                total += UNIT + len(item)
            elif kind in _SMALL or (kind is int and -_LONG < item < _LONG):
                total += UNIT
            else:
                total += self.weigh(item, depth + 1)
        self._known[id(value)] = (value, total)
        return total

    def other(self, _: Any, /) -> int:
        """The weight of what is neither text, a number nor a container: one word."""
        return UNIT
