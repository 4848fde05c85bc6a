"""Problems of a document put in their places, and what somebody may have meant."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from difflib import get_close_matches

from pyflow.core.document import Document
from pyflow.core.errors import Problem


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


def suggest(word: str, known: Iterable[str]) -> str | None:
    """The nearest of ``known``, if one is near enough to be a slip of the pen."""
    matches = get_close_matches(word, sorted(known), n=1, cutoff=0.6)
    return matches[0] if matches else None
