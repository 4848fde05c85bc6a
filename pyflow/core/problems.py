"""Problems of a document put in their places, and what somebody may have meant."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from difflib import SequenceMatcher
from heapq import nlargest
from typing import TYPE_CHECKING

from pyflow.core.errors import Problem

if TYPE_CHECKING:
    from pyflow.core.document import Document


def locate(problems: Iterable[Problem], document: Document | None) -> list[Problem]:
    """The problems in document order, each once, with the line and column that its pointer has in ``document``."""
    unique = list(dict.fromkeys(problems))
    if document is None:
        return unique
    placed = []
    for problem in unique:
        if problem.line is None:
            line, column = document.position(problem.pointer)
            problem = replace(problem, line=line, column=column)
        placed.append(problem)
    return sorted(placed, key=lambda problem: (problem.line or 0, problem.column or 0))


#: A word that is longer has not slipped from a pen, and comparing is quadratic.
MAX_WORD = 64
#: Among more names than these nobody finds the one that was meant in a moment.
MAX_KNOWN = 1000
_NEAR = 0.6
_LOOKED_AT = 5


def suggest(word: str, known: Iterable[str]) -> str | None:
    """The nearest of ``known``, if one is near enough to be a slip of the pen.

    All are compared by the letters that they have in common, and only the nearest of these letter by letter.
    """
    names = sorted(name for name in known if len(name) <= MAX_WORD)
    if len(word) > MAX_WORD or len(names) > MAX_KNOWN:
        return None
    matcher = SequenceMatcher()
    matcher.set_seq2(word)
    candidates: list[tuple[float, str]] = []
    for name in names:
        matcher.set_seq1(name)
        if matcher.real_quick_ratio() >= _NEAR and (common := matcher.quick_ratio()) >= _NEAR:
            candidates.append((common, name))
    best: tuple[float, str] | None = None
    for _, name in nlargest(_LOOKED_AT, candidates):
        matcher.set_seq1(name)
        found = (matcher.ratio(), name)
        if found[0] >= _NEAR and (best is None or found > best):
            best = found
    return None if best is None else best[1]
