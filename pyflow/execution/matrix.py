"""``for_each: {matrix: …}``: the combinations of the values of several axes as the items of a fan-out."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

from pyflow.core.errors import NonRetryableError
from pyflow.core.messages import show
from pyflow.documents.models import MAX_ITEMS

#: Combinations times entries of ``exclude`` and ``include``.
MAX_COMPARISONS = 5_000_000

Item = tuple[str, Any]


class BadItemsError(NonRetryableError):
    """``for_each`` gave something that is not a list or mapping, or keys that are not unique."""

    code = "bad_items"


def check_count(count: int) -> None:
    """Raise ``BadItemsError`` if a fan-out has more items than it may have."""
    if count > MAX_ITEMS:
        raise BadItemsError(f"`for_each` has {count:,} items; at most {MAX_ITEMS:,} are allowed")


def combinations(definition: Mapping[str, Any]) -> list[Item]:
    """Return the combinations of a rendered matrix, with their keys, as GitHub Actions makes them.

    The axes are taken in the order of their names, so that documents that mean the same give the same items; the last
    axis varies fastest. ``exclude`` removes the combinations that have all values of an entry. An entry of ``include``
    adds its values to each combination of which it changes no value of an axis; if there is none, it becomes one
    itself. The key of a combination joins its values on the axes with ``-``. Raises ``BadItemsError``.
    """
    axes = {name: _values(f"matrix.{name}", definition["matrix"][name]) for name in sorted(definition["matrix"])}
    excluded = [_entry("exclude", entry) for entry in _values("exclude", definition.get("exclude") or [])]
    included = [_entry("include", entry) for entry in _values("include", definition.get("include") or [])]
    for entry in excluded:
        for name in entry.keys() - axes.keys():
            raise BadItemsError(f"`for_each.exclude` names {show(name)}, which is no axis of the matrix")
    count = math.prod(map(len, axes.values())) if axes else 0
    check_count(count + len(included))
    entries = len(excluded) + len(included)
    if count * entries > MAX_COMPARISONS:
        raise BadItemsError(
            f"`for_each` compares {count:,} combinations with {entries:,} entries of `exclude` and `include`;"
            f" at most {MAX_COMPARISONS:,} comparisons are allowed"
        )
    found = [dict(zip(axes, values, strict=True)) for values in product(*axes.values())] if axes else []
    found = [combination for combination in found if not any(_has(combination, entry) for entry in excluded)]
    keys = ["-".join(map(_text, combination.values())) for combination in found]
    for entry in included:
        own = {name: value for name, value in entry.items() if name in axes}
        fitting = [combination for combination in found[: len(keys)] if _has(combination, own)]
        for combination in fitting:
            combination |= entry
        if not fitting:
            found.append(entry)
    keys += ["-".join(_text(entry[name]) for name in _order(entry, axes)) for entry in found[len(keys) :]]
    return list(zip(keys, found, strict=True))


def _order(entry: Mapping[str, Any], axes: Mapping[str, Any]) -> Iterator[str]:
    yield from (name for name in axes if name in entry)
    yield from sorted(entry.keys() - axes.keys())


def _values(where: str, value: Any) -> Sequence[Any]:
    if not isinstance(value, list | tuple):
        raise BadItemsError(f"`for_each.{where}` is a list, not {type(value).__name__}")
    return value


def _entry(where: str, entry: Any) -> dict[str, Any]:
    if not isinstance(entry, Mapping):
        raise BadItemsError(f"an entry of `for_each.{where}` is a mapping, not {type(entry).__name__}")
    return dict(entry)


def _has(combination: Mapping[str, Any], entry: Mapping[str, Any]) -> bool:
    """Return whether a combination has these values on its axes; 1 is not true."""
    return all(
        combination[name] == value and isinstance(combination[name], bool) is isinstance(value, bool)
        for name, value in entry.items()
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
