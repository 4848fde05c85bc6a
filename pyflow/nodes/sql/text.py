"""Reads SQL as far as the ``sql`` node has to: which parameters a statement has, and which words.

A colon in a literal, a comment or an identifier is no parameter, and neither are a cast (``::``), an assignment
(``:=``) and the bound of a slice (``a[1:n]``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Kind = Literal["postgresql", "mysql", "sqlite"]

#: What every database has. A parameter does not follow directly on something that has a value.
_COMMON = r"""
    (?P<param>(?<![\w\])'"`]):[^\W\d]\w*)
  | (?P<word>[^\W\d][\w$]*)
  | (?P<rest>::|:=|\d\w*|.)
"""
_LITERAL = r"'(?:[^']|'')*+(?:'|\Z)"
_ESCAPED = r"'(?:[^'\\]|\\.|'')*+(?:'|\Z)"
_TO_LINE_END = r"--[^\n]*"
_COMMENT = r"/\*.*?(?:\*/|\Z)"
_IDENTIFIER = r'"(?:[^"]|"")*+(?:"|\Z)'
_BACKTICKS = r"`(?:[^`]|``)*+(?:`|\Z)"

#: By kind of database: comments and blanks (``gap``), and what is quoted. One that is not closed goes to the end, and
#: the database says so.
_TOKENS = {
    kind: re.compile(f"{tokens} | {_COMMON}", re.VERBOSE | re.DOTALL)
    for kind, tokens in {
        "postgresql": rf"""
            (?P<gap>\s+|{_TO_LINE_END}) | (?P<nested>/\*)
          | (?P<quoted>[eE]{_ESCAPED} | {_LITERAL} | {_IDENTIFIER}
            | (?P<tag>\$(?:[^\W\d]\w*)?\$).*?(?:(?P=tag)|\Z))
        """,
        # A server executes what is in `/*! */` and `/*M! */`, perhaps: it is read like the rest.
        "mysql": rf"""
            (?P<gap>\s+|--(?=\s|\Z)[^\n]*|\#[^\n]*|/\*(?!M?!).*?(?:\*/|\Z))
          | (?P<quoted>{_ESCAPED} | "(?:[^"\\]|\\.|"")*+(?:"|\Z) | {_BACKTICKS})
        """,
        "sqlite": rf"""
            (?P<gap>\s+|{_TO_LINE_END}|{_COMMENT})
          | (?P<quoted>{_LITERAL} | {_IDENTIFIER} | {_BACKTICKS} | \[[^\]]*(?:\]|\Z))
        """,
    }.items()
}
_NESTING = re.compile(r"/\*|\*/")


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement as the driver gets it, and what is known of it."""

    text: str
    """With the driver's own placeholders."""
    params: frozenset[str]
    """The names of its parameters."""
    first: str
    """The word it begins with, after comments and brackets, in lower case; empty if it begins with anything else."""
    words: frozenset[str]
    """All its words that are not quoted, in lower case."""


def read(query: str, kind: Kind) -> Statement:
    """Find the parameters and words of a statement, and write it for the driver of its database."""
    tokens = _TOKENS[kind]
    parts, params, words, first = list[str](), set[str](), set[str](), None
    position = 0
    while position < len(query):
        found = tokens.match(query, position)
        assert found is not None  # noqa: S101 - `rest` matches anything
        piece, group = found[0], found.lastgroup
        if group == "nested":
            piece = query[position : _end_of_nested(query, position)]
        position += len(piece)
        if group == "param":
            name = piece.removeprefix(":")
            params.add(name)
            parts.append(piece if kind == "sqlite" else f"%({name})s")
            continue
        if group == "word":
            words.add(piece.lower())
        if first is None and group not in ("gap", "nested") and piece != "(":
            first = piece.lower() if group == "word" else ""
        # For these drivers a percent sign begins a placeholder wherever it stands, literals included.
        parts.append(piece if kind == "sqlite" else piece.replace("%", "%%"))
    return Statement("".join(parts), frozenset(params), first or "", frozenset(words))


def _end_of_nested(query: str, start: int) -> int:
    """Return the end of a comment of PostgreSQL, in which there may be others."""
    depth = 0
    for mark in _NESTING.finditer(query, start):
        depth += 1 if mark[0] == "/*" else -1
        if not depth:
            return mark.end()
    return len(query)
