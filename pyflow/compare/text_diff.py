"""Two texts compared line by line, as `diff -u` shows it, in bounded time."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher

_LINE = re.compile(r"[^\n]*\n|[^\n]+")
#: Lines removed and added up to which the smallest difference is found, in 0.5 s. Beyond it, everything between the
#: common beginning and the common end is shown as replaced.
MAX_EDITS = 1000
CONTEXT = 3

Opcode = tuple[str, int, int, int, int]


def unified(before: str, after: str, *, before_name: str, after_name: str) -> str:
    """The difference as a patch that `patch` can apply; empty if there is none."""
    ours, theirs = _LINE.findall(before), _LINE.findall(after)
    hunks = grouped(ours, theirs)
    lines = [f"--- {before_name}\n", f"+++ {after_name}\n"] if hunks else []
    for hunk in hunks:
        first, last = hunk[0], hunk[-1]
        lines.append(f"@@ -{_range(first[1], last[2])} +{_range(first[3], last[4])} @@\n")
        for tag, i1, i2, j1, j2 in hunk:
            if tag == "equal":
                lines += _marked(" ", ours[i1:i2])
            else:
                lines += [*_marked("-", ours[i1:i2]), *_marked("+", theirs[j1:j2])]
    return "".join(lines)


def grouped(ours: Sequence[str], theirs: Sequence[str]) -> list[list[Opcode]]:
    """Return the differences of two lists of lines, with ``CONTEXT`` lines around them, as difflib groups them."""
    return list(_Bounded(ours, theirs).get_grouped_opcodes(CONTEXT)) if ours != theirs else []


class _Bounded(SequenceMatcher[str]):
    """difflib's hunks, around differences that are found otherwise: its own search takes cubic time at worst."""

    def __init__(self, ours: Sequence[str], theirs: Sequence[str]) -> None:
        super().__init__(None, "", "", autojunk=False)
        self._ours, self._theirs = ours, theirs

    def get_opcodes(self) -> list[Opcode]:  # type: ignore[override] # tags as plain text
        ours, theirs = self._ours, self._theirs
        shortest = min(len(ours), len(theirs))
        start = next((i for i in range(shortest) if ours[i] != theirs[i]), shortest)
        left = shortest - start
        end = next((i for i in range(left) if ours[-1 - i] != theirs[-1 - i]), left)
        blocks = [(0, 0, start)] if start else []
        matches = _matches(ours[start : len(ours) - end], theirs[start : len(theirs) - end])
        blocks += [(start + i, start + j, 1) for i, j in matches]
        blocks.append((len(ours) - end, len(theirs) - end, end))
        return list(_opcodes(blocks))


def _opcodes(blocks: Sequence[tuple[int, int, int]]) -> Iterator[Opcode]:
    """Blocks that are alike, each with its beginnings and its length, and what is between them."""
    i = j = equal = 0
    for at_i, at_j, length in blocks:
        if (i, j) != (at_i, at_j):
            if equal:
                yield "equal", i - equal, i, j - equal, j
            equal = 0
            yield "replace", i, at_i, j, at_j
        equal += length
        i, j = at_i + length, at_j + length
    if equal:
        yield "equal", i - equal, i, j - equal, j


def _matches(ours: Sequence[str], theirs: Sequence[str]) -> list[tuple[int, int]]:
    """The lines that stay, as pairs of indexes: the most there can be (Myers 1986), none beyond ``MAX_EDITS``."""
    limit = min(len(ours) + len(theirs), MAX_EDITS)
    reach = [0] * (2 * limit + 3)
    trace: list[list[int]] = []
    for edits in range(limit + 1):
        for diagonal in range(-edits, edits + 1, 2):
            at = limit + 1 + diagonal
            down = diagonal == -edits or (diagonal != edits and reach[at - 1] < reach[at + 1])
            i = reach[at + 1] if down else reach[at - 1] + 1
            j = i - diagonal
            while i < len(ours) and j < len(theirs) and ours[i] == theirs[j]:
                i, j = i + 1, j + 1
            reach[at] = i
            if i >= len(ours) and j >= len(theirs):
                return _walk_back(trace, i, j)
        trace.append(reach[limit + 1 - edits : limit + 2 + edits])
    return []


def _walk_back(trace: Sequence[Sequence[int]], i: int, j: int) -> list[tuple[int, int]]:
    """From the end of both texts to their beginning; ``trace[d]`` is how far ``d`` edits lead, by diagonal."""
    matches = []
    for edits in range(len(trace), 0, -1):
        reach, diagonal, middle = trace[edits - 1], i - j, edits - 1
        down = diagonal == -edits or (diagonal != edits and reach[middle + diagonal - 1] < reach[middle + diagonal + 1])
        before = diagonal + 1 if down else diagonal - 1
        before_i = reach[middle + before]
        while i > before_i and j > before_i - before:
            i, j = i - 1, j - 1
            matches.append((i, j))
        i, j = before_i, before_i - before
    matches += [(k, k) for k in reversed(range(i))]
    return matches[::-1]


def _range(start: int, stop: int) -> str:
    """Format a range as POSIX does: lines count from 1, and an empty range is named by the line before it."""
    length = stop - start
    if length == 1:
        return f"{start + 1}"
    return f"{start + 1 if length else start},{length}"


def _marked(mark: str, lines: Sequence[str]) -> Iterator[str]:
    for line in lines:
        yield mark + line if line.endswith("\n") else f"{mark}{line}\n\\ No newline at end of file\n"
