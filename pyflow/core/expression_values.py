"""What expressions compute with: operators, functions, methods and fields, each bounded in what it may make."""

from __future__ import annotations

import ast
import dataclasses
import datetime
import math
import operator
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydantic import BaseModel

from pyflow.core.errors import PyFlowError
from pyflow.core.expression_errors import EvaluationAttributeError, ExpressionLimitError, UnsafeExpressionError
from pyflow.core.weight import VIEWS, ClashError, NestingError, Scale, check_clashes

MAX_STEPS = 10_000
MAX_INT_BITS = 256
MAX_TEXT = 1024 * 1024
MAX_ITEMS = 100_000
#: Bounds what steps do not see (comparing large data): seconds.
MAX_SECONDS = 1.0
#: A value that an expression makes, written out in full: characters, and 16 for each value that is not text.
MAX_WEIGHT = 32 * 1024 * 1024


class Evaluation:
    """One evaluation in progress: the scope, the names that comprehensions bind, and what may still be spent."""

    __slots__ = ("deadline", "names", "scale", "scope", "steps")

    def __init__(self, scope: Mapping[str, Any]) -> None:
        self.scope = scope
        self.names: dict[str, Any] = {}
        self.steps = MAX_STEPS
        self.deadline = 0.0
        self.scale: Scale | None = None

    def spend(self, steps: int = 1) -> None:
        """Take ``steps`` from the budget; raises ``ExpressionLimitError`` when it, or the time, is used up."""
        self.steps -= steps
        if self.steps < 0:
            raise ExpressionLimitError(f"the expression takes more than {MAX_STEPS:,} steps")
        if not self.deadline:
            self.deadline = time.perf_counter() + MAX_SECONDS
        elif time.perf_counter() > self.deadline:
            raise ExpressionLimitError(f"the expression takes longer than {MAX_SECONDS:g} s")

    def charge(self, value: Any) -> Any:
        """``value`` if it is within bounds, once what it cost to make is spent."""
        bounded(value)
        kind = type(value)
        if kind is str:
            self.spend(1 + len(value) // 1024)
        elif kind in SIZED:
            self.spend(1 + len(value) // 1024)
            if self.weigh(value) > MAX_WEIGHT:
                raise ExpressionLimitError("a collection that is too large when written out")
        return value

    def weigh(self, value: Any) -> int:
        """The weight of a value (see ``Scale``)."""
        if self.scale is None:
            self.scale = Scale()
        try:
            return self.scale.weigh(value)
        except NestingError as error:
            raise ExpressionLimitError(f"a value {error}") from None

    def show(self, value: Any, write: Callable[[Any], str] = str) -> str:
        """``value`` as text by ``write``, if that text can be within bounds."""
        if isinstance(value, int):
            bounded(int(value))
        elif isinstance(value, _WRITTEN_OUT) and self.weigh(value) > 8 * MAX_TEXT:
            raise ExpressionLimitError(f"text of more than {MAX_TEXT:,} characters")
        text = write(value)
        return text if type(text) is str else str(text)


def bounded(value: Any) -> Any:
    """``value`` if it is within the limits of its type."""
    kind = type(value)
    if kind is int:
        if value.bit_length() > MAX_INT_BITS:
            raise ExpressionLimitError(f"an integer of more than {MAX_INT_BITS} bits")
    elif kind is float:
        if not math.isfinite(value):
            raise ExpressionLimitError("a number beyond the range of floats")
    elif kind is str:
        if len(value) > MAX_TEXT:
            raise ExpressionLimitError(f"text of more than {MAX_TEXT:,} characters")
    elif kind in SIZED and len(value) > MAX_ITEMS:
        raise ExpressionLimitError(f"a collection of more than {MAX_ITEMS:,} items")
    return value


SIZED = frozenset({list, tuple, set, dict})
_WRITTEN_OUT = (list, tuple, set, dict, *VIEWS)
NUMBERS = (int, float)


def _multiply(a: Any, b: Any) -> Any:
    for sequence, count in ((a, b), (b, a)):
        if isinstance(sequence, str | list | tuple):
            if not isinstance(count, int):
                break
            limit = MAX_TEXT if isinstance(sequence, str) else MAX_ITEMS
            if len(sequence) * max(count, 0) > limit:
                raise ExpressionLimitError(f"a repetition of more than {limit:,} items")
    return a * b


def _power(a: Any, b: Any) -> Any:
    if not isinstance(a, NUMBERS) or not isinstance(b, NUMBERS):
        raise TypeError("** works on numbers")
    if isinstance(a, int) and isinstance(b, int) and b > 0 and a.bit_length() * b > 2 * MAX_INT_BITS:
        raise ExpressionLimitError(f"an integer of more than {MAX_INT_BITS} bits")
    result = a**b
    if isinstance(result, complex):
        raise ValueError("a root of a negative number")
    return result


def _modulo(a: Any, b: Any) -> Any:
    if isinstance(a, str | bytes):
        raise UnsafeExpressionError("text formatting by % is not allowed; use an f-string")
    return a % b


def _shift_left(a: Any, b: Any) -> Any:
    if not isinstance(a, int) or not isinstance(b, int):
        raise TypeError("<< works on integers")
    if b > MAX_INT_BITS:
        raise ExpressionLimitError(f"an integer of more than {MAX_INT_BITS} bits")
    return a << b


BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: _multiply,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: _modulo,
    ast.Pow: _power,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
    ast.LShift: _shift_left,
    ast.RShift: operator.rshift,
}
UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.Not: operator.not_,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Invert: operator.invert,
}
COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
}

