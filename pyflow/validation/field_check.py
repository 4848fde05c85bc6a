"""Checks the config of a node whose leaves are expressions (``set``): that they compile, and what they read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pyflow.core.document import Path, make_pointer
from pyflow.core.errors import Problem
from pyflow.core.problems import suggest
from pyflow.expressions.evaluation import UnsafeExpressionError
from pyflow.expressions.fields import circle, fields_read, leaves
from pyflow.validation.visibility import Sight

#: Of a circle, fields that are named.
_SHOWN = 20


def check_computed(fields: Mapping[str, Any], path: Path, sight: Sight, *, reads_own: bool) -> Iterator[Problem]:
    """Return the problems of the fields at ``path``. ``reads_own``: whether `output` is theirs."""
    if not fields:
        yield Problem("bad_config", "a `set` node has fields: `total: sum(input.prices)`", make_pointer(path))
    inner = sight.with_names(frozenset({"output"})) if reads_own else sight
    is_sound = True
    for at, source in leaves(fields, path):
        problems = list(inner.check_expression(source, at))
        if not problems and reads_own:
            problems = list(_check_read(source, fields, at))
        is_sound = is_sound and not problems
        yield from problems
    if reads_own and is_sound and (names := circle(fields)):
        first = names[0]
        if len(names) > _SHOWN:
            names[_SHOWN:-1] = ["..."]
        message = f"the fields read each other in a circle: {' -> '.join(names)}"
        yield Problem("cycle", message, make_pointer((*path, first)))


def _check_read(source: str, fields: Mapping[str, Any], at: Path) -> Iterator[Problem]:
    try:
        read = fields_read(source)
    except UnsafeExpressionError:  # reported already
        return
    for name in sorted(read, key=str):
        if name is None:
            message = "a field reads another one by its name, `output.NAME`: it cannot look at all of them"
            yield Problem("unknown_name", message, make_pointer(at))
        elif name not in fields:
            message = f"`output.{name}` is read, and the node has no such field"
            yield Problem("unknown_name", message, make_pointer(at), suggestion=suggest(name, fields))
