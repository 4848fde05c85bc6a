"""Undoes the escapes that text gets on its way (URLs, JSON, Python, HTML), and knows where each character stood."""

from __future__ import annotations

import html
import re
from bisect import bisect_right
from collections.abc import Iterator

#: Text may be escaped more than once, as JSON in JSON is.
MAX_LEVELS = 4

_ESCAPE = re.compile(
    r"%[0-7][0-9A-Fa-f]"
    r"|%[C-Fc-f][0-9A-Fa-f](?:%[89ABab][0-9A-Fa-f]){1,3}"
    r"|\\u[Dd][89ABab][0-9A-Fa-f]{2}\\u[Dd][C-Fc-f][0-9A-Fa-f]{2}"
    r"|\\u[0-9A-Fa-f]{4}|\\U000[01][0-9A-Fa-f]{4}|\\x[0-9A-Fa-f]{2}|\\[nrtbf\"'\\/]"
    r"|&(?:\#\d{1,7}|\#[xX][0-9A-Fa-f]{1,6}|amp|lt|gt|quot|apos);"
)
_LETTERS = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f"}


class Unescaped:
    """A text without its escapes."""

    __slots__ = ("_levels", "text")

    def __init__(self, text: str, levels: list[tuple[list[int], list[int]]]) -> None:
        self.text = text
        #: Of each level, last undone first: where in its result, and where in its source, a stretch begins. Stretches
        #: of text that stayed (even) and of escapes (odd) take turns.
        self._levels = levels

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Return the range in the source that a part of ``text`` comes from; it is not empty."""
        for after, before in self._levels:
            start, end = _source(after, before, start)[0], _source(after, before, end - 1)[1]
        return start, end


def unescaped(text: str) -> Iterator[Unescaped]:
    """Yield ``text`` with one level of escapes undone, then with two, up to ``MAX_LEVELS``; nothing if there are none.

    A text that was written with escapes has them, too, at the level at which it stands as it is.
    """
    levels: list[tuple[list[int], list[int]]] = []
    while len(levels) < MAX_LEVELS and ("%" in text or "\\" in text or "&" in text):
        parts: list[str] = []
        after, before = [0], [0]
        done = size = 0
        for match in _ESCAPE.finditer(text):
            start, end = match.span()
            char = _character(match[0])
            parts += text[done:start], char
            size += start - done
            after += size, size + len(char)
            before += start, end
            size += len(char)
            done = end
        if not done:
            break
        text = "".join((*parts, text[done:]))
        levels = [(after, before), *levels]
        yield Unescaped(text, levels)


def _source(after: list[int], before: list[int], at: int) -> tuple[int, int]:
    """Return the position in the source that one character comes from."""
    stretch = bisect_right(after, at) - 1
    if stretch % 2:
        return before[stretch], before[stretch + 1]
    start = before[stretch] + at - after[stretch]
    return start, start + 1


def _character(escape: str) -> str:
    if escape[0] == "%":
        return bytes.fromhex(escape.replace("%", "")).decode("utf-8", "surrogateescape")
    if escape[0] == "&":
        return html.unescape(escape)
    if escape[1] in "uxU":
        if len(escape) == 12:  # a pair of surrogates
            return bytes.fromhex(escape.replace("\\u", "")).decode("utf-16-be")
        return chr(int(escape[2:], 16))
    return _LETTERS.get(escape[1], escape[1])