TYPES: dict[str, type] = {
    "int": int,
    "float": float,
    "str": str,
    "bool": bool,
    "list": list,
    "dict": dict,
    "tuple": tuple,
    "set": set,
}


def _to_int(value: Any = 0, base: Any = None) -> int:
    if isinstance(value, str) and len(value) > 100:
        raise ExpressionLimitError("an integer of more than 100 digits")
    return int(value) if base is None else int(value, base)


def _range(*args: int) -> list[int]:
    numbers = range(*args)
    if len(numbers) > MAX_STEPS:
        raise ExpressionLimitError(f"a range of more than {MAX_STEPS:,} numbers")
    return list(numbers)


def _round(value: Any, digits: Any = None) -> Any:
    if isinstance(digits, int) and abs(digits) > 100:
        raise ExpressionLimitError("round() to more than 100 digits")
    return round(value, digits)


def _distinct(keys: Iterable[Any]) -> list[Any]:
    """The keys of a set or mapping that is about to be made."""
    keys = list(keys)
    try:
        check_clashes(keys)
    except ClashError as error:
        raise ExpressionLimitError(str(error)) from None
    return keys


def make_set(items: Iterable[Any] = ()) -> set[Any]:
    """``set(items)`` in linear time; ``ExpressionLimitError`` if that cannot be."""
    return set(items if isinstance(items, set | str | dict) else _distinct(items))


def make_dict(items: Any = ()) -> dict[Any, Any]:
    """``dict(items)`` in linear time; ``ExpressionLimitError`` if that cannot be."""
    if not isinstance(items, Mapping):
        items = [tuple(pair) for pair in items]
        _distinct(pair[0] for pair in items if pair)
    return dict(items)


_OF_SETS = ("union", "intersection", "difference", "symmetric_difference", "issubset", "issuperset", "isdisjoint")


def _with_sets(name: str) -> Callable[..., Any]:
    method = getattr(set, name)
    return lambda own, *others: method(own, *map(make_set, others))


def _sum(items: Iterable[Any], start: Any = 0) -> Any:
    total = start
    for item in items:
        if not isinstance(item, NUMBERS):
            raise TypeError("sum() adds numbers")
        total = bounded(total + item)
    return total


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": abs,
    "all": all,
    "any": any,
    "bool": bool,
    "dict": make_dict,
    "enumerate": lambda items, start=0: [(start + i, item) for i, item in enumerate(items)],
    "float": float,
    "int": _to_int,
    "isinstance": isinstance,
    "len": len,
    "list": list,
    "max": max,
    "min": min,
    "range": _range,
    "reversed": lambda items: list(reversed(items)),
    "round": _round,
    "set": make_set,
    "sorted": sorted,
    "str": str,
    "sum": _sum,
    "tuple": tuple,
    "zip": lambda *items: list(zip(*items, strict=False)),
}
#: Functions that make an item of each character, which takes 60 times its memory.
MAKES_A_LIST = frozenset({"enumerate", "list", "reversed", "sorted", "tuple", "zip"})
KEYWORDS = {"sorted": {"reverse"}, "min": {"default"}, "max": {"default"}, "enumerate": {"start"}}


def _replace(text: str, old: str, new: str, count: int = -1) -> str:
    found = text.count(old) if count < 0 else min(text.count(old), count)
    if len(text) + found * (len(new) - len(old)) > MAX_TEXT:
        raise ExpressionLimitError(f"text of more than {MAX_TEXT:,} characters")
    return text.replace(old, new, count)


