"""Estimates the cost of checking a value against a JSON Schema, before the check.

A validator looks at each part of a schema wherever a reference leads to it, so a few lines of references double and
double again. Here the references are followed as it would; how often is bounded, and so is recursion: a schema may
refer to itself for the parts of a value (a tree, a nested expression), not twice for the same part, because that
doubles with each level of the value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from pyflow.core.messages import show

#: Parts of a schema, each counted as often as it is referred to.
MAX_PARTS = 10_000
#: Parts of the schema times values in what is checked.
MAX_CHECKS = 20_000_000

Schema = Mapping[str, Any]
#: Where in a value a schema applies, seen from where another one does: names of fields, ``None`` for any.
Place = tuple[str | int | None, ...]

_SAME_LISTS = ("allOf", "anyOf", "oneOf")
_SAME = ("not", "if", "then", "else")
_ANY_CHILD = ("additionalProperties", "unevaluatedProperties", "propertyNames", "items", "contains", "unevaluatedItems")


class CostlySchemaError(ValueError):
    """Checking a value against the schema could take for ever."""


def count_parts(schema: Schema) -> int:
    """Count the parts of the schema with its references followed. Raises ``CostlySchemaError``."""
    return _Walk(schema).count()


def count_values(value: Any) -> int:
    """Count the values in a nested value, itself included."""
    count, left = 0, [value]
    while left:
        one = left.pop()
        count += 1
        if isinstance(one, Mapping):
            left.extend(one.values())
        elif isinstance(one, list | tuple):
            left.extend(one)
    return count


class _Walk:
    """One walk through a schema along its references."""

    def __init__(self, root: Schema) -> None:
        self._root = root
        self._anchors = dict(_anchors(root))
        self._count = 0
        #: Schemas that the walk is inside of, with the length of the place where each applies.
        self._inside: dict[int, int] = {}
        #: Where, seen from such a schema, it applies once more.
        self._again: dict[int, list[Place]] = {}

    def count(self) -> int:
        try:
            self._visit(self._root, ())
        except RecursionError:
            raise CostlySchemaError("the schema is nested too deeply") from None
        return self._count

    def _visit(self, schema: Any, place: Place) -> None:
        if not isinstance(schema, Mapping):
            return
        self._count += 1
        if self._count > MAX_PARTS:
            raise CostlySchemaError(f"the schema has more than {MAX_PARTS:,} parts, references followed")
        identity = id(schema)
        if identity in self._inside:
            self._recur(identity, place[self._inside[identity] :])
            return
        self._inside[identity] = len(place)
        self._again[identity] = []
        for step, part in _parts(schema):
            self._visit(part, place if step is _HERE else (*place, step))
        for key in ("$ref", "$dynamicRef"):
            if key in schema:
                self._visit(self._target(schema[key]), place)
        del self._inside[identity], self._again[identity]

    def _recur(self, identity: int, place: Place) -> None:
        if not place:
            raise CostlySchemaError("the schema refers to itself without end")
        if any(_overlap(place, other) for other in self._again[identity]):
            raise CostlySchemaError("the schema refers to itself more than once for the same part of a value")
        self._again[identity].append(place)

    def _target(self, reference: Any) -> Any:
        if not isinstance(reference, str):
            return None  # the validator says what is wrong with it
        if reference in self._anchors:
            return self._anchors[reference]
        if reference != "#" and not reference.startswith("#/"):
            raise CostlySchemaError(f"a schema may refer to itself by '#/...' or '#anchor', not to {show(reference)}")
        found: Any = self._root
        for step in unquote(reference[1:]).split("/")[1:]:
            step = step.replace("~1", "/").replace("~0", "~")
            try:
                found = found[int(step)] if isinstance(found, list) else found[step]
            except (LookupError, TypeError, ValueError):
                return None
        return found


_HERE: Any = object()


def _parts(schema: Schema) -> Iterator[tuple[Any, Any]]:
    """The schemas directly in a schema, with the step to where they apply."""
    for key in _SAME_LISTS:
        parts = schema.get(key)
        yield from ((_HERE, part) for part in (parts if isinstance(parts, list) else ()))
    for key in _SAME:
        yield _HERE, schema.get(key)
    yield from ((_HERE, part) for _, part in _fields(schema, "dependentSchemas"))
    yield from _fields(schema, "properties")
    yield from ((None, part) for _, part in _fields(schema, "patternProperties"))
    prefix = schema.get("prefixItems")
    yield from enumerate(prefix if isinstance(prefix, list) else ())
    yield from ((None, schema.get(key)) for key in _ANY_CHILD)


def _fields(schema: Schema, key: str) -> Iterator[tuple[str, Any]]:
    parts = schema.get(key)
    return iter(parts.items() if isinstance(parts, Mapping) else ())


def _overlap(one: Place, other: Place) -> bool:
    """Return whether the shorter place may hold the longer one."""
    return all(a is None or b is None or a == b for a, b in zip(one, other, strict=False))


def _anchors(value: Any) -> Iterator[tuple[str, Any]]:
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, Mapping):
            if "$id" in one and one is not value:
                raise CostlySchemaError("`$id` has no place within a schema: it changes what references mean")
            for key in ("$anchor", "$dynamicAnchor"):
                if isinstance(one.get(key), str):
                    yield f"#{one[key]}", one
            left.extend(one.values())
        elif isinstance(one, list):
            left.extend(one)
