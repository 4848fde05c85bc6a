"""Estimates, before a method of a built-in type is called, how long it takes and how large its result is.

A method of C holds the interpreter from its first to its last character, so nothing that is charged afterwards bounds
it: `'a' * 500_000` that is searched backwards takes a minute. Work is counted in about nanoseconds of the worst case.

The table is closed: neither a template nor an expression calls a method that has no cost here, whatever a later
version of Python adds.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Sized
from typing import Any

from pyflow.expressions.weight import VIEWS

MAX_INT_BITS = 256
MAX_TEXT = 1024 * 1024
MAX_ITEMS = 100_000
#: Work for each unit of weight (``expressions.weight``) that is compared or hashed, and that is written as text.
COMPARE, WRITE = 2, 48

#: The weight of a value if every reference in it were a copy.
Load = Callable[[Any], int]
Cost = Callable[..., int]


class CostError(ValueError):
    """The result would be larger than allowed, or the arguments are not ones whose cost is known."""


def bounded(count: int, limit: int) -> int:
    """``count`` if it is not over ``limit``; raises ``CostError``."""
    if count > limit:
        raise CostError(f"a value of {count:,} items or characters; at most {limit:,} are allowed")
    return count


def find_cost(owner: Any, name: str) -> Cost | None:
    """The cost of a method of a value: call it with ``load``, the value and the arguments; ``None``: not callable."""
    for kinds, costs in METHODS:
        if isinstance(owner, kinds):
            return costs.get(name)
    return None


def sorting(weight: int, count: int) -> int:
    """The work of sorting ``count`` values of this weight together."""
    return COMPARE * weight * (count.bit_length() + 1)


def searching(text: str | bytes, what: Any = "") -> int:
    """The work of looking for a text from the left, which takes linear time."""
    return 16 * (len(text) + _length(what))


def cut(sequence: Any, piece: slice) -> int:
    """The work of a slice. Raises ``CostError`` if it has too many items or characters."""
    if not isinstance(sequence, str | bytes | list | tuple):
        return 1
    count = len(range(*piece.indices(len(sequence))))
    return 8 * bounded(count, MAX_TEXT if isinstance(sequence, str | bytes) else MAX_ITEMS)


def _length(value: Any) -> int:
    if isinstance(value, str | bytes | bytearray):
        return len(value)
    return sum(map(_length, value)) + 64 * len(value) if isinstance(value, tuple) else 1


# --- texts -------------------------------------------------------------------------------------------------------

_CODECS = frozenset({"utf-8", "utf8", "ascii", "us-ascii", "latin-1", "latin1", "iso-8859-1", "cp1252", "windows-1252"})
_CODECS |= {"utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"}
_ERRORS = frozenset({"strict", "ignore", "replace", "backslashreplace", "xmlcharrefreplace"})
_LINE_END = re.compile(r"[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")


def _scan(_: Load, text: Any, *rest: Any) -> int:
    return 32 * len(text) + sum(map(_length, rest))


def _change_case(_: Load, text: str) -> int:
    return (40 if text.isascii() else 200) * bounded(len(text), MAX_TEXT)


def _search(_: Load, text: Any, what: Any = "", *__: Any) -> int:
    return searching(text, what)


def _search_backwards(_: Load, text: Any, what: Any = "", *__: Any) -> int:
    return len(text) * max(_length(what), 8)


def _strip(_: Load, text: str, chars: Any = None) -> int:
    return 6 * len(text) * max(_length(chars), 4)


def _affix(_: Load, text: Any, affix: Any, *__: Any) -> int:
    return _length(affix) + len(text)


def _pad(_: Load, text: str, width: Any, *__: Any) -> int:
    return 2 * bounded(max(len(text), int(width)), MAX_TEXT)


def _expand_tabs(_: Load, text: str, tabsize: Any = 8) -> int:
    return 8 * bounded(len(text) + text.count("\t") * max(int(tabsize), 0), MAX_TEXT)


def _replace(_: Load, text: str, old: Any = "", new: Any = "", count: Any = -1, **__: Any) -> int:
    old, new = str(old), str(new)
    found = text.count(old)
    if isinstance(count, int) and count >= 0:
        found = min(found, count)
    return searching(text, old) + 32 * bounded(len(text) + found * max(len(new) - len(old), 0), MAX_TEXT)


def _join(_: Load, text: str, items: Any) -> int:
    if not isinstance(items, Sized):
        raise CostError("join() takes a list here")
    if isinstance(items, str):
        return 64 * bounded((len(text) + 1) * len(items), MAX_TEXT)
    bounded(len(text) * len(items), MAX_TEXT)
    return 64 * len(items) + 2 * bounded(sum(map(_length, items)), MAX_TEXT)  # type: ignore[call-overload]


def _split_lines(_: Load, text: str, keepends: Any = False) -> int:  # noqa: ARG001
    return 100 * len(text) if bounded(len(_LINE_END.findall(text)), MAX_ITEMS) else len(text)


def _split(_: Load, text: str, sep: Any = None, maxsplit: Any = -1, *, backwards: bool = False) -> int:
    if not isinstance(sep, str) or not sep:
        if not isinstance(maxsplit, int) or not 0 <= maxsplit <= MAX_ITEMS:
            bounded(len(text.split(None, MAX_ITEMS)), MAX_ITEMS)
        return 100 * len(text)
    found = text.count(sep)
    bounded(min(found, maxsplit) if isinstance(maxsplit, int) and maxsplit >= 0 else found, MAX_ITEMS)
    return (len(text) * max(len(sep), 8) if backwards else searching(text, sep)) + 100 * found


def _split_backwards(load: Load, text: str, sep: Any = None, maxsplit: Any = -1) -> int:
    return _split(load, text, sep, maxsplit, backwards=True)


def _code(_: Load, text: Any, encoding: Any = "utf-8", errors: Any = "strict") -> int:
    if str(encoding).lower().replace("_", "-") not in _CODECS:
        raise CostError(f"only the encodings {', '.join(sorted(_CODECS))} are allowed")
    if errors not in _ERRORS:
        raise CostError(f"only the error handlers {', '.join(sorted(_ERRORS))} are allowed")
    return (8 if errors == "strict" else 300) * bounded(len(text), MAX_TEXT)


def _hex(_: Load, data: Any, *__: Any) -> int:
    return 8 * bounded(3 * len(data), MAX_TEXT)


def _format(_: Load, text: str, *__: Any, **___: Any) -> int:
    return 32 * bounded(len(text), MAX_TEXT)  # `pyflow.expressions.sandbox` writes each field in its own bounds


# --- collections and numbers -------------------------------------------------------------------------------------


def _compare(load: Load, sequence: Any, *args: Any) -> int:
    return COMPARE * (load(sequence) + sum(map(load, args))) if not isinstance(sequence, range) else 64 * len(sequence)


def _look_up(load: Load, _: Any, *args: Any) -> int:
    return COMPARE * sum(map(load, args)) + 1


def _copy(_: Load, values: Any) -> int:
    return 32 * bounded(len(values), MAX_ITEMS)


def _view(_: Load, __: Any) -> int:
    return 1


def _combine(load: Load, own: Any, *others: Any) -> int:
    count = len(own) + sum(len(other) for other in others if isinstance(other, Sized))
    return 100 * bounded(count, 2 * MAX_ITEMS) + COMPARE * (load(own) + sum(map(load, others)))


def _field(_: Load, __: Any, *args: Any, **kwargs: Any) -> int:
    return 1000 + sum(map(_length, (*args, *kwargs.values())))


def _time_format(_: Load, __: Any, format: Any = "") -> int:
    # Nobody needs more, and glibc pads without bound (`%999999999d`).
    if bounded(len(str(format)), 1000) and re.search(r"%[-_0^#+]*\d", str(format)):
        raise CostError("a time format that pads")
    return 1_000_000


def _costs(*groups: tuple[Cost, str]) -> dict[str, Cost]:
    return {name: cost for cost, names in groups for name in names.split()}


#: The first entry that a value is an instance of is the one that counts.
METHODS: tuple[tuple[tuple[type, ...], dict[str, Cost]], ...] = (
    (
        (str,),
        _costs(
            (_scan, "isalnum isalpha isascii isdecimal isdigit isidentifier islower isnumeric isprintable isspace"),
            (_scan, "istitle isupper"),
            (_change_case, "capitalize casefold lower swapcase title upper"),
            (_search, "count find index partition"),
            (_search_backwards, "rfind rindex rpartition"),
            (_strip, "strip lstrip rstrip"),
            (_affix, "startswith endswith removeprefix removesuffix"),
            (_pad, "center ljust rjust zfill"),
            (_expand_tabs, "expandtabs"),
            (_replace, "replace"),
            (_join, "join"),
            (_split_lines, "splitlines"),
            (_split, "split"),
            (_split_backwards, "rsplit"),
            (_code, "encode"),
            (_format, "format format_map"),
        ),
    ),
    (
        (bytes, bytearray),
        _costs(
            (_search, "count find index"),
            (_search_backwards, "rfind"),
            (_affix, "startswith endswith"),
            (_code, "decode"),
            (_hex, "hex"),
        ),
    ),
    ((int, float), _costs((_view, "as_integer_ratio bit_count bit_length conjugate hex is_integer"))),
    ((dict,), _costs((_look_up, "get"), (_view, "keys values items"), (_copy, "copy"))),
    ((list, tuple, range), _costs((_compare, "count index"), (_copy, "copy"))),
    (
        (set, frozenset),
        _costs(
            (_combine, "difference intersection isdisjoint issubset issuperset symmetric_difference union"),
            (_copy, "copy"),
        ),
    ),
    (VIEWS, _costs((_combine, "isdisjoint"))),
    (
        (datetime.date, datetime.time, datetime.timedelta, datetime.tzinfo),
        _costs(
            (_time_format, "strftime"),
            (_field, "astimezone ctime date dst isocalendar isoformat isoweekday replace time timestamp timetuple"),
            (_field, "timetz toordinal total_seconds tzname utcoffset utctimetuple weekday"),
        ),
    ),
)