def _join(separator: str, items: Iterable[str]) -> str:
    parts = list(items)
    if sum(map(len, parts)) + len(separator) * len(parts) > MAX_TEXT:
        raise ExpressionLimitError(f"text of more than {MAX_TEXT:,} characters")
    return separator.join(parts)


def _zfill(text: str, width: int) -> str:
    if width > 1000:
        raise ExpressionLimitError("zfill() to more than 1,000 characters")
    return text.zfill(width)


def _plain_methods(kind: type, names: str) -> dict[str, Callable[..., Any]]:
    return {name: getattr(kind, name) for name in names.split()}


METHODS: tuple[tuple[type, dict[str, Callable[..., Any]]], ...] = (
    (
        str,
        _plain_methods(
            str,
            "capitalize casefold count endswith find index isalnum isalpha isascii isdecimal isdigit islower isnumeric "
            "isspace istitle isupper lower lstrip partition removeprefix removesuffix rfind rindex rpartition rsplit "
            "rstrip split splitlines startswith strip swapcase title upper",
        )
        | {"replace": _replace, "join": _join, "zfill": _zfill},
    ),
    (dict, _plain_methods(dict, "get keys values items")),
    (list, _plain_methods(list, "count index")),
    (tuple, _plain_methods(tuple, "count index")),
    (
        set,
        {name: _with_sets(name) for name in _OF_SETS},
    ),
    (datetime.datetime, _plain_methods(datetime.datetime, "date isoformat isoweekday timestamp weekday")),
    (datetime.date, _plain_methods(datetime.date, "isoformat isoweekday weekday")),
    (float, _plain_methods(float, "is_integer")),
    (int, _plain_methods(int, "bit_length")),
)
_DATE_FIELDS = frozenset({"year", "month", "day", "hour", "minute", "second", "microsecond"})


def read_field(value: Any, name: str) -> Any:
    """The data field ``name`` of ``value``: a key of a mapping, or a field of a model, dataclass or named tuple.

    Never a method or anything else that an object carries besides its data. ``AttributeError`` if there is none.
    """
    if isinstance(value, Mapping):
        try:
            return value[name]
        except KeyError as error:
            if isinstance(error, PyFlowError):  # a secret that does not exist says so itself
                raise
            raise EvaluationAttributeError(f"no key {name!r}") from None
    if not name.startswith("_"):
        if isinstance(value, BaseModel) and name in {*type(value).model_fields, *(value.model_extra or ())}:
            return getattr(value, name)
        if isinstance(value, tuple) and name in getattr(value, "_fields", ()):
            return getattr(value, name)
        if isinstance(value, datetime.date) and name in _DATE_FIELDS:
            return getattr(value, name)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            if any(field.name == name for field in dataclasses.fields(value)):
                return getattr(value, name)
        elif not isinstance(value, type) and not callable(value):
            fields = getattr(value, "__dict__", None)
            if isinstance(fields, dict) and name in fields and not callable(fields[name]):
                return fields[name]
    raise EvaluationAttributeError(f"{type(value).__name__} has no field {name!r}")


def call_method(env: Evaluation, value: Any, name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """Call an allowed method of a value of a built-in type; ``UnsafeExpressionError`` for any other."""
    for kind, methods in METHODS:
        if isinstance(value, kind):
            if name not in methods:
                break
            result = methods[name](value, *args, **kwargs)
            if kind is dict and name != "get":
                result = list(result)
            if isinstance(value, str):
                env.spend(len(value) // 1024)
            return env.charge(result)
    raise UnsafeExpressionError(f"{type(value).__name__} has no method {name!r} here")


Code = Callable[[Evaluation], Any]
#: A ``for`` of a comprehension: what it loops over, its names, whether it unpacks items into them, its conditions.
Loop = tuple[Code, list[str], bool, list[Code]]


def run_loops(env: Evaluation, loops: list[Loop], at: int, body: Callable[[], None]) -> None:
    """Call ``body`` for each combination of items of ``loops`` from the one ``at`` this place on."""
    if at == len(loops):
        body()
        return
    source, targets, unpack, conditions = loops[at]
    items = source(env)
    if not isinstance(items, list | tuple | set | dict | str):
        raise TypeError(f"cannot loop over {type(items).__name__}")
    for item in items:
        env.spend()
        if unpack:
            values = list(item)
            if len(values) != len(targets):
                raise ValueError(f"cannot unpack {len(values)} values into {len(targets)} names")
            env.names.update(zip(targets, values, strict=True))
        else:
            env.names[targets[0]] = item
        if all(condition(env) for condition in conditions):
            run_loops(env, loops, at + 1, body)
