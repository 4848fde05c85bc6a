"""Estimates the cost and size of each operator, filter, test and method of a template before it is called.

Each function here raises if the result would be too large, and otherwise gives the work (``expressions.costs``).
The tables are closed: a filter or test that a later version of Jinja2 adds is not there until its cost is.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from typing import Any

from pyflow.expressions.costs import (
    COMPARE,
    MAX_INT_BITS,
    MAX_ITEMS,
    MAX_TEXT,
    WRITE,
    CostError,
    find_cost,
    searching,
    sorting,
)
from pyflow.expressions.template_errors import TemplateLimitError, TemplateSecurityError
from pyflow.expressions.weight import VIEWS, ClashError, check_clashes

#: Filters that work in Python, character by character, or more than once over their input: characters.
MAX_SLOW_TEXT = 64 * 1024
#: A text with fields to format.
MAX_FORMAT = 64 * 1024
MAX_WIDTH = 10_000

Weigh = Callable[[Any], int]


def size(count: int, limit: int) -> None:
    """Raise ``TemplateLimitError`` if a value would have more than ``limit`` items or characters."""
    if count > limit:
        raise TemplateLimitError(f"a value of {count:,} items or characters; at most {limit:,} are allowed")


def bits(count: int) -> None:
    """Raise ``TemplateLimitError`` if an integer would have more bits than allowed."""
    if count > 2 * MAX_INT_BITS:
        raise TemplateLimitError(f"an integer of more than {2 * MAX_INT_BITS} bits")


def finite(number: float) -> None:
    """Raise ``TemplateLimitError`` for infinity and NaN, which JSON does not have."""
    if not math.isfinite(number):
        raise TemplateLimitError("a number beyond the range of floats")


# --- operators ---------------------------------------------------------------------------------------------------


def operation(operator: str, left: Any, right: Any, weigh: Weigh) -> int:
    """The work of ``left operator right``. Raises if the result would be too large."""
    if operator == "*":
        for sequence, count in ((left, right), (right, left)):
            if isinstance(sequence, str | bytes | list | tuple) and isinstance(count, int):
                size(len(sequence) * max(count, 0), _most(sequence))
        bits(_bits(left) + _bits(right))
    elif operator == "**":
        bits(_bits(left) * right if isinstance(left, int) and isinstance(right, int) and right > 1 else 0)
    elif operator == "%" and isinstance(left, str | bytes):
        if isinstance(left, bytes):
            raise TemplateSecurityError("% does not format bytes here")
        return printf(weigh, left, right)
    elif operator == "+" and isinstance(left, str | bytes | list | tuple) and isinstance(right, Sized):
        size(len(left) + len(right), _most(left))
    elif operator == "-" and isinstance(left, (set, frozenset, *VIEWS)):
        return method(left, "isdisjoint", (right,), {}, weigh)
    return 1


def comparison(load: Weigh, value: Any) -> int:
    """The work of comparing a value with another one, or looking for it."""
    return COMPARE * load(value) if isinstance(value, (*_CONTAINERS, str, bytes, int)) else 1


def _most(sequence: Any) -> int:
    return MAX_TEXT if isinstance(sequence, str | bytes) else MAX_ITEMS


def _bits(value: Any) -> int:
    return value.bit_length() if isinstance(value, int) else 0


# --- formats -----------------------------------------------------------------------------------------------------

_CONTAINERS = (list, tuple, set, frozenset, dict, *VIEWS)
_PRINTF = re.compile(r"%(?:\([^()]*\))?[#0\- +]*(\*|\d*)(?:\.(\*|\d*))?")


def widths(specification: str) -> None:
    """Raise if a format asks for a width or precision beyond bounds."""
    for number in re.findall(r"\d+", specification):
        size(int(number[:9]), MAX_WIDTH)


def time_format(specification: str) -> None:
    """Raise if a time format is longer than the longest anyone needs, or pads (glibc: ``%999999999d``)."""
    size(len(specification), 1000)
    if re.search(r"%[-_0^#+]*\d", specification):
        raise TemplateLimitError("a time format pads without bound")


def printf(weigh: Weigh, text: Any, *args: Any, **kwargs: Any) -> int:
    """The work of a printf-style format. Raises if it would give too large a text."""
    form = str(text)
    size(len(form), MAX_FORMAT)
    total, fields = len(form), 0
    for match in _PRINTF.finditer(form):
        fields += 1
        for number in match.groups():
            if number == "*":
                raise TemplateLimitError("a computed width or precision is not allowed")
            if number:
                size(int(number[:9]), MAX_WIDTH)
                total += int(number[:9])
    # Each field may write all there is: `%(a)s%(a)s`.
    weights = [weigh(value) for value in (*args, *kwargs.values())]
    total += fields * max(weights, default=0) if fields > len(args) else sum(weights)
    size(total, 2 * MAX_TEXT)
    return WRITE * total


# --- filters -----------------------------------------------------------------------------------------------------


def _plain(_: Weigh, *__: Any, **___: Any) -> int:
    """Of filters that look at one thing, or hand items on one by one, each of which is paid for."""
    return 1


def _slow(weigh: Weigh, value: Any = "", *_: Any, **__: Any) -> int:
    count = weigh(value) if not isinstance(value, str) else len(value)
    size(count, MAX_SLOW_TEXT)
    return 1000 * count


def _slow_text(weigh: Weigh, value: Any = "", *args: Any, **kwargs: Any) -> int:
    for extra in (*args, *kwargs.values()):
        if isinstance(extra, str):
            size(len(extra), 100)
        elif isinstance(extra, int):
            size(extra, MAX_TEXT)
    return _slow(weigh, value)


def _written(weigh: Weigh, value: Any = "", *_: Any, **__: Any) -> int:
    if isinstance(value, Iterator):
        raise TemplateSecurityError(f"a {type(value).__name__} is not text; add `| list`")
    if isinstance(value, str):
        size(len(value), MAX_TEXT)
        return 16 * len(value)
    weight = weigh(value)
    size(weight // 16, MAX_TEXT)
    return WRITE * weight


def _as_method(name: str) -> Callable[..., int]:
    """Of a filter that calls a method of its value, which it first writes as text."""

    def cost(weigh: Weigh, value: Any = "", *args: Any, **kwargs: Any) -> int:
        work = _written(weigh, value)
        if not isinstance(value, str):
            size(weigh(value), MAX_SLOW_TEXT)
            value = str(value)
        return work + method(value, name, args, kwargs, weigh)

    return cost


def _json(weigh: Weigh, value: Any, indent: Any = None) -> int:
    if isinstance(indent, str):
        size(len(indent), 16)
    elif indent is not None:
        size(int(indent), 16)
    return 2 * _written(weigh, value)


def _center(weigh: Weigh, value: Any, width: Any = 80) -> int:
    size(int(width), MAX_TEXT)
    return _written(weigh, value)


def _indent(_: Weigh, s: Any, width: Any = 4, *_rest: Any, **_options: Any) -> int:
    text = str(s) if isinstance(s, str) else ""
    size(len(text), MAX_TEXT)
    step = len(width) if isinstance(width, str) else int(width)
    size(len(text) + (len(text.splitlines()) + 2) * max(step, 0), MAX_TEXT)
    return 300 * len(text)


def _batch(weigh: Weigh, value: Any, linecount: Any = 1, *_rest: Any, **options: Any) -> int:
    size(int(options.get("slices", linecount)), MAX_ITEMS)
    return _listed(weigh, value)


def _round(_: Weigh, __: Any, precision: Any = 0, *_rest: Any, **_options: Any) -> int:
    size(abs(int(precision)), 100)
    return 1


def _number(_: Weigh, value: Any, *_rest: Any, **_options: Any) -> int:
    if isinstance(value, str | bytes):
        size(len(value), 1000)
    return 1000


def _listed(_: Weigh, value: Any = (), *_rest: Any, **_options: Any) -> int:
    # An item for each character takes 80 times the memory of the text.
    if isinstance(value, Sized):
        size(len(value), MAX_ITEMS)
        return 32 * len(value)
    return 1


def _sorted(weigh: Weigh, value: Any, *args: Any, **options: Any) -> int:
    """Cost of sorting or grouping; ``ordering`` is the cost of comparing the keys."""
    # By default they compare copies in lower case.
    if not args and "attribute" not in options:
        size(weigh(value) // 8, MAX_TEXT)
    return _listed(weigh, value)


def _dict_sorted(weigh: Weigh, value: Any, *_rest: Any, **_options: Any) -> int:
    return _sorted(weigh, value) + (sorting(weigh(value), len(value)) if isinstance(value, Sized) else 0)


def ordering(name: str, load: Weigh, found: list[Any]) -> int:
    """The work of a filter that compares these keys. Raises for `unique` if many of them have the same hash."""
    if name == "unique":
        keys(found)
    return sorting(load(found), len(found)) + 200 * len(found)


#: Filters that compare what they take from each item.
KEYED = frozenset({"groupby", "max", "min", "sort", "unique"})
FILTERS: dict[str, Callable[..., int]] = {
    "batch": _batch,
    "slice": _batch,
    "center": _center,
    "dictsort": _dict_sorted,
    "format": printf,
    "indent": _indent,
    "replace": _as_method("replace"),
    "round": _round,
    "tojson": _json,
    "list": _listed,
    "groupby": _listed,
    "reverse": _listed,
    "trim": _as_method("strip"),
}
FILTERS |= {name: _as_method(name) for name in ("capitalize", "lower", "upper")}
FILTERS |= dict.fromkeys(("filesizeformat", "float", "int"), _number)
FILTERS |= dict.fromkeys(("max", "min", "sort", "unique"), _sorted)
FILTERS |= dict.fromkeys(("pprint", "striptags", "title", "urlencode", "wordcount", "xmlattr"), _slow)
FILTERS |= dict.fromkeys(("urlize", "wordwrap"), _slow_text)
FILTERS |= dict.fromkeys(("e", "escape", "forceescape", "safe", "string", "truncate"), _written)
_PLAIN = "abs attr count d default first items join last length map random reject rejectattr select selectattr sum"
FILTERS |= dict.fromkeys(_PLAIN.split(), _plain)

# --- tests -------------------------------------------------------------------------------------------------------


def _compared(load: Weigh, *args: Any) -> int:
    return sum(comparison(load, arg) for arg in args)


def _contained(load: Weigh, value: Any, container: Any = ()) -> int:
    if isinstance(container, str | bytes):
        return searching(container, value)
    return comparison(load, value) + (0 if is_hashed(container) else comparison(load, container))


def _case(load: Weigh, value: Any) -> int:
    return _written(load, value)


def is_hashed(container: Any) -> bool:
    """Return whether a look-up in it takes the same time however large it is."""
    return isinstance(container, Mapping | set | frozenset) or type(container) is VIEWS[0]


TESTS: dict[str, Callable[..., int]] = {"in": _contained, "lower": _case, "upper": _case}
_COMPARING = "== != < <= > >= eq equalto ge greaterthan gt le lessthan lt ne"
_LOOKING = """
    boolean callable defined divisibleby escaped even false filter float integer iterable mapping none number odd
    sameas sequence string test true undefined
"""
TESTS |= dict.fromkeys(_COMPARING.split(), _compared)
TESTS |= dict.fromkeys(_LOOKING.split(), _plain)

# --- methods -----------------------------------------------------------------------------------------------------


def method(owner: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], load: Weigh) -> int:
    """The work of a method of a built-in type. Raises if it is not one for data, or its result would be too large."""
    cost = find_cost(owner, name)
    if cost is None:
        raise TemplateSecurityError(f"the method {name!r} of a {type(owner).__name__} is not allowed in a template")
    if isinstance(owner, set | frozenset):
        for arg in args:
            if isinstance(arg, list | tuple):
                keys(arg)
    try:
        return cost(load, owner, *args, **kwargs)
    except CostError as error:
        raise TemplateLimitError(f"{name}(): {error}") from None


def keys(values: Iterable[Any]) -> None:
    """Raise ``TemplateLimitError`` if a set or mapping with these keys would take quadratic time."""
    try:
        check_clashes(values)
    except ClashError as error:
        raise TemplateLimitError(str(error)) from None


def pairs(items: Iterable[Any]) -> list[Any]:
    """The items of a mapping that is about to be made; see ``keys``."""
    found = [tuple(item) for item in items]
    keys(pair[0] for pair in found if pair)
    return found
