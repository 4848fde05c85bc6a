"""Functions that expressions and templates of version 2 have besides Python's, each bounded like an operator.

A function is handed the evaluation that it is called in, and pays there for what it is about to do. Python's own
exceptions are left to the caller, who says where they happened.
"""

from __future__ import annotations

import datetime as clock
import inspect
import itertools
import json
import math
import re
from collections.abc import Callable, Mapping, Sized
from functools import partial
from typing import Any, Final

from pyflow.core.duration import parse_duration
from pyflow.core.messages import show
from pyflow.core.plain import in_order, to_plain
from pyflow.core.problems import suggest
from pyflow.core.wording import hint, no_field
from pyflow.core.zones import zone_of
from pyflow.expressions.costs import MAX_INT_BITS, MAX_ITEMS, MAX_TEXT, WRITE, sorting
from pyflow.expressions.draws import DRAWS
from pyflow.expressions.evaluation_errors import (
    EvaluationKeyError,
    ExpressionLimitError,
    UnknownFunctionError,
    UnknownNameError,
    UnsafeExpressionError,
)
from pyflow.expressions.values import (
    FUNCTIONS,
    METHODS,
    Evaluation,
    Methods,
    as_text,
    call_method,
    distinct,
    pay_for_call,
)

#: Work (see ``pyflow.expressions.costs``) for an item that a function of ours looks at.
_EACH = 1000
#: Digits of the longest integer.
_DIGITS = len(str(1 << MAX_INT_BITS))
_WORDS = {True: "true", False: "false", None: "null"}
_MAX_MOMENT = 64
#: Characters of the key of a row.
_MAX_KEY = 256


# --- JSON and texts


def _fromjson(env: Evaluation, text: Any) -> Any:
    if not isinstance(text, str):
        raise TypeError(f"fromjson() reads text, not {_kind(text)}")
    if len(text) > MAX_TEXT:
        raise ExpressionLimitError(f"text of more than {MAX_TEXT:,} characters")
    env.work(WRITE * len(text))
    try:
        value = json.loads(
            text, parse_constant=_no_constant, parse_int=_integer, parse_float=_number, object_pairs_hook=_object
        )
    except json.JSONDecodeError as error:
        raise ValueError(f"fromjson(): not JSON: {error.msg}, in line {error.lineno}, column {error.colno}") from None
    env.weigh(value)
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"fromjson(): {name} is not JSON")


def _integer(digits: str) -> int:
    if len(digits) > _DIGITS + 1 or (number := int(digits)).bit_length() > MAX_INT_BITS:
        raise ExpressionLimitError(f"an integer of more than {MAX_INT_BITS} bits")
    return number


def _number(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ExpressionLimitError("a number beyond the range of floats")
    return number


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("fromjson(): not JSON: an object has a key twice")
    return found


def _tojson(env: Evaluation, value: Any) -> str:
    weight = env.weigh(value)
    if weight > 8 * MAX_TEXT:
        raise ExpressionLimitError(f"text of more than {MAX_TEXT:,} characters")
    env.work(2 * WRITE * weight)
    return json.dumps(to_plain(value), ensure_ascii=False, allow_nan=False)


def _split(env: Evaluation, text: Any, separator: Any = None, maxsplit: Any = -1) -> Any:
    if not isinstance(text, str):
        raise TypeError(f"split() takes text apart, not {_kind(text)}")
    if separator is not None and not isinstance(separator, str):
        raise TypeError("split() takes the text, then the separator: `split(line, ';')`")
    return call_method(env, text, "split", [separator, maxsplit], {})


def _join(env: Evaluation, items: Any, separator: Any = "") -> str:
    if not isinstance(separator, str) or isinstance(items, str):
        raise TypeError("join() takes a list, then the separator: `join(tags, ', ')`")
    parts: list[str] = []
    size = 0
    for item in _listed(env, "join", items):
        parts.append(_word(env, item))
        size += len(parts[-1]) + len(separator)
        if size > MAX_TEXT + len(separator):
            raise ExpressionLimitError(f"text of more than {MAX_TEXT:,} characters")
    return separator.join(parts)


def _word(env: Evaluation, value: Any) -> str:
    """A value as text: a text as it is, anything else as JSON has it."""
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, bool):
        return _WORDS[value]
    if isinstance(value, clock.date | clock.time | clock.timedelta):
        return as_text(value)
    return _tojson(env, value)


# --- lists and mappings


