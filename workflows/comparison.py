"""Documents of versions for reading: line by line, and what differs between two of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from pyflow.compare.text_diff import Opcode, grouped

#: Lines of a document that are shown or compared.
MOST_LINES = 5_000


class Line(NamedTuple):
    """A line of a comparison; ``kind`` is ``same``, ``added``, ``removed`` or ``place`` (lines were left out)."""

    kind: str
    old: int | None
    new: int | None
    text: str


def numbered(source: str) -> list[tuple[int, str]]:
    """The first ``MOST_LINES`` lines with their numbers from 1."""
    return list(enumerate(source.split("\n")[:MOST_LINES], start=1))


def compared(old: str, new: str) -> list[Line]:
    """Return the differences, with some lines around them; empty without any. Cuts documents at ``MOST_LINES``."""
    before, after = old.split("\n")[:MOST_LINES], new.split("\n")[:MOST_LINES]
    return [line for group in grouped(before, after) for line in _group(group, before, after)]


def _group(group: list[Opcode], before: list[str], after: list[str]) -> Iterator[Line]:
    first, last = group[0], group[-1]
    yield Line("place", None, None, f"lines {first[1] + 1}–{last[2]} are {first[3] + 1}–{last[4]}")
    for tag, i, i_end, j, j_end in group:
        if tag == "equal":
            for offset in range(i_end - i):
                yield Line("same", i + offset + 1, j + offset + 1, before[i + offset])
            continue
        for number in range(i, i_end):
            yield Line("removed", number + 1, None, before[number])
        for number in range(j, j_end):
            yield Line("added", None, number + 1, after[number])
