"""Checks what a fan-out takes its items from, and which of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from pyflow.core.document import Path, make_pointer
from pyflow.core.errors import Problem
from pyflow.core.messages import show
from pyflow.core.problems import suggest
from pyflow.documents.models import MAX_ITEMS, MatrixDef, NodeDef
from pyflow.expressions.template import is_template
from pyflow.validation.visibility import Sight


def check_items(node: NodeDef, path: Path, outer: Sight, inner: Sight) -> Iterator[Problem]:
    """Return the problems of ``for_each`` and ``item_when``. ``outer`` is what the node sees, ``inner`` each item."""
    at = (*path, "for_each")
    items = node.for_each
    if isinstance(items, MatrixDef):
        yield from outer.check_templates(items.model_dump(), at)
        yield from _check_matrix(items, at)
    else:
        yield from outer.check_templates(items, at)
    if isinstance(items, str) and not is_template(items):
        message = "`for_each` is a list, a mapping, a `matrix`, or a template that gives a list or a mapping"
        yield Problem("bad_items", message, make_pointer(at))
    if isinstance(items, dict) and "matrix" in items and items.keys() <= MatrixDef.model_fields.keys():
        message = "`matrix` is a mapping of axes, each a list or a template that gives one"
        yield Problem("bad_matrix", message, make_pointer((*at, "matrix")))
    if node.item_when is not None:
        yield from inner.check_expression(node.item_when, (*path, "item_when"))


def members_of_item(items: object) -> frozenset[str] | None:
    """Return the members that an item can have; ``None`` if that is not known before the run."""
    if not isinstance(items, MatrixDef) or not isinstance(items.include, list):
        return None
    if not all(isinstance(entry, Mapping) for entry in items.include):
        return None
    return frozenset(items.matrix).union(*items.include)


def _check_matrix(items: MatrixDef, at: Path) -> Iterator[Problem]:
    if not items.matrix:
        yield Problem("bad_matrix", "the matrix has no axes", make_pointer((*at, "matrix")))
    for name, values in items.matrix.items():
        if isinstance(values, str) and not is_template(values):
            message = f"the axis {show(name)} is a list, or a template that gives one"
            yield Problem("bad_matrix", message, make_pointer((*at, "matrix", name)))
    for key, entries in (("exclude", items.exclude), ("include", items.include)):
        if isinstance(entries, str):
            if not is_template(entries):
                message = f"`{key}` is a list of mappings, or a template that gives one"
                yield Problem("bad_matrix", message, make_pointer((*at, key)))
            continue
        for number, entry in enumerate(entries):
            yield from _check_entry(entry, items.matrix, (*at, key, number), is_exclude=key == "exclude")
    counts = [len(values) for values in items.matrix.values() if isinstance(values, list)]
    if len(counts) == len(items.matrix) and math.prod(counts) > MAX_ITEMS:
        message = f"the matrix has {math.prod(counts):,} combinations; at most {MAX_ITEMS:,} are allowed"
        yield Problem("bad_matrix", message, make_pointer((*at, "matrix")))


def _check_entry(entry: Any, axes: Mapping[str, Any], at: Path, *, is_exclude: bool) -> Iterator[Problem]:
    if isinstance(entry, str) and is_template(entry):
        return
    if not isinstance(entry, Mapping):
        message = f"an entry of `{at[-2]}` is a mapping of axes to values, not {show(entry)}"
        yield Problem("bad_matrix", message, make_pointer(at))
        return
    for name in entry.keys() - axes.keys() if is_exclude else ():
        message = f"`exclude` names {show(name)}, which is no axis of the matrix"
        yield Problem("unknown_axis", message, make_pointer((*at, name)), suggestion=suggest(str(name), axes))