def _product(env: Evaluation, *lists: Any) -> list[Any]:
    found = [_listed(env, "product", items) for items in lists]
    count = math.prod(map(len, found))
    if count > MAX_ITEMS:
        raise ExpressionLimitError(f"product() of {count:,} combinations; at most {MAX_ITEMS:,} are allowed")
    env.work(100 * count * (1 + len(found)))
    return list(itertools.product(*found))


def _group_by(env: Evaluation, rows: Any, key: Any) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for row, value in _keyed(env, "group_by", rows, key):
        if isinstance(value, Mapping | list | tuple | set):
            raise TypeError(f"group_by(): {show(key)} of a row is {_kind(value)}, which is no key")
        found.setdefault(_word(env, value), []).append(row)
    # In an order that stays where it is stored and read again, as a resumed run does.
    env.work(sorting(env.weigh(list(found)), len(found)))
    return {name: found[name] for name in sorted(found)}


def _sort_by(env: Evaluation, rows: Any, *keys: Any, reverse: Any = False) -> list[Any]:
    if not keys:
        raise TypeError("sort_by() takes rows, and the keys to sort them by: `sort_by(rows, 'name')`")
    values = [[value for _, value in _keyed(env, "sort_by", rows, key)] for key in keys]
    ranks = list(zip(*values, strict=True))
    env.work(sorting(env.weigh(ranks), len(ranks)))
    listed = _listed(env, "sort_by", rows)
    order = sorted(range(len(listed)), key=ranks.__getitem__, reverse=bool(reverse))
    return [listed[at] for at in order]


def _unique(env: Evaluation, rows: Any, key: Any = None) -> list[Any]:
    pairs = [(item, item) for item in _listed(env, "unique", rows)] if key is None else _keyed(env, "unique", rows, key)
    env.work(4 * WRITE * env.weigh([value for _, value in pairs]))
    found: dict[str, Any] = {}
    for item, value in pairs:
        # By their text: hashes of texts cannot be chosen, those of numbers can.
        found.setdefault(value if isinstance(value, str) else f"\0{json.dumps(_same(value), sort_keys=True)}", item)
    return list(found.values())


def _same(value: Any) -> Any:
    """A value as JSON in which equal numbers are equal."""
    if isinstance(value, Mapping):
        return {str(key): _same(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_same(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return to_plain(value)


def _merge(env: Evaluation, *mappings: Any) -> dict[Any, Any]:
    for mapping in mappings:
        if not isinstance(mapping, Mapping):
            raise TypeError(f"merge() takes mappings, not {_kind(mapping)}")
    if sum(map(len, mappings)) > 2 * MAX_ITEMS:
        raise ExpressionLimitError(f"a collection of more than {MAX_ITEMS:,} items")
    env.work(_EACH + 100 * sum(map(len, mappings)))
    distinct(key for mapping in mappings for key in mapping)
    return {key: value for mapping in mappings for key, value in mapping.items()}


def _listed(env: Evaluation, name: str, items: Any) -> list[Any]:
    if isinstance(items, Mapping):
        raise TypeError(f"{name}() takes a list; `.values()` and `.items()` are those of a mapping")
    if not isinstance(items, list | tuple | set):
        raise TypeError(f"{name}() takes a list, not {_kind(items)}")
    env.work(_EACH + 100 * len(items))
    return in_order(items) if isinstance(items, set) else list(items)


def _keyed(env: Evaluation, name: str, rows: Any, key: Any) -> list[tuple[Any, Any]]:
    """The rows of a list, each with what it has at ``key``."""
    if not isinstance(key, str | int) or isinstance(key, bool):
        raise TypeError(f"{name}() takes the rows, then the name of a key: `{name}(rows, 'day')`")
    if isinstance(key, str) and len(key) > _MAX_KEY:
        raise ExpressionLimitError(f"{name}(): a key of more than {_MAX_KEY} characters")
    listed = _listed(env, name, rows)
    env.work(_EACH * len(listed))
    return [(row, _at(name, number, row, key)) for number, row in enumerate(listed)]


def _at(name: str, number: int, row: Any, key: str | int) -> Any:
    """Return the value of a row at ``key``; ``a.b`` is the field of a field, unless a field has that name."""
    is_path = isinstance(key, str) and "." in key and not (isinstance(row, Mapping) and key in row)
    found = row
    for step in key.split(".") if is_path and isinstance(key, str) else (key,):
        if not isinstance(found, Mapping if isinstance(step, str) else Mapping | list | tuple):
            raise TypeError(f"{name}(): row {number} is {_kind(found)}, which has no {show(step)}")
        try:
            found = found[step]
        except LookupError:
            raise EvaluationKeyError(f"{name}(): row {number}: {no_field(found, step)}") from None
    return found


# --- dates, durations and zones

_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?\s?(?:[Zz]|[+-]\d\d:?\d\d)?", re.ASCII)


def _date(_: Evaluation, value: Any, month: Any = None, day: Any = None) -> clock.date:
    if isinstance(value, clock.datetime):
        return value.date()
    if isinstance(value, clock.date):
        return value
    if isinstance(value, int) and month is not None and day is not None:
        return clock.date(value, month, day)
    if isinstance(value, str) and len(value) <= _MAX_MOMENT:
        if _DATE.fullmatch(value.strip()):
            return clock.date.fromisoformat(value.strip())
        if _MOMENT.fullmatch(value.strip()):
            return _read_moment(value).date()
    raise ValueError(f"date(): {show(value)} is not a date; write it as '2026-11-30'")


def _datetime(_: Evaluation, value: Any, zone: Any = None) -> clock.datetime:
    if isinstance(value, str) and len(value) <= _MAX_MOMENT and _DATE.fullmatch(value.strip()):
        value = clock.date.fromisoformat(value.strip())
    if isinstance(value, str) and len(value) <= _MAX_MOMENT and _MOMENT.fullmatch(value.strip()):
        value = _read_moment(value)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        value = clock.datetime.fromtimestamp(value, clock.UTC)
    elif isinstance(value, clock.date) and not isinstance(value, clock.datetime):
        value = clock.datetime(value.year, value.month, value.day)  # noqa: DTZ001 - its zone follows
    if not isinstance(value, clock.datetime):
        raise ValueError(f"datetime(): {show(value)} is not a moment; write it as '2026-11-30T18:00:00+01:00'")
    if value.tzinfo is None:
        return value.replace(tzinfo=clock.UTC if zone is None else _zone(zone))
    return value if zone is None else value.astimezone(_zone(zone))


def _read_moment(text: str) -> clock.datetime:
    return clock.datetime.fromisoformat(text.strip().replace(" ", "T", 1).replace(" ", "").upper())


def _duration(_: Evaluation, value: Any) -> clock.timedelta:
    if isinstance(value, clock.timedelta):
        return value
    return clock.timedelta(seconds=parse_duration(value))


def _today(env: Evaluation, zone: Any = "UTC") -> clock.date:
    return _own(env, "now", "today()").astimezone(_zone(zone)).date()  # type: ignore[no-any-return]


def _zone(name: Any) -> clock.tzinfo:
    return clock.UTC if name == "UTC" else zone_of(name)


def _in_zone(moment: clock.datetime, zone: Any = "UTC") -> clock.datetime:
    return moment.astimezone(_zone(zone))


# --- values of the run


def _random(env: Evaluation) -> float:
    return _own(env, DRAWS, "random()").random()  # type: ignore[no-any-return]


def _uuid(env: Evaluation) -> str:
    return _own(env, DRAWS, "uuid()").uuid()  # type: ignore[no-any-return]


def _own(env: Evaluation, name: str, wanted: str) -> Any:
    try:
        return env.scope[name]
    except KeyError:
        raise UnknownNameError(f"there is no {wanted} here: nothing is computed for a node") from None


# --- the tables

#: Functions of version 2, by name.
COMPUTING: Final[Mapping[str, Callable[..., Any]]] = {
    "date": _date,
    "datetime": _datetime,
    "duration": _duration,
    "fromjson": _fromjson,
    "group_by": _group_by,
    "join": _join,
    "merge": _merge,
    "product": _product,
    "random": _random,
    "sort_by": _sort_by,
    "split": _split,
    "today": _today,
    "tojson": _tojson,
    "unique": _unique,
    "uuid": _uuid,
}
#: How each is called.
_USAGE: Final[Mapping[str, str]] = {
    "date": "date(text)` or `date(year, month, day)",
    "datetime": "datetime(text, zone)",
    "duration": "duration(text)",
    "fromjson": "fromjson(text)",
    "group_by": "group_by(rows, 'key')",
    "join": "join(items, separator)",
    "merge": "merge(mapping, mapping, …)",
    "product": "product(list, list, …)",
    "random": "random()",
    "sort_by": "sort_by(rows, 'key', …, reverse=false)",
    "split": "split(text, separator)",
    "today": "today(zone)",
    "tojson": "tojson(value)",
    "unique": "unique(items)` or `unique(rows, 'key')",
    "uuid": "uuid()",
}
_SIGNATURES = {name: inspect.signature(partial(function, None)) for name, function in COMPUTING.items()}
#: Names that a function looks up by itself.
NEEDS: Final[Mapping[str, str]] = {"today": "now", "random": DRAWS, "uuid": DRAWS}

_OF_DATES = ("strftime", "replace", "isocalendar")
_MORE: Mapping[type, dict[str, Callable[..., Any]]] = {
    clock.datetime: {name: getattr(clock.datetime, name) for name in _OF_DATES} | {"astimezone": _in_zone},
    clock.date: {name: getattr(clock.date, name) for name in _OF_DATES},
}
#: Methods of version 2.
METHODS_2: Final[Methods] = (
    *((kind, methods | _MORE.get(kind, {})) for kind, methods in METHODS),
    (clock.timedelta, {"total_seconds": clock.timedelta.total_seconds}),
)


class Evaluation2(Evaluation):
    """An evaluation of an expression of version 2."""

    __slots__ = ()

    version = 2
    methods = METHODS_2


#: What others call our functions, and what to write where we have none.
_FOREIGN: Mapping[str, str] = {
    "now": "`now` is a moment: write it without the parentheses",
    "utcnow": "`now` is the moment, in UTC",
    "fromJSON": "it is `fromjson(text)` here",
    "fromJson": "it is `fromjson(text)` here",
    "parseJson": "it is `fromjson(text)` here",
    "toJSON": "it is `tojson(value)` here",
    "toJson": "it is `tojson(value)` here",
    "contains": "write `part in whole`",
    "startsWith": "write `text.startswith(part)`",
    "endsWith": "write `text.endswith(part)`",
    "length": "it is `len(value)` here",
    "size": "it is `len(value)` here",
    "count": "it is `len(value)` here",
    "map": "write `[f(x) for x in items]`",
    "filter": "write `[x for x in items if …]`",
    "flatten": "write `[x for part in parts for x in part]`",
    "concat": "write `a + b`",
    "format": "write an f-string: `f'{name}: {count}'`",
    "iif": "write `a if condition else b`",
    "uuid4": "it is `uuid()` here",
    "timedelta": "it is `duration('1d')` here",
    "sort": "it is `sorted(items)`, or `sort_by(rows, 'key')`",
    "reverse": "it is `reversed(items)` here",
    "success": "say it with `run_if: all_succeeded`",
    "failure": "say it with `run_if: any_failed`",
    "always": "say it with `run_if: all_done`",
    "cancelled": "a `finally` node sees `run.state`",
}


def is_function(name: str) -> bool:
    """Return whether version 2 has a function of this name."""
    return name in COMPUTING or name in FUNCTIONS


def unknown_function(name: str) -> UnknownFunctionError:
    """Return the error about a function that does not exist: with what to write instead, or the near miss."""
    known = sorted((*COMPUTING, *FUNCTIONS))
    instead = _FOREIGN.get(name)
    if instead is not None:
        return UnknownFunctionError(f"there is no function {name!r}: {instead}")
    return UnknownFunctionError(
        f"there is no function {name!r}{hint(suggest(name, known))}; there are {', '.join(known)}"
    )


def check_call(name: str, count: int, keywords: list[str]) -> None:
    """Check that a function of ours takes so many arguments and these keywords. Raises ``UnsafeExpressionError``."""
    try:
        _SIGNATURES[name].bind(*range(count), **dict.fromkeys(keywords))
    except TypeError as error:
        raise UnsafeExpressionError(f"{name}(): {error}: it is called as {usage(name)}") from None


def usage(name: str) -> str:
    """Return how a function is called."""
    return f"`{_USAGE[name]}`"


def call_function(env: Evaluation, name: str, values: list[Any], named: Mapping[str, Any]) -> Any:
    """Call a function of version 2, Python's or ours, and pay for it."""
    own = COMPUTING.get(name)
    if own is not None:
        env.spend()
        return env.charge(own(env, *values, **named))
    if name == "str" and len(values) == 1:
        return env.charge(env.show(values[0]))
    if name not in UNORDERED:
        values = [env.items(value) for value in values]
    pay_for_call(env, name, values)
    return env.charge(FUNCTIONS[name](*values, **named))


#: Functions for which the order of a set makes no difference.
UNORDERED = frozenset({"all", "any", "bool", "len", "max", "min", "set", "sorted"})


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, str):
        return "text"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, Mapping):
        return "a mapping"
    return "a list" if isinstance(value, Sized) else f"a {type(value).__name__}"
